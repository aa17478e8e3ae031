// What a client must not find where its trace is to replay: parts of KVM whose work nobody outside of the kernel sees,
// and instructions that the soft backend does not execute.
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

// Newer than some headers.
#define CAP_COALESCED_PIO 162
#define CAP_ASYNC_PF_INT 183
#define CAP_XSAVE2 208
#define CAP_SET_USER_MEMORY_REGION2 231

int kvm_hidden_answer(uint32_t capability, int answer) {
    switch (capability) {
    // Interrupt controllers, timers and what feeds them. Not KVM_CAP_IRQ_ROUTING: QEMU does not start without.
    case KVM_CAP_IRQCHIP:
    case KVM_CAP_SPLIT_IRQCHIP:
    case KVM_CAP_IRQFD:
    case KVM_CAP_IRQFD_RESAMPLE:
    case KVM_CAP_SIGNAL_MSI:
    case KVM_CAP_PIT:
    case KVM_CAP_PIT2:
    case KVM_CAP_PIT_STATE2:
    case KVM_CAP_REINJECT_CONTROL:
    case KVM_CAP_TSC_DEADLINE_TIMER:
    // Exits that are answered, or put off, in the kernel.
    case KVM_CAP_IOEVENTFD:
    case KVM_CAP_COALESCED_MMIO:
    case CAP_COALESCED_PIO:
    case KVM_CAP_HYPERV:
    case KVM_CAP_HYPERV_VAPIC:
    case KVM_CAP_HYPERV_SPIN:
    case KVM_CAP_HYPERV_SYNIC:
    // Memory that the kernel writes by itself.
    case KVM_CAP_CLOCKSOURCE:
    case KVM_CAP_ADJUST_CLOCK:
    case KVM_CAP_ASYNC_PF:
    case CAP_ASYNC_PF_INT:
    // State that has no place in a trace.
    case KVM_CAP_XSAVE:
    case CAP_XSAVE2:
    case KVM_CAP_XCRS:
    case KVM_CAP_X86_SMM:
    case KVM_CAP_NESTED_STATE:
    // Another way to set memory slots.
    case CAP_SET_USER_MEMORY_REGION2:
        return 0;
    default: return answer;
    }
}

// The bits of the soft backend's processor model (ProcessorModel.swift), and the local APIC, which is the VMM's.
#define LEAF_1_ECX 0x82D82203u
#define LEAF_1_EDX 0x0783AB7Du
#define LEAF_7_EBX 0x001821C9u
#define LEAF_80000001_ECX 0x00000021u
// With the bits that AMD's processors repeat from leaf 1.
#define LEAF_80000001_EDX (0x24100800u | 0x0183A37Du)

void kvm_hide_cpuid(struct kvm_cpuid2 *table) {
    for (uint32_t index = 0; index < table->nent; index++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[index];
        switch (entry->function) {
        case 0:
            if (entry->eax > 0xD) entry->eax = 0xD;
            break;
        case 1:
            entry->ecx &= LEAF_1_ECX;
            entry->edx &= LEAF_1_EDX;
            break;
        case 7:
            entry->eax = 0;
            entry->ebx = entry->index == 0 ? entry->ebx & LEAF_7_EBX : 0;
            entry->ecx = entry->edx = 0;
            break;
        case 5: case 6: case 0xA: case 0xD: case 0x40000001: case 0x8000000A:
            entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
            break;
        case 0x80000001:
            entry->ecx &= LEAF_80000001_ECX;
            entry->edx &= LEAF_80000001_EDX;
            break;
        case 0x80000007: entry->edx &= 1u << 8; break;
        case 0x80000008: entry->ebx = 0; break;
        default: break;
        }
    }
}

#endif
