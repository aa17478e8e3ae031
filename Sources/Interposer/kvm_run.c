// KVM_RUN, sampled on both sides. What the client answers to IN, to a load from a device or to RDMSR stands in kvm_run
// only when it enters again: it is recorded at the entry after the exit that asked. `exit_reason` is an earlier one's
// where KVM_RUN fails.
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include "guest_memory.h"
#include "run_gate.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define SYNCED (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

_Static_assert(sizeof(struct kvm_regs) + sizeof(struct kvm_sregs) + sizeof(struct kvm_vcpu_events)
        == RING_KVM_SYNC_BYTES, "the registers of a record");
_Static_assert(offsetof(struct kvm_run, s) - offsetof(struct kvm_run, kvm_valid_regs) == 16, "their place");

static const uint8_t zeros[8];

static uint32_t padding(uint32_t bytes) { return -bytes & 7; }

static uint32_t add_sync_regs(struct ring_part *parts, uint32_t count, const struct kvm_run *run) {
    const struct kvm_sync_regs *regs = &run->s.regs;
    parts[count++] = (struct ring_part){&regs->regs, sizeof regs->regs};
    parts[count++] = (struct ring_part){&regs->sregs, sizeof regs->sregs};
    parts[count++] = (struct ring_part){&regs->events, sizeof regs->events};
    return count;
}

/// The data of a port exit, where it lies in the client's mapping.
static struct ring_part port_data(const struct kvm_descriptor *vcpu, const struct kvm_run *run) {
    uint64_t bytes = (uint64_t)run->io.size * run->io.count, offset = run->io.data_offset;
    if (offset > vcpu->run_bytes || bytes > vcpu->run_bytes - offset) return (struct ring_part){NULL, 0};
    return (struct ring_part){(const uint8_t *)run + offset, (uint32_t)bytes};
}

/// What the client has put where the last exit asked for data.
static struct ring_part answer(const struct kvm_descriptor *vcpu, const struct kvm_run *run) {
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        if (run->io.direction == KVM_EXIT_IO_IN) return port_data(vcpu, run);
        break;
    case KVM_EXIT_MMIO:
        if (!run->mmio.is_write && run->mmio.len <= 8) return (struct ring_part){run->mmio.data, run->mmio.len};
        break;
    case KVM_EXIT_X86_RDMSR: return (struct ring_part){&run->msr.data, sizeof run->msr.data};
    default: break;
    }
    return (struct ring_part){NULL, 0};
}

static void note_entry(const struct kvm_descriptor *vcpu, const struct kvm_run *run) {
    struct ring_kvm_entry entry = {
        .dirty_regs = run->kvm_dirty_regs,
        .cr8 = run->cr8,
        .request_interrupt_window = run->request_interrupt_window,
        .immediate_exit = run->immediate_exit,
    };
    struct ring_part parts[8] = {{&entry, sizeof entry}};
    uint32_t count = 1;
    struct ring_part data = answer(vcpu, run);
    if (data.count > 0) {
        entry.answer_bytes = data.count;
        if (run->exit_reason == KVM_EXIT_X86_RDMSR) entry.msr_error = run->msr.error;
        parts[count++] = data;
        parts[count++] = (struct ring_part){zeros, padding(data.count)};
    }
    if (run->exit_reason == KVM_EXIT_X86_WRMSR) entry.msr_error = run->msr.error;
    if (run->kvm_dirty_regs != 0) count = add_sync_regs(parts, count, run);
    recorder_write(RING_KIND_KVM_ENTRY, vcpu->machine, vcpu->vcpu, parts, count);
}

static void note_exit(
    const struct kvm_descriptor *vcpu, const struct kvm_run *run, long result, uint32_t flags, uint64_t synced) {
    struct ring_kvm_exit exit = {
        .result = (int32_t)result,
        .reason = run->exit_reason,
        .flags = flags,
        .cr8 = run->cr8,
        .apic_base = run->apic_base,
        .if_flag = run->if_flag,
        .ready_for_interrupt_injection = run->ready_for_interrupt_injection,
    };
    struct ring_part parts[8] = {{&exit, sizeof exit}};
    uint32_t count = 1;
    if (result == 0) {
        memcpy(exit.payload, &run->io, sizeof exit.payload);
        if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
            struct ring_part data = port_data(vcpu, run);
            exit.data_bytes = data.count;
            parts[count++] = data;
            parts[count++] = (struct ring_part){zeros, padding(data.count)};
        }
    }
    if ((synced & SYNCED) == SYNCED) {
        exit.flags |= RING_KVM_HAS_REGS;
        count = add_sync_regs(parts, count, run);
    }
    recorder_write(RING_KIND_KVM_EXIT, vcpu->machine, vcpu->vcpu, parts, count);
}

// Registers that the kernel can put into kvm_run at each exit; 0 before Linux 4.17.
static atomic_uint supported;

void kvm_run_supports(long registers) {
    if (registers > 0) atomic_store(&supported, (unsigned)registers);
}

long kvm_run(int file, struct kvm_descriptor *vcpu) {
    struct kvm_run *run = vcpu->run;
    if (run == NULL || !recorder_is_on()) return kvm_ioctl(file, KVM_RUN, 0);
    uint64_t asked = run->kvm_valid_regs;
    uint64_t synced = asked | (SYNCED & atomic_load_explicit(&supported, memory_order_relaxed));
    // The answer to an exit is recorded once, also where the run is entered again.
    for (bool is_first = true;; is_first = false) {
        run_gate_enter();
        guest_memory_record(vcpu->machine);
        if (is_first) note_entry(vcpu, run);
        run->kvm_valid_regs = synced;
        guest_memory_run_begins();
        long result = kvm_ioctl(file, KVM_RUN, 0);
        bool overlapped = guest_memory_run_ends();
        bool is_parked = result == -EINTR && run_gate_was_stopped();
        uint32_t flags = (is_parked ? RING_KVM_PARKED : 0) | (overlapped ? RING_KVM_OVERLAPPED : 0);
        note_exit(vcpu, run, result, flags, synced);
        run->kvm_valid_regs = asked;
        run_gate_leave();
        if (!is_parked) return result;
    }
}

#endif
