// The ioctls of KVM, answered from a recording: kvm_recorded.h.
#define _GNU_SOURCE
#include "kvm_recorded.h"

#if defined(__linux__) && defined(__x86_64__)

#include "shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS_MAX 512
#define MSRS_MAX 1024

const uint8_t *kvm_recording;
static uint64_t recording_bytes;
static _Atomic(uint64_t) next_place;

// MARK: - The recording

/// What stands at a place; NULL where nothing whole does.
static const struct ring_answer *answer_at(uint64_t place) {
    if (place > recording_bytes || recording_bytes - place < sizeof(struct ring_answer)) return NULL;
    const struct ring_answer *answer = (const void *)(kvm_recording + place);
    if (recording_bytes - place - sizeof *answer < answer->data_bytes) return NULL;
    return answer->kind == RING_ANSWER_END ? NULL : answer;
}

static uint64_t place_after(const struct ring_answer *answer) {
    uint64_t place = (uint64_t)((const uint8_t *)answer - kvm_recording);
    return place + sizeof *answer + (answer->data_bytes + 7u) / 8u * 8u;
}

const struct ring_answer *recorded_after(const struct ring_answer *answer) { return answer_at(place_after(answer)); }

const struct ring_answer *recorded_setting(uint32_t kind, const struct ring_answer *from) {
    const struct ring_answer *answer =
        from == NULL ? answer_at(sizeof(struct ring_answers_header)) : recorded_after(from);
    while (answer != NULL && answer->kind < RING_ANSWER_STORE) {
        if (answer->kind == kind) return answer;
        answer = recorded_after(answer);
    }
    return NULL;
}

const struct ring_answer *recorded_next(void) {
    const struct ring_answer *answer = answer_at(atomic_load(&next_place));
    while (answer != NULL && answer->kind < RING_ANSWER_STORE) answer = recorded_after(answer);
    if (answer != NULL) atomic_store(&next_place, (uint64_t)((const uint8_t *)answer - kvm_recording));
    return answer;
}

void recorded_advance(void) {
    const struct ring_answer *answer = recorded_next();
    if (answer != NULL) atomic_store(&next_place, place_after(answer));
}

/// Maps the file that the environment names, once.
static bool is_asked_for(void) {
    if (kvm_recording != NULL) return true;
    const char *path = getenv("VMTRACE_ANSWERS");
    if (path == NULL) return false;
    long file = ring_syscall(SYS_open, (long)(uintptr_t)path, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return false;
    long bytes = ring_syscall(SYS_lseek, file, 0, 2);  // SEEK_END
    long start = -1;
    if (bytes > (long)sizeof(struct ring_answers_header)) {
        start = ring_syscall_six(SYS_mmap, 0, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    }
    ring_syscall(SYS_close, file, 0, 0);
    if (start == -1 || ring_syscall_failed(start)) return false;
    const struct ring_answers_header *header = (const void *)start;
    if (header->magic != RING_ANSWERS_MAGIC || header->version != RING_ANSWERS_VERSION) return false;
    recording_bytes = (uint64_t)bytes;
    atomic_store(&next_place, header->header_bytes);
    kvm_recording = (const uint8_t *)start;
    return true;
}

// MARK: - Descriptors

static long anonymous_file(const char *name, long bytes) {
    long file = ring_syscall(SYS_memfd_create, (long)(uintptr_t)name, 1, 0);  // MFD_CLOEXEC
    if (file >= 0 && bytes > 0) ring_syscall(SYS_ftruncate, file, bytes, 0);
    return file;
}

static long open_system(void) {
    long file = anonymous_file("kvm", 0);
    if (file >= 0) kvm_descriptor_made((int)file, KVM_SYSTEM, RING_NOBODY, RING_NOBODY);
    return file;
}

static struct recorded_vcpu *vcpus[RECORDED_VCPUS_MAX];

struct recorded_vcpu *recorded_vcpu(uint32_t number) { return number < RECORDED_VCPUS_MAX ? vcpus[number] : NULL; }

static long make_vcpu(uint64_t number) {
    if (number >= RECORDED_VCPUS_MAX) return -EINVAL;
    if (vcpus[number] != NULL) return -EEXIST;
    long file = anonymous_file("kvm-vcpu", RECORDED_RUN_BYTES);
    if (file < 0) return file;
    long run = ring_syscall_six(SYS_mmap, 0, RECORDED_RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    long made = ring_syscall_six(
        SYS_mmap, 0, sizeof(struct recorded_vcpu), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring_syscall_failed(run) || ring_syscall_failed(made)) return -ENOMEM;
    struct recorded_vcpu *vcpu = (struct recorded_vcpu *)made;
    vcpu->run = (struct kvm_run *)run;
    const struct ring_answer *state = recorded_setting(RING_ANSWER_STATE, NULL);
    if (state != NULL && state->data_bytes >= RING_KVM_SYNC_BYTES) {
        const uint8_t *bytes = recorded_data(state);
        memcpy(&vcpu->regs, bytes, sizeof vcpu->regs);
        memcpy(&vcpu->sregs, bytes + sizeof vcpu->regs, sizeof vcpu->sregs);
    }
    vcpus[number] = vcpu;
    return file;
}

// MARK: - Memory

static struct {
    uint32_t number;
    uint64_t gpa, bytes, address;
} slots[SLOTS_MAX];

static long set_slot(const struct kvm_userspace_memory_region *slot) {
    unsigned place = SLOTS_MAX;
    for (unsigned index = 0; index < SLOTS_MAX; index++) {
        if (slots[index].bytes != 0 && slots[index].number == slot->slot) {
            place = index;
            break;
        }
        if (slots[index].bytes == 0 && place == SLOTS_MAX) place = index;
    }
    if (place == SLOTS_MAX) return -EINVAL;
    slots[place].number = slot->slot;
    slots[place].gpa = slot->guest_phys_addr;
    slots[place].bytes = slot->memory_size;
    slots[place].address = slot->userspace_addr;
    return 0;
}

void recorded_store(uint64_t gpa, const uint8_t *bytes, uint32_t count) {
    for (unsigned index = 0; index < SLOTS_MAX; index++) {
        uint64_t offset = gpa - slots[index].gpa;
        if (gpa < slots[index].gpa || offset >= slots[index].bytes || count > slots[index].bytes - offset) continue;
        memcpy((void *)(uintptr_t)(slots[index].address + offset), bytes, count);
        return;
    }
}

// MARK: - What is asked of the system

static long extension(uint64_t capability) {
    const struct ring_answer *answer = NULL;
    while ((answer = recorded_setting(RING_ANSWER_EXTENSION, answer)) != NULL) {
        if (answer->first == capability) return (long)answer->second;
    }
    // Asked before there is a machine, where nothing is recorded yet.
    switch (capability) {
    case KVM_CAP_IMMEDIATE_EXIT:
    case KVM_CAP_USER_MEMORY: return 1;
    case KVM_CAP_NR_MEMSLOTS: return SLOTS_MAX;
    case KVM_CAP_SYNC_REGS: return KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    default: return 0;
    }
}

static long supported_cpuid(struct kvm_cpuid2 *table) {
    const struct ring_answer *answer = recorded_setting(RING_ANSWER_CPUID, NULL);
    if (answer == NULL || answer->data_bytes < sizeof *table) return -EINVAL;
    const struct kvm_cpuid2 *known = recorded_data(answer);
    if (table->nent < known->nent) return -E2BIG;
    memcpy(table, known, answer->data_bytes);
    return 0;
}

static long msr_list(struct kvm_msr_list *list) {
    uint32_t room = list->nmsrs, count = 0;
    const struct ring_answer *answer = NULL;
    while ((answer = recorded_setting(RING_ANSWER_MSR, answer)) != NULL) {
        if (count < room) list->indices[count] = (uint32_t)answer->first;
        count++;
    }
    list->nmsrs = count;
    return count > room ? -E2BIG : 0;
}

/// MSRs that tell of the processor: QEMU does not start without any.
static long feature_msr_list(struct kvm_msr_list *list) {
    bool has_room = list->nmsrs >= 1;
    list->nmsrs = 1;
    if (has_room) list->indices[0] = 0x8B;  // IA32_BIOS_SIGN_ID
    return has_room ? 0 : -E2BIG;
}

static struct {
    uint64_t value;
    uint32_t number;
    bool is_set;
} msrs[MSRS_MAX];

static uint64_t msr_value(uint32_t number) {
    for (unsigned index = 0; index < MSRS_MAX && msrs[index].is_set; index++) {
        if (msrs[index].number == number) return msrs[index].value;
    }
    const struct ring_answer *answer = NULL;
    while ((answer = recorded_setting(RING_ANSWER_MSR, answer)) != NULL) {
        if (answer->first == number) return answer->second;
    }
    return 0;
}

static void set_msr(uint32_t number, uint64_t value) {
    for (unsigned index = 0; index < MSRS_MAX; index++) {
        if (msrs[index].is_set && msrs[index].number != number) continue;
        msrs[index].number = number;
        msrs[index].value = value;
        msrs[index].is_set = true;
        return;
    }
}

static long transfer_msrs(struct kvm_msrs *list, bool is_set) {
    for (uint32_t index = 0; index < list->nmsrs; index++) {
        struct kvm_msr_entry *entry = &list->entries[index];
        if (is_set) set_msr(entry->index, entry->data);
        else entry->data = msr_value(entry->index);
    }
    return (long)list->nmsrs;
}

static long system_call(unsigned long request, uint64_t argument) {
    void *data = (void *)(uintptr_t)argument;
    switch (request) {
    case KVM_GET_API_VERSION: return KVM_API_VERSION;
    case KVM_CREATE_VM: return anonymous_file("kvm-vm", 0);
    case KVM_CHECK_EXTENSION: return extension(argument);
    case KVM_GET_VCPU_MMAP_SIZE: return RECORDED_RUN_BYTES;
    case KVM_GET_SUPPORTED_CPUID: return supported_cpuid(data);
    case KVM_GET_MSR_INDEX_LIST: return msr_list(data);
    case KVM_GET_MSR_FEATURE_INDEX_LIST: return feature_msr_list(data);
    case KVM_GET_MSRS: return transfer_msrs(data, false);
    case KVM_X86_GET_MCE_CAP_SUPPORTED: *(uint64_t *)data = 0; return 0;
    default: return -EINVAL;
    }
}

static long machine_call(unsigned long request, uint64_t argument) {
    switch (request) {
    case KVM_CHECK_EXTENSION: return extension(argument);
    case KVM_CREATE_VCPU: return make_vcpu(argument);
    case KVM_SET_USER_MEMORY_REGION: return set_slot((const void *)(uintptr_t)argument);
    default: break;
    }
    // What a client asks of devices in the kernel, none of which is there, comes back as zeros.
    if (_IOC_DIR(request) & _IOC_READ) memset((void *)(uintptr_t)argument, 0, _IOC_SIZE(request));
    return 0;
}

// MARK: - VCPUs

/// State that the recording does not show at exits: kept as the client set it.
static const struct {
    unsigned long get, set;
} kept[] = {
    {KVM_GET_FPU, KVM_SET_FPU},
    {KVM_GET_XSAVE, KVM_SET_XSAVE},
    {KVM_GET_XCRS, KVM_SET_XCRS},
    {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS},
    {KVM_GET_LAPIC, KVM_SET_LAPIC},
    {KVM_GET_MP_STATE, KVM_SET_MP_STATE},
};
_Static_assert(sizeof kept / sizeof *kept <= RECORDED_BLOBS, "one blob each");

/// Moves the bytes of a part between client and VCPU, in the request's direction.
static long transfer(unsigned long request, void *data, void *part, size_t bytes) {
    if (_IOC_DIR(request) & _IOC_READ) memcpy(data, part, bytes);
    else memcpy(part, data, bytes);
    return 0;
}

static long vcpu_call(uint32_t number, unsigned long request, uint64_t argument) {
    struct recorded_vcpu *vcpu = recorded_vcpu(number);
    void *data = (void *)(uintptr_t)argument;
    if (vcpu == NULL) return -EINVAL;
    switch (request) {
    case KVM_RUN: return recorded_run(number);
    case KVM_GET_REGS:
    case KVM_SET_REGS: return transfer(request, data, &vcpu->regs, sizeof vcpu->regs);
    case KVM_GET_SREGS:
    case KVM_SET_SREGS: return transfer(request, data, &vcpu->sregs, sizeof vcpu->sregs);
    // As far as EFER and the APIC's base they are the same.
    case KVM_GET_SREGS2: memset(data, 0, sizeof(struct kvm_sregs2)); // fall through
    case KVM_SET_SREGS2: return transfer(request, data, &vcpu->sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
    case KVM_GET_VCPU_EVENTS:
    case KVM_SET_VCPU_EVENTS: return transfer(request, data, &vcpu->events, sizeof vcpu->events);
    case KVM_GET_MSRS: return transfer_msrs(data, false);
    case KVM_SET_MSRS: return transfer_msrs(data, true);
    case KVM_GET_TSC_KHZ: return 1000000;
    case KVM_INTERRUPT:
        if (vcpu->event != 0) return -EEXIST;
        vcpu->event = RING_ANSWER_EVENT | (((const struct kvm_interrupt *)data)->irq & 0xFF);
        return 0;
    case KVM_NMI: vcpu->event = RING_ANSWER_EVENT | 2; return 0;
    default: break;
    }
    for (unsigned index = 0; index < sizeof kept / sizeof *kept; index++) {
        if (request != kept[index].get && request != kept[index].set) continue;
        size_t bytes = _IOC_SIZE(request) < sizeof vcpu->blobs[0] ? _IOC_SIZE(request) : sizeof vcpu->blobs[0];
        return transfer(request, data, vcpu->blobs[index], bytes);
    }
    if (_IOC_DIR(request) == _IOC_READ) memset(data, 0, _IOC_SIZE(request));
    return 0;
}

long kvm_recorded_ioctl(int file, unsigned long request, uint64_t argument) {
    const struct kvm_descriptor *descriptor = kvm_descriptor(file);
    if (_IOC_TYPE(request) == KVMIO) {
        if (descriptor->kind == KVM_SYSTEM) return system_call(request, argument);
        if (descriptor->kind == KVM_VM) return machine_call(request, argument);
        if (descriptor->kind == KVM_VCPU) return vcpu_call(descriptor->vcpu, request, argument);
    }
    return ring_syscall(SYS_ioctl, file, (long)request, (long)argument);
}

// MARK: - open

/// Whether `path` is KVM's, and a recording stands in its place.
static bool is_recorded(const char *path) { return path != NULL && strcmp(path, "/dev/kvm") == 0 && is_asked_for(); }

static int opened(void) {
    long file = open_system();
    if (file >= 0) return (int)file;
    errno = (int)-file;
    return -1;
}

/// A mode is there only where a file may be made.
#define MODE_ARGUMENT(flags) \
    unsigned mode = 0; \
    if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, unsigned); \
        va_end(list); \
    }

SHADOW int open(const char *path, int flags, ...) {
    NEXT(int, "open", (const char *, int, ...))
    MODE_ARGUMENT(flags)
    return is_recorded(path) ? opened() : next(path, flags, mode);
}

SHADOW int open64(const char *path, int flags, ...) {
    NEXT(int, "open64", (const char *, int, ...))
    MODE_ARGUMENT(flags)
    return is_recorded(path) ? opened() : next(path, flags, mode);
}

SHADOW int openat(int folder, const char *path, int flags, ...) {
    NEXT(int, "openat", (int, const char *, int, ...))
    MODE_ARGUMENT(flags)
    return is_recorded(path) ? opened() : next(folder, path, flags, mode);
}

SHADOW int openat64(int folder, const char *path, int flags, ...) {
    NEXT(int, "openat64", (int, const char *, int, ...))
    MODE_ARGUMENT(flags)
    return is_recorded(path) ? opened() : next(folder, path, flags, mode);
}

SHADOW int __open_2(const char *path, int flags) {
    NEXT(int, "__open_2", (const char *, int))
    return is_recorded(path) ? opened() : next(path, flags);
}

SHADOW int __open64_2(const char *path, int flags) {
    NEXT(int, "__open64_2", (const char *, int))
    return is_recorded(path) ? opened() : next(path, flags);
}

// A signal handler may be the first to call one.
__attribute__((constructor)) static void find_next(void) {
    int error = errno;
    (void)open("", O_RDONLY);
    (void)open64("", O_RDONLY);
    (void)openat(-1, "", O_RDONLY);
    (void)openat64(-1, "", O_RDONLY);
    (void)__open_2("", O_RDONLY);
    (void)__open64_2("", O_RDONLY);
    errno = error;
}

#endif
