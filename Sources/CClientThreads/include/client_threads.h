// What Swift cannot say about the client's threads: their numbers, and which signals they took while they ran a VCPU.
#ifndef CLIENT_THREADS_H
#define CLIENT_THREADS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/// The kernel's number of the calling thread, as /proc/self/task and userfaultfd have it.
int32_t client_thread_number(void);

// A run of a VCPU returns once a signal handler has run on its thread. User space cannot see that one did, so
// libnvmm.so exports sigaction, signal and the like (Scripts/install.sh names these functions so), and puts a function
// of its own before each of the client's handlers.

/// From here to signal_watch_end the calling thread runs a VCPU. A handler that runs on it sets `*give_way` to 1.
void signal_watch_begin(int32_t *give_way);
void signal_watch_end(void);
/// Whether a handler ran on the calling thread since signal_watch_begin.
bool signal_watch_has_seen_one(void);

#pragma GCC visibility pop

// What the client calls, by the C library's names; hidden, the aliases would be so too. Its own handlers come back, and
// everything else is as the C library has it.

int client_sigaction(int number, const struct sigaction *action, struct sigaction *before);
/// BSD's: the handler stays, system calls go on.
void (*client_signal(int number, void (*handler)(int)))(int);
/// System V's: the handler is taken away by its first signal, which is not blocked meanwhile.
void (*client_sysv_signal(int number, void (*handler)(int)))(int);

#endif
