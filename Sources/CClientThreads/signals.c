// The client's signal handlers, each behind a function of ours that tells a run of a VCPU on the same thread.
//
// Rules of this territory: everything here may run in a signal handler. No malloc, no stdio; the only lock is held with
// all signals blocked; errno is what the client made it.
#define _GNU_SOURCE
#include "client_threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#define SIGNALS 65  // of Linux, 1...64

typedef void handler_function(int, siginfo_t *, void *);

// What the client installed last, by signal; null where it never did.
static _Atomic(handler_function *) handlers[SIGNALS];
// Whether that was given with SA_SIGINFO, which ours always is.
static atomic_bool takes_information[SIGNALS];

// Initial-exec: reading one must not allocate, as it may where the library was opened late.
#define THREAD_LOCAL __attribute__((tls_model("initial-exec"))) _Thread_local
static THREAD_LOCAL int32_t *volatile give_way;
static THREAD_LOCAL volatile sig_atomic_t has_seen_one;

// MARK: Runs

void signal_watch_begin(int32_t *word) {
    has_seen_one = 0;
    atomic_signal_fence(memory_order_seq_cst);
    give_way = word;
    atomic_signal_fence(memory_order_seq_cst);
}

void signal_watch_end(void) {
    atomic_signal_fence(memory_order_seq_cst);
    give_way = NULL;
}

bool signal_watch_has_seen_one(void) {
    atomic_signal_fence(memory_order_seq_cst);
    return has_seen_one != 0;
}

// MARK: Handlers

static void run_handler(int number, siginfo_t *information, void *context) {
    int32_t *word = give_way;
    if (word != NULL) {
        has_seen_one = 1;
        // The thread itself looks at it, behind this handler; other threads may set it too.
        __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    }
    handler_function *handler = atomic_load_explicit(&handlers[number], memory_order_acquire);
    // The kernel passes all three arguments to every handler; one that takes the number alone does not look at them.
    if (handler != NULL) handler(number, information, context);
}

/// libc's own, or that of another library that stands before it.
static int next_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    typedef int function(int, const struct sigaction *, struct sigaction *);
    static _Atomic(function *) next;
    function *found = atomic_load_explicit(&next, memory_order_relaxed);
    if (found == NULL) {
        // Called first when the library is loaded (below), before a handler can.
        found = (function *)(uintptr_t)dlsym(RTLD_NEXT, "sigaction");
        atomic_store_explicit(&next, found, memory_order_relaxed);
    }
    if (found == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return found(number, action, before);
}

__attribute__((constructor)) static void find_next(void) {
    struct sigaction ignored;
    (void)next_sigaction(SIGINT, NULL, &ignored);
}

static bool is_function(const struct sigaction *action) {
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/// What the kernel has and the table, changed together.
static int exchange(int number, const struct sigaction *action, struct sigaction *before) {
    static atomic_flag is_held = ATOMIC_FLAG_INIT;
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask);
    while (atomic_flag_test_and_set_explicit(&is_held, memory_order_acquire)) __builtin_ia32_pause();

    handler_function *handler_before = atomic_load_explicit(&handlers[number], memory_order_relaxed);
    const bool information_before = atomic_load_explicit(&takes_information[number], memory_order_relaxed);
    struct sigaction ours;
    if (action != NULL && is_function(action)) {
        // First the table: the kernel's half may take effect on another thread at once.
        atomic_store_explicit(&handlers[number], action->sa_sigaction, memory_order_release);
        atomic_store_explicit(&takes_information[number], (action->sa_flags & SA_SIGINFO) != 0, memory_order_relaxed);
        ours = *action;
        ours.sa_sigaction = run_handler;
        ours.sa_flags |= SA_SIGINFO;
        action = &ours;
    }
    const int result = next_sigaction(number, action, before);
    const int error = errno;
    if (result != 0) {
        atomic_store_explicit(&handlers[number], handler_before, memory_order_release);
        atomic_store_explicit(&takes_information[number], information_before, memory_order_relaxed);
    } else if (before != NULL && is_function(before) && before->sa_sigaction == run_handler) {
        before->sa_sigaction = handler_before;
        if (!information_before) before->sa_flags &= ~SA_SIGINFO;
    }

    atomic_flag_clear_explicit(&is_held, memory_order_release);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    errno = error;
    return result;
}

// MARK: What the client calls

int client_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    // The C library refuses these, and says how.
    if (number < 1 || number >= SIGNALS) return next_sigaction(number, action, before);
    const int error_before = errno;
    // Copies: a bad pointer must fault before anything is held, and both may be the same structure.
    struct sigaction wanted, found;
    if (action != NULL) wanted = *action;
    const int result = exchange(number, action != NULL ? &wanted : NULL, &found);
    if (result != 0) return result;
    if (before != NULL) *before = found;
    errno = error_before;
    return 0;
}

static void (*install(int number, void (*handler)(int), int flags))(int) {
    struct sigaction action = {.sa_flags = flags}, before;
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    if (handler == SIG_ERR || number < 1 || number >= SIGNALS) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (!(flags & SA_NODEFER)) sigaddset(&action.sa_mask, number);
    return client_sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

void (*client_signal(int number, void (*handler)(int)))(int) { return install(number, handler, SA_RESTART); }

void (*client_sysv_signal(int number, void (*handler)(int)))(int) {
    return install(number, handler, (int)(SA_RESETHAND | SA_NODEFER));
}
