// Where the shim's records go: a ring that a drainer set up, or a raw file. Rules of this territory, for every function
// that may be called while a client runs (all but recorder_attach):
//
//   - no malloc, no stdio, no lock, nothing of the C library but memcpy and memset;
//   - system calls are raw ones where the system allows it (ring_system.h);
//   - errno is left as it was found: each shadowed function saves it;
//   - whatever fails, the client's call goes on with the library's own result.
#ifndef RECORDER_H
#define RECORDER_H

#include <ring.h>
#include <ring_records.h>
#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/// Starts recording where the environment asks for it:
///   VMTRACE_RING=FILE   a ring made by ring_format
///   VMTRACE_RAW=FILE    a new file for records; VMTRACE_LEVEL=exits|replay|client
/// Does nothing where this process records already, or another one has the ring. Called where a client initialises
/// its library, so that programs that only start clients stay untouched. Leaves `attach.pid` and the like to itself.
void recorder_attach(struct ring_attach attach);

/// Whether records go anywhere. False in a forked child, whose machines are not the parent's.
bool recorder_is_on(void);

/// As `recorder_is_on`, and no library tells what happens: then what crosses the interface is recorded.
bool recorder_takes_calls(void);

/// Whether a library below may tell what happens: VMTRACE_LIBRARY_TELLS=no keeps to what the interface shows.
bool recorder_asks_library(void);

/// From here on, until another program or process attaches, the library tells what happens.
void recorder_leave_to_library(void);

/// RING_LEVEL_*; meaningful while it is on.
uint32_t recorder_level(void);

void recorder_turn_off(uint32_t reason);

/// Appends a record of at most 16 parts. Returns false where it was lost, or nothing is recorded.
bool recorder_write(uint16_t kind, uint32_t machine, uint32_t vcpu, struct ring_part *parts, uint32_t part_count);

/// Bytes of payload that a record may have.
uint32_t recorder_payload_max(void);

/// Has something recorded before the client's exit ends the recording.
void recorder_at_exit(void (*record)(void));

#pragma GCC visibility pop

#endif
