// A recording in the place of /dev/kvm: VMTRACE_ANSWERS names a file of ring_answers.h. Everything above the system
// calls of KVM stays as it is, so that what the client does now is recorded as it was then.
#ifndef KVM_RECORDED_H
#define KVM_RECORDED_H

#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include <ring_answers.h>

#pragma GCC visibility push(hidden)

#define RECORDED_VCPUS_MAX 256
#define RECORDED_RUN_BYTES 12288u
#define RECORDED_DATA_OFFSET 4096u
#define RECORDED_BLOBS 8

/// A VCPU without a processor: what the recording or the client said last of each part of its state.
struct recorded_vcpu {
    struct kvm_run *run;  // NULL: not made
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_vcpu_events events;
    uint32_t event;  // that the client queued, as RING_ANSWER_EVENT; 0: none
    uint8_t blobs[RECORDED_BLOBS][4096];
};

/// Of a VCPU that the client made, or NULL.
struct recorded_vcpu *recorded_vcpu(uint32_t number);

/// The first answer of a kind, from `from` on; NULL where there is none before the first exit. NULL begins.
const struct ring_answer *recorded_setting(uint32_t kind, const struct ring_answer *from);
static inline const void *recorded_data(const struct ring_answer *answer) { return answer + 1; }

/// What stands behind an answer; NULL where nothing whole does.
const struct ring_answer *recorded_after(const struct ring_answer *answer);

/// The next answer that a run gives or passes; NULL at the recording's end.
const struct ring_answer *recorded_next(void);
void recorded_advance(void);

/// Puts bytes into the client's memory, at a guest-physical address (kvm_recorded.c).
void recorded_store(uint64_t gpa, const uint8_t *bytes, uint32_t count);

/// KVM_RUN (kvm_recorded_run.c).
long recorded_run(uint32_t number);

#pragma GCC visibility pop

#endif
#endif
