// What Swift cannot say about the client's threads: their numbers.
#ifndef CLIENT_THREADS_H
#define CLIENT_THREADS_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

/// The kernel's number of the calling thread, as /proc/self/task and userfaultfd have it.
int32_t client_thread_number(void);

#pragma GCC visibility pop

#endif
