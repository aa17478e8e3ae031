// The shared-memory ring between a tracing shim inside a client and the drainer outside, protocol version 2.
//
//   page 0          struct ring_control
//   from 4096       struct ring_lane, one for each lane
//   next page on    the lanes' bytes, lane_bytes each
//
// Records. Any number of threads write, one drainer reads. A thread keeps to one lane, so that VCPUs do not meet, but
// a lane may have several writers: there can be more threads than lanes, and a signal handler may write while the
// thread it interrupted is in the middle of a record. A record is written so:
//   1. reserve its bytes by moving the lane's `head` (compare and swap);
//   2. take a number from `next_sequence`, one counter for all lanes;
//   3. fill in the record;
//   4. store its commit word with release order. Until then the word is 0 and the record does not exist.
// Step 2 comes after step 1, so that nobody holds a number while waiting for room. Order is that of the numbers, not
// of places in a lane: the drainer collects committed records of all lanes and puts them in order. A number that is
// missing belongs to a record still being written, or, once the client is dead, to one that died with it.
//
// The drainer reads a record after loading its commit word with acquire order, stores the position behind it in
// `read`, zeroes its bytes, and stores that position in `freed` with release order: writers find zeroed memory.
// Whoever finds the file after a crash begins at `read`. Records do not wrap; the rest at the end is RING_KIND_PAD.
//
// A full lane makes writers wait for the drainer. They give up, and turn recording off for good, when `heartbeat` is
// more than a second old or has not changed for a second of waiting; the drainer renews it ten times a second. Where
// the drainer lives and yet a second brings no room, the record is lost: a signal handler waits, perhaps, for the
// record that it interrupted. With RING_OPTION_DROP writers never wait. Lost records are counted, and the next record
// of the lane is preceded by RING_KIND_LOST.
//
// The file must be allocated in full before it is mapped, and must not shrink: a writer that finds no page behind its
// lane is killed by SIGBUS, and that would be the client.
//
// Writers trust the control page no further than for their own safety: geometry is copied once and checked. The
// drainer trusts nothing: the client may write anywhere in here by mistake.
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_MAGIC 0x00474E4952544D56ULL  // "VMTRING"
#define RING_VERSION 2
#define RING_CONTROL_BYTES 4096
#define RING_LANES_MAX 64
#define RING_LANE_BYTES_MIN 16384
#define RING_LANE_BYTES_MAX 0x40000000
#define RING_SILENCE_NS 1000000000ULL  // of the drainer, before it is taken for dead

// level
#define RING_LEVEL_EXITS 0
#define RING_LEVEL_REPLAY 1
#define RING_LEVEL_CLIENT 2

// options
#define RING_OPTION_DROP 1  // lose records instead of waiting
#define RING_OPTION_TIME 2  // fill in `time`

// state
#define RING_OFF 0
#define RING_ON 1

// off_reason
#define RING_OFF_NOT 0
#define RING_OFF_DRAINER_DEAD 1   // its heartbeat stopped while a lane was full
#define RING_OFF_BY_DRAINER 2     // it was told to stop, or its disk is full
#define RING_OFF_FILE_FAILED 3    // raw file: a write failed
#define RING_OFF_FOREIGN_ABI 4    // the library below speaks another lineage than the shim was built for

/// Page 0. Fields of one writer's side stand in cache lines of their own.
struct ring_control {
    // Written once by the drainer, before it starts the client.
    uint64_t magic;
    uint32_t version;
    uint32_t lane_count;
    uint64_t lane_bytes;  // a power of two
    uint32_t level;
    uint32_t options;
    uint32_t drainer_pid;
    uint32_t reserved0[7];
    // 64: every writer, for every record
    uint64_t next_sequence;  // from 0
    uint64_t reserved1[7];
    // 128: rarely written
    uint32_t state;
    uint32_t off_reason;
    uint32_t client_pid;  // the process that records; 0 before the first
    uint32_t refused;     // other processes that would have recorded
    uint32_t next_lane;   // threads so far
    uint32_t reserved2[11];
    // 192: the drainer
    uint64_t heartbeat;  // CLOCK_MONOTONIC, nanoseconds
    uint64_t taking;         // 1 + number of the record that is being put into the trace, or was last
    uint64_t events_before;  // of the trace, without that record
    uint64_t reserved3[5];
};

/// Positions count bytes from the start of the recording and never go back; modulo `lane_bytes` they are places.
struct ring_lane {
    uint64_t head;  // writers: behind the last reservation
    uint64_t reserved0[7];
    uint64_t freed;  // drainer: writers may reserve up to this plus lane_bytes
    uint64_t read;   // drainer: all before has been taken over
    uint64_t reserved1[6];
    uint64_t lost;  // writers: records since the last RING_KIND_LOST
    uint64_t lost_ever;
    uint64_t reserved2[14];
};

/// In front of every record. All but the commit word is undefined in RING_KIND_PAD.
struct ring_record {
    uint64_t commit;    // 0 until the record is complete; see RING_COMMIT
    uint64_t sequence;  // order of all records
    uint64_t time;      // CLOCK_MONOTONIC, nanoseconds; 0 without RING_OPTION_TIME
    uint32_t machine;   // RING_NOBODY where it concerns none
    uint32_t vcpu;
    uint32_t thread;
    uint32_t payload_bytes;  // what follows; the record's own length is a multiple of 8
};

#define RING_NOBODY 0xFFFFFFFFu

// Commit word: 31..0 bytes of the whole record, 47..32 kind, 63..48 a mark that makes it differ from 0.
#define RING_COMMIT_MARK 0x564DULL
#define RING_COMMIT(kind, bytes) (RING_COMMIT_MARK << 48 | (uint64_t)(kind) << 32 | (uint64_t)(bytes))

/// A raw file, which a shim writes where no drainer runs: this, then records one after the other, each committed. Order
/// is that of the numbers, which begin again at each RING_KIND_ATTACH. A last record that is cut off is to be ignored.
struct ring_file_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint32_t level;
    uint32_t options;
    uint32_t client_pid;
    uint32_t reserved;
};
#define RING_FILE_MAGIC 0x0A0D574152544D56ULL  // "VMTRAW\r\n"

/// A piece of a record's payload, for a writer that gathers it.
struct ring_part {
    const void *bytes;
    uint32_t count;
};

// Two libraries in one process may hold this code, of different versions: neither must get the other's.
#pragma GCC visibility push(hidden)

// MARK: - Setting up

/// Bytes of a ring file; 0 where the numbers are out of range (1 to RING_LANES_MAX lanes, a power of two of bytes).
uint64_t ring_size(uint32_t lane_count, uint64_t lane_bytes);

/// Makes zeroed memory of `ring_size` bytes a ring that is on. Returns false where the numbers are out of range.
bool ring_format(
    void *memory, uint32_t lane_count, uint64_t lane_bytes, uint32_t level, uint32_t options, uint32_t drainer_pid);

/// The current heartbeat value: CLOCK_MONOTONIC in nanoseconds.
uint64_t ring_now(void);

// MARK: - Writing

/// One process's access to a ring; the geometry is its own copy.
struct ring_writer {
    void *memory;
    uint32_t lane_count;
    uint32_t options;
    uint64_t lane_bytes;
    uint64_t data_offset;
};

/// Returns false where `memory` holds no ring of this version that fits into `bytes`.
bool ring_writer_open(struct ring_writer *writer, void *memory, uint64_t bytes);

/// A lane for a thread that has none; threads are dealt out in turn.
uint32_t ring_writer_lane(const struct ring_writer *writer);

/// Bytes of payload that a record may have.
uint32_t ring_payload_max(const struct ring_writer *writer);

/// Writes a record. `record` gives machine, vcpu, thread and time; the rest is filled in. May wait for the drainer,
/// uses no lock and no memory of its own, and may be called in a signal handler. Leaves errno alone on Linux; elsewhere
/// a wait may set it. Returns false where the record was lost or recording is off.
bool ring_write(
    const struct ring_writer *writer, uint32_t lane, uint16_t kind, const struct ring_record *record,
    const struct ring_part *parts, uint32_t part_count);

/// Turns recording off for good; the first reason stands.
void ring_turn_off(void *memory, uint32_t reason);

bool ring_is_on(const void *memory);

/// Claims the ring for process `pid`: the first one gets it, the same one again (after exec), or another one once the
/// owner is gone. Others are counted in `refused`.
bool ring_claim(void *memory, uint32_t pid);

// MARK: - Reading

/// The drainer's view. Positions are its own; what stands in the lanes is for those who come after a crash.
struct ring_reader {
    void *memory;
    uint32_t lane_count;
    uint32_t keeps;
    uint64_t lane_bytes;
    uint64_t data_offset;
    uint64_t position[RING_LANES_MAX];
    // What stands between is read and not given back yet.
    uint64_t kept_from[RING_LANES_MAX];
};

/// Begins at each lane's `read`. Returns false where `memory` holds no ring of this version that fits into `bytes`.
bool ring_reader_open(struct ring_reader *reader, void *memory, uint64_t bytes);

/// The next committed record of a lane, which stays valid until ring_release; NULL where there is none yet, and, with
/// `*is_damaged` set, where the lane holds something that no writer writes.
const struct ring_record *ring_next(struct ring_reader *reader, uint32_t lane, bool *is_damaged);

/// As ring_next, in copies that the client cannot change any more: `*header`, with `payload_bytes` checked to lie
/// within the record. Returns where that many bytes of payload stand, which the client may still change; NULL as
/// ring_next.
const void *ring_peek(struct ring_reader *reader, uint32_t lane, struct ring_record *header, bool *is_damaged);

/// Gives back the record that ring_next or ring_peek returned last for this lane.
void ring_release_next(struct ring_reader *reader, uint32_t lane);

/// Gives the bytes of `record`, which ring_next returned for this lane, back to the writers.
void ring_release(struct ring_reader *reader, uint32_t lane, const struct ring_record *record);

/// Whether records that are released from now on stay in their lanes, for those who come after a crash, as long as
/// half of the lane is free; false gives back what was kept.
void ring_keep(struct ring_reader *reader, bool keeps);

void ring_beat(void *memory);

/// Says, before a record goes into the trace and is then released, which one it is and how many events the trace holds:
/// whoever finds both after a crash knows whether the record is in it already.
void ring_note_taking(void *memory, uint64_t sequence, uint64_t events_before);

/// What ring_note_taking said last: 1 + the number, 0 where it never did.
uint64_t ring_taking(const void *memory);
uint64_t ring_events_before(const void *memory);

/// Records that a lane has lost in all, and recording's end: for the drainer's closing words.
uint64_t ring_lost(const struct ring_reader *reader, uint32_t lane);
uint32_t ring_off_reason(const void *memory);
uint32_t ring_client_pid(const void *memory);
uint32_t ring_refused(const void *memory);

#pragma GCC visibility pop

// Plain fields of a record, for languages that cannot expand macros.
static inline uint16_t ring_record_kind(const struct ring_record *record) { return (uint16_t)(record->commit >> 32); }
static inline uint32_t ring_record_bytes(const struct ring_record *record) { return (uint32_t)record->commit; }
static inline const void *ring_record_payload(const struct ring_record *record) { return record + 1; }

#endif
