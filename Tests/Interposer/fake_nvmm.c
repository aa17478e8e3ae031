// A libnvmm without a processor: each run gives the next of a few canned exits. What the comm page does is as in the
// original, so that a shim above it sees what it would see there. It also misbehaves as a library may: it leaves errno
// changed after success, and one function fails without setting it.
//
// FAKE_PUBLISH=1 in the environment makes it publish what each run consumed.
#define _GNU_SOURCE
#include <nvmm.h>
#include <nvmm_publication.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static bool is_open;
static nvmm_machid_t machines;

static int fail(int error) {
    errno = error;
    return -1;
}

/// Success, with an errno that nobody may count on.
static int succeed(int noise) {
    errno = 1000 + noise;
    return 0;
}

static struct nvmm_comm_page *page_of(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    return machine->pages[vcpu->cpuid];
}

uint32_t nvmm_publication_offset(void);
uint32_t nvmm_publication_offset(void) { return getenv("FAKE_PUBLISH") != NULL ? NVMM_PUBLICATION_OFFSET : 0; }

int nvmm_init(void) {
    is_open = true;
    return succeed(1);
}

int nvmm_root_init(void) { return fail(EACCES); }

int nvmm_capability(struct nvmm_capability *capability) {
    if (!is_open) return fail(EBADF);
    memset(capability, 0, sizeof *capability);
    capability->version = NVMM_KERN_VERSION;
    capability->state_size = sizeof(struct nvmm_vcpu_state);
    capability->max_machines = capability->max_vcpus = 128;
    capability->max_ram = 128ULL << 30;
    return succeed(2);
}

int nvmm_ctl(int op, void *data, size_t size) {
    if (op != NVMM_CTL_MACH_INFO || size != sizeof(struct nvmm_ctl_mach_info)) return fail(EINVAL);
    ((struct nvmm_ctl_mach_info *)data)->nvcpus = 7;
    return 0;
}

int nvmm_machine_create(struct nvmm_machine *machine) {
    if (!is_open) return fail(EBADF);
    memset(machine, 0, sizeof *machine);
    machine->machid = machines++;
    machine->pages = calloc(128, sizeof *machine->pages);
    return succeed(3);
}

int nvmm_machine_destroy(struct nvmm_machine *machine) {
    free(machine->pages);
    return 0;
}

int nvmm_machine_configure(struct nvmm_machine *machine, uint64_t op, void *conf) {
    (void)machine, (void)op, (void)conf;
    return fail(EINVAL);
}

int nvmm_vcpu_create(struct nvmm_machine *machine, nvmm_cpuid_t cpuid, struct nvmm_vcpu *vcpu) {
    if (cpuid >= 128) return fail(EINVAL);
    if (machine->pages[cpuid] != NULL) return fail(EBUSY);
    struct nvmm_comm_page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return fail(ENOMEM);
    page->state.gprs[NVMM_X64_GPR_RIP] = 0xFFF0;
    page->state_cached = NVMM_X64_STATE_ALL;
    machine->pages[cpuid] = page;
    vcpu->cpuid = cpuid;
    vcpu->state = &page->state;
    vcpu->event = &page->event;
    vcpu->stop = &page->stop;
    vcpu->exit = calloc(1, sizeof *vcpu->exit);
    return succeed(4);
}

int nvmm_vcpu_destroy(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    munmap(machine->pages[vcpu->cpuid], 4096);
    machine->pages[vcpu->cpuid] = NULL;
    free(vcpu->exit);
    return 0;
}

int nvmm_vcpu_configure(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t op, void *conf) {
    (void)machine;
    if (op == NVMM_VCPU_CONF_CALLBACKS) {
        memcpy(&vcpu->cbs, conf, sizeof vcpu->cbs);
        return 0;
    }
    return op == NVMM_VCPU_CONF_CPUID ? succeed(5) : fail(EINVAL);
}

int nvmm_vcpu_setstate(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t flags) {
    page_of(machine, vcpu)->state_commit |= flags;
    page_of(machine, vcpu)->state_cached |= flags;
    return 0;
}

int nvmm_vcpu_getstate(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t flags) {
    struct nvmm_comm_page *page = page_of(machine, vcpu);
    if ((flags & ~page->state_cached) == 0) return 0;
    page->state_wanted = 0;
    page->state_cached |= flags;
    return succeed(6);
}

int nvmm_vcpu_inject(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    page_of(machine, vcpu)->event_commit = true;
    return 0;
}

int nvmm_vcpu_stop(struct nvmm_vcpu *vcpu) {
    __atomic_store_n(vcpu->stop, 1, __ATOMIC_RELAXED);
    return 0;
}

static int consume(struct nvmm_comm_page *page, struct nvmm_publication *said, struct nvmm_x86_exit *exit) {
    static const uint64_t reasons[] = {
        NVMM_VCPU_EXIT_IO, NVMM_VCPU_EXIT_MEMORY, NVMM_VCPU_EXIT_RDMSR, NVMM_VCPU_EXIT_HALTED, NVMM_VCPU_EXIT_NONE,
        NVMM_VCPU_EXIT_INT_READY};
    said->commit_consumed = page->state_commit;
    said->event_consumed = page->event_commit;
    said->event = page->event;
    page->state_commit = page->state_wanted = page->state_cached = 0;
    if (page->event_commit) {
        page->event_commit = false;
        if (page->event.type > NVMM_VCPU_EVENT_INTR) {
            said->run_kind = NVMM_RUN_REFUSED;
            return fail(EINVAL);
        }
    }
    said->run_kind = NVMM_RUN_ENTERED;
    said->retired += 100;
    uint64_t rip = page->state.gprs[NVMM_X64_GPR_RIP]++;
    exit->reason = reasons[rip % 6];
    exit->exitstate.rflags = 2;
    switch (exit->reason) {
    case NVMM_VCPU_EXIT_IO:
        exit->u.io.port = 0x3F8;
        exit->u.io.npc = rip + 1;
        page->state_cached = 0x17;
        break;
    case NVMM_VCPU_EXIT_MEMORY:
        exit->u.mem.gpa = 0xFEE00000 + rip;
        page->state_cached = 0x17;
        break;
    case NVMM_VCPU_EXIT_RDMSR:
        exit->u.rdmsr.msr = 0x1B;
        page->state_cached = 0x02;
        break;
    default: break;
    }
    return succeed(7);
}

int nvmm_vcpu_run(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    struct nvmm_comm_page *page = page_of(machine, vcpu);
    // Published or not; the rest of the page is the library's.
    struct nvmm_publication *said = (void *)((uint8_t *)page + NVMM_PUBLICATION_OFFSET);
    struct nvmm_x86_exit exit;
    memset(&exit, 0, sizeof exit);
    said->version = NVMM_PUBLICATION_VERSION;
    said->runs++;
    if (__atomic_exchange_n(&page->stop, 0, __ATOMIC_RELAXED) != 0) {
        exit.reason = NVMM_VCPU_EXIT_STOPPED;
        said->run_kind = NVMM_RUN_EARLY;
        said->commit_consumed = said->event_consumed = 0;
        *vcpu->exit = exit;
        return succeed(8);
    }
    int result = consume(page, said, &exit);
    if (result == 0) *vcpu->exit = exit;
    return result;
}

int nvmm_vcpu_dump(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    printf("rip %#llx\n", (unsigned long long)page_of(machine, vcpu)->state.gprs[NVMM_X64_GPR_RIP]);
    return 0;
}

int nvmm_hva_map(struct nvmm_machine *machine, uintptr_t hva, size_t size) {
    (void)machine;
    if (hva == 0 || hva % 4096 != 0 || size % 4096 != 0) return fail(EINVAL);
    void *memory = mmap(
        (void *)hva, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return memory == MAP_FAILED ? -1 : succeed(9);
}

int nvmm_hva_unmap(struct nvmm_machine *machine, uintptr_t hva, size_t size) {
    (void)machine;
    return munmap((void *)hva, size) == 0 ? 0 : fail(ENOENT);
}

int nvmm_gpa_map(struct nvmm_machine *machine, uintptr_t hva, gpaddr_t gpa, size_t size, int prot) {
    (void)machine, (void)hva, (void)gpa, (void)size;
    return prot > 7 ? fail(EINVAL) : 0;
}

int nvmm_gpa_unmap(struct nvmm_machine *machine, uintptr_t hva, gpaddr_t gpa, size_t size) {
    (void)machine, (void)hva, (void)gpa, (void)size;
    return -1;  // without touching errno, as the original where it knows no such area
}

int nvmm_gva_to_gpa(
    struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot) {
    (void)machine, (void)vcpu;
    *gpa = gva;
    *prot = NVMM_PROT_ALL;
    return succeed(10);
}

int nvmm_gpa_to_hva(struct nvmm_machine *machine, gpaddr_t gpa, uintptr_t *hva, nvmm_prot_t *prot) {
    (void)machine, (void)gpa, (void)hva, (void)prot;
    return fail(ENOENT);
}

static int assist(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t reason) {
    if (vcpu->exit->reason != reason) return fail(EINVAL);
    uint8_t data = 'x';
    struct nvmm_io io = {.mach = machine, .vcpu = vcpu, .port = 0x3F8, .size = 1, .data = &data};
    if (reason == NVMM_VCPU_EXIT_IO && vcpu->cbs.io != NULL) vcpu->cbs.io(&io);
    return nvmm_vcpu_setstate(machine, vcpu, NVMM_X64_STATE_GPRS);
}

int nvmm_assist_io(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    return assist(machine, vcpu, NVMM_VCPU_EXIT_IO);
}

int nvmm_assist_mem(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    return assist(machine, vcpu, NVMM_VCPU_EXIT_MEMORY);
}
