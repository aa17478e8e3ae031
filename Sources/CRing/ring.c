// The ring's two sides. Which store publishes what stands in ring.h; the order named here is the order held there.
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE
#endif
#include "ring.h"
#include "ring_answers.h"
#include "ring_records.h"
#include "ring_system.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

static_assert(sizeof(struct ring_control) == 256, "the control page's lines");
static_assert(offsetof(struct ring_control, next_sequence) == 64, "a line of its own");
static_assert(offsetof(struct ring_control, state) == 128, "a line of its own");
static_assert(offsetof(struct ring_control, heartbeat) == 192, "a line of its own");
static_assert(sizeof(struct ring_lane) == 256, "a lane's lines");
static_assert(sizeof(struct ring_answers_header) == 16 && sizeof(struct ring_answer) == 32, "as tracectl writes them");
static_assert(sizeof(struct ring_kvm_exit) == 104, "as tracectl writes them");
static_assert(offsetof(struct ring_lane, freed) == 64, "a line of its own");
static_assert(offsetof(struct ring_lane, lost) == 128, "a line of its own");
static_assert(sizeof(struct ring_record) == 40, "protocol version 2");
static_assert(sizeof(struct ring_file_header) == 32, "protocol version 2");
static_assert(sizeof(struct ring_attach) == 32, "protocol version 2");
static_assert(sizeof(struct ring_call) == 48, "protocol version 2");
static_assert(sizeof(struct ring_run_entry) == 40, "protocol version 2");
static_assert(sizeof(struct ring_run_exit) == 192, "protocol version 2");
static_assert(sizeof(struct ring_told_event) == 8 && sizeof(struct ring_told_page) == 16, "protocol version 2");
static_assert(sizeof(struct ring_told_grade) == 32, "protocol version 2");
static_assert(sizeof(struct ring_memory) == 24, "protocol version 2");
static_assert(sizeof(struct ring_kvm_call) == 24, "protocol version 2");
static_assert(sizeof(struct ring_kvm_entry) == 24, "protocol version 2");
static_assert(sizeof(struct ring_kvm_exit) == 104, "protocol version 2");
static_assert(offsetof(struct ring_kvm_exit, payload) == 40, "protocol version 2");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared between processes");

// The structures hold plain integers, so that other languages can import them; these casts make them atomic. All
// compilers that build this give an atomic integer the layout of the plain one.
typedef _Atomic(uint64_t) atomic_word;
typedef _Atomic(uint32_t) atomic_half;
#define WORD(field) ((atomic_word *)(uintptr_t)&(field))
#define HALF(field) ((atomic_half *)(uintptr_t)&(field))

static uint64_t data_offset(uint32_t lane_count) {
    uint64_t lanes = (uint64_t)lane_count * sizeof(struct ring_lane);
    return RING_CONTROL_BYTES + ((lanes + 4095) & ~UINT64_C(4095));
}

static struct ring_lane *lane_of(void *memory, uint32_t lane) {
    return (struct ring_lane *)(void *)((uint8_t *)memory + RING_CONTROL_BYTES) + lane;
}

// MARK: - Setting up

uint64_t ring_size(uint32_t lane_count, uint64_t lane_bytes) {
    if (lane_count < 1 || lane_count > RING_LANES_MAX) return 0;
    if (lane_bytes < RING_LANE_BYTES_MIN || lane_bytes > RING_LANE_BYTES_MAX) return 0;
    if ((lane_bytes & (lane_bytes - 1)) != 0) return 0;
    return data_offset(lane_count) + lane_count * lane_bytes;
}

uint64_t ring_now(void) {
    struct timespec now = {0, 0};
    ring_system_clock(&now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool ring_format(
    void *memory, uint32_t lane_count, uint64_t lane_bytes, uint32_t level, uint32_t options, uint32_t drainer_pid) {
    if (ring_size(lane_count, lane_bytes) == 0) return false;
    struct ring_control *control = memory;
    control->version = RING_VERSION;
    control->lane_count = lane_count;
    control->lane_bytes = lane_bytes;
    control->level = level;
    control->options = options;
    control->drainer_pid = drainer_pid;
    ring_beat(memory);
    atomic_store_explicit(HALF(control->state), RING_ON, memory_order_relaxed);
    // release: who sees the magic sees the rest.
    atomic_store_explicit(WORD(control->magic), RING_MAGIC, memory_order_release);
    return true;
}

/// Whether a ring of this version stands in `memory`; its geometry, checked, for the caller to keep.
static bool read_geometry(void *memory, uint64_t bytes, uint32_t *lane_count, uint64_t *lane_bytes) {
    struct ring_control *control = memory;
    if (bytes < RING_CONTROL_BYTES) return false;
    // acquire: pairs with ring_format.
    if (atomic_load_explicit(WORD(control->magic), memory_order_acquire) != RING_MAGIC) return false;
    if (control->version != RING_VERSION) return false;
    *lane_count = control->lane_count;
    *lane_bytes = control->lane_bytes;
    uint64_t size = ring_size(*lane_count, *lane_bytes);
    return size != 0 && size <= bytes;
}

// MARK: - Writing

bool ring_writer_open(struct ring_writer *writer, void *memory, uint64_t bytes) {
    if (!read_geometry(memory, bytes, &writer->lane_count, &writer->lane_bytes)) return false;
    writer->memory = memory;
    writer->options = ((struct ring_control *)memory)->options;
    writer->data_offset = data_offset(writer->lane_count);
    return true;
}

uint32_t ring_writer_lane(const struct ring_writer *writer) {
    struct ring_control *control = writer->memory;
    return atomic_fetch_add_explicit(HALF(control->next_lane), 1, memory_order_relaxed) % writer->lane_count;
}

uint32_t ring_payload_max(const struct ring_writer *writer) {
    // A quarter of a lane: two such records always find room, whatever is left over at the end.
    return (uint32_t)(writer->lane_bytes / 4 - sizeof(struct ring_record));
}

bool ring_is_on(const void *memory) {
    const struct ring_control *control = memory;
    return atomic_load_explicit(HALF(control->state), memory_order_relaxed) == RING_ON;
}

void ring_turn_off(void *memory, uint32_t reason) {
    struct ring_control *control = memory;
    uint32_t none = RING_OFF_NOT;
    atomic_compare_exchange_strong_explicit(
        HALF(control->off_reason), &none, reason, memory_order_relaxed, memory_order_relaxed);
    // release: who sees it off sees the reason.
    atomic_store_explicit(HALF(control->state), RING_OFF, memory_order_release);
}

bool ring_claim(void *memory, uint32_t pid) {
    struct ring_control *control = memory;
    uint32_t owner = atomic_load_explicit(HALF(control->client_pid), memory_order_relaxed);
    for (;;) {
        if (owner == pid) return true;
        if (owner != 0 && ring_system_probe(owner) != -ESRCH) {
            atomic_fetch_add_explicit(HALF(control->refused), 1, memory_order_relaxed);
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(
                HALF(control->client_pid), &owner, pid, memory_order_acq_rel, memory_order_relaxed)) {
            return true;
        }
    }
}

/// What a writer remembers while it waits.
struct patience {
    unsigned turns;
    uint64_t heartbeat, heartbeat_since;
    uint64_t freed, freed_since;
};

/// Waits a moment for room, `freed` being what was seen of it. Returns false where there will be none: the drainer is
/// dead, and recording is turned off; or it lives and yet frees nothing, because this is a signal handler and the
/// record that it interrupted is the next to be read.
static bool wait_for_room(void *memory, struct patience *patience, uint64_t freed) {
    struct ring_control *control = memory;
    patience->turns++;
    if (patience->turns < 100) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        return true;
    }
    uint64_t now = ring_now();
    uint64_t heartbeat = atomic_load_explicit(WORD(control->heartbeat), memory_order_relaxed);
    if (patience->heartbeat_since == 0 || heartbeat != patience->heartbeat) {
        patience->heartbeat = heartbeat;
        patience->heartbeat_since = now;
    }
    if (patience->freed_since == 0 || freed != patience->freed) {
        patience->freed = freed;
        patience->freed_since = now;
    }
    // The first is the rule, and costs nothing where the drainer died long ago; the second holds where the two
    // processes' clocks differ. A beat from the future counts as one of now.
    bool is_old = now > heartbeat && now - heartbeat > RING_SILENCE_NS;
    bool is_still = now - patience->heartbeat_since > RING_SILENCE_NS;
    if (is_old || is_still) {
        ring_turn_off(memory, RING_OFF_DRAINER_DEAD);
        return false;
    }
    if (now - patience->freed_since > RING_SILENCE_NS) return false;
    const struct timespec pause = {.tv_nsec = patience->turns < 200 ? 20000 : 200000};
    ring_system_sleep(&pause);
    return true;
}

/// Reserves `bytes` in a lane, without a gap in them. Returns NULL where they are not to be had.
static uint8_t *reserve(const struct ring_writer *writer, uint32_t lane, uint64_t bytes) {
    struct ring_lane *control = lane_of(writer->memory, lane);
    uint8_t *data = (uint8_t *)writer->memory + writer->data_offset + lane * writer->lane_bytes;
    struct patience patience = {0, 0, 0, 0, 0};
    uint64_t head = atomic_load_explicit(WORD(control->head), memory_order_relaxed);
    for (;;) {
        if (!ring_is_on(writer->memory)) return NULL;
        uint64_t place = head & (writer->lane_bytes - 1);
        uint64_t left = writer->lane_bytes - place;
        uint64_t pad = left < bytes ? left : 0;
        // acquire: pairs with ring_release; the drainer's zeros come before what is written here.
        uint64_t freed = atomic_load_explicit(WORD(control->freed), memory_order_acquire);
        if (head + pad + bytes - freed > writer->lane_bytes) {
            // `freed` may be newer than `head`, then the difference means nothing.
            uint64_t again = atomic_load_explicit(WORD(control->head), memory_order_relaxed);
            if (again != head) {
                head = again;
                continue;
            }
            if (writer->options & RING_OPTION_DROP) return NULL;
            if (!wait_for_room(writer->memory, &patience, freed)) return NULL;
            head = atomic_load_explicit(WORD(control->head), memory_order_relaxed);
            continue;
        }
        if (!atomic_compare_exchange_weak_explicit(
                WORD(control->head), &head, head + pad + bytes, memory_order_relaxed, memory_order_relaxed)) {
            continue;
        }
        if (pad == 0) return data + place;
        // release: as for any record.
        atomic_store_explicit(
            (atomic_word *)(uintptr_t)(data + place), RING_COMMIT(RING_KIND_PAD, pad), memory_order_release);
        return data;
    }
}

static bool write_record(
    const struct ring_writer *writer, uint32_t lane, uint16_t kind, const struct ring_record *record,
    const struct ring_part *parts, uint32_t part_count) {
    uint64_t payload = 0;
    for (uint32_t part = 0; part < part_count; part++) payload += parts[part].count;
    if (payload > ring_payload_max(writer)) return false;
    uint64_t bytes = (sizeof *record + payload + 7) & ~UINT64_C(7);

    uint8_t *target = reserve(writer, lane, bytes);
    if (target == NULL) return false;
    struct ring_control *control = writer->memory;
    uint64_t sequence = atomic_fetch_add_explicit(WORD(control->next_sequence), 1, memory_order_relaxed);

    struct ring_record header = *record;
    header.sequence = sequence;
    header.payload_bytes = (uint32_t)payload;
    // All but the commit word, which stays 0.
    memcpy(target + sizeof header.commit, (const uint8_t *)&header + sizeof header.commit,
        sizeof header - sizeof header.commit);
    uint8_t *place = target + sizeof header;
    for (uint32_t part = 0; part < part_count; part++) {
        memcpy(place, parts[part].bytes, parts[part].count);
        place += parts[part].count;
    }
    // release: publishes the record's bytes before its commit word. Pairs with ring_next.
    atomic_store_explicit((atomic_word *)(uintptr_t)target, RING_COMMIT(kind, bytes), memory_order_release);
    return true;
}

bool ring_write(
    const struct ring_writer *writer, uint32_t lane, uint16_t kind, const struct ring_record *record,
    const struct ring_part *parts, uint32_t part_count) {
    if (!ring_is_on(writer->memory)) return false;
    struct ring_lane *control = lane_of(writer->memory, lane);
    if (atomic_load_explicit(WORD(control->lost), memory_order_relaxed) != 0) {
        struct ring_lost_record lost = {atomic_exchange_explicit(WORD(control->lost), 0, memory_order_relaxed)};
        struct ring_part part = {&lost, sizeof lost};
        if (lost.count != 0 && !write_record(writer, lane, RING_KIND_LOST, record, &part, 1)) {
            atomic_fetch_add_explicit(WORD(control->lost), lost.count, memory_order_relaxed);
        }
    }
    if (write_record(writer, lane, kind, record, parts, part_count)) return true;
    if (ring_is_on(writer->memory)) {
        atomic_fetch_add_explicit(WORD(control->lost), 1, memory_order_relaxed);
        atomic_fetch_add_explicit(WORD(control->lost_ever), 1, memory_order_relaxed);
    }
    return false;
}

// MARK: - Reading

bool ring_reader_open(struct ring_reader *reader, void *memory, uint64_t bytes) {
    memset(reader, 0, sizeof *reader);
    if (!read_geometry(memory, bytes, &reader->lane_count, &reader->lane_bytes)) return false;
    reader->memory = memory;
    reader->data_offset = data_offset(reader->lane_count);
    for (uint32_t lane = 0; lane < reader->lane_count; lane++) {
        // A record begins at a multiple of 8, whatever a client has written there.
        uint64_t position = atomic_load_explicit(WORD(lane_of(memory, lane)->read), memory_order_relaxed);
        reader->position[lane] = reader->kept_from[lane] = position & ~UINT64_C(7);
    }
    return true;
}

/// Marks what was read as taken over, then zeroes it, then gives it back.
static void give_back(struct ring_reader *reader, uint32_t lane) {
    struct ring_lane *control = lane_of(reader->memory, lane);
    uint8_t *data = (uint8_t *)reader->memory + reader->data_offset + lane * reader->lane_bytes;
    uint64_t from = reader->kept_from[lane], position = reader->position[lane];
    reader->kept_from[lane] = position;
    // release: a reader after a crash must not find zeros behind an old `read`.
    atomic_store_explicit(WORD(control->read), position, memory_order_release);
    while (from != position) {
        uint64_t place = from & (reader->lane_bytes - 1);
        uint64_t bytes = position - from < reader->lane_bytes - place ? position - from : reader->lane_bytes - place;
        memset(data + place, 0, bytes);
        from += bytes;
    }
    // release: the zeros come before the room. Pairs with reserve.
    atomic_store_explicit(WORD(control->freed), position, memory_order_release);
}

static void pass(struct ring_reader *reader, uint32_t lane, uint64_t bytes) {
    reader->position[lane] += bytes;
    bool has_room = reader->position[lane] - reader->kept_from[lane] < reader->lane_bytes / 2;
    if (!reader->keeps || !has_room) give_back(reader, lane);
}

void ring_keep(struct ring_reader *reader, bool keeps) {
    if (reader->keeps && !keeps) {
        for (uint32_t lane = 0; lane < reader->lane_count; lane++) give_back(reader, lane);
    }
    reader->keeps = keeps;
}

const struct ring_record *ring_next(struct ring_reader *reader, uint32_t lane, bool *is_damaged) {
    *is_damaged = false;
    uint8_t *data = (uint8_t *)reader->memory + reader->data_offset + lane * reader->lane_bytes;
    for (;;) {
        uint64_t place = reader->position[lane] & (reader->lane_bytes - 1);
        uint8_t *start = data + place;
        // acquire: pairs with write_record.
        uint64_t commit = atomic_load_explicit((atomic_word *)(uintptr_t)start, memory_order_acquire);
        if (commit == 0) return NULL;
        uint64_t bytes = (uint32_t)commit;
        uint16_t kind = (uint16_t)(commit >> 32);
        *is_damaged = true;
        if (commit >> 48 != RING_COMMIT_MARK || bytes % 8 != 0 || bytes > reader->lane_bytes - place) return NULL;
        if (kind == RING_KIND_PAD) {
            if (bytes != reader->lane_bytes - place) return NULL;
            *is_damaged = false;
            pass(reader, lane, bytes);
            continue;
        }
        struct ring_record *record = (struct ring_record *)(void *)start;
        if (bytes < sizeof *record || record->payload_bytes > bytes - sizeof *record) return NULL;
        *is_damaged = false;
        return record;
    }
}

const void *ring_peek(struct ring_reader *reader, uint32_t lane, struct ring_record *header, bool *is_damaged) {
    const struct ring_record *record = ring_next(reader, lane, is_damaged);
    if (record == NULL) return NULL;
    // What ring_next checked may be another value now: the copy is checked again, and nothing else is used.
    memcpy(header, record, sizeof *header);
    uint64_t room = reader->lane_bytes - (reader->position[lane] & (reader->lane_bytes - 1));
    uint64_t bytes = ring_record_bytes(header);
    *is_damaged = bytes < sizeof *header || bytes > room || header->payload_bytes > bytes - sizeof *header;
    return *is_damaged ? NULL : record + 1;
}

void ring_release_next(struct ring_reader *reader, uint32_t lane) {
    ring_release(reader, lane,
        (const struct ring_record *)(const void *)((uint8_t *)reader->memory + reader->data_offset
            + lane * reader->lane_bytes + (reader->position[lane] & (reader->lane_bytes - 1))));
}

void ring_release(struct ring_reader *reader, uint32_t lane, const struct ring_record *record) {
    uint8_t *start = (uint8_t *)reader->memory + reader->data_offset + lane * reader->lane_bytes
        + (reader->position[lane] & (reader->lane_bytes - 1));
    assert((const uint8_t *)record == start);
    uint64_t room = reader->lane_bytes - (uint64_t)(reader->position[lane] & (reader->lane_bytes - 1));
    // Read again: the client may have changed it since ring_next checked it.
    uint64_t bytes = ring_record_bytes(record);
    pass(reader, lane, bytes <= room && bytes % 8 == 0 ? bytes : room);
}

void ring_beat(void *memory) {
    struct ring_control *control = memory;
    atomic_store_explicit(WORD(control->heartbeat), ring_now(), memory_order_relaxed);
}

void ring_note_taking(void *memory, uint64_t sequence, uint64_t events_before) {
    struct ring_control *control = memory;
    // release: whoever finds the new number finds the count that goes with it. The other way round, the number is that
    // of a record which is gone from its lane already.
    atomic_store_explicit(WORD(control->events_before), events_before, memory_order_relaxed);
    atomic_store_explicit(WORD(control->taking), sequence + 1, memory_order_release);
}

uint64_t ring_taking(const void *memory) {
    const struct ring_control *control = memory;
    return atomic_load_explicit(WORD(control->taking), memory_order_acquire);
}

uint64_t ring_events_before(const void *memory) {
    const struct ring_control *control = memory;
    return atomic_load_explicit(WORD(control->events_before), memory_order_relaxed);
}

uint64_t ring_lost(const struct ring_reader *reader, uint32_t lane) {
    return atomic_load_explicit(WORD(lane_of(reader->memory, lane)->lost_ever), memory_order_relaxed);
}

uint32_t ring_off_reason(const void *memory) {
    const struct ring_control *control = memory;
    return atomic_load_explicit(HALF(control->off_reason), memory_order_relaxed);
}

uint32_t ring_client_pid(const void *memory) {
    const struct ring_control *control = memory;
    return atomic_load_explicit(HALF(control->client_pid), memory_order_relaxed);
}

uint32_t ring_refused(const void *memory) {
    const struct ring_control *control = memory;
    return atomic_load_explicit(HALF(control->refused), memory_order_relaxed);
}
