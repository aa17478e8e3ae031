// What this project's libnvmm says beyond the interface, for a tracer in the same process: the part of each VCPU's
// comm page that `struct nvmm_comm_page` leaves free tells what a run consumed. Other libraries lack it, and there
// a tracer has to infer (Docs/determinism.md).
#ifndef NVMM_PUBLICATION_H
#define NVMM_PUBLICATION_H

#include <nvmm_types.h>

#define NVMM_PUBLICATION_VERSION 1
#define NVMM_PUBLICATION_OFFSET 2048

// run_kind
#define NVMM_RUN_NONE 0     // no run has returned yet
#define NVMM_RUN_EARLY 1    // returned before anything was consumed
#define NVMM_RUN_ENTERED 2  // state and event were consumed, the guest was entered
#define NVMM_RUN_REFUSED 3  // state and event were consumed, then the event was found bad: EINVAL

/// Written by the thread that runs the VCPU before nvmm_vcpu_run returns, and by nobody else.
struct nvmm_publication {
    uint32_t version;
    uint32_t run_kind;
    uint64_t runs;             // returns of nvmm_vcpu_run on this VCPU so far
    uint64_t retired;          // instructions of this VCPU so far, all runs
    uint64_t clock;            // the machine's clock at the exit, in instructions and advances
    uint64_t clock_advanced;   // sum of the advances alone, so that the next entry's is the difference
    uint64_t commit_consumed;  // parts of the state that this run installed
    uint64_t event_consumed;   // 1 where this run took an event, which is the next field
    struct nvmm_x86_event event;
    uint64_t calls_made;     // calls of the client that needed the hypervisor
    uint64_t calls_avoided;  // calls that the comm page answered
};

/// Name of the exported function `uint32_t (void)` that returns the offset of the publication in a comm page.
#define NVMM_PUBLICATION_SYMBOL "nvmm_publication_offset"

// Functions that a preloaded tracer exports and the library calls where it finds them (dlsym), for what happens
// inside a run and is invisible at the interface. They may be called on any thread, keep errno, and never fail.

/// Whether a tracer records in this process: 0 no, else 1 + the record level. Asked at the first machine: the tracer
/// begins with nvmm_init. The library then writes no own trace, and tells the tracer from the header on.
#define NVMM_TRACER_LEVEL_SYMBOL "vmtrace_level"
typedef int nvmm_tracer_level(void);

/// Takes a record of a kind RING_KIND_TOLD_* of <ring_records.h>, `head` and `body` one after the other. The first is
/// a header; from then on the tracer leaves the telling to the library. One call at a time.
/// Returns 0 where the record was lost, or is not wanted any more.
#define NVMM_TRACER_TELL_SYMBOL "vmtrace_tell"
typedef int nvmm_tracer_tell(
    uint32_t kind, nvmm_machid_t machid, nvmm_cpuid_t cpuid, const void *head, size_t head_bytes, const void *body,
    size_t body_bytes);

#endif
