// Which pages of a shared mapping were written since one last looked, by stores and by system calls alike, where the
// kernel offers it (Linux 6.7: userfaultfd with asynchronous write protection, and PAGEMAP_SCAN).
//
// Guest memory is one object mapped twice. The client's mapping is tracked; the backend writes through the other one,
// which is not, so that what is found is the client's. The kernel lifts a page's protection itself at the first write:
// no signal handler, no thread that answers, no EFAULT from read(2), nothing that could wait for a running VCPU, and no
// privilege. What it does not keep is the page's earlier content.
//
// A look costs time in proportion to the range (about 0.8 ns a page on the machine of the first measurement), so ask
// write_tracker_is_unchanged first: it costs one getrusage.
#ifndef WRITE_TRACKING_H
#define WRITE_TRACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/// One for a process, or for a machine. Plain numbers; copy it nowhere while it is open.
struct write_tracker {
    int fault_file;
    int pagemap_file;
    uint64_t faults_seen;
};

/// Addresses from `start` up to, not including, `end`; both multiples of the page.
struct written_range {
    uintptr_t start;
    uintptr_t end;
};

/// Returns 0, or the errno of what the kernel does not offer or allow here.
int write_tracker_open(struct write_tracker *tracker);

void write_tracker_close(struct write_tracker *tracker);

/// Begins to track a page-aligned range of a MAP_SHARED mapping of a memory object. Everything counts as unwritten
/// afterwards. Returns 0 or an errno.
int write_tracker_add(struct write_tracker *tracker, uintptr_t start, size_t bytes);

/// Ends it, before the range is unmapped.
int write_tracker_remove(struct write_tracker *tracker, uintptr_t start, size_t bytes);

/// True if nothing was written in any range of the tracker since the last scan: the first write to a page after a scan
/// is a page fault of this process, and there was none. Other faults make it say false, which costs a scan. Call it
/// once, then scan every range.
bool write_tracker_is_unchanged(struct write_tracker *tracker);

/// Finds pages that were written from `*next` up to `end`, and counts each as unwritten from then on; a write during
/// the scan is found now or the next time, or both. Puts up to `room` ranges into `ranges`, and where to go on into
/// `*next`: `end` when all was seen. Returns how many ranges, or a negative errno.
int write_tracker_scan(
    struct write_tracker *tracker, uintptr_t *next, uintptr_t end, struct written_range *ranges, unsigned room);

#pragma GCC visibility pop

#endif
