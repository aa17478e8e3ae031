// Makes every call of <nvmm.h> and prints what came back: results, errno, exits, state. With a shim preloaded it must
// print the same. Arguments choose more: `fork`, `exec`, `threads`, `killed`, `runs N`.
#define _GNU_SOURCE
#include <nvmm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct nvmm_machine machine;
static struct nvmm_vcpu vcpu;

static void show(const char *what, int result) {
    int error = errno;
    printf("%s: %d errno %d\n", what, result, error);
}

// errno before a call is part of what the call may leave behind.
#define SHOW(call) (errno = 4321, show(#call, call))

static uint64_t sum(const void *bytes, size_t count) {
    uint64_t value = 14695981039346656037u;
    for (size_t place = 0; place < count; place++) value = (value ^ ((const uint8_t *)bytes)[place]) * 1099511628211u;
    return value;
}

static void show_run(void) {
    errno = 4321;
    int result = nvmm_vcpu_run(&machine, &vcpu), error = errno;
    const struct nvmm_comm_page *page = machine.pages[0];
    printf("run: %d errno %d exit %llx page %llx %llx %llx %d state %016llx exit %016llx\n", result, error,
        (unsigned long long)vcpu.exit->reason, (unsigned long long)page->state_wanted,
        (unsigned long long)page->state_cached, (unsigned long long)page->state_commit, page->event_commit,
        (unsigned long long)sum(vcpu.state, sizeof *vcpu.state),
        (unsigned long long)sum(vcpu.exit, sizeof *vcpu.exit));
}

static void on_port(struct nvmm_io *io) {
    printf("port %x %c\n", io->port, io->data[0]);
    // From inside an assist, as a device does that raises its line.
    vcpu.event->type = NVMM_VCPU_EVENT_INTR;
    vcpu.event->vector = 0x30;
    nvmm_vcpu_inject(io->mach, io->vcpu);
}

static void every_call(void) {
    struct nvmm_capability capability;
    struct nvmm_ctl_mach_info info = {0};
    struct nvmm_vcpu_conf_cpuid cpuid = {.mask = 1, .leaf = 7};
    struct nvmm_assist_callbacks callbacks = {.io = on_port};
    struct nvmm_vcpu other;
    uintptr_t hva;
    gpaddr_t gpa;
    nvmm_prot_t prot;
    void *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    SHOW(nvmm_capability(&capability));
    SHOW(nvmm_init());
    SHOW(nvmm_init());
    SHOW(nvmm_root_init());
    SHOW(nvmm_capability(&capability));
    SHOW(nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info));
    SHOW(nvmm_ctl(9, &info, sizeof info));
    SHOW(nvmm_machine_create(&machine));
    SHOW(nvmm_machine_configure(&machine, 0, NULL));
    SHOW(nvmm_vcpu_create(&machine, 0, &vcpu));
    SHOW(nvmm_vcpu_create(&machine, 0, &other));
    SHOW(nvmm_vcpu_create(&machine, 500, &other));
    SHOW(nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks));
    SHOW(nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));
    SHOW(nvmm_vcpu_configure(&machine, &vcpu, 77, NULL));
    SHOW(nvmm_hva_map(&machine, (uintptr_t)memory, 4096));
    SHOW(nvmm_hva_map(&machine, 1, 4096));
    SHOW(nvmm_gpa_map(&machine, (uintptr_t)memory, 0x1000, 4096, PROT_READ));
    SHOW(nvmm_gpa_map(&machine, (uintptr_t)memory, 0x1000, 4096, 99));
    SHOW(nvmm_gva_to_gpa(&machine, &vcpu, 0x1234, &gpa, &prot));
    SHOW(nvmm_gpa_to_hva(&machine, 0x1234, &hva, &prot));

    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 600;
    vcpu.state->fpu.fx_mxcsr = 0x1F80;
    SHOW(nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_GPRS | NVMM_X64_STATE_FPU | NVMM_X64_STATE_SEGS));
    show_run();
    SHOW(nvmm_assist_io(&machine, &vcpu));
    SHOW(nvmm_assist_mem(&machine, &vcpu));
    SHOW(nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_GPRS));
    SHOW(nvmm_vcpu_stop(&vcpu));
    show_run();  // early: consumes neither the registers nor the event
    show_run();
    SHOW(nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_ALL));
    vcpu.event->type = 9;
    SHOW(nvmm_vcpu_inject(&machine, &vcpu));
    show_run();  // refused
    for (int run = 0; run < 7; run++) show_run();
    SHOW(nvmm_vcpu_dump(&machine, &vcpu));
}

static void end_calls(void) {
    SHOW(nvmm_gpa_unmap(&machine, 1, 2, 3));
    SHOW(nvmm_hva_unmap(&machine, 1, 2));
    SHOW(nvmm_vcpu_destroy(&machine, &vcpu));
    SHOW(nvmm_machine_destroy(&machine));
}

// MARK: - More

static void on_alarm(int number) {
    (void)number;
    nvmm_vcpu_stop(&vcpu);
}

static void *run_other(void *argument) {
    static struct nvmm_vcpu other;
    (void)argument;
    nvmm_vcpu_create(&machine, 1, &other);
    for (int run = 0; run < 3000; run++) {
        nvmm_vcpu_setstate(&machine, &other, NVMM_X64_STATE_GPRS);
        nvmm_vcpu_run(&machine, &other);
    }
    return NULL;
}

/// A second VCPU in its thread, and a signal that stops the first one at any moment.
static void threads(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    pthread_t thread;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_create(&thread, NULL, run_other, NULL);
    for (int run = 0; run < 3000; run++) {
        nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_ALL);
        nvmm_vcpu_run(&machine, &vcpu);
    }
    pthread_join(thread, NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    printf("threads done\n");
}

/// A child has none of the parent's machines; what it does with one of its own is not part of the recording.
static void fork_child(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct nvmm_machine own;
        int result = nvmm_init() | nvmm_machine_create(&own) | nvmm_machine_destroy(&own);
        _exit(result == 0 ? 7 : 8);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
}

int main(int count, char **arguments) {
    for (int place = 1; place < count; place++) {
        if (strcmp(arguments[place], "again") == 0) return nvmm_init() | nvmm_machine_create(&machine);
    }
    every_call();
    for (int place = 1; place < count; place++) {
        const char *argument = arguments[place];
        if (strcmp(argument, "fork") == 0) fork_child();
        if (strcmp(argument, "threads") == 0) threads();
        if (strcmp(argument, "killed") == 0) raise(SIGKILL);
        if (strcmp(argument, "runs") == 0 && place + 1 < count) {
            for (long left = atol(arguments[place + 1]); left > 0; left--) {
                nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_GPRS);
                nvmm_vcpu_run(&machine, &vcpu);
            }
        }
    }
    end_calls();
    if (count > 1 && strcmp(arguments[count - 1], "exec") == 0) {
        fflush(stdout);
        execl(arguments[0], arguments[0], "again", (char *)NULL);
    }
    return 0;
}
