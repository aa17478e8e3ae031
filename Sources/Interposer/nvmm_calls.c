// The libnvmm front end of libvmtrace.so: every function of <nvmm.h> is shadowed. Each calls the library's own and
// returns its result and errno, whatever recording does. Rules: recorder.h.
//
// A run is sampled twice. At entry: what the comm page has marked for this run, because nothing but the run consumes
// it and the client may still change it after setstate. After: the exit, the page's words, and the parts that the
// hypervisor put there. What a run consumed is published by this project's library; elsewhere it is inferred.
//
// Where there is no Swift, any C compiler builds it; a host that has NVMM uses the headers of its own library:
//   cd Sources; cc -std=c11 -O2 -shared -fPIC -I CRing/include -I Interposer/include Interposer/*.c CRing/*.c
#define _GNU_SOURCE
#include "guest_memory.h"
#include "recorder.h"
#include "shadow.h"
#include "vmtrace.h"

#include <dlfcn.h>
#include <errno.h>
#include <nvmm.h>
#include <stdatomic.h>
#include <string.h>

#if __has_include(<nvmm_publication.h>)
#include <nvmm_publication.h>
#else
// Another project's libnvmm, whose headers were found first: it publishes nothing.
#define NVMM_PUBLICATION_SYMBOL "nvmm_publication_offset"
#define NVMM_PUBLICATION_VERSION 0
struct nvmm_publication {
    uint32_t version, run_kind;
    uint64_t runs, retired, clock, clock_advanced, commit_consumed, event_consumed;
    struct nvmm_x86_event event;
    uint64_t calls_made, calls_avoided;
};
#endif

// The records hold the interface's structures as bytes.
_Static_assert(sizeof(struct nvmm_x86_exit) == sizeof(((struct ring_run_exit *)0)->exit), "an exit is 64 bytes");
_Static_assert(sizeof(struct nvmm_x86_event) == sizeof(((struct ring_run_entry *)0)->event), "an event is 16 bytes");
_Static_assert(sizeof(struct nvmm_publication) == sizeof(((struct ring_run_exit *)0)->publication), "88 bytes");

// MARK: - The library below

#define FUNCTIONS(X) \
    X(nvmm_init, (void)) \
    X(nvmm_root_init, (void)) \
    X(nvmm_capability, (struct nvmm_capability *)) \
    X(nvmm_ctl, (int, void *, size_t)) \
    X(nvmm_machine_create, (struct nvmm_machine *)) \
    X(nvmm_machine_destroy, (struct nvmm_machine *)) \
    X(nvmm_machine_configure, (struct nvmm_machine *, uint64_t, void *)) \
    X(nvmm_vcpu_create, (struct nvmm_machine *, nvmm_cpuid_t, struct nvmm_vcpu *)) \
    X(nvmm_vcpu_destroy, (struct nvmm_machine *, struct nvmm_vcpu *)) \
    X(nvmm_vcpu_configure, (struct nvmm_machine *, struct nvmm_vcpu *, uint64_t, void *)) \
    X(nvmm_vcpu_setstate, (struct nvmm_machine *, struct nvmm_vcpu *, uint64_t)) \
    X(nvmm_vcpu_getstate, (struct nvmm_machine *, struct nvmm_vcpu *, uint64_t)) \
    X(nvmm_vcpu_inject, (struct nvmm_machine *, struct nvmm_vcpu *)) \
    X(nvmm_vcpu_run, (struct nvmm_machine *, struct nvmm_vcpu *)) \
    X(nvmm_vcpu_stop, (struct nvmm_vcpu *)) \
    X(nvmm_vcpu_dump, (struct nvmm_machine *, struct nvmm_vcpu *)) \
    X(nvmm_hva_map, (struct nvmm_machine *, uintptr_t, size_t)) \
    X(nvmm_hva_unmap, (struct nvmm_machine *, uintptr_t, size_t)) \
    X(nvmm_gpa_map, (struct nvmm_machine *, uintptr_t, gpaddr_t, size_t, int)) \
    X(nvmm_gpa_unmap, (struct nvmm_machine *, uintptr_t, gpaddr_t, size_t)) \
    X(nvmm_gva_to_gpa, (struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t, gpaddr_t *, nvmm_prot_t *)) \
    X(nvmm_gpa_to_hva, (struct nvmm_machine *, gpaddr_t, uintptr_t *, nvmm_prot_t *)) \
    X(nvmm_assist_io, (struct nvmm_machine *, struct nvmm_vcpu *)) \
    X(nvmm_assist_mem, (struct nvmm_machine *, struct nvmm_vcpu *))

static struct {
#define X(name, parameters) int(*name) parameters;
    FUNCTIONS(X)
#undef X
    uint32_t (*publication_offset)(void);
} library;

static atomic_bool is_resolved;
static uint32_t publication_offset;

/// Looks the library's functions up, once, at the client's first call: dlsym may allocate. Two threads that come first
/// at once store the same pointers.
static void resolve(void) {
    if (atomic_load_explicit(&is_resolved, memory_order_acquire)) return;
    int error = errno;
    void *found;
#define X(name, parameters) \
    found = dlsym(RTLD_NEXT, #name); \
    memcpy(&library.name, &found, sizeof found);
    FUNCTIONS(X)
#undef X
    found = dlsym(RTLD_NEXT, NVMM_PUBLICATION_SYMBOL);
    memcpy(&library.publication_offset, &found, sizeof found);
    atomic_store_explicit(&is_resolved, true, memory_order_release);
    errno = error;
}

// Depth of shadowed calls in this thread: a library may call its own functions through the shadows.
static _Thread_local __attribute__((tls_model("initial-exec"))) unsigned depth;

/// Calls the library's own function into `result`, and keeps its errno for the return.
#define CALL(name, arguments) \
    resolve(); \
    int result, error; \
    if (library.name == NULL) { \
        errno = ENOSYS; \
        return -1; \
    } \
    depth++; \
    result = library.name arguments; \
    depth--; \
    error = errno;

#define RETURN \
    errno = error; \
    return result

// MARK: - Records

static struct nvmm_comm_page *page_of(const struct nvmm_vcpu *vcpu) {
    // Not through machine->pages: the VCPU's own pointers are what the client uses.
    if (vcpu->state == NULL) return NULL;
    return (struct nvmm_comm_page *)(void *)((uint8_t *)vcpu->state - offsetof(struct nvmm_comm_page, state));
}

/// Adds the state's parts that `flags` names. They lie in the order of the flags; neighbours make one piece.
static uint32_t add_state(
    struct ring_part *parts, uint32_t count, const struct nvmm_vcpu_state *state, uint64_t flags) {
    static const uint16_t starts[] = {
        offsetof(struct nvmm_x64_state, segs), offsetof(struct nvmm_x64_state, gprs),
        offsetof(struct nvmm_x64_state, crs),  offsetof(struct nvmm_x64_state, drs),
        offsetof(struct nvmm_x64_state, msrs), offsetof(struct nvmm_x64_state, intr),
        offsetof(struct nvmm_x64_state, fpu),  sizeof(struct nvmm_x64_state)};
    for (unsigned part = 0; part < 7; part++) {
        if (!(flags >> part & 1)) continue;
        unsigned last = part;
        while (flags >> (last + 1) & 1 && last < 6) last++;
        parts[count].bytes = (const uint8_t *)state + starts[part];
        parts[count].count = (uint32_t)(starts[last + 1] - starts[part]);
        count++;
        part = last;
    }
    return count;
}

struct who {
    uint32_t machine, vcpu;
};

static struct who nobody(void) { return (struct who){RING_NOBODY, RING_NOBODY}; }
static struct who machine_alone(const struct nvmm_machine *machine) {
    return (struct who){machine->machid, RING_NOBODY};
}
static struct who both(const struct nvmm_machine *machine, const struct nvmm_vcpu *vcpu) {
    return (struct who){machine->machid, vcpu->cpuid};
}

/// What a call record says beside who and how it ended.
struct note {
    uint16_t call;
    uint16_t flags;
    uint64_t args[4];
    const void *data;  // `data_bytes` of it, or, with `state_flags`, a state
    uint32_t data_bytes;
    uint64_t state_flags;
};

static void note_call(struct who who, int result, int error, const struct note *note) {
    struct ring_call call = {
        .call = note->call,
        .flags = (uint16_t)(note->flags | (depth != 0 ? RING_CALL_NESTED : 0)),
        .result = result,
        .error = result == -1 ? error : 0,
    };
    memcpy(call.args, note->args, sizeof call.args);
    struct ring_part parts[10] = {{&call, sizeof call}};
    uint32_t count = 1;
    if (note->data != NULL && note->state_flags != 0) {
        count = add_state(parts, count, note->data, note->state_flags);
    } else if (note->data != NULL) {
        parts[count++] = (struct ring_part){note->data, note->data_bytes};
    }
    for (uint32_t part = 1; part < count; part++) call.data_bytes += parts[part].count;
    recorder_write(RING_KIND_CALL, who.machine, who.vcpu, parts, count);
}

/// `NOTE(who, RING_CALL_..., fields of struct note)`, where `result` and `error` are the call's.
#define NOTE(who, ...) \
    if (recorder_takes_calls()) note_call(who, result, error, &(struct note){__VA_ARGS__})

// MARK: - The whole library

/// Recording begins with the client's first successful initialisation.
static void attach(void) {
    struct nvmm_capability capability;
    memset(&capability, 0, sizeof capability);
    if (library.nvmm_capability == NULL || library.nvmm_capability(&capability) == -1) return;
    publication_offset = library.publication_offset != NULL ? library.publication_offset() : 0;
    recorder_attach((struct ring_attach){
        .api = RING_API_NVMM,
        .lineage = NVMM_USER_VERSION,
        .state_bytes = sizeof(struct nvmm_vcpu_state),
        .comm_bytes = sizeof(struct nvmm_comm_page),
        .publication_offset = publication_offset,
    });
    // The second word of every lineage's capability. Another size means that the page is laid out otherwise.
    uint32_t state_bytes;
    memcpy(&state_bytes, (const uint8_t *)&capability + 4, sizeof state_bytes);
    if (state_bytes != sizeof(struct nvmm_vcpu_state)) recorder_turn_off(RING_OFF_FOREIGN_ABI);
    if (!recorder_is_on()) return;
    note_call(nobody(), 0, 0,
        &(struct note){.call = RING_CALL_INIT, .data = &capability, .data_bytes = sizeof capability});
}

SHADOW int nvmm_init(void) {
    CALL(nvmm_init, ())
    if (result == 0 && depth == 0 && !recorder_is_on()) attach();
    RETURN;
}

SHADOW int nvmm_root_init(void) {
    CALL(nvmm_root_init, ())
    if (result == 0 && depth == 0 && !recorder_is_on()) attach();
    RETURN;
}

SHADOW int nvmm_capability(struct nvmm_capability *capability) {
    CALL(nvmm_capability, (capability))
    NOTE(nobody(), .call = RING_CALL_CAPABILITY, .data = result == 0 ? capability : NULL,
        .data_bytes = sizeof *capability);
    RETURN;
}

SHADOW int nvmm_ctl(int op, void *data, size_t size) {
    CALL(nvmm_ctl, (op, data, size))
    NOTE(nobody(), .call = RING_CALL_CTL, .args = {(uint64_t)op, size}, .data = result == 0 ? data : NULL,
        .data_bytes = (uint32_t)size);
    RETURN;
}

// MARK: - Machines

SHADOW int nvmm_machine_create(struct nvmm_machine *machine) {
    CALL(nvmm_machine_create, (machine))
    NOTE(result == 0 ? machine_alone(machine) : nobody(), .call = RING_CALL_MACHINE_CREATE);
    RETURN;
}

SHADOW int nvmm_machine_destroy(struct nvmm_machine *machine) {
    struct who who = machine_alone(machine);
    CALL(nvmm_machine_destroy, (machine))
    NOTE(who, .call = RING_CALL_MACHINE_DESTROY);
    if (result == 0 && guest_memory_is_watched()) guest_memory_forget(who.machine);
    RETURN;
}

SHADOW int nvmm_machine_configure(struct nvmm_machine *machine, uint64_t op, void *conf) {
    CALL(nvmm_machine_configure, (machine, op, conf))
    NOTE(machine_alone(machine), .call = RING_CALL_MACHINE_CONFIGURE, .args = {op});
    RETURN;
}

// MARK: - VCPUs

SHADOW int nvmm_vcpu_create(struct nvmm_machine *machine, nvmm_cpuid_t cpuid, struct nvmm_vcpu *vcpu) {
    CALL(nvmm_vcpu_create, (machine, cpuid, vcpu))
    struct who who = {machine->machid, cpuid};
    if (result == 0) {
        NOTE(who, .call = RING_CALL_VCPU_CREATE, .args = {(uint64_t)(uintptr_t)page_of(vcpu)}, .data = vcpu->state,
            .state_flags = NVMM_X64_STATE_ALL);
    } else {
        NOTE(who, .call = RING_CALL_VCPU_CREATE);
    }
    RETURN;
}

SHADOW int nvmm_vcpu_destroy(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    struct who who = both(machine, vcpu);
    CALL(nvmm_vcpu_destroy, (machine, vcpu))
    NOTE(who, .call = RING_CALL_VCPU_DESTROY);
    RETURN;
}

SHADOW int nvmm_vcpu_configure(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t op, void *conf) {
    CALL(nvmm_vcpu_configure, (machine, vcpu, op, conf))
    uint32_t bytes = 0;
    if (op == NVMM_VCPU_CONF_CPUID) bytes = sizeof(struct nvmm_vcpu_conf_cpuid);
    if (op == NVMM_VCPU_CONF_TPR) bytes = sizeof(struct nvmm_vcpu_conf_tpr);
    // Only what the library has read, too, is certain to be readable.
    const void *data = result == 0 && bytes != 0 ? conf : NULL;
    NOTE(both(machine, vcpu), .call = RING_CALL_VCPU_CONFIGURE, .args = {op},
        .flags = op < NVMM_VCPU_CONF_MI_BEGIN ? RING_CALL_IN_PAGE : 0, .data = data, .data_bytes = bytes);
    RETURN;
}

SHADOW int nvmm_vcpu_setstate(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t flags) {
    const struct nvmm_comm_page *page = page_of(vcpu);
    uint64_t cached = page != NULL ? page->state_cached : 0;
    CALL(nvmm_vcpu_setstate, (machine, vcpu, flags))
    NOTE(both(machine, vcpu), .call = RING_CALL_VCPU_SETSTATE, .flags = RING_CALL_IN_PAGE, .args = {flags, cached});
    RETURN;
}

SHADOW int nvmm_vcpu_getstate(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, uint64_t flags) {
    const struct nvmm_comm_page *page = page_of(vcpu);
    uint64_t cached = page != NULL ? page->state_cached : 0;
    CALL(nvmm_vcpu_getstate, (machine, vcpu, flags))
    NOTE(both(machine, vcpu), .call = RING_CALL_VCPU_GETSTATE,
        .flags = (flags & ~cached) == 0 ? RING_CALL_IN_PAGE : 0, .args = {flags, cached},
        .data = result == 0 ? vcpu->state : NULL, .state_flags = flags & NVMM_X64_STATE_ALL);
    RETURN;
}

SHADOW int nvmm_vcpu_inject(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    CALL(nvmm_vcpu_inject, (machine, vcpu))
    NOTE(both(machine, vcpu), .call = RING_CALL_VCPU_INJECT, .flags = RING_CALL_IN_PAGE,
        .args = {vcpu->event->type, vcpu->event->vector, vcpu->event->u.excp.error});
    RETURN;
}

#if NVMM_USER_VERSION >= 2
SHADOW int nvmm_vcpu_stop(struct nvmm_vcpu *vcpu) {
    CALL(nvmm_vcpu_stop, (vcpu))
    struct who who = {RING_NOBODY, vcpu->cpuid};
    NOTE(who, .call = RING_CALL_VCPU_STOP, .flags = RING_CALL_IN_PAGE, .args = {(uint64_t)(uintptr_t)page_of(vcpu)});
    RETURN;
}
#endif

SHADOW int nvmm_vcpu_dump(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    CALL(nvmm_vcpu_dump, (machine, vcpu))
    NOTE(both(machine, vcpu), .call = RING_CALL_VCPU_DUMP);
    RETURN;
}

// MARK: - Memory and assists

/// Whether the trace is to replay, and no library tells what the client stored.
static bool records_memory(void) { return recorder_takes_calls() && recorder_level() != RING_LEVEL_EXITS; }

SHADOW int nvmm_hva_map(struct nvmm_machine *machine, uintptr_t hva, size_t size) {
    CALL(nvmm_hva_map, (machine, hva, size))
    NOTE(machine_alone(machine), .call = RING_CALL_HVA_MAP, .args = {hva, size});
    if (result == 0 && records_memory()) guest_memory_add(machine->machid, hva, size);
    RETURN;
}

SHADOW int nvmm_hva_unmap(struct nvmm_machine *machine, uintptr_t hva, size_t size) {
    CALL(nvmm_hva_unmap, (machine, hva, size))
    if (result == 0 && guest_memory_is_watched()) guest_memory_remove(machine->machid, hva);
    NOTE(machine_alone(machine), .call = RING_CALL_HVA_UNMAP, .args = {hva, size});
    RETURN;
}

SHADOW int nvmm_gpa_map(struct nvmm_machine *machine, uintptr_t hva, gpaddr_t gpa, size_t size, int prot) {
    CALL(nvmm_gpa_map, (machine, hva, gpa, size, prot))
    NOTE(machine_alone(machine), .call = RING_CALL_GPA_MAP, .args = {hva, gpa, size, (uint64_t)prot});
    RETURN;
}

SHADOW int nvmm_gpa_unmap(struct nvmm_machine *machine, uintptr_t hva, gpaddr_t gpa, size_t size) {
    CALL(nvmm_gpa_unmap, (machine, hva, gpa, size))
    NOTE(machine_alone(machine), .call = RING_CALL_GPA_UNMAP, .args = {hva, gpa, size});
    RETURN;
}

SHADOW int nvmm_gva_to_gpa(
    struct nvmm_machine *machine, struct nvmm_vcpu *vcpu, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot) {
    CALL(nvmm_gva_to_gpa, (machine, vcpu, gva, gpa, prot))
    NOTE(both(machine, vcpu), .call = RING_CALL_GVA_TO_GPA,
        .args = {gva, result == 0 ? *gpa : 0, result == 0 ? *prot : 0});
    RETURN;
}

SHADOW int nvmm_gpa_to_hva(struct nvmm_machine *machine, gpaddr_t gpa, uintptr_t *hva, nvmm_prot_t *prot) {
    CALL(nvmm_gpa_to_hva, (machine, gpa, hva, prot))
    NOTE(machine_alone(machine), .call = RING_CALL_GPA_TO_HVA,
        .args = {gpa, result == 0 ? *hva : 0, result == 0 ? *prot : 0});
    RETURN;
}

SHADOW int nvmm_assist_io(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    CALL(nvmm_assist_io, (machine, vcpu))
    NOTE(both(machine, vcpu), .call = RING_CALL_ASSIST_IO);
    RETURN;
}

SHADOW int nvmm_assist_mem(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    CALL(nvmm_assist_mem, (machine, vcpu))
    NOTE(both(machine, vcpu), .call = RING_CALL_ASSIST_MEM);
    RETURN;
}

// MARK: - Runs

static void note_entry(
    const struct who *who, const struct nvmm_comm_page *page, struct ring_run_entry *entry) {
    memset(entry, 0, sizeof *entry);
    entry->commit = page->state_commit;
    entry->cached = page->state_cached;
    // Another thread may be injecting: the flag is read first, then what it speaks of.
    entry->event_commit = __atomic_load_n(&page->event_commit, __ATOMIC_ACQUIRE);
#if NVMM_USER_VERSION >= 2
    entry->stop = __atomic_load_n(&page->stop, __ATOMIC_RELAXED) != 0;
#endif
    if (entry->event_commit) memcpy(entry->event, (const void *)&page->event, sizeof entry->event);
    struct ring_part parts[10] = {{entry, sizeof *entry}};
    uint32_t count = add_state(parts, 1, &page->state, entry->commit);
    recorder_write(RING_KIND_RUN_ENTRY, who->machine, who->vcpu, parts, count);
}

/// What the run consumed, from the page before and after, where the library does not say.
static void infer_kind(const struct ring_run_entry *before, struct ring_run_exit *after, uint64_t reason) {
    bool took_commit = before->commit != 0 && (after->commit & before->commit) == 0;
    bool kept_commit = before->commit != 0 && (after->commit & before->commit) == before->commit;
    bool took_event = before->event_commit && !after->event_commit;
    bool kept_event = before->event_commit && after->event_commit;
    bool may_be_early = after->result == -1 || reason == NVMM_VCPU_EXIT_NONE;
#if NVMM_USER_VERSION >= 2
    may_be_early = may_be_early || reason == NVMM_VCPU_EXIT_STOPPED;
#endif
    if (took_commit || took_event) {
        after->run_kind = after->result == -1 ? RING_RUN_REFUSED : RING_RUN_ENTERED;
        if (kept_commit) after->doubts |= RING_DOUBT_COMMIT;
        if (kept_event) after->doubts |= RING_DOUBT_EVENT;
    } else if (!may_be_early) {
        after->run_kind = RING_RUN_ENTERED;
    } else if (kept_commit || kept_event || (before->cached != 0 && after->cached == before->cached)) {
        after->run_kind = RING_RUN_EARLY;
    } else if (before->cached != 0 && after->result == 0) {
        after->run_kind = RING_RUN_ENTERED;
    } else {
        // Nothing was there to be consumed, so little depends on it.
        after->run_kind = RING_RUN_UNKNOWN;
        after->doubts |= RING_DOUBT_KIND;
    }
    if (after->run_kind != RING_RUN_EARLY ? after->commit != 0 : after->commit != before->commit) {
        after->doubts |= RING_DOUBT_COMMIT;
    }
}

static void compare_with_publication(
    const struct ring_run_entry *before, struct ring_run_exit *after, const struct nvmm_publication *said) {
    after->run_kind = (uint8_t)said->run_kind;
    after->publication_bytes = sizeof *said;
    memcpy(after->publication, said, sizeof *said);
    if (said->run_kind == RING_RUN_EARLY) return;
    if (said->commit_consumed != before->commit) after->doubts |= RING_DOUBT_COMMIT;
    bool is_other_event = said->event_consumed != before->event_commit
        || (said->event_consumed && memcmp(&said->event, before->event, sizeof before->event) != 0);
    if (is_other_event) after->doubts |= RING_DOUBT_EVENT;
}

static void note_exit(
    const struct who *who, const struct nvmm_comm_page *page, const struct nvmm_vcpu_exit *exit, int result, int error,
    bool overlapped, const struct ring_run_entry *before, uint64_t runs_before) {
    struct ring_run_exit after;
    memset(&after, 0, sizeof after);
    after.result = result;
    after.error = result == -1 ? error : 0;
    if (overlapped) after.doubts |= RING_DOUBT_OVERLAP;
    after.wanted = page->state_wanted;
    after.cached = page->state_cached;
    after.commit = page->state_commit;
    after.event_commit = __atomic_load_n(&page->event_commit, __ATOMIC_ACQUIRE);
#if NVMM_USER_VERSION >= 2
    after.stop = __atomic_load_n(&page->stop, __ATOMIC_RELAXED) != 0;
#endif
    if (result == 0) memcpy(after.exit, exit, sizeof after.exit);
    const struct nvmm_publication *said
        = publication_offset != 0 ? (const void *)((const uint8_t *)page + publication_offset) : NULL;
    if (said != NULL && said->version == NVMM_PUBLICATION_VERSION && said->runs != runs_before) {
        compare_with_publication(before, &after, said);
    } else {
        infer_kind(before, &after, result == 0 ? exit->reason : NVMM_VCPU_EXIT_NONE);
        // The processor's own #UD and #GP use the event's place, too, so this may be a false alarm.
        if (before->event_commit && memcmp(&page->event, before->event, sizeof before->event) != 0) {
            after.doubts |= RING_DOUBT_EVENT;
        }
        if (!before->event_commit && after.event_commit) after.doubts |= RING_DOUBT_EVENT;
    }
    struct ring_part parts[10] = {{&after, sizeof after}};
    uint32_t count = result == 0 ? add_state(parts, 1, &page->state, after.cached) : 1;
    recorder_write(RING_KIND_RUN_EXIT, who->machine, who->vcpu, parts, count);
}

SHADOW int nvmm_vcpu_run(struct nvmm_machine *machine, struct nvmm_vcpu *vcpu) {
    struct who who = both(machine, vcpu);
    const struct nvmm_comm_page *page = page_of(vcpu);
    struct ring_run_entry entry;
    uint64_t runs = 0;
    // A run whose entry was not recorded has no exit record either.
    bool is_recorded = page != NULL && recorder_takes_calls();
    if (is_recorded) {
        int before = errno;
        if (publication_offset != 0) {
            runs = ((const struct nvmm_publication *)(const void *)((const uint8_t *)page + publication_offset))->runs;
        }
        guest_memory_record(who.machine);
        note_entry(&who, page, &entry);
        errno = before;
    }
    guest_memory_run_begins();
    CALL(nvmm_vcpu_run, (machine, vcpu))
    bool overlapped = guest_memory_run_ends();
    if (is_recorded) note_exit(&who, page, vcpu->exit, result, error, overlapped, &entry, runs);
    RETURN;
}

// MARK: - What a library tells of the inside of a run

SHADOW int vmtrace_level(void) { return recorder_asks_library() ? 1 + (int)recorder_level() : 0; }

SHADOW int vmtrace_tell(
    uint32_t kind, uint32_t machid, uint32_t cpuid, const void *head, size_t head_bytes, const void *body,
    size_t body_bytes) {
    if (!recorder_asks_library() || kind < RING_KIND_TOLD_HEADER || kind > RING_KIND_TOLD_END) return 0;
    if (head_bytes > recorder_payload_max() || body_bytes > recorder_payload_max()) return 0;
    int before = errno;
    struct ring_part parts[] = {{head, (uint32_t)head_bytes}, {body, (uint32_t)body_bytes}};
    bool is_taken = recorder_write((uint16_t)kind, machid, cpuid, parts, 2);
    if (is_taken && kind == RING_KIND_TOLD_HEADER) recorder_leave_to_library();
    errno = before;
    return is_taken;
}
