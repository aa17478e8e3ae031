// What libvmtrace.so exports beside the functions that it shadows: a libnvmm that knows of tracers calls these for what
// happens inside a run (<nvmm_publication.h> names them).
#ifndef VMTRACE_H
#define VMTRACE_H

#include <stddef.h>
#include <stdint.h>

/// 0 where this process is not being recorded, else 1 + RING_LEVEL_*.
int vmtrace_level(void);

void vmtrace_note_slice(
    uint32_t machid, uint32_t cpuid, uint64_t sequence, uint64_t retired_from, uint64_t retired_to);

void vmtrace_note_memory(
    uint32_t machid, uint32_t cpuid, uintptr_t hva, const void *bytes, size_t size, int by_guest);

#endif
