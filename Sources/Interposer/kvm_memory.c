// Guest memory of a client of KVM. Where the trace is to replay, the mapping that a slot lies in is moved onto a memory
// object of ours which is mapped twice: the guest gets the second mapping, and the client's own can be write-protected
// without the guest noticing (guest_memory.h).
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include "guest_memory.h"
#include "run_gate.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define MAPPED_MAX 256
#define AREAS_MAX 64
#define SLOTS_MAX 512

static void acquire(atomic_flag *lock) {
    static const struct timespec pause = {0, 20000};
    while (atomic_flag_test_and_set_explicit(lock, memory_order_acquire)) ring_system_sleep(&pause);
}

static void release(atomic_flag *lock) { atomic_flag_clear_explicit(lock, memory_order_release); }

// MARK: - What the client mapped

static struct {
    uintptr_t start;
    size_t bytes;
    bool is_plain;
} mapped[MAPPED_MAX];
static unsigned next_mapped;
static atomic_flag mapped_lock = ATOMIC_FLAG_INIT;

void kvm_memory_mapped(uintptr_t start, size_t bytes, bool is_plain) {
    acquire(&mapped_lock);
    mapped[next_mapped % MAPPED_MAX].is_plain = is_plain;
    mapped[next_mapped % MAPPED_MAX].start = start;
    mapped[next_mapped % MAPPED_MAX].bytes = bytes;
    next_mapped++;
    release(&mapped_lock);
}

void kvm_memory_unmapped(uintptr_t start, size_t bytes) {
    acquire(&mapped_lock);
    for (unsigned index = 0; index < MAPPED_MAX; index++) {
        if (mapped[index].start >= start && mapped[index].start < start + bytes) mapped[index].bytes = 0;
    }
    release(&mapped_lock);
}

/// The newest mapping that holds a range; the range itself where none is known. False where others share its pages.
static bool widen(uintptr_t *start, size_t *bytes) {
    bool is_plain = true;
    acquire(&mapped_lock);
    for (unsigned back = 1; back <= MAPPED_MAX; back++) {
        unsigned index = (next_mapped - back) % MAPPED_MAX;
        uintptr_t from = mapped[index].start;
        if (mapped[index].bytes == 0 || *start < from || *start + *bytes > from + mapped[index].bytes) continue;
        *bytes = mapped[index].bytes;
        *start = from;
        is_plain = mapped[index].is_plain;
        break;
    }
    release(&mapped_lock);
    return is_plain;
}

// MARK: - Areas: mappings that slots lie in

static struct area {
    uint32_t machine;
    uintptr_t start;  // in the client's mapping; 0: no area
    size_t bytes;
    uintptr_t alias;  // the guest's; equal to `start` where nothing was moved
} areas[AREAS_MAX];
static atomic_flag areas_lock = ATOMIC_FLAG_INIT;

static struct area *find_area(uint32_t machine, uintptr_t start, size_t bytes) {
    for (unsigned index = 0; index < AREAS_MAX; index++) {
        struct area *area = &areas[index];
        if (area->start == 0 || area->machine != machine) continue;
        if (start >= area->start && start + bytes <= area->start + area->bytes) return area;
    }
    return NULL;
}

static bool overlaps_area(uintptr_t start, size_t bytes) {
    for (unsigned index = 0; index < AREAS_MAX; index++) {
        struct area *area = &areas[index];
        if (area->start != 0 && start < area->start + area->bytes && area->start < start + bytes) return true;
    }
    return false;
}

static void copy_resident(uintptr_t target, uintptr_t source, size_t bytes) {
    unsigned char resident[1024];
    size_t pages = bytes / PAGE;
    for (size_t page = 0; page < pages; page += sizeof resident) {
        size_t count = pages - page < sizeof resident ? pages - page : sizeof resident;
        uintptr_t from = source + page * PAGE;
        if (ring_syscall(SYS_mincore, (long)from, (long)(count * PAGE), (long)(uintptr_t)resident) != 0) {
            memset(resident, 1, count);
        }
        for (size_t index = 0; index < count; index++) {
            if (!(resident[index] & 1)) continue;
            memcpy((void *)(target + (page + index) * PAGE), (void *)(from + index * PAGE), PAGE);
        }
    }
}

/// With the guest stopped for good: what memory holds in the end is what a replay has to come to.
static void record_content(void) {
    static const uint8_t zeros[PAGE];
    run_gate_begin_store();
    for (unsigned index = 0; index < AREAS_MAX; index++) {
        const struct area *area = &areas[index];
        if (area->start == 0 || area->alias == area->start) continue;
        guest_memory_record(area->machine);
        unsigned char resident;
        for (size_t offset = 0; offset < area->bytes; offset += PAGE) {
            const uint8_t *page = (const uint8_t *)area->alias + offset;
            long known = ring_syscall(SYS_mincore, (long)(uintptr_t)page, PAGE, (long)(uintptr_t)&resident);
            if (known == 0 && !(resident & 1)) continue;
            if (memcmp(page, zeros, PAGE) == 0) continue;
            struct ring_memory head = {
                .hva = area->start, .offset = offset, .flags = RING_MEMORY_CONTENT, .data_bytes = PAGE};
            struct ring_part parts[] = {{&head, sizeof head}, {page, PAGE}};
            if (!recorder_write(RING_KIND_MEMORY, area->machine, RING_NOBODY, parts, 2)) return;
        }
    }
    kvm_record_call(0, RING_NOBODY, RING_CALL_CONTENT_TOLD, 0, 0, 0, 0);
}

/// Moves an area onto a memory object; its content stays.
static bool move(struct area *area) {
    long file = ring_syscall(SYS_memfd_create, (long)(uintptr_t) "guest", MFD_CLOEXEC, 0);
    if (file < 0) return false;
    long alias = -1;
    if (ring_syscall(SYS_ftruncate, file, (long)area->bytes, 0) == 0) {
        alias = ring_syscall_six(
            SYS_mmap, 0, (long)area->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    }
    bool is_moved = false;
    if (!ring_syscall_failed(alias)) {
        copy_resident((uintptr_t)alias, area->start, area->bytes);
        long there = ring_syscall_six(SYS_mmap, (long)area->start, (long)area->bytes, PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file, 0);
        is_moved = there == (long)area->start;
        if (is_moved) {
            area->alias = (uintptr_t)alias;
            // A child would share it, where it had a copy of its own before.
            ring_syscall(SYS_madvise, alias, (long)area->bytes, MADV_DONTFORK);
            ring_syscall(SYS_madvise, there, (long)area->bytes, MADV_DONTFORK);
        } else {
            ring_syscall(SYS_munmap, alias, (long)area->bytes, 0);
        }
    }
    ring_syscall(SYS_close, file, 0, 0);
    return is_moved;
}

static struct area *make_area(uint32_t machine, uintptr_t start, size_t bytes) {
    struct area *free_area = NULL;
    for (unsigned index = 0; index < AREAS_MAX && free_area == NULL; index++) {
        if (areas[index].start == 0) free_area = &areas[index];
    }
    if (free_area == NULL) return NULL;
    struct area area = {.machine = machine, .start = start, .bytes = bytes, .alias = start};
    if (kvm_records_memory()) {
        bool is_plain = widen(&area.start, &area.bytes);
        if (overlaps_area(area.start, area.bytes)) area.start = start, area.bytes = bytes;
        if (!is_plain || overlaps_area(area.start, area.bytes) || !move(&area)) {
            area.start = area.alias = start;
            area.bytes = bytes;
        }
    }
    *free_area = area;
    kvm_record_call(machine, RING_NOBODY, RING_CALL_HVA_MAP, area.start, area.bytes, area.alias != area.start, 0);
    if (area.alias != area.start) {
        run_gate_close();
        recorder_at_exit(record_content);
        if (!guest_memory_add(machine, area.start, area.bytes)) {
            kvm_record_call(machine, RING_NOBODY, RING_CALL_HVA_UNWATCHED, area.start, area.bytes, 0, 0);
        }
    } else if (kvm_records_memory()) {
        kvm_record_call(machine, RING_NOBODY, RING_CALL_HVA_UNWATCHED, area.start, area.bytes, 0, 0);
    }
    return free_area;
}

// MARK: - Slots

static struct slot {
    uint32_t machine;
    uint32_t number;
    uint64_t gpa;
    uint64_t bytes;  // 0: no slot
} slots[SLOTS_MAX];

uint64_t kvm_memory_slot_begins(uint32_t machine, const struct kvm_userspace_memory_region *slot) {
    if (slot->memory_size == 0) return slot->userspace_addr;
    acquire(&areas_lock);
    struct area *area = find_area(machine, slot->userspace_addr, slot->memory_size);
    if (area == NULL) area = make_area(machine, slot->userspace_addr, slot->memory_size);
    uint64_t address = area == NULL ? slot->userspace_addr : slot->userspace_addr - area->start + area->alias;
    release(&areas_lock);
    return address;
}

void kvm_memory_slot_set(uint32_t machine, const struct kvm_userspace_memory_region *slot, long result) {
    if (result != 0) return;
    acquire(&areas_lock);
    struct slot *place = NULL;
    for (unsigned index = 0; index < SLOTS_MAX; index++) {
        struct slot *known = &slots[index];
        if (known->bytes != 0 && known->machine == machine && known->number == slot->slot) {
            place = known;
            break;
        }
        if (known->bytes == 0 && place == NULL) place = known;
    }
    // Changed flags alone, of the same place, are no change to the guest, but for READONLY, which cannot be changed.
    bool is_same = place != NULL && place->bytes == slot->memory_size && place->gpa == slot->guest_phys_addr;
    if (place != NULL && !is_same) {
        if (place->bytes != 0) {
            kvm_record_call(machine, RING_NOBODY, RING_CALL_GPA_UNMAP, 0, place->gpa, place->bytes, 0);
        }
        *place = (struct slot){machine, slot->slot, slot->guest_phys_addr, slot->memory_size};
        // NVMM's protections: read 1, write 2, execute 4.
        uint64_t protection = slot->flags & KVM_MEM_READONLY ? 5 : 7;
        if (slot->memory_size != 0) {
            kvm_record_call(machine, RING_NOBODY, RING_CALL_GPA_MAP, slot->userspace_addr, slot->guest_phys_addr,
                slot->memory_size, protection);
        }
    }
    release(&areas_lock);
}

bool kvm_memory_advise(uintptr_t start, size_t bytes, int advice) {
    if (advice != MADV_DONTNEED && advice != MADV_FREE && advice != MADV_REMOVE) return false;
    if (!guest_memory_touches(start, bytes)) return false;
    // Of private memory without a file it leaves zeros, which the guest must see, and which the client has stored.
    run_gate_begin_store();
    guest_memory_open(start, bytes);
    ring_syscall(SYS_madvise, (long)start, (long)bytes, MADV_REMOVE);
    run_gate_end_store();
    return true;
}

#endif
