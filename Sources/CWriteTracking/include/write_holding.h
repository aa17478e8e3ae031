// Holds back whoever writes to a shared mapping until it is admitted, by stores and by system calls alike, where the
// kernel offers and allows it (Linux 5.19: userfaultfd with write protection of shared memory, answered by a thread of
// this process; for faults inside system calls CAP_SYS_PTRACE, /dev/userfaultfd or vm.unprivileged_userfaultfd).
//
// As in write_tracking.h the client's mapping is protected, and the backend writes through another one. A protected
// page costs its first writer a fault that sleeps until write_holder_admit. What the kernel pinned before (O_DIRECT,
// io_uring's registered buffers) is written past the protection, and is not noticed.
#ifndef WRITE_HOLDING_H
#define WRITE_HOLDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/// One for a mapping. Plain numbers; copy it nowhere while it is open.
struct write_holder {
    int fault_file;
    int end_file;
    struct page_holder *pages;  // NULL where userfaultfd holds
};

// How to hold. By mprotect, a thread that stores waits in a handler of SIGSEGV, which whoever allows it has to install,
// and system calls that store fail with EFAULT: their callers have to store for them.
#define WRITE_HOLDING_USERFAULTFD 0          // or not at all: the default
#define WRITE_HOLDING_EITHER 1               // by mprotect where userfaultfd is refused
#define WRITE_HOLDING_MPROTECT 2
#define WRITE_HOLDING_NONE 3

/// For holders that are opened from now on. `install` is called before the first page is protected by mprotect.
void write_holder_choose(int how, void (*install)(void));

/// Whether a page may be protected by mprotect, and whether by nothing else.
bool write_holder_may_protect(void);
bool write_holder_must_protect(void);

/// In a handler of SIGSEGV: waits until the page at `address` is open. Returns false where it is not held: the fault is
/// another's. Async-signal-safe.
bool write_holder_fault(uintptr_t address);

/// Whether a system call that stores `bytes` from `start` on would fail. One load where nothing is held by mprotect.
bool write_holder_covers(uintptr_t start, size_t bytes);

/// A thread that sleeps before its write to the page at `page`; `thread` is the kernel's number of it.
struct held_writer {
    uintptr_t page;
    int32_t thread;
};

/// Returns 0, or the errno of what the kernel does not offer or allow here.
int write_holder_open(struct write_holder *holder);

void write_holder_close(struct write_holder *holder);

/// Begins to hold a page-aligned range of a MAP_SHARED mapping of a memory object: every page of it is protected.
/// Returns 0 or an errno.
int write_holder_add(struct write_holder *holder, uintptr_t start, size_t bytes);

/// Ends it, before the range is unmapped; who waits goes on.
int write_holder_remove(struct write_holder *holder, uintptr_t start, size_t bytes);

/// Protects pages again. Returns 0 or an errno.
int write_holder_protect(struct write_holder *holder, uintptr_t start, size_t bytes);

/// Lifts the protection of a page and wakes who waits for it.
int write_holder_admit(struct write_holder *holder, uintptr_t page, size_t bytes);

/// Sleeps until somebody is held, or write_holder_end was called.
void write_holder_wait(struct write_holder *holder);

/// Whether somebody is held whom write_holder_next has not named yet.
bool write_holder_has_next(struct write_holder *holder);

/// Names who is held, each once; a thread that took a signal meanwhile may come again. Puts up to `room` into `writers`
/// and returns how many, 0 where nobody is.
unsigned write_holder_next(struct write_holder *holder, struct held_writer *writers, unsigned room);

/// Makes write_holder_wait return from now on. Any thread.
void write_holder_end(struct write_holder *holder);

#pragma GCC visibility pop

#endif
