// KVM_RUN, answered from a recording. The client's timers are not those of the recording: it is waited for, with exits
// as a signal makes them, until it has queued the event that entered the guest then; and it is told that the guest
// takes interrupts only where one entered.
#define _GNU_SOURCE
#include "kvm_recorded.h"

#if defined(__linux__) && defined(__x86_64__)

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#define PATIENCE_NS 5000000000ULL
static const struct timespec pause_before_retry = {0, 1000000};

static atomic_ullong waiting_since;  // 0: nobody waits

/// Lets the client go on for a moment. False: it had time enough.
static bool may_wait(void) {
    uint64_t now = ring_now(), since = 0;
    if (!atomic_compare_exchange_strong(&waiting_since, &since, now) && now - since > PATIENCE_NS) return false;
    ring_system_sleep(&pause_before_retry);
    return true;
}

/// The next exit of any VCPU.
static const struct ring_answer *next_exit(void) {
    const struct ring_answer *answer = recorded_next();
    while (answer != NULL && answer->kind != RING_ANSWER_EXIT) {
        recorded_store(answer->first, recorded_data(answer), answer->data_bytes);
        recorded_advance();
        answer = recorded_next();
    }
    return answer;
}

/// Whether the run after this exit began with an event.
static bool takes_interrupt(void) {
    const struct ring_answer *answer = recorded_next();
    // Stores stand between two exits; they are made when the next one comes.
    while (answer != NULL && answer->kind == RING_ANSWER_STORE) answer = recorded_after(answer);
    return answer != NULL && answer->kind == RING_ANSWER_EXIT && answer->first != 0;
}

static void show(struct recorded_vcpu *vcpu, const struct ring_kvm_exit *exit, uint32_t bytes) {
    struct kvm_run *run = vcpu->run;
    const uint8_t *data = (const uint8_t *)(exit + 1);
    uint32_t padded = (exit->data_bytes + 7u) / 8u * 8u;
    if (exit->data_bytes <= RECORDED_RUN_BYTES - RECORDED_DATA_OFFSET && sizeof *exit + padded <= bytes) {
        memcpy((uint8_t *)run + RECORDED_DATA_OFFSET, data, exit->data_bytes);
    }
    if (exit->flags & RING_KVM_HAS_REGS && sizeof *exit + padded + RING_KVM_SYNC_BYTES <= bytes) {
        data += padded;
        memcpy(&vcpu->regs, data, sizeof vcpu->regs);
        memcpy(&vcpu->sregs, data + sizeof vcpu->regs, sizeof vcpu->sregs);
        memcpy(&vcpu->events, data + sizeof vcpu->regs + sizeof vcpu->sregs, sizeof vcpu->events);
    }
    if (run->kvm_valid_regs & KVM_SYNC_X86_REGS) run->s.regs.regs = vcpu->regs;
    if (run->kvm_valid_regs & KVM_SYNC_X86_SREGS) run->s.regs.sregs = vcpu->sregs;
    if (run->kvm_valid_regs & KVM_SYNC_X86_EVENTS) run->s.regs.events = vcpu->events;
    run->cr8 = exit->cr8;
    run->apic_base = exit->apic_base;
    run->if_flag = exit->if_flag;
    run->ready_for_interrupt_injection = takes_interrupt();
    if (exit->result < 0) return;
    run->exit_reason = exit->reason;
    memcpy(&run->io, exit->payload, sizeof exit->payload);
    if (exit->reason == KVM_EXIT_IO) run->io.data_offset = RECORDED_DATA_OFFSET;
}

/// The recording is over, and the client goes on: some runs are recorded to tell, then it is asked to end.
static long end(void) {
    static atomic_uint runs;
    if (atomic_fetch_add(&runs, 1) == 8) ring_syscall(SYS_kill, ring_system_process(), SIGTERM, 0);
    ring_system_sleep(&pause_before_retry);
    return -EINTR;
}

long recorded_run(uint32_t number) {
    struct recorded_vcpu *vcpu = recorded_vcpu(number);
    struct kvm_run *run = vcpu->run;
    if (run->immediate_exit) return -EINTR;
    if (run->kvm_dirty_regs & KVM_SYNC_X86_REGS) vcpu->regs = run->s.regs.regs;
    if (run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) vcpu->sregs = run->s.regs.sregs;
    if (run->kvm_dirty_regs & KVM_SYNC_X86_EVENTS) vcpu->events = run->s.regs.events;
    run->kvm_dirty_regs = 0;
    const struct ring_answer *answer = next_exit();
    if (answer == NULL) return end();
    // Another VCPU's turn, which its thread may still have to make.
    if (answer->vcpu != number) return may_wait() ? -EINTR : -EIO;
    if (answer->first != 0 && vcpu->event == 0) {
        run->ready_for_interrupt_injection = 1;
        run->if_flag = 1;
        if (may_wait()) return -EINTR;
    }
    atomic_store(&waiting_since, 0);
    if (answer->first != 0) vcpu->event = 0;
    const struct ring_kvm_exit *exit = recorded_data(answer);
    if (answer->data_bytes < sizeof *exit) return -EIO;
    recorded_advance();
    show(vcpu, exit, answer->data_bytes);
    return exit->result < 0 ? exit->result : 0;
}

#endif
