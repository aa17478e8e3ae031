// What the records of the ring say: kinds, and the payload of each. Little-endian, offsets asserted in ring.c.
// The interface's own structures stand as bytes, so that this header needs no other.
#ifndef RING_RECORDS_H
#define RING_RECORDS_H

#include <stdint.h>

#define RING_KIND_PAD 1        // skip
#define RING_KIND_ATTACH 2     // ring_attach: a process begins to record; machines of an earlier one are gone
#define RING_KIND_DETACH 3     // ring_detach: it ends in an orderly way
#define RING_KIND_LOST 4       // ring_lost_record: records of this lane are missing before this one
#define RING_KIND_CALL 5       // ring_call, then data: a call other than run, after it returned
#define RING_KIND_RUN_ENTRY 6  // ring_run_entry, then state parts: what the run is about to consume
#define RING_KIND_RUN_EXIT 7   // ring_run_exit, then state parts: what it gave
#define RING_KIND_MEMORY 8     // ring_memory, then bytes: what the client stored since the last run
// Of a client of /dev/kvm. Its memory is told of in NVMM's words: RING_CALL_HVA_MAP, RING_CALL_GPA_MAP and so on.
#define RING_KIND_KVM_CALL 9    // ring_kvm_call, then data: an ioctl other than KVM_RUN, after it returned
#define RING_KIND_KVM_ENTRY 10  // ring_kvm_entry, then data: what KVM_RUN is about to consume
#define RING_KIND_KVM_EXIT 11   // ring_kvm_exit, then data: what it gave

// What a library tells of itself (<nvmm_publication.h>), in the order in which it happened, below a lock of its own.
// A shim in whose process a library tells writes no records of calls and runs: the library's say the same and more.
#define RING_KIND_TOLD_HEADER 16    // the trace's header frame: Docs/trace-format.md
#define RING_KIND_TOLD_EVENT 17     // ring_told_event, then a record as journals have it
#define RING_KIND_TOLD_PAGE 18      // ring_told_page, then 4096 bytes: a page of the keyframe that is to come
#define RING_KIND_TOLD_KEYFRAME 19  // a keyframe frame; its objects list no pages
#define RING_KIND_TOLD_GRADE 20     // ring_told_grade
#define RING_KIND_TOLD_END 21       // nothing: the library closed its recording

#define RING_API_NVMM 1
#define RING_API_KVM 2

struct ring_attach {
    uint32_t pid;
    uint32_t parent_pid;
    uint32_t api;                 // RING_API_*
    uint32_t level;               // RING_LEVEL_*
    uint32_t lineage;             // NVMM_USER_VERSION of the headers that the shim was built with
    uint32_t state_bytes;         // sizeof(struct nvmm_vcpu_state)
    uint32_t comm_bytes;          // sizeof(struct nvmm_comm_page)
    uint32_t publication_offset;  // in a comm page; 0 where the library publishes nothing
};

#define RING_DETACH_EXIT 1    // exit() of the client
#define RING_DETACH_UNLOAD 2  // the shim was unloaded

struct ring_detach {
    uint32_t reason;
    uint32_t reserved;
};

struct ring_lost_record {
    uint64_t count;
};

// ring_call.call, with `args` and the data that follow. Addresses in `args` are the client's.
#define RING_CALL_INIT 1                // data: struct nvmm_capability
#define RING_CALL_ROOT_INIT 2           // data: struct nvmm_capability
#define RING_CALL_CAPABILITY 3          // data: struct nvmm_capability
#define RING_CALL_CTL 4                 // op, size; data: the answer
#define RING_CALL_MACHINE_CREATE 5
#define RING_CALL_MACHINE_DESTROY 6
#define RING_CALL_MACHINE_CONFIGURE 7   // op
#define RING_CALL_VCPU_CREATE 8         // comm page; data: the whole state that it starts with
#define RING_CALL_VCPU_DESTROY 9
#define RING_CALL_VCPU_CONFIGURE 10     // op; data: the structure where its size is known
#define RING_CALL_VCPU_SETSTATE 11      // flags, cached before; values come with the run's entry
#define RING_CALL_VCPU_GETSTATE 12      // flags, cached before; data: the parts in `flags` as they stand in the page
#define RING_CALL_VCPU_INJECT 13        // type, vector, error
#define RING_CALL_VCPU_STOP 14          // comm page: a stop names no machine
#define RING_CALL_VCPU_DUMP 15
#define RING_CALL_HVA_MAP 16            // hva, size
#define RING_CALL_HVA_UNMAP 17          // hva, size
#define RING_CALL_GPA_MAP 18            // hva, gpa, size, prot
#define RING_CALL_GPA_UNMAP 19          // hva, gpa, size
#define RING_CALL_GVA_TO_GPA 20         // gva, gpa, prot
#define RING_CALL_GPA_TO_HVA 21         // gpa, hva, prot
#define RING_CALL_ASSIST_IO 22
#define RING_CALL_ASSIST_MEM 23
#define RING_CALL_HVA_UNWATCHED 24      // hva, size: what the client stores there is not recorded
#define RING_CALL_KVM_MSR 25            // MSR, value: what KVM answers by itself, before the guest's first instruction
#define RING_CALL_AF_AFTER_SHIFT 26     // 0 or 1: undefined in the manuals, and not the same on all processors
#define RING_CALL_CONTENT_TOLD 27       // the memory records before it, RING_MEMORY_CONTENT, are all

// ring_call.flags
#define RING_CALL_IN_PAGE 1  // answered by the comm page, without the hypervisor
#define RING_CALL_NESTED 2   // made inside another call: by an assist or its callback, or by a signal handler

struct ring_call {
    uint16_t call;
    uint16_t flags;
    int32_t result;
    int32_t error;  // errno where result is -1, else 0
    uint32_t data_bytes;
    uint64_t args[4];
};

/// State parts follow in the order of their flags, without gaps.
struct ring_run_entry {
    uint64_t commit;  // parts that are marked, which follow
    uint64_t cached;
    uint8_t event_commit;
    uint8_t stop;
    uint8_t reserved[6];
    uint8_t event[16];  // struct nvmm_x86_event; 0 where none is armed
};

// ring_run_exit.run_kind; the numbers are those of <nvmm_publication.h>.
#define RING_RUN_UNKNOWN 0
#define RING_RUN_EARLY 1
#define RING_RUN_ENTERED 2
#define RING_RUN_REFUSED 3

// ring_run_exit.doubts: why the entry record may not be what the run consumed.
#define RING_DOUBT_KIND 1    // the kind was inferred, and both were possible
#define RING_DOUBT_COMMIT 2  // parts were marked while the run was under way
#define RING_DOUBT_EVENT 4   // an event was armed, or its bytes changed, while the run was under way
#define RING_DOUBT_OVERLAP 8  // another VCPU ran at the same time: the order of what the two did is not known

/// Cached parts follow, as in ring_run_entry.
struct ring_run_exit {
    int32_t result;
    int32_t error;
    uint8_t run_kind;
    uint8_t doubts;
    uint8_t event_commit;  // as it stands after the run
    uint8_t stop;
    uint32_t publication_bytes;  // 0 where the library publishes nothing
    uint64_t wanted;             // the comm page's words after the run
    uint64_t cached;
    uint64_t commit;
    uint8_t exit[64];         // struct nvmm_x86_exit
    uint8_t publication[88];  // struct nvmm_publication
};

// ring_kvm_call.request, beside those of <linux/kvm.h>: a struct kvm_cpuid2 as CPUID shows it to the guest.
#define RING_KVM_SEEN_CPUID 1

/// Then the structure that the ioctl's argument points to: as the kernel left it.
struct ring_kvm_call {
    uint32_t request;
    int32_t result;  // negative: an errno
    uint64_t argument;
    uint32_t data_bytes;
    uint32_t reserved;
};

/// Then the answer, padded with zeros to a multiple of 8; where dirty_regs is not 0, struct kvm_sync_regs without its
/// tail: regs, sregs, events, RING_KVM_SYNC_BYTES in all.
struct ring_kvm_entry {
    uint64_t dirty_regs;
    uint64_t cr8;
    uint32_t answer_bytes;  // what the client put where the last exit asked for data
    uint8_t request_interrupt_window;
    uint8_t immediate_exit;
    uint8_t msr_error;  // the answer to an MSR exit is a #GP
    uint8_t reserved;
};
#define RING_KVM_SYNC_BYTES 520

// ring_kvm_exit.flags
#define RING_KVM_PARKED 1       // ended by the shim, which enters again: the client does not see this exit
#define RING_KVM_HAS_REGS 2     // the registers follow
#define RING_KVM_OVERLAPPED 4   // another VCPU ran at the same time

/// Then the data that the guest wrote to a port, padded to a multiple of 8; with RING_KVM_HAS_REGS, regs, sregs and
/// events as in ring_kvm_entry.
struct ring_kvm_exit {
    int32_t result;      // negative: an errno, and `reason` and `payload` mean nothing
    uint32_t reason;     // KVM_EXIT_*
    uint32_t flags;
    uint32_t data_bytes;
    uint64_t cr8;
    uint64_t apic_base;
    uint8_t if_flag;
    uint8_t ready_for_interrupt_injection;
    uint8_t reserved[6];
    uint8_t payload[64];  // the beginning of struct kvm_run's union
};

// ring_memory.flags
#define RING_MEMORY_DURING_RUN 1  // stored, perhaps, while a guest ran
#define RING_MEMORY_CONTENT 2     // not a store: a page as it stands at the end; those that are not told of are zero

struct ring_memory {
    uint64_t hva;     // of the mapping: where RING_CALL_HVA_MAP put it
    uint64_t offset;  // in the mapping
    uint32_t flags;
    uint32_t data_bytes;
};

// ring_told_event.flags
#define RING_TOLD_RESTART 1  // states are relative to zeros again: something before this was lost

struct ring_told_event {
    uint32_t version;  // RING_TOLD_VERSION
    uint32_t flags;
};
#define RING_TOLD_VERSION 1

struct ring_told_page {
    uint32_t object;
    uint32_t reserved;
    uint64_t page;
};

/// A reason why the trace is worth less than it might be; the numbers are those of `TraceGrade`.
struct ring_told_grade {
    uint32_t level;
    uint32_t reason;
    uint64_t object;
    uint64_t page;
    uint64_t step;
};

#endif
