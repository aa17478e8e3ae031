// What Swift cannot say about the client's threads: their numbers, and which signals they took while they ran a VCPU.
#ifndef CLIENT_THREADS_H
#define CLIENT_THREADS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

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

/// Between these the calling thread holds what a handler of the client's could wait for: a page of guest memory that is
/// opened only once the thread has let go. The handlers run at the end. They nest.
void signal_put_off_begin(void);
void signal_put_off_end(void);

/// Says whether a fault at `address` was dealt with: the instruction is then tried again. Async-signal-safe.
typedef bool client_fault_function(uintptr_t address);

/// From here on `fault` is asked of each SIGSEGV first; the client's own handler stands behind it, now and later. Once.
void client_watch_faults(client_fault_function *fault);

/// Says whether a system call that stores `bytes` from `start` on would fail.
typedef bool client_covers_function(uintptr_t start, size_t bytes);

/// From here on system calls that read into what `covers` says do so through a buffer. Once.
void client_watch_reads(client_covers_function *covers);

#pragma GCC visibility pop

// What the client calls, by the C library's names; hidden, the aliases would be so too. Its own handlers come back, and
// everything else is as the C library has it.

int client_sigmask(int how, const sigset_t *set, sigset_t *before);
int client_sigprocmask(int how, const sigset_t *set, sigset_t *before);

ssize_t client_read(int file, void *buffer, size_t bytes);
ssize_t client_pread(int file, void *buffer, size_t bytes, off_t offset);
ssize_t client_readv(int file, const struct iovec *pieces, int count);
ssize_t client_preadv(int file, const struct iovec *pieces, int count, off_t offset);
ssize_t client_recv(int file, void *buffer, size_t bytes, int flags);
ssize_t client_recvfrom(int file, void *buffer, size_t bytes, int flags, void *from, socklen_t *from_bytes);
ssize_t client_recvmsg(int file, struct msghdr *message, int flags);
// The names that _FORTIFY_SOURCE makes of some.
ssize_t client_read_checked(int file, void *buffer, size_t bytes, size_t room);
ssize_t client_pread_checked(int file, void *buffer, size_t bytes, off_t offset, size_t room);
ssize_t client_recv_checked(int file, void *buffer, size_t bytes, size_t room, int flags);

int client_sigaction(int number, const struct sigaction *action, struct sigaction *before);
/// BSD's: the handler stays, system calls go on.
void (*client_signal(int number, void (*handler)(int)))(int);
/// System V's: the handler is taken away by its first signal, which is not blocked meanwhile.
void (*client_sysv_signal(int number, void (*handler)(int)))(int);

#endif
