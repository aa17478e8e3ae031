// Holding writers where userfaultfd is not to be had: pages of the client's mapping are protected by mprotect, and who
// stores to one waits in a handler of SIGSEGV. The same face as write_holding.h, which chooses.
#ifndef PAGE_HOLDING_H
#define PAGE_HOLDING_H

#include "write_holding.h"

#pragma GCC visibility push(hidden)

/// Returns NULL where there are too many already, or no memory. `*event_file` becomes readable when somebody is held.
struct page_holder *page_holder_open(int *event_file);
void page_holder_close(struct page_holder *holder);
int page_holder_add(struct page_holder *holder, uintptr_t start, size_t bytes);
int page_holder_remove(struct page_holder *holder);
int page_holder_protect(struct page_holder *holder, uintptr_t start, size_t bytes);
int page_holder_admit(struct page_holder *holder, uintptr_t page, size_t bytes);
bool page_holder_has_next(struct page_holder *holder);
unsigned page_holder_next(struct page_holder *holder, struct held_writer *writers, unsigned room);

#pragma GCC visibility pop

#endif
