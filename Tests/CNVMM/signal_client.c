// Signals while a guest spins: a timer's, one that is sent to the thread, one with information. Each makes the run that
// the thread is in return with NONE, and only that thread's. And sigaction and signal give back what they were given.
#define _GNU_SOURCE
#include <nvmm.h>
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define MEMORY_BYTES 0x4000
#define ROUNDS 50

// Counts in CX, never exits.
static const uint8_t guest[] = {0x41, 0xEB, 0xFD};  // inc cx; jmp

static struct nvmm_machine machine;
static struct nvmm_vcpu vcpu;
static uint8_t *memory;
static atomic_uint counted, informed, others;
static atomic_bool is_over, wants_store;
static pthread_t runner;
static int failures;

static void check(const char *what, int holds) {
    if (holds) return;
    printf("FAILED %s\n", what);
    failures++;
}

static void count(int number) {
    (void)number;
    if (pthread_equal(pthread_self(), runner)) counted++; else others++;
    // The handler comes once the run has given way.
    if (wants_store) memory[0x3000]++;
    errno = 0;
}

static void inform(int number, siginfo_t *information, void *context) {
    if (information->si_signo == number && information->si_value.sival_int == 42 && context != NULL) informed++;
}

static void *send_with_value(void *thread) {
    while (!is_over) {
        usleep(1000);
        if (pthread_sigqueue(*(pthread_t *)thread, SIGUSR2, (union sigval){.sival_int = 42}) != 0) failures++;
    }
    return NULL;
}

static void *send(void *thread) {
    while (!is_over) {
        usleep(1000);
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
    }
    return NULL;
}

static void *stop_later(void *unused) {
    while (others < 10) usleep(1000);
    nvmm_vcpu_stop(&vcpu);
    return unused;
}

static void *sleep_on(void *unused) {
    while (!is_over) usleep(1000);
    return unused;
}

static unsigned long long run(void) {
    if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
    return (unsigned long long)vcpu.exit->reason;
}

static void check_round_trip(void) {
    struct sigaction action = {0}, before;
    memset(&before, 0xFF, sizeof before);
    check("what stood there at first", sigaction(SIGUSR2, NULL, &before) == 0 && before.sa_handler == SIG_DFL);
    action.sa_sigaction = inform;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER;
    sigaddset(&action.sa_mask, SIGWINCH);
    check("sigaction with information", sigaction(SIGUSR2, &action, NULL) == 0);
    check("it comes back", sigaction(SIGUSR2, NULL, &before) == 0 && before.sa_sigaction == inform);
    const int flags = SA_SIGINFO | SA_RESTART | SA_NODEFER | SA_RESETHAND | SA_ONSTACK;
    check("with its flags", (before.sa_flags & flags) == (SA_SIGINFO | SA_RESTART | SA_NODEFER));
    check("and its mask", sigismember(&before.sa_mask, SIGWINCH) == 1 && sigismember(&before.sa_mask, SIGHUP) == 0);
    check("signal gives the one before", (void *)signal(SIGUSR2, count) == (void *)inform);
    check("signal gives its own", signal(SIGUSR2, SIG_IGN) == count);
    check("ignored stays ignored", sigaction(SIGUSR2, NULL, &before) == 0 && before.sa_handler == SIG_IGN);
    raise(SIGUSR2);
    action.sa_handler = count;
    action.sa_flags = SA_RESETHAND;
    check("once only", sigaction(SIGUSR2, &action, &before) == 0 && before.sa_handler == SIG_IGN);
    check("without information", sigaction(SIGUSR2, NULL, &before) == 0 && !(before.sa_flags & SA_SIGINFO));
    const unsigned ran = counted + others;
    raise(SIGUSR2);
    check("it ran", counted + others == ran + 1);
    check("and is gone", sigaction(SIGUSR2, NULL, &before) == 0 && before.sa_handler == SIG_DFL);
    errno = 0;
    check("no handler of SIGKILL", sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL);
    errno = 0;
    check("no signal 65", sigaction(65, &action, NULL) == -1 && errno == EINVAL);
    errno = 0;
    check("nor 0", signal(0, count) == SIG_ERR && errno == EINVAL);
}

int main(int argc, char **argv) {
    runner = pthread_self();
    // A test's worker thread may have left them blocked.
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    check_round_trip();
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu");
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) err(1, "mmap");
    if (nvmm_hva_map(&machine, (uintptr_t)memory, MEMORY_BYTES) == -1) err(1, "hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0, MEMORY_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) {
        err(1, "gpa_map");
    }
    memcpy(memory + 0x1000, guest, sizeof guest);
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    wants_store = argc > 1 && strcmp(argv[1], "store") == 0;

    // A timer. A run may see several; one that ran between two runs ends none.
    struct sigaction action = {.sa_handler = count};
    struct itimerval interval = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    if (sigaction(SIGALRM, &action, NULL) == -1 || setitimer(ITIMER_REAL, &interval, NULL) == -1) err(1, "timer");
    counted = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (run() != NVMM_VCPU_EXIT_NONE) check("NONE after a timer", 0);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    check("a handler ran for each run", counted >= ROUNDS);
    check("the guest got on", nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == 0 &&
        vcpu.state->gprs[NVMM_X64_GPR_RCX] != 0);

    // With information, to this thread.
    struct sigaction information = {.sa_sigaction = inform, .sa_flags = SA_SIGINFO};
    pthread_t sender;
    if (sigaction(SIGUSR2, &information, NULL) == -1) err(1, "sigaction");
    if (pthread_create(&sender, NULL, send_with_value, &runner) != 0) errx(1, "pthread_create");
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (run() != NVMM_VCPU_EXIT_NONE) check("NONE after a signal", 0);
    }
    is_over = true;
    pthread_join(sender, NULL);
    check("each came with its information", informed >= ROUNDS);

    // Signals of another thread end no run.
    is_over = false;
    pthread_t other, stopper;
    if (sigaction(SIGUSR1, &action, NULL) == -1) err(1, "sigaction");
    if (pthread_create(&other, NULL, sleep_on, NULL) != 0) errx(1, "pthread_create");
    if (pthread_create(&sender, NULL, send, &other) != 0) errx(1, "pthread_create");
    others = 0;
    if (pthread_create(&stopper, NULL, stop_later, NULL) != 0) errx(1, "pthread_create");
    check("stopped, and not before", run() == NVMM_VCPU_EXIT_STOPPED && others >= 10);
    pthread_join(stopper, NULL);
    is_over = true;
    pthread_join(other, NULL);
    pthread_join(sender, NULL);

    printf("%s\n", failures == 0 ? "signals as they should be" : "signals are wrong");
    return failures != 0;
}
