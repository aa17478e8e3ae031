// The kernel's numbers of the client's threads.
#define _GNU_SOURCE
#include "client_threads.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

// Asked for once a thread: a run asks each time, and a system call would cost it a tenth. Initial-exec as in signals.c.
static __attribute__((tls_model("initial-exec"))) _Thread_local int32_t own_number;

/// In a child of fork the one thread there is has another number.
static void forget(void) { own_number = 0; }

__attribute__((constructor)) static void forget_in_children(void) { pthread_atfork(NULL, NULL, forget); }

int32_t client_thread_number(void) {
    // The system call: older C libraries have no function for it.
    if (own_number == 0) own_number = (int32_t)syscall(SYS_gettid);
    return own_number;
}
