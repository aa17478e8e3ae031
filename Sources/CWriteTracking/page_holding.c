// Holding writers by mprotect: page_holding.h. What stands under "in a handler" is async-signal-safe: raw system calls,
// no lock, errno kept.
#define _GNU_SOURCE
#include "page_holding.h"

#include <errno.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define HOLDERS_MAX 64
#define WAITING_MAX 64
// Faults in a row at pages that are open: another thread had one opened just then, or the fault is of another kind.
#define VAIN_FAULTS_MAX 64

enum { FREE, TAKEN, WAITING };

struct waiting {
    atomic_uint state;
    int32_t thread;
    uintptr_t page;
};

struct page_holder {
    atomic_bool is_used;
    int event_file;
    _Atomic uintptr_t start;  // 0 where no range is held; stored last
    size_t bytes;
    atomic_ullong *open;      // a bit for each page
    atomic_uint generation;   // counts admissions: who waits sleeps on it
    struct waiting waiting[WAITING_MAX];
};

static struct page_holder holders[HOLDERS_MAX];
static atomic_uint held_ranges;

static size_t words(size_t bytes) { return (bytes / PAGE + 63) / 64; }

struct page_holder *page_holder_open(int *event_file) {
    for (unsigned index = 0; index < HOLDERS_MAX; index++) {
        struct page_holder *holder = &holders[index];
        if (atomic_exchange(&holder->is_used, true)) continue;
        holder->event_file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (holder->event_file >= 0) {
            *event_file = holder->event_file;
            return holder;
        }
        atomic_store(&holder->is_used, false);
        return NULL;
    }
    return NULL;
}

void page_holder_close(struct page_holder *holder) {
    page_holder_remove(holder);
    close(holder->event_file);
    atomic_store(&holder->is_used, false);
}

int page_holder_add(struct page_holder *holder, uintptr_t start, size_t bytes) {
    void *memory = mmap(
        NULL, words(bytes) * sizeof(atomic_ullong), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return errno;
    for (unsigned index = 0; index < WAITING_MAX; index++) atomic_store(&holder->waiting[index].state, FREE);
    // Of the range before, which nobody asks for any more.
    if (holder->open != NULL) munmap(holder->open, words(holder->bytes) * sizeof(atomic_ullong));
    holder->open = memory;
    holder->bytes = bytes;
    atomic_store_explicit(&holder->start, start, memory_order_release);
    atomic_fetch_add(&held_ranges, 1);
    int error = page_holder_protect(holder, start, bytes);
    if (error != 0) page_holder_remove(holder);
    return error;
}

static void wake(struct page_holder *holder) {
    atomic_fetch_add(&holder->generation, 1);
    syscall(SYS_futex, &holder->generation, FUTEX_WAKE_PRIVATE, 0x7FFFFFFF, NULL, NULL, 0);
}

int page_holder_remove(struct page_holder *holder) {
    uintptr_t start = atomic_exchange(&holder->start, 0);
    if (start == 0) return 0;
    atomic_fetch_sub(&held_ranges, 1);
    int error = mprotect((void *)start, holder->bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
    // The bits stay: a handler may be looking at them. A range is held once, for as long as its machine has it.
    wake(holder);
    return error;
}

int page_holder_protect(struct page_holder *holder, uintptr_t start, size_t bytes) {
    uintptr_t first = atomic_load(&holder->start);
    for (size_t page = (start - first) / PAGE; page < (start - first + bytes) / PAGE; page++) {
        atomic_fetch_and(&holder->open[page / 64], ~(1ull << (page % 64)));
    }
    return mprotect((void *)start, bytes, PROT_READ) == 0 ? 0 : errno;
}

int page_holder_admit(struct page_holder *holder, uintptr_t page, size_t bytes) {
    uintptr_t first = atomic_load(&holder->start);
    if (first == 0) return 0;
    int error = mprotect((void *)page, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
    for (size_t index = (page - first) / PAGE; index < (page - first + bytes) / PAGE; index++) {
        atomic_fetch_or(&holder->open[index / 64], 1ull << (index % 64));
    }
    wake(holder);
    return error;
}

bool page_holder_has_next(struct page_holder *holder) {
    for (unsigned index = 0; index < WAITING_MAX; index++) {
        if (atomic_load(&holder->waiting[index].state) != FREE) return true;
    }
    return false;
}

unsigned page_holder_next(struct page_holder *holder, struct held_writer *writers, unsigned room) {
    uint64_t ignored;
    ssize_t bytes = read(holder->event_file, &ignored, sizeof ignored);
    (void)bytes;
    unsigned count = 0;
    for (unsigned index = 0; index < WAITING_MAX && count < room; index++) {
        struct waiting *waiting = &holder->waiting[index];
        if (atomic_load_explicit(&waiting->state, memory_order_acquire) != WAITING) continue;
        writers[count].page = waiting->page;
        writers[count].thread = waiting->thread;
        count++;
        atomic_store_explicit(&waiting->state, FREE, memory_order_release);
    }
    return count;
}

// MARK: In a handler

static struct page_holder *find(uintptr_t address) {
    for (unsigned index = 0; index < HOLDERS_MAX; index++) {
        uintptr_t start = atomic_load_explicit(&holders[index].start, memory_order_acquire);
        if (start != 0 && address >= start && address - start < holders[index].bytes) return &holders[index];
    }
    return NULL;
}

static bool is_open(struct page_holder *holder, uintptr_t address) {
    uintptr_t start = atomic_load(&holder->start);
    if (start == 0) return true;
    size_t page = (address - start) / PAGE;
    return atomic_load(&holder->open[page / 64]) >> (page % 64) & 1;
}

/// Says who waits for which page, and wakes the one who admits.
static void say(struct page_holder *holder, uintptr_t page) {
    static const struct timespec pause = {0, 50000};
    for (;;) {
        for (unsigned index = 0; index < WAITING_MAX; index++) {
            struct waiting *waiting = &holder->waiting[index];
            unsigned expected = FREE;
            if (!atomic_compare_exchange_strong(&waiting->state, &expected, TAKEN)) continue;
            waiting->thread = (int32_t)syscall(SYS_gettid);
            waiting->page = page;
            atomic_store_explicit(&waiting->state, WAITING, memory_order_release);
            uint64_t one = 1;
            ssize_t written = write(holder->event_file, &one, sizeof one);
            (void)written;
            return;
        }
        // More threads than places: the one who admits frees them.
        nanosleep(&pause, NULL);
    }
}

bool write_holder_fault(uintptr_t address) {
    static _Thread_local __attribute__((tls_model("initial-exec"))) unsigned vain_faults;
    struct page_holder *holder = find(address);
    if (holder == NULL) return false;
    int error = errno;
    if (is_open(holder, address)) {
        errno = error;
        return ++vain_faults <= VAIN_FAULTS_MAX;
    }
    vain_faults = 0;
    for (;;) {
        unsigned generation = atomic_load(&holder->generation);
        if (is_open(holder, address)) break;
        // Again after each admission: it may have been of this page, which was protected again before this thread got
        // there. Whoever admits takes a name that comes twice.
        say(holder, address & ~(uintptr_t)(PAGE - 1));
        while (atomic_load(&holder->generation) == generation) {
            syscall(SYS_futex, &holder->generation, FUTEX_WAIT_PRIVATE, generation, NULL, NULL, 0);
        }
    }
    errno = error;
    return true;
}

bool write_holder_covers(uintptr_t start, size_t bytes) {
    if (atomic_load_explicit(&held_ranges, memory_order_acquire) == 0 || bytes == 0) return false;
    for (unsigned index = 0; index < HOLDERS_MAX; index++) {
        uintptr_t first = atomic_load_explicit(&holders[index].start, memory_order_acquire);
        if (first != 0 && start < first + holders[index].bytes && first < start + bytes) return true;
    }
    return false;
}

#else

struct page_holder *page_holder_open(int *event_file) {
    (void)event_file;
    return NULL;
}
void page_holder_close(struct page_holder *holder) { (void)holder; }
int page_holder_add(struct page_holder *holder, uintptr_t start, size_t bytes) {
    (void)holder, (void)start, (void)bytes;
    return ENOSYS;
}
int page_holder_remove(struct page_holder *holder) {
    (void)holder;
    return ENOSYS;
}
int page_holder_protect(struct page_holder *holder, uintptr_t start, size_t bytes) {
    (void)holder, (void)start, (void)bytes;
    return ENOSYS;
}
int page_holder_admit(struct page_holder *holder, uintptr_t page, size_t bytes) {
    (void)holder, (void)page, (void)bytes;
    return ENOSYS;
}
bool page_holder_has_next(struct page_holder *holder) { return holder == NULL; }
unsigned page_holder_next(struct page_holder *holder, struct held_writer *writers, unsigned room) {
    (void)holder, (void)writers, (void)room;
    return 0;
}
bool write_holder_fault(uintptr_t address) {
    (void)address;
    return false;
}
bool write_holder_covers(uintptr_t start, size_t bytes) {
    (void)start, (void)bytes;
    return false;
}

#endif
