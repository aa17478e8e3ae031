// KVM_RUN with an end: by a timer of the thread's, or by another thread's signal.
#define _GNU_SOURCE
#include "ckvm.h"

#ifdef CKVM_IS_AVAILABLE

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int ckvm_ioctl(int file, unsigned long request, uint64_t argument) {
    int result = ioctl(file, request, argument);
    return result < 0 ? -errno : result;
}

// MARK: - Ending a run

// Set while this thread is in KVM_RUN, or about to be: the handler then makes it return, or not begin.
static _Thread_local struct kvm_run *volatile running;
static _Thread_local timer_t timer;
static _Thread_local bool has_timer;
// When the timer will ring, in nanoseconds that this thread has executed; 0: it does not. Not those of the clock on
// the wall: on a busy host a run would be over before it began.
static _Thread_local uint64_t rings_at;

static int kick_signal(void) { return SIGRTMAX - 2; }

static void take_kick(int signal) {
    (void)signal;
    struct kvm_run *run = running;
    if (run != NULL) run->immediate_exit = 1;
}

static pthread_key_t timers;

static void delete_timer(void *mine) { timer_delete(*(timer_t *)mine); }

static void install_handler(void) {
    pthread_key_create(&timers, delete_timer);
    struct sigaction action = {.sa_handler = take_kick};
    sigemptyset(&action.sa_mask);
    sigaction(kick_signal(), &action, NULL);
}

/// The thread's number; the first time it is also let take the signal, which the threads of a pool may block.
static pid_t this_thread(void) {
    static _Thread_local pid_t number;
    if (number != 0) return number;
    sigset_t kicks;
    sigemptyset(&kicks);
    sigaddset(&kicks, kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &kicks, NULL);
    return number = (pid_t)syscall(SYS_gettid);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/// One system call for many runs: a timer that rings before it must ends a run early, which costs less.
static bool arm(uint64_t nanoseconds) {
    if (!has_timer) {
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kick_signal()};
        event._sigev_un._tid = this_thread();
        if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0) return false;
        has_timer = true;
        pthread_setspecific(timers, &timer);
    }
    uint64_t time = now(), wanted = time + nanoseconds;
    if (wanted < time) wanted = UINT64_MAX;
    if (rings_at > time && rings_at <= wanted) return true;
    struct itimerspec setting = {
        .it_value = {.tv_sec = (time_t)(wanted / 1000000000u), .tv_nsec = (long)(wanted % 1000000000u)},
    };
    if (setting.it_value.tv_sec < 0) return true;
    rings_at = wanted;
    return timer_settime(timer, TIMER_ABSTIME, &setting, NULL) == 0;
}

int ckvm_run(int vcpu, struct kvm_run *run, struct ckvm_runner *runner, uint64_t nanoseconds) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_handler);
    running = run;
    atomic_store(&runner->thread, this_thread());
    bool is_bounded = nanoseconds != 0 && nanoseconds != UINT64_MAX;
    if (atomic_exchange(&runner->is_kicked, 0) || nanoseconds == 0 || (is_bounded && !arm(nanoseconds))) {
        run->immediate_exit = 1;
    }
    int result = ioctl(vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
    atomic_store(&runner->thread, 0);
    running = NULL;
    run->immediate_exit = 0;
    return result;
}

int ckvm_complete(int vcpu, struct kvm_run *run) {
    run->immediate_exit = 1;
    int result = ioctl(vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
    run->immediate_exit = 0;
    return result;
}

void ckvm_kick(struct ckvm_runner *runner) {
    atomic_store(&runner->is_kicked, 1);
    pid_t thread = atomic_load(&runner->thread);
    if (thread != 0) syscall(SYS_tgkill, getpid(), thread, kick_signal());
}

#endif
