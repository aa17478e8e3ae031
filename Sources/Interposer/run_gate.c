// The gate between VCPUs and writers: run_gate.h.
#define _GNU_SOURCE
#include "run_gate.h"

#include <ring.h>
#include <ring_system.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#if defined(__linux__) && defined(__x86_64__)

#define SLICE_NS 2000000ULL  // a VCPU's turn where others wait
static const struct timespec pause_between_looks = {0, 20000};
// A writer that was let through has yet to make its store when the next run would protect the page again.
static const struct timespec pause_after_store = {0, 50000};

static atomic_bool is_closed;
static atomic_uint owner;    // thread number of the VCPU in the guest; 0: nobody
static atomic_ullong owned_since;
static atomic_uint heir;     // whose turn is next, once somebody waited for a whole slice; 0: whoever comes
static atomic_uint writers;  // that store, or wait to
static atomic_uint stores;   // ever made

#define THREAD_OWN static _Thread_local __attribute__((tls_model("initial-exec")))
THREAD_OWN volatile bool was_stopped;
THREAD_OWN unsigned seen_stores;

static void stop_owner(void) {
    uint32_t thread = atomic_load(&owner);
    if (thread == 0 || thread == ring_system_thread()) return;
    ring_syscall(SYS_tgkill, ring_system_process(), thread, SIGSEGV);
}

void run_gate_close(void) { atomic_store(&is_closed, true); }
bool run_gate_is_closed(void) { return atomic_load_explicit(&is_closed, memory_order_acquire); }

void run_gate_enter(void) {
    if (!run_gate_is_closed()) return;
    uint32_t thread = ring_system_thread();
    uint64_t waiting_since = 0;
    for (;;) {
        uint32_t nobody = 0, next = atomic_load(&heir);
        // Whoever was stopped for another one would be back first, and be stopped again.
        bool may_enter = atomic_load(&writers) == 0 && (next == 0 || next == thread);
        if (may_enter && atomic_compare_exchange_strong(&owner, &nobody, thread)) {
            unsigned made = atomic_load(&stores);
            if (atomic_load(&writers) == 0 && made == seen_stores) {
                atomic_store(&owned_since, ring_now());
                if (next == thread) atomic_store(&heir, 0);
                break;
            }
            // Stored since this thread's last look: the store itself may be still to come.
            seen_stores = made;
            atomic_store(&owner, 0);
            if (was_stopped) ring_system_sleep(&pause_after_store);
            continue;
        }
        uint64_t now = ring_now();
        if (waiting_since == 0) waiting_since = now;
        if (now - waiting_since > SLICE_NS && next == 0) atomic_compare_exchange_strong(&heir, &next, thread);
        if (atomic_load(&heir) == thread && now - atomic_load(&owned_since) > SLICE_NS) stop_owner();
        ring_system_sleep(&pause_between_looks);
    }
    was_stopped = false;
}

void run_gate_leave(void) {
    if (run_gate_is_closed() && atomic_load(&owner) == ring_system_thread()) atomic_store(&owner, 0);
}

bool run_gate_was_stopped(void) { return was_stopped; }

void run_gate_begin_store(void) {
    if (!run_gate_is_closed()) return;
    atomic_fetch_add(&writers, 1);
    // A thread that handles a signal inside its own KVM_RUN is not in the guest.
    while (atomic_load(&owner) != 0 && atomic_load(&owner) != ring_system_thread()) {
        stop_owner();
        ring_system_sleep(&pause_between_looks);
    }
}

void run_gate_end_store(void) {
    if (!run_gate_is_closed()) return;
    atomic_fetch_add(&stores, 1);
    atomic_fetch_sub(&writers, 1);
}

bool run_gate_takes_signal(int code, int sender) {
    if (code != SI_TKILL || (uint32_t)sender != ring_system_process() || !run_gate_is_closed()) return false;
    was_stopped = true;
    return true;
}

#else

void run_gate_close(void) {}
bool run_gate_is_closed(void) { return false; }
void run_gate_enter(void) {}
void run_gate_leave(void) {}
bool run_gate_was_stopped(void) { return false; }
void run_gate_begin_store(void) {}
void run_gate_end_store(void) {}
bool run_gate_takes_signal(int code, int sender) {
    (void)code, (void)sender;
    return false;
}

#endif
