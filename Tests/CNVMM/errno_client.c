// Every error that a client of libnvmm can bring about, from C: a line for each check, a count at the end, status 1 if
// any differs. Docs/nvmm-abi.md, section 11. The original library ends the process where gpa_map fails in its kernel,
// so that part is for this project's.
#define _GNU_SOURCE
#include <nvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL

static int checks, failures;

static const char *error_name(int error) {
    switch (error) {
    case 0: return "success";
    case EBADF: return "EBADF";
    case EBUSY: return "EBUSY";
    case EEXIST: return "EEXIST";
    case EFAULT: return "EFAULT";
    case EINVAL: return "EINVAL";
    case ENOBUFS: return "ENOBUFS";
    case ENODEV: return "ENODEV";
    case ENOENT: return "ENOENT";
    case ENOMEM: return "ENOMEM";
    case ENOSYS: return "ENOSYS";
    case ENOTSUP: return "ENOTSUP";
    case EPERM: return "EPERM";
    case EPROGMISMATCH: return "EPROGMISMATCH";
    default: return strerror(error);
    }
}

static void compare(const char *what, int got, int wanted) {
    checks++;
    if (got == wanted) {
        printf("ok %s: %s\n", what, error_name(got));
    } else {
        failures++;
        printf("DIFFERS %s: %s, not %s\n", what, error_name(got), error_name(wanted));
    }
}

static void check(const char *what, bool holds) {
    checks++;
    if (!holds) failures++;
    printf("%s %s\n", holds ? "ok" : "DIFFERS", what);
}

/// The error of a call, 0 for success; a call that fails in any other way than -1 is a failure of its own.
static int error_of(int result) {
    if (result == 0) return 0;
    return result == -1 ? errno : -1;
}

// errno is set before each call, so that one that succeeds without touching it is seen to do so.
#define EXPECT(wanted, call) (errno = 0, compare(#call, error_of(call), wanted))

static uint8_t *pages(size_t count) {
    void *memory = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    return memory;
}

static void before_init(void) {
    struct nvmm_capability capability;
    struct nvmm_machine machine;
    struct nvmm_ctl_mach_info info = {0};
    EXPECT(EBADF, nvmm_capability(&capability));
    EXPECT(EBADF, nvmm_machine_create(&machine));
    EXPECT(EBADF, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info));
}

static void init_and_capability(void) {
    struct nvmm_capability capability;
    EXPECT(0, nvmm_init());
    EXPECT(0, nvmm_init());
    EXPECT(0, nvmm_capability(&capability));
    check("the capability has the interface's numbers",
        capability.version == NVMM_KERN_VERSION && capability.state_size == sizeof(struct nvmm_vcpu_state)
            && capability.max_machines == 128 && capability.max_vcpus == 128
            && capability.arch.conf_cpuid_maxops == 32);
}

/// A machine with a number that cannot be, and one with a number that is free.
static void bad_machines(void) {
    struct nvmm_comm_page *no_pages[1] = {NULL};
    struct nvmm_machine beyond = {.machid = 128, .pages = no_pages};
    struct nvmm_machine empty = {.machid = 127, .pages = no_pages};
    struct nvmm_vcpu vcpu;
    EXPECT(EINVAL, nvmm_machine_destroy(&beyond));
    EXPECT(ENOENT, nvmm_machine_destroy(&empty));
    EXPECT(EINVAL, nvmm_vcpu_create(&beyond, 0, &vcpu));
    EXPECT(ENOENT, nvmm_vcpu_create(&empty, 0, &vcpu));
    EXPECT(EINVAL, nvmm_hva_map(&beyond, (uintptr_t)pages(1), PAGE));
    EXPECT(ENOENT, nvmm_hva_map(&empty, (uintptr_t)pages(1), PAGE));
}

static void bad_vcpus(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    struct nvmm_vcpu other;
    EXPECT(EINVAL, nvmm_vcpu_create(machine, 128, &other));
    EXPECT(EINVAL, nvmm_vcpu_create(machine, UINT32_MAX, &other));
    EXPECT(EBUSY, nvmm_vcpu_create(machine, 0, &other));

    // A copy that names a VCPU which does not exist; its pages are the first one's, so that nothing else is wrong.
    other = *vcpu;
    other.cpuid = 5;
    EXPECT(ENOENT, nvmm_vcpu_run(machine, &other));
    EXPECT(ENOENT, nvmm_vcpu_destroy(machine, &other));
    other.cpuid = 128;
    EXPECT(EINVAL, nvmm_vcpu_run(machine, &other));
    EXPECT(EINVAL, nvmm_vcpu_destroy(machine, &other));
}

static void configurations(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    struct nvmm_vcpu_conf_cpuid cpuid;
    struct nvmm_vcpu_conf_tpr tpr = {.exit_changed = 1};
    struct nvmm_capability capability;
    nvmm_capability(&capability);

    EXPECT(EINVAL, nvmm_machine_configure(machine, 0, &cpuid));
    EXPECT(EINVAL, nvmm_machine_configure(machine, 200, &cpuid));
    EXPECT(EINVAL, nvmm_vcpu_configure(machine, vcpu, 1, &cpuid));
    EXPECT(EINVAL, nvmm_vcpu_configure(machine, vcpu, 100, &cpuid));
    EXPECT(EINVAL, nvmm_vcpu_configure(machine, vcpu, 202, &cpuid));
    EXPECT(EINVAL, nvmm_vcpu_configure(machine, vcpu, UINT64_MAX, &cpuid));
    EXPECT(EFAULT, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, NULL));

    memset(&cpuid, 0, sizeof cpuid);
    cpuid.mask = 1;
    cpuid.exit = 1;
    EXPECT(EINVAL, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));
    cpuid.exit = 0;
    cpuid.u.mask.set.ecx = 6;
    cpuid.u.mask.del.ecx = 12;
    EXPECT(EINVAL, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));
    cpuid.u.mask.del.ecx = 8;

    int filled = 0;
    for (cpuid.leaf = 0; cpuid.leaf < 32; cpuid.leaf++) {
        filled += nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid) == 0;
    }
    check("32 CPUID leaves can be configured", filled == 32);
    EXPECT(ENOBUFS, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));
    cpuid.leaf = 31;
    EXPECT(0, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));
    memset(&cpuid, 0, sizeof cpuid);
    cpuid.leaf = 31;
    EXPECT(0, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));
    cpuid.leaf = 32;
    cpuid.exit = 1;
    EXPECT(0, nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_CPUID, &cpuid));

    bool offers_tpr = capability.arch.vcpu_conf_support & NVMM_CAP_ARCH_VCPU_CONF_TPR;
    errno = 0;
    compare("the TPR configuration is as the capability says",
        error_of(nvmm_vcpu_configure(machine, vcpu, NVMM_VCPU_CONF_TPR, &tpr)), offers_tpr ? 0 : EINVAL);
}

static void memory_maps(struct nvmm_machine *machine) {
    uint8_t *memory = pages(16);
    uintptr_t hva = (uintptr_t)memory;
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    uintptr_t found;
    nvmm_prot_t prot;

    EXPECT(EINVAL, nvmm_hva_map(machine, 0, PAGE));
    EXPECT(EINVAL, nvmm_hva_map(machine, hva + 1, PAGE));
    EXPECT(EINVAL, nvmm_hva_map(machine, hva, PAGE + 1));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva + 4 * PAGE, 0x100000, PAGE, all));
    memory[4 * PAGE] = 1;
    EXPECT(0, nvmm_hva_map(machine, hva + 4 * PAGE, 4 * PAGE));
    check("hva_map replaces what was there by zeros", memory[4 * PAGE] == 0);
    EXPECT(EEXIST, nvmm_hva_map(machine, hva + 2 * PAGE, 4 * PAGE));
    EXPECT(EEXIST, nvmm_hva_map(machine, hva + 6 * PAGE, 4 * PAGE));
    EXPECT(EEXIST, nvmm_hva_map(machine, hva + 3 * PAGE, 6 * PAGE));

    hva += 4 * PAGE;
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva + 1, 0x100000, PAGE, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 0x100001, PAGE, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 0x100000, PAGE + 1, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 0x100000, 0, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 0x100000, PAGE, 8));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 0x100000, 5 * PAGE, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 0xFFFFFFFFFFFFF000, 2 * PAGE, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva, 1ULL << 62, PAGE, all));
    EXPECT(0, nvmm_gpa_map(machine, hva, 0x100000, 2 * PAGE, all));
    EXPECT(EINVAL, nvmm_gpa_map(machine, hva + 2 * PAGE, 0x101000, PAGE, all));
    EXPECT(0, nvmm_gpa_map(machine, hva, 0x200000, 2 * PAGE, PROT_READ));
    EXPECT(0, nvmm_gpa_map(machine, hva + 2 * PAGE, 0x300000, PAGE, 0));

    EXPECT(0, nvmm_gpa_to_hva(machine, 0x101234, &found, &prot));
    check("gpa_to_hva finds the byte and the rights", found == hva + 0x1234 && prot == 7);
    EXPECT(0, nvmm_gpa_to_hva(machine, 0x200000, &found, &prot));
    check("one HVA may stand at two GPAs, with other rights", found == hva && prot == NVMM_PROT_READ);
    EXPECT(ENOENT, nvmm_gpa_to_hva(machine, 0x102000, &found, &prot));

    check("gpa_unmap refuses another size", nvmm_gpa_unmap(machine, hva, 0x100000, PAGE) == -1);
    check("gpa_unmap refuses another HVA", nvmm_gpa_unmap(machine, hva + PAGE, 0x100000, 2 * PAGE) == -1);
    EXPECT(0, nvmm_gpa_unmap(machine, hva, 0x100000, 2 * PAGE));
    EXPECT(ENOENT, nvmm_gpa_to_hva(machine, 0x100000, &found, &prot));
    EXPECT(ENOENT, nvmm_hva_unmap(machine, hva, PAGE));
    EXPECT(ENOENT, nvmm_hva_unmap(machine, hva + PAGE, 4 * PAGE));
    EXPECT(0, nvmm_gpa_unmap(machine, hva, 0x200000, 2 * PAGE));
    EXPECT(0, nvmm_gpa_unmap(machine, hva + 2 * PAGE, 0x300000, PAGE));
    EXPECT(0, nvmm_hva_unmap(machine, hva, 4 * PAGE));

    uint8_t *many = pages(66);
    int mapped = 0;
    for (int place = 0; place < 32; place++) {
        mapped += nvmm_hva_map(machine, (uintptr_t)many + 2 * PAGE * (size_t)place, PAGE) == 0;
    }
    check("32 ranges can be mapped", mapped == 32);
    EXPECT(ENOBUFS, nvmm_hva_map(machine, (uintptr_t)many + 64 * PAGE, PAGE));
    for (int place = 0; place < 32; place++) {
        nvmm_hva_unmap(machine, (uintptr_t)many + 2 * PAGE * (size_t)place, PAGE);
    }
}

static void events(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    static const uint8_t refused[] = {0, 2, 3, 32, 255};
    struct nvmm_comm_page *page = machine->pages[vcpu->cpuid];
    for (size_t place = 0; place < sizeof refused; place++) {
        vcpu->event->type = NVMM_VCPU_EVENT_EXCP;
        vcpu->event->vector = refused[place];
        vcpu->event->u.excp.error = 0;
        vcpu->state->gprs[NVMM_X64_GPR_RBP] = 0x1234 + place;
        EXPECT(0, nvmm_vcpu_setstate(machine, vcpu, NVMM_X64_STATE_GPRS));
        EXPECT(0, nvmm_vcpu_inject(machine, vcpu));
        EXPECT(EINVAL, nvmm_vcpu_run(machine, vcpu));
        check("the refused run has consumed event and state", !page->event_commit && page->state_commit == 0);
        check("nothing is cached after it", page->state_cached == 0);
        vcpu->state->gprs[NVMM_X64_GPR_RBP] = 0;
        EXPECT(0, nvmm_vcpu_getstate(machine, vcpu, NVMM_X64_STATE_GPRS));
        check("the state was committed", vcpu->state->gprs[NVMM_X64_GPR_RBP] == 0x1234 + place);
    }
    vcpu->event->type = 2;
    vcpu->event->vector = 6;
    nvmm_vcpu_inject(machine, vcpu);
    EXPECT(EINVAL, nvmm_vcpu_run(machine, vcpu));
}

/// Nothing is mapped, so that the first fetch exits.
static void runs_and_assists(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    gpaddr_t gpa;
    nvmm_prot_t prot;
    nvmm_vcpu_stop(vcpu);
    EXPECT(0, nvmm_vcpu_run(machine, vcpu));
    check("a run after stop says STOPPED", vcpu->exit->reason == NVMM_VCPU_EXIT_STOPPED);
    EXPECT(EINVAL, nvmm_assist_io(machine, vcpu));
    EXPECT(EINVAL, nvmm_assist_mem(machine, vcpu));
    EXPECT(0, nvmm_vcpu_run(machine, vcpu));
    check("a fetch where nothing is mapped exits with MEMORY and EXEC",
        vcpu->exit->reason == NVMM_VCPU_EXIT_MEMORY && vcpu->exit->u.mem.prot == PROT_EXEC
            && vcpu->exit->u.mem.gpa == 0xFFFFFFF0);
    EXPECT(EINVAL, nvmm_assist_io(machine, vcpu));
    EXPECT(0, nvmm_gva_to_gpa(machine, vcpu, 0x1234, &gpa, &prot));
    check("without paging an address is its own", gpa == 0x1234 && prot == NVMM_PROT_ALL);

    EXPECT(0, nvmm_vcpu_getstate(machine, vcpu, NVMM_X64_STATE_ALL));
    vcpu->state->crs[NVMM_X64_CR_CR0] = 0x80000011;
    vcpu->state->crs[NVMM_X64_CR_CR3] = 0x400000;
    vcpu->state->crs[NVMM_X64_CR_CR4] = 0x20;
    vcpu->state->msrs[NVMM_X64_MSR_EFER] = 0x500;
    nvmm_vcpu_setstate(machine, vcpu, NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS);
    EXPECT(EFAULT, nvmm_gva_to_gpa(machine, vcpu, 0x1234, &gpa, &prot));
}

static void control(struct nvmm_machine *machine) {
    struct nvmm_ctl_mach_info info = {.machid = machine->machid};
    EXPECT(0, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info));
    check("the information is this process's machine with one VCPU", info.pid == getpid() && info.nvcpus == 1);
    EXPECT(EINVAL, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info - 1));
    EXPECT(EINVAL, nvmm_ctl(1, &info, sizeof info));
    info.machid = 127;
    EXPECT(ENOENT, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info));
    info.machid = 128;
    EXPECT(EINVAL, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info));
}

static void machines_max(void) {
    static struct nvmm_machine machines[129];
    int created = 0;
    while (created < 129 && nvmm_machine_create(&machines[created]) == 0) created++;
    int error = errno;
    // One machine exists already.
    check("127 more machines can be created", created == 127);
    compare("the 129th machine", created == 129 ? 0 : error, ENOBUFS);
    int destroyed = 0;
    for (int place = 0; place < created; place++) destroyed += nvmm_machine_destroy(&machines[place]) == 0;
    check("and destroyed", destroyed == created);
}

int main(void) {
    struct nvmm_machine machine;
    struct nvmm_vcpu vcpu;
    memset(&vcpu, 0, sizeof vcpu);
    before_init();
    init_and_capability();
    bad_machines();
    EXPECT(0, nvmm_machine_create(&machine));
    EXPECT(0, nvmm_vcpu_create(&machine, 0, &vcpu));
    bad_vcpus(&machine, &vcpu);
    configurations(&machine, &vcpu);
    memory_maps(&machine);
    events(&machine, &vcpu);
    runs_and_assists(&machine, &vcpu);
    control(&machine);
    machines_max();
    EXPECT(0, nvmm_vcpu_destroy(&machine, &vcpu));
    EXPECT(ENOENT, nvmm_vcpu_destroy(&machine, &(struct nvmm_vcpu){.cpuid = 0}));
    EXPECT(0, nvmm_machine_destroy(&machine));
    EXPECT(ENOENT, nvmm_machine_destroy(&machine));
    printf("%d checks, %d differ\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
