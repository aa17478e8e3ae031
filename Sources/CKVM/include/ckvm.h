/// The door to /dev/kvm: Linux's own structures, request numbers that Swift cannot import, and the run of a VCPU that
/// another thread or a timer can end. Empty where there is no KVM.
#pragma once

#if defined(__linux__) && defined(__x86_64__)
#define CKVM_IS_AVAILABLE 1

#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

// `ioctl` requests, which are macros that Swift cannot import.
static const unsigned long CKVM_GET_API_VERSION = KVM_GET_API_VERSION;
static const unsigned long CKVM_CREATE_VM = KVM_CREATE_VM;
static const unsigned long CKVM_CHECK_EXTENSION = KVM_CHECK_EXTENSION;
static const unsigned long CKVM_GET_VCPU_MMAP_SIZE = KVM_GET_VCPU_MMAP_SIZE;
static const unsigned long CKVM_CREATE_VCPU = KVM_CREATE_VCPU;
static const unsigned long CKVM_SET_USER_MEMORY_REGION = KVM_SET_USER_MEMORY_REGION;
static const unsigned long CKVM_GET_DIRTY_LOG = KVM_GET_DIRTY_LOG;
static const unsigned long CKVM_SET_TSS_ADDR = KVM_SET_TSS_ADDR;
static const unsigned long CKVM_SET_IDENTITY_MAP_ADDR = KVM_SET_IDENTITY_MAP_ADDR;
static const unsigned long CKVM_ENABLE_CAP = KVM_ENABLE_CAP;
static const unsigned long CKVM_X86_SET_MSR_FILTER = KVM_X86_SET_MSR_FILTER;
static const unsigned long CKVM_SET_CPUID2 = KVM_SET_CPUID2;
static const unsigned long CKVM_TRANSLATE = KVM_TRANSLATE;
static const unsigned long CKVM_GET_MSRS = KVM_GET_MSRS;
static const unsigned long CKVM_SET_MSRS = KVM_SET_MSRS;
static const unsigned long CKVM_GET_DEBUGREGS = KVM_GET_DEBUGREGS;
static const unsigned long CKVM_SET_DEBUGREGS = KVM_SET_DEBUGREGS;
static const unsigned long CKVM_GET_XSAVE = KVM_GET_XSAVE;
static const unsigned long CKVM_SET_XSAVE = KVM_SET_XSAVE;
static const unsigned long CKVM_GET_XCRS = KVM_GET_XCRS;
static const unsigned long CKVM_SET_XCRS = KVM_SET_XCRS;
static const unsigned long CKVM_SET_GUEST_DEBUG = KVM_SET_GUEST_DEBUG;

/// - Returns: what the call gave, or the negated error number.
int ckvm_ioctl(int file, unsigned long request, uint64_t argument);

/// One VCPU's side of `ckvm_kick`.
struct ckvm_runner {
    _Atomic(pid_t) thread;
    _Atomic(int) is_kicked;
};

/// KVM_RUN, which ends with -EINTR soon after the thread has executed for `nanoseconds` (0: before any instruction), or
/// after a kick.
///
/// - Returns: 0, or the negated error number; `exit_reason` means something only with 0.
int ckvm_run(int vcpu, struct kvm_run *run, struct ckvm_runner *runner, uint64_t nanoseconds);

/// KVM_RUN that does no more than end what the last exit left open: -EINTR when that is done.
int ckvm_complete(int vcpu, struct kvm_run *run);

/// Ends the current run of a VCPU, or else the next. Any thread, async-signal-safe.
void ckvm_kick(struct ckvm_runner *runner);

// Swift sees no members of anonymous unions, nor arrays without length.

typedef struct {
    uint8_t direction, size;
    uint16_t port;
    uint32_t count;
    uint64_t data_offset;
} ckvm_io;

typedef struct {
    uint64_t gpa;
    uint8_t data[8];
    uint32_t byte_count;
    uint8_t is_write;
} ckvm_mmio;

/// Registers as the last exit left them, or as `ckvm_install` put them since.
static inline struct kvm_sync_regs ckvm_synchronised(const struct kvm_run *run) { return run->s.regs; }

/// `parts`, KVM_SYNC_X86_*, are installed at the next entry.
static inline void ckvm_install(struct kvm_run *run, const struct kvm_sync_regs *registers, uint64_t parts) {
    if (parts & KVM_SYNC_X86_REGS) run->s.regs.regs = registers->regs;
    if (parts & KVM_SYNC_X86_SREGS) run->s.regs.sregs = registers->sregs;
    if (parts & KVM_SYNC_X86_EVENTS) run->s.regs.events = registers->events;
    run->kvm_dirty_regs |= parts;
}

static inline ckvm_io ckvm_io_of(const struct kvm_run *run) {
    return (ckvm_io){run->io.direction, run->io.size, run->io.port, run->io.count, run->io.data_offset};
}

static inline ckvm_mmio ckvm_mmio_of(const struct kvm_run *run) {
    ckvm_mmio access = {.gpa = run->mmio.phys_addr, .byte_count = run->mmio.len, .is_write = run->mmio.is_write};
    for (int i = 0; i < 8; i++) access.data[i] = run->mmio.data[i];
    return access;
}

static inline void ckvm_clear_mmio_data(struct kvm_run *run) {
    for (int i = 0; i < 8; i++) run->mmio.data[i] = 0;
}

static inline uint32_t ckvm_msr_index(const struct kvm_run *run) { return run->msr.index; }
static inline uint64_t ckvm_msr_value(const struct kvm_run *run) { return run->msr.data; }
static inline void ckvm_answer_msr(struct kvm_run *run) {
    run->msr.error = 0;
    run->msr.data = 0;
}
static inline uint32_t ckvm_internal_error(const struct kvm_run *run) { return run->internal.suberror; }
static inline uint64_t ckvm_entry_failure(const struct kvm_run *run) {
    return run->fail_entry.hardware_entry_failure_reason;
}

#define CKVM_MSRS_MAX 16

/// `struct kvm_msrs` with room.
struct ckvm_msrs {
    uint32_t count, padding;
    struct kvm_msr_entry entries[CKVM_MSRS_MAX];
};

#define CKVM_CPUID_MAX 128

/// `struct kvm_cpuid2` with room.
struct ckvm_cpuid {
    uint32_t count, padding;
    struct kvm_cpuid_entry2 entries[CKVM_CPUID_MAX];
};

#endif
