// What the client stores into guest memory, where no library tells: the client's mappings are write-protected while
// nobody writes, the first store to a page after a run saves its content, and before the next run what differs is
// recorded. System calls that write into such memory would fail with EFAULT: the ones that devices of VMMs use are
// shadowed, and write elsewhere first (guest_memory_calls.c). Rules: recorder.h.
//
// This protects the client's mapping. It is of use where the guest's stores go another way: on NetBSD and DragonFly the
// guest has an address space of its own, this project's library maps the memory twice, and so does kvm_memory.c.
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/// From here on a range of the client's memory is watched: the library shows it to the guest, zeroed. False where there
/// is no room for that.
bool guest_memory_add(uint32_t machine, uintptr_t start, size_t bytes);

/// Ends it, for the range that begins at `start`.
void guest_memory_remove(uint32_t machine, uintptr_t start);

/// Ends all of a machine's.
void guest_memory_forget(uint32_t machine);

/// Records what was stored since the last run, and protects again what was open.
void guest_memory_record(uint32_t machine);

/// Between these a guest runs: who stores now does so at an unknown place in its time. The second says whether another
/// run overlapped with this one.
void guest_memory_run_begins(void);
bool guest_memory_run_ends(void);

/// Makes `bytes` from `start` writable where they are watched, saving what stands there.
void guest_memory_open(uintptr_t start, size_t bytes);

/// Whether any of these bytes are watched.
bool guest_memory_touches(uintptr_t start, size_t bytes);

/// Copies bytes to where they may be watched, as a store of the client's.
void guest_memory_store(void *target, const void *source, size_t bytes);

/// Whether anything is watched. One load.
bool guest_memory_is_watched(void);

/// A client's handler of SIGSEGV, in the place of which ours stays installed: fills in what the system would have, and
/// returns whether it was taken.
struct sigaction;
bool guest_memory_take_handler(const struct sigaction *action, struct sigaction *before);

#pragma GCC visibility pop

#endif
