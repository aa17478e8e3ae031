// The KVM front end of libvmtrace.so, in pieces: what they tell each other. Rules: recorder.h.
#ifndef KVM_H
#define KVM_H

#if defined(__linux__) && defined(__x86_64__)

#include "recorder.h"

#include <linux/kvm.h>
#include <ring_system.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

// MARK: - Descriptors (kvm_descriptors.c)

enum kvm_kind { KVM_UNKNOWN, KVM_FOREIGN, KVM_SYSTEM, KVM_VM, KVM_VCPU };

struct kvm_descriptor {
    enum kvm_kind kind;
    uint32_t machine;  // of VMs and VCPUs; RING_NOBODY where it came from elsewhere
    uint32_t vcpu;
    struct kvm_run *run;  // where the client has mapped it; NULL before
    size_t run_bytes;
};

/// What stands behind a number, found out by asking the system where nobody told. Never NULL.
struct kvm_descriptor *kvm_descriptor(int file);
void kvm_descriptor_made(int file, enum kvm_kind kind, uint32_t machine, uint32_t vcpu);
void kvm_descriptor_copied(int from, int to);
void kvm_descriptor_closed(int file);

// MARK: - What is hidden (kvm_hiding.c)

/// What KVM_CHECK_EXTENSION is to say of `capability`, which the kernel answered with `answer`.
int kvm_hidden_answer(uint32_t capability, int answer);
/// Takes out of a table of KVM_GET_SUPPORTED_CPUID what cannot be replayed.
void kvm_hide_cpuid(struct kvm_cpuid2 *table);

// MARK: - What a guest sees (kvm_probe.c)

/// Replaces the registers of a table that a client sets by what CPUID gives to a guest then. False: not known.
bool kvm_probe_cpuid(struct kvm_cpuid2 *table);

// MARK: - Memory (kvm_memory.c)

/// Remembers what the client mapped, so that whole mappings can be moved; plain ones are private and of no file.
void kvm_memory_mapped(uintptr_t start, size_t bytes, bool is_plain);
void kvm_memory_unmapped(uintptr_t start, size_t bytes);

/// Makes a slot's memory one that the guest sees through a mapping of its own, where the trace is to replay, and
/// returns the address to give to the kernel; records memory and slot.
uint64_t kvm_memory_slot_begins(uint32_t machine, const struct kvm_userspace_memory_region *slot);
void kvm_memory_slot_set(uint32_t machine, const struct kvm_userspace_memory_region *slot, long result);

/// madvise on moved memory. False: it is none of ours.
bool kvm_memory_advise(uintptr_t start, size_t bytes, int advice);

// MARK: - Runs (kvm_run.c)

long kvm_run(int file, struct kvm_descriptor *vcpu);
/// What KVM_CHECK_EXTENSION said of KVM_CAP_SYNC_REGS.
void kvm_run_supports(long registers);

// MARK: - Records

bool kvm_records_memory(void);
void kvm_record_call(uint32_t machine, uint32_t vcpu, uint32_t call, uint64_t first, uint64_t second, uint64_t third,
    uint64_t fourth);

// MARK: - A recording in the kernel's place (kvm_recorded.c)

/// NULL where the kernel answers.
extern const uint8_t *kvm_recording;
long kvm_recorded_ioctl(int file, unsigned long request, uint64_t argument);

static inline long kvm_ioctl(int file, unsigned long request, uint64_t argument) {
    if (kvm_recording != NULL) return kvm_recorded_ioctl(file, request, argument);
    return ring_syscall(SYS_ioctl, file, (long)request, (long)argument);
}

#pragma GCC visibility pop

#endif
#endif
