// A recording that takes the place of /dev/kvm: what tracectl writes for the shim, one answer after the other in the
// order of the recording. Little-endian, each answer a multiple of 8 bytes; offsets asserted in ring.c.
#ifndef RING_ANSWERS_H
#define RING_ANSWERS_H

#include <stdint.h>

#define RING_ANSWERS_MAGIC 0x0A0D534E41544D56ULL  // "VMTANS\r\n"
#define RING_ANSWERS_VERSION 1

// ring_answer.kind
#define RING_ANSWER_END 0        // of the recording
#define RING_ANSWER_EXTENSION 1  // first: a capability, second: what KVM_CHECK_EXTENSION says of it
#define RING_ANSWER_CPUID 2      // data: struct kvm_cpuid2, of KVM_GET_SUPPORTED_CPUID
#define RING_ANSWER_MSR 3        // first: its number, second: its value before the guest's first instruction
#define RING_ANSWER_STATE 4      // data: regs, sregs and events, RING_KVM_SYNC_BYTES, of a VCPU that is new
#define RING_ANSWER_STORE 5      // first: guest-physical address; data: what the guest stored there before the exit
#define RING_ANSWER_EXIT 6       // first: the event that entered, RING_ANSWER_EVENT; data: as RING_KIND_KVM_EXIT's

// Of an exit: 0 where no event entered with the run, else this and the vector; NMIs are vector 2.
#define RING_ANSWER_EVENT 0x100

struct ring_answers_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
};

struct ring_answer {
    uint32_t kind;
    uint32_t vcpu;
    uint64_t first;
    uint64_t second;
    uint32_t data_bytes;  // what follows, before its padding
    uint32_t reserved;
};

#endif
