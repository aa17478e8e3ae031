// The KVM front end of libvmtrace.so: ioctl and what makes, maps, copies and closes descriptors are shadowed. An ioctl
// of KVM goes to the system as it came, but for memory slots (kvm_memory.c) and, where the trace is to replay, for what
// is hidden (kvm_hiding.c). Rules: recorder.h.
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include "shadow.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CPUID_ENTRIES_MAX 256
#define MSR_ENTRIES_MAX 1024
#define DATA_BYTES_MAX 16384
#define MAPPED_BYTES_MIN 65536

static atomic_uint machines;

bool kvm_records_memory(void) { return recorder_is_on() && recorder_level() != RING_LEVEL_EXITS; }

// MARK: - Records

void kvm_record_call(uint32_t machine, uint32_t vcpu, uint32_t call, uint64_t first, uint64_t second, uint64_t third,
    uint64_t fourth) {
    struct ring_call head = {.call = (uint16_t)call, .args = {first, second, third, fourth}};
    struct ring_part parts[] = {{&head, sizeof head}};
    recorder_write(RING_KIND_CALL, machine, vcpu, parts, 1);
}

/// Bytes of the structure that an ioctl's argument points to, once the kernel has read or written it.
static uint32_t data_bytes(unsigned long request, const void *argument) {
    switch (request) {
    case KVM_SET_CPUID2:
    case KVM_GET_CPUID2:
    case KVM_GET_SUPPORTED_CPUID: {
        const struct kvm_cpuid2 *table = argument;
        uint32_t count = table->nent < CPUID_ENTRIES_MAX ? table->nent : CPUID_ENTRIES_MAX;
        return (uint32_t)(sizeof *table + count * sizeof table->entries[0]);
    }
    case KVM_SET_MSRS:
    case KVM_GET_MSRS: {
        const struct kvm_msrs *list = argument;
        uint32_t count = list->nmsrs < MSR_ENTRIES_MAX ? list->nmsrs : MSR_ENTRIES_MAX;
        return (uint32_t)(sizeof *list + count * sizeof list->entries[0]);
    }
    default: {
        uint32_t bytes = _IOC_DIR(request) == _IOC_NONE ? 0 : _IOC_SIZE(request);
        return bytes < DATA_BYTES_MAX ? bytes : DATA_BYTES_MAX;
    }
    }
}

static void note(
    const struct kvm_descriptor *descriptor, unsigned long request, uint64_t argument, long result, bool has_data) {
    struct ring_kvm_call call = {.request = (uint32_t)request, .result = (int32_t)result, .argument = argument};
    if (has_data) call.data_bytes = data_bytes(request, (const void *)(uintptr_t)argument);
    struct ring_part parts[] = {{&call, sizeof call}, {(const void *)(uintptr_t)argument, call.data_bytes}};
    recorder_write(RING_KIND_KVM_CALL, descriptor->machine, descriptor->vcpu, parts, call.data_bytes > 0 ? 2 : 1);
}

/// What another backend has to do as this hypervisor and its processor: MSRs that KVM answers by itself, and a flag.
static void note_personality(int file, const struct kvm_descriptor *vcpu) {
    static const uint32_t wanted[] = {
        0x10, 0x1B, 0x3A, 0x8B, 0xCE, 0xFE, 0x174, 0x175, 0x176, 0x179, 0x17A, 0x1A0, 0x277, 0x2FF, 0xC0000080,
        0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103};
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one;
    uint64_t flags;
    __asm__ volatile("shll $1, %%eax\n\tpushfq\n\tpopq %0" : "=r"(flags) : : "eax", "cc", "memory");
    kvm_record_call(vcpu->machine, vcpu->vcpu, RING_CALL_AF_AFTER_SHIFT, flags >> 4 & 1, 0, 0, 0);
    for (unsigned index = 0; index < sizeof wanted / sizeof *wanted; index++) {
        memset(&one, 0, sizeof one);
        one.head.nmsrs = 1;
        one.entry.index = wanted[index];
        long result = kvm_ioctl(file, KVM_GET_MSRS, (uintptr_t)&one);
        if (result == 1) {
            kvm_record_call(vcpu->machine, vcpu->vcpu, RING_CALL_KVM_MSR, one.entry.index, one.entry.data, 0, 0);
        }
    }
}

/// The table as a guest sees it, once for each that the client sets before its guest runs.
static void note_cpuid(const struct kvm_descriptor *vcpu, const struct kvm_cpuid2 *set) {
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
    } seen;
    if (set->nent > CPUID_ENTRIES_MAX) return;
    uint32_t bytes = data_bytes(KVM_SET_CPUID2, set);
    memcpy(&seen, set, bytes);
    if (!kvm_probe_cpuid(&seen.head)) return;
    struct ring_kvm_call call = {.request = RING_KVM_SEEN_CPUID, .data_bytes = bytes};
    struct ring_part parts[] = {{&call, sizeof call}, {&seen, bytes}};
    recorder_write(RING_KIND_KVM_CALL, vcpu->machine, vcpu->vcpu, parts, 2);
}

// MARK: - ioctl

static long system_call(int file, struct kvm_descriptor *descriptor, unsigned long request, uint64_t argument) {
    long result = kvm_ioctl(file, request, argument);
    if (request == KVM_CREATE_VM && result >= 0) {
        recorder_attach((struct ring_attach){.api = RING_API_KVM});
        uint32_t machine = atomic_fetch_add(&machines, 1);
        kvm_descriptor_made((int)result, KVM_VM, machine, RING_NOBODY);
        kvm_run_supports(kvm_ioctl(file, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS));
        if (recorder_is_on()) kvm_record_call(machine, RING_NOBODY, RING_CALL_MACHINE_CREATE, 0, 0, 0, 0);
    }
    if (!recorder_is_on()) return result;
    if (request == KVM_CHECK_EXTENSION && kvm_records_memory()) {
        result = kvm_hidden_answer((uint32_t)argument, (int)result);
    }
    if (request == KVM_GET_SUPPORTED_CPUID && result == 0 && kvm_records_memory()) {
        kvm_hide_cpuid((struct kvm_cpuid2 *)(uintptr_t)argument);
    }
    note(descriptor, request, argument, result, result >= 0 && request == KVM_GET_SUPPORTED_CPUID);
    return result;
}

static long machine_call(int file, struct kvm_descriptor *descriptor, unsigned long request, uint64_t argument) {
    bool is_recorded = recorder_is_on();
    if (is_recorded && request == KVM_SET_USER_MEMORY_REGION) {
        struct kvm_userspace_memory_region slot = *(const struct kvm_userspace_memory_region *)(uintptr_t)argument;
        struct kvm_userspace_memory_region given = slot;
        given.userspace_addr = kvm_memory_slot_begins(descriptor->machine, &slot);
        long result = kvm_ioctl(file, request, (uintptr_t)&given);
        note(descriptor, request, argument, result, result >= 0);
        kvm_memory_slot_set(descriptor->machine, &slot, result);
        return result;
    }
    long result = kvm_ioctl(file, request, argument);
    if (request == KVM_CREATE_VCPU && result >= 0) {
        kvm_descriptor_made((int)result, KVM_VCPU, descriptor->machine, (uint32_t)argument);
    }
    if (!is_recorded) return result;
    if (request == KVM_CHECK_EXTENSION && kvm_records_memory()) {
        result = kvm_hidden_answer((uint32_t)argument, (int)result);
    }
    note(descriptor, request, argument, result, result >= 0);
    if (request == KVM_CREATE_VCPU && result >= 0) note_personality((int)result, kvm_descriptor((int)result));
    return result;
}

static long vcpu_call(int file, struct kvm_descriptor *descriptor, unsigned long request, uint64_t argument) {
    if (request == KVM_RUN) return kvm_run(file, descriptor);
    long result = kvm_ioctl(file, request, argument);
    if (!recorder_is_on()) return result;
    note(descriptor, request, argument, result, result >= 0);
    if (request == KVM_SET_CPUID2 && result == 0) note_cpuid(descriptor, (const void *)(uintptr_t)argument);
    return result;
}

static long kvm_call(int file, unsigned long request, uint64_t argument) {
    struct kvm_descriptor *descriptor = kvm_descriptor(file);
    switch (descriptor->kind) {
    case KVM_SYSTEM: return system_call(file, descriptor, request, argument);
    case KVM_VM: return machine_call(file, descriptor, request, argument);
    case KVM_VCPU: return vcpu_call(file, descriptor, request, argument);
    default: return kvm_ioctl(file, request, argument);
    }
}

SHADOW int ioctl(int file, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    uint64_t argument = (uint64_t)(uintptr_t)va_arg(list, void *);
    va_end(list);
    int before = errno;
    long result;
    // Some clients pass the number as a signed one.
    request &= 0xFFFFFFFFu;
    if (_IOC_TYPE(request) == KVMIO) result = kvm_call(file, request, argument);
    else result = kvm_ioctl(file, request, argument);
    if (result >= 0) {
        errno = before;
        return (int)result;
    }
    errno = (int)-result;
    return -1;
}

// MARK: - Mappings

static void note_mapping(void *start, size_t bytes, int flags, int file, off_t offset) {
    if (start == MAP_FAILED) return;
    if (file >= 0 && !(flags & MAP_ANONYMOUS)) {
        struct kvm_descriptor *descriptor = kvm_descriptor(file);
        if (descriptor->kind == KVM_VCPU && offset == 0) {
            descriptor->run = start;
            descriptor->run_bytes = bytes;
            return;
        }
    }
    if (bytes >= MAPPED_BYTES_MIN) {
        kvm_memory_mapped((uintptr_t)start, bytes, (flags & MAP_ANONYMOUS) != 0 && !(flags & MAP_SHARED));
    }
}

SHADOW void *mmap(void *start, size_t bytes, int protection, int flags, int file, off_t offset) {
    long made = ring_syscall_six(SYS_mmap, (long)(uintptr_t)start, (long)bytes, protection, flags, file, offset);
    if (ring_syscall_failed(made)) {
        errno = (int)-made;
        return MAP_FAILED;
    }
    note_mapping((void *)made, bytes, flags, file, offset);
    return (void *)made;
}

SHADOW void *mmap64(void *start, size_t bytes, int protection, int flags, int file, off_t offset) {
    return mmap(start, bytes, protection, flags, file, offset);
}

SHADOW int munmap(void *start, size_t bytes) {
    kvm_memory_unmapped((uintptr_t)start, bytes);
    long result = ring_syscall(SYS_munmap, (long)(uintptr_t)start, (long)bytes, 0);
    if (result == 0) return 0;
    errno = (int)-result;
    return -1;
}

SHADOW int madvise(void *start, size_t bytes, int advice) {
    if (kvm_memory_advise((uintptr_t)start, bytes, advice)) return 0;
    long result = ring_syscall(SYS_madvise, (long)(uintptr_t)start, (long)bytes, advice);
    if (result == 0) return 0;
    errno = (int)-result;
    return -1;
}

// MARK: - Descriptors

SHADOW int close(int file) {
    NEXT(int, "close", (int))
    kvm_descriptor_closed(file);
    return next(file);
}

SHADOW int dup(int file) {
    NEXT(int, "dup", (int))
    int copy = next(file);
    kvm_descriptor_copied(file, copy);
    return copy;
}

SHADOW int dup2(int file, int copy) {
    NEXT(int, "dup2", (int, int))
    int result = next(file, copy);
    if (result >= 0) kvm_descriptor_copied(file, copy);
    return result;
}

SHADOW int dup3(int file, int copy, int flags) {
    NEXT(int, "dup3", (int, int, int))
    int result = next(file, copy, flags);
    if (result >= 0) kvm_descriptor_copied(file, copy);
    return result;
}

// A signal handler may be the first to call one.
__attribute__((constructor)) static void find_next(void) {
    int error = errno;
    (void)close(-1);
    (void)dup(-1);
    (void)dup2(-1, -1);
    (void)dup3(-1, -1, 0);
    errno = error;
}

#endif
