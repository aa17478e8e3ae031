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
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNALS 65  // of Linux, 1...64

typedef void handler_function(int, siginfo_t *, void *);

// What the client installed last, by signal; null where it never did.
static _Atomic(handler_function *) handlers[SIGNALS];
// Whether that was given with SA_SIGINFO, which ours always is.
static atomic_bool takes_information[SIGNALS];
// Whether it stands for one signal alone.
static atomic_bool is_for_once[SIGNALS];

// Initial-exec: reading one must not allocate, as it may where the library was opened late.
#define THREAD_LOCAL __attribute__((tls_model("initial-exec"))) _Thread_local
static THREAD_LOCAL int32_t *volatile give_way;
static THREAD_LOCAL volatile sig_atomic_t has_seen_one;

// Signals that came while the thread had put them off. There is no room for more: what does not fit is not put off.
#define PUT_OFF_MAX 4
static THREAD_LOCAL volatile sig_atomic_t put_off_depth;
static THREAD_LOCAL volatile sig_atomic_t put_off_count;
static THREAD_LOCAL siginfo_t put_off[PUT_OFF_MAX];

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

// MARK: Putting off

void signal_put_off_begin(void) {
    put_off_depth++;
    atomic_signal_fence(memory_order_seq_cst);
}

/// Sends the thread again what it had put off: the kernel then runs the handlers as it would have.
static void catch_up(void) {
    sigset_t all, before;
    const int error = errno;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (int index = 0; index < put_off_count; index++) {
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), put_off[index].si_signo, &put_off[index]);
    }
    put_off_count = 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
}

void signal_put_off_end(void) {
    atomic_signal_fence(memory_order_seq_cst);
    put_off_depth--;
    atomic_signal_fence(memory_order_seq_cst);
    if (put_off_depth == 0 && put_off_count > 0) catch_up();
}

/// In a handler. Signals that an instruction of the thread caused, and handlers that the kernel has taken away already,
/// cannot come later.
static bool is_put_off(int number, const siginfo_t *information) {
    if (put_off_depth == 0 || put_off_count >= PUT_OFF_MAX) return false;
    const bool is_fault = number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL
        || number == SIGTRAP || number == SIGSYS;
    if (is_fault || atomic_load_explicit(&is_for_once[number], memory_order_relaxed)) return false;
    // Another signal's handler may come between, and puts its own behind.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const bool has_room = put_off_count < PUT_OFF_MAX;
    if (has_room) {
        put_off[put_off_count] = *information;
        put_off_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return has_room;
}

// MARK: Handlers

static void run_handler(int number, siginfo_t *information, void *context) {
    int32_t *word = give_way;
    if (word != NULL) {
        has_seen_one = 1;
        // The thread itself looks at it, behind this handler; other threads may set it too.
        __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    }
    if (is_put_off(number, information)) return;
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
    // It, too, may be called by a handler first, and finding the C library's own may allocate.
    sigset_t mask;
    (void)client_sigmask(SIG_BLOCK, NULL, &mask);
}

static bool is_function(const struct sigaction *action) {
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

// MARK: SIGSEGV, where guest memory is protected by it

static _Atomic(client_fault_function *) fault_function;
// What the kernel would have for SIGSEGV if ours did not stand before it.
static struct sigaction fault_action;

static void run_fault(int number, siginfo_t *information, void *context) {
    if (atomic_load(&fault_function)((uintptr_t)information->si_addr)) return;
    if (is_function(&fault_action)) {
        if (fault_action.sa_flags & SA_SIGINFO) {
            fault_action.sa_sigaction(number, information, context);
        } else {
            fault_action.sa_handler(number);
        }
        return;
    }
    // The instruction faults again, and then nobody catches it.
    struct sigaction plain = {.sa_handler = SIG_DFL};
    (void)next_sigaction(number, &plain, NULL);
}

void client_watch_faults(client_fault_function *fault) {
    if (atomic_exchange(&fault_function, fault) != NULL) return;
    // Others may come while a thread waits in it, and store too.
    struct sigaction ours = {.sa_sigaction = run_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&ours.sa_mask);
    (void)next_sigaction(SIGSEGV, &ours, &fault_action);
}

/// As next_sigaction; SIGSEGV's stays ours.
static int change_action(int number, const struct sigaction *action, struct sigaction *before) {
    if (number != SIGSEGV || atomic_load(&fault_function) == NULL) return next_sigaction(number, action, before);
    const struct sigaction old = fault_action;
    if (action != NULL) fault_action = *action;
    if (before != NULL) *before = old;
    return 0;
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
    const bool once_before = atomic_load_explicit(&is_for_once[number], memory_order_relaxed);
    struct sigaction ours;
    if (action != NULL && is_function(action)) {
        // First the table: the kernel's half may take effect on another thread at once.
        atomic_store_explicit(&handlers[number], action->sa_sigaction, memory_order_release);
        atomic_store_explicit(&takes_information[number], (action->sa_flags & SA_SIGINFO) != 0, memory_order_relaxed);
        const bool is_once = (action->sa_flags & (int)SA_RESETHAND) != 0;
        atomic_store_explicit(&is_for_once[number], is_once, memory_order_relaxed);
        ours = *action;
        ours.sa_sigaction = run_handler;
        ours.sa_flags |= SA_SIGINFO;
        action = &ours;
    }
    const int result = change_action(number, action, before);
    const int error = errno;
    if (result != 0) {
        atomic_store_explicit(&handlers[number], handler_before, memory_order_release);
        atomic_store_explicit(&takes_information[number], information_before, memory_order_relaxed);
        atomic_store_explicit(&is_for_once[number], once_before, memory_order_relaxed);
    } else if (before != NULL && is_function(before) && before->sa_sigaction == run_handler) {
        before->sa_sigaction = handler_before;
        if (!information_before) before->sa_flags &= ~SA_SIGINFO;
    }

    atomic_flag_clear_explicit(&is_held, memory_order_release);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    errno = error;
    return result;
}

// MARK: Masks

/// Whether this process is to be recorded: pages may then be protected by mprotect, and a thread that stores to one
/// with SIGSEGV blocked would be killed. It may have blocked all signals long before its first machine.
static bool may_protect(void) {
    return getenv("NVMM_TRACE") != NULL || getenv("VMTRACE_RING") != NULL || getenv("VMTRACE_RAW") != NULL;
}

int client_sigmask(int how, const sigset_t *set, sigset_t *before) {
    typedef int function(int, const sigset_t *, sigset_t *);
    static _Atomic(function *) kept;
    function *next = atomic_load_explicit(&kept, memory_order_relaxed);
    if (next == NULL) {
        next = (function *)(uintptr_t)dlsym(RTLD_NEXT, "pthread_sigmask");
        atomic_store_explicit(&kept, next, memory_order_relaxed);
    }
    sigset_t changed;
    if (set != NULL && how != SIG_UNBLOCK && may_protect()) {
        changed = *set;
        sigdelset(&changed, SIGSEGV);
        set = &changed;
    }
    return next(how, set, before);
}

int client_sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    const int error = client_sigmask(how, set, before);
    if (error != 0) errno = error;
    return error == 0 ? 0 : -1;
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
