// Watching the client's mappings of guest memory by mprotect: guest_memory.h.
#define _GNU_SOURCE
#include "guest_memory.h"

#include "recorder.h"
#include "run_gate.h"

#include <errno.h>
#include <pthread.h>
#include <ring_system.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define MAPPINGS_MAX 128
#define VAIN_FAULTS_MAX 64

#if defined(__linux__)
typedef unsigned char residency;
#else
typedef char residency;
#endif

struct mapping {
    _Atomic uintptr_t start;  // 0 where the entry is free; stored last
    size_t bytes;
    uint32_t machine;
    uint8_t *before;         // content of each open page before its first store
    atomic_ullong *open;     // a bit for each page
    size_t words;
    atomic_bool has_open;
    atomic_bool is_new;      // nothing of it has been recorded: all its pages are open, and were zero
    atomic_bool was_late;    // a page was opened while a guest ran
    atomic_flag lock;
};

static struct mapping mappings[MAPPINGS_MAX];
static atomic_uint watched;
static atomic_uint running;
static atomic_bool has_handler;
static struct sigaction client_action;

// Faults in a row at pages that were open already: another thread had opened it just then, or it is no store of this
// kind.
static _Thread_local __attribute__((tls_model("initial-exec"))) unsigned vain_faults;

bool guest_memory_is_watched(void) { return atomic_load_explicit(&watched, memory_order_acquire) != 0; }

// Runs that began while another was under way, and what a thread had seen of that when its own began.
static atomic_uint overlaps;
static _Thread_local __attribute__((tls_model("initial-exec"))) unsigned overlaps_before;

void guest_memory_run_begins(void) {
    overlaps_before = atomic_load(&overlaps);
    if (atomic_fetch_add(&running, 1) != 0) atomic_fetch_add(&overlaps, 1);
}

bool guest_memory_run_ends(void) {
    atomic_fetch_sub(&running, 1);
    return atomic_load(&overlaps) != overlaps_before;
}

// MARK: - The lock of a mapping, held with all signals blocked

static void acquire(struct mapping *mapping) {
    static const struct timespec pause = {0, 20000};
    while (atomic_flag_test_and_set_explicit(&mapping->lock, memory_order_acquire)) ring_system_sleep(&pause);
}

static void release(struct mapping *mapping) { atomic_flag_clear_explicit(&mapping->lock, memory_order_release); }

static void block(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, before);
}

static void unblock(const sigset_t *before) { pthread_sigmask(SIG_SETMASK, before, NULL); }

// MARK: - Opening pages

static struct mapping *find(uintptr_t address) {
    for (unsigned index = 0; index < MAPPINGS_MAX; index++) {
        uintptr_t start = atomic_load_explicit(&mappings[index].start, memory_order_acquire);
        if (start != 0 && address >= start && address - start < mappings[index].bytes) return &mappings[index];
    }
    return NULL;
}

/// With the lock. Returns whether the page was protected.
static bool open_page(struct mapping *mapping, size_t page) {
    uint8_t *place = (uint8_t *)atomic_load(&mapping->start) + page * PAGE;
    unsigned long long bit = 1ull << (page % 64);
    if (atomic_load(&mapping->is_new) || atomic_load(&mapping->open[page / 64]) & bit) return false;
    memcpy(mapping->before + page * PAGE, place, PAGE);
    mprotect(place, PAGE, PROT_READ | PROT_WRITE);
    atomic_fetch_or(&mapping->open[page / 64], bit);
    atomic_store(&mapping->has_open, true);
    if (atomic_load(&running) != 0) atomic_store(&mapping->was_late, true);
    return true;
}

void guest_memory_open(uintptr_t start, size_t bytes) {
    int error = errno;
    for (unsigned index = 0; index < MAPPINGS_MAX && bytes != 0; index++) {
        struct mapping *mapping = &mappings[index];
        uintptr_t from = atomic_load_explicit(&mapping->start, memory_order_acquire);
        if (from == 0 || start + bytes <= from || start >= from + mapping->bytes) continue;
        uintptr_t first = start > from ? start : from;
        uintptr_t last = start + bytes < from + mapping->bytes ? start + bytes : from + mapping->bytes;
        sigset_t before;
        block(&before);
        run_gate_begin_store();
        acquire(mapping);
        for (size_t page = (first - from) / PAGE; page <= (last - 1 - from) / PAGE; page++) open_page(mapping, page);
        release(mapping);
        run_gate_end_store();
        unblock(&before);
    }
    errno = error;
}

bool guest_memory_touches(uintptr_t start, size_t bytes) {
    if (!guest_memory_is_watched() || bytes == 0) return false;
    for (unsigned index = 0; index < MAPPINGS_MAX; index++) {
        uintptr_t from = atomic_load_explicit(&mappings[index].start, memory_order_acquire);
        if (from != 0 && start < from + mappings[index].bytes && from < start + bytes) return true;
    }
    return false;
}

void guest_memory_store(void *target, const void *source, size_t bytes) {
    sigset_t before;
    block(&before);
    run_gate_begin_store();
    guest_memory_open((uintptr_t)target, bytes);
    memcpy(target, source, bytes);
    run_gate_end_store();
    unblock(&before);
}

static void pass_on(int number, siginfo_t *information, void *context) {
    if (client_action.sa_flags & SA_SIGINFO) {
        client_action.sa_sigaction(number, information, context);
    } else if (client_action.sa_handler != SIG_DFL && client_action.sa_handler != SIG_IGN) {
        client_action.sa_handler(number);
    } else {
        // The instruction faults again, and then nobody catches it.
        struct sigaction plain;
        memset(&plain, 0, sizeof plain);
        plain.sa_handler = SIG_DFL;
        atomic_store(&has_handler, false);
        sigaction(number, &plain, NULL);
    }
}

static void fault(int number, siginfo_t *information, void *context) {
    if (run_gate_takes_signal(information->si_code, information->si_pid)) return;
    int error = errno;
    uintptr_t address = (uintptr_t)information->si_addr;
    struct mapping *mapping = find(address);
    bool is_ours = mapping != NULL && vain_faults <= VAIN_FAULTS_MAX;
    if (is_ours) {
        // All signals are blocked here by sa_mask.
        run_gate_begin_store();
        acquire(mapping);
        uintptr_t start = atomic_load(&mapping->start);
        bool was_protected = start != 0 && open_page(mapping, (address - start) / PAGE);
        release(mapping);
        run_gate_end_store();
        vain_faults = was_protected ? 0 : vain_faults + 1;
    }
    errno = error;
    if (!is_ours) pass_on(number, information, context);
}

static void install(void) {
    static atomic_flag is_installed = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&is_installed)) return;
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = fault;
    // A signal of the gate that comes late must not disturb the client's system calls.
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigfillset(&ours.sa_mask);
    sigaction(SIGSEGV, &ours, &client_action);
    // From here on the shadow of sigaction keeps a client's handler behind ours.
    atomic_store(&has_handler, true);
}

bool guest_memory_take_handler(const struct sigaction *action, struct sigaction *before) {
    if (!atomic_load(&has_handler)) return false;
    struct sigaction old = client_action;
    if (action != NULL) client_action = *action;
    if (before != NULL) *before = old;
    return true;
}

// MARK: - Mappings

bool guest_memory_add(uint32_t machine, uintptr_t start, size_t bytes) {
    for (unsigned index = 0; index < MAPPINGS_MAX; index++) {
        struct mapping *mapping = &mappings[index];
        if (atomic_load(&mapping->start) != 0 || atomic_flag_test_and_set(&mapping->lock)) continue;
        if (atomic_load(&mapping->start) != 0) {
            release(mapping);
            continue;
        }
        size_t words = (bytes / PAGE + 63) / 64;
        size_t area = bytes + words * sizeof(atomic_ullong);
        int flags = MAP_PRIVATE | MAP_ANON;
#if defined(MAP_NORESERVE)
        flags |= MAP_NORESERVE;
#endif
        uint8_t *memory = mmap(NULL, area, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory != MAP_FAILED) {
            mapping->bytes = bytes;
            mapping->machine = machine;
            mapping->before = memory;
            mapping->open = (atomic_ullong *)(void *)(memory + bytes);
            mapping->words = words;
            atomic_store(&mapping->has_open, false);
            atomic_store(&mapping->was_late, false);
            atomic_store(&mapping->is_new, true);
            atomic_store_explicit(&mapping->start, start, memory_order_release);
            atomic_fetch_add(&watched, 1);
            install();
        }
        release(mapping);
        return memory != MAP_FAILED;
    }
    return false;
}

static void end(struct mapping *mapping) {
    sigset_t before;
    block(&before);
    acquire(mapping);
    uintptr_t start = atomic_exchange(&mapping->start, 0);
    if (start != 0) {
        mprotect((void *)start, mapping->bytes, PROT_READ | PROT_WRITE);
        munmap(mapping->before, mapping->bytes + mapping->words * sizeof(atomic_ullong));
        atomic_fetch_sub(&watched, 1);
    }
    release(mapping);
    unblock(&before);
}

void guest_memory_remove(uint32_t machine, uintptr_t start) {
    for (unsigned index = 0; index < MAPPINGS_MAX; index++) {
        if (atomic_load(&mappings[index].start) == start && mappings[index].machine == machine) end(&mappings[index]);
    }
}

void guest_memory_forget(uint32_t machine) {
    for (unsigned index = 0; index < MAPPINGS_MAX; index++) {
        if (atomic_load(&mappings[index].start) != 0 && mappings[index].machine == machine) end(&mappings[index]);
    }
}

// MARK: - Recording

static void record_page(const struct mapping *mapping, uintptr_t start, size_t page, bool is_late) {
    const uint8_t *now = (const uint8_t *)start + page * PAGE, *before = mapping->before + page * PAGE;
    if (memcmp(now, before, PAGE) == 0) return;
    size_t first = 0, last = PAGE;
    while (now[first] == before[first]) first++;
    while (now[last - 1] == before[last - 1]) last--;
    struct ring_memory head = {
        .hva = start,
        .offset = page * PAGE + first,
        .flags = is_late ? RING_MEMORY_DURING_RUN : 0,
        .data_bytes = (uint32_t)(last - first),
    };
    struct ring_part parts[] = {{&head, sizeof head}, {now + first, (uint32_t)(last - first)}};
    recorder_write(RING_KIND_MEMORY, mapping->machine, RING_NOBODY, parts, 2);
}

/// All pages that the system has given memory to: the others are zero as they were.
static void record_new(struct mapping *mapping, uintptr_t start) {
    residency resident[256];
    size_t pages = mapping->bytes / PAGE, count = sizeof resident;
    for (size_t page = 0; page < pages; page += count) {
        if (count > pages - page) count = pages - page;
        if (mincore((void *)(start + page * PAGE), count * PAGE, resident) != 0) memset(resident, 1, sizeof resident);
        for (size_t index = 0; index < count; index++) {
            if (resident[index] & 1) record_page(mapping, start, page + index, false);
        }
    }
}

static void record_open(struct mapping *mapping, uintptr_t start) {
    bool is_late = atomic_exchange(&mapping->was_late, false);
    for (size_t word = 0; word < mapping->words; word++) {
        unsigned long long open = atomic_exchange(&mapping->open[word], 0);
        while (open != 0) {
            unsigned first = (unsigned)__builtin_ctzll(open), count = 1;
            while (first + count < 64 && open >> (first + count) & 1) count++;
            size_t page = word * 64 + first;
            // Protected first: whoever stores from here on waits for the lock.
            mprotect((void *)(start + page * PAGE), (size_t)count * PAGE, PROT_READ);
            for (unsigned index = 0; index < count; index++) record_page(mapping, start, page + index, is_late);
            open &= ~((count == 64 ? ~0ull : (1ull << count) - 1) << first);
        }
    }
}

void guest_memory_record(uint32_t machine) {
    if (!guest_memory_is_watched()) return;
    for (unsigned index = 0; index < MAPPINGS_MAX; index++) {
        struct mapping *mapping = &mappings[index];
        if (atomic_load(&mapping->start) == 0 || mapping->machine != machine) continue;
        if (!atomic_load(&mapping->is_new) && !atomic_load(&mapping->has_open)) continue;
        sigset_t before;
        block(&before);
        acquire(mapping);
        uintptr_t start = atomic_load(&mapping->start);
        if (start != 0 && atomic_load(&mapping->is_new)) {
            mprotect((void *)start, mapping->bytes, PROT_READ);
            record_new(mapping, start);
            atomic_store(&mapping->is_new, false);
        } else if (start != 0 && atomic_exchange(&mapping->has_open, false)) {
            record_open(mapping, start);
        }
        release(mapping);
        unblock(&before);
    }
}
