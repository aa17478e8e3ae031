// What libvmtrace.so exports beside the functions that it shadows: a libnvmm that knows of tracers calls these for what
// happens inside a run (<nvmm_publication.h> names them).
#ifndef VMTRACE_H
#define VMTRACE_H

#include <stddef.h>
#include <stdint.h>

/// 0 where this process is not being recorded, else 1 + RING_LEVEL_*.
int vmtrace_level(void);

/// 1 where the record was taken.
int vmtrace_tell(
    uint32_t kind, uint32_t machid, uint32_t cpuid, const void *head, size_t head_bytes, const void *body,
    size_t body_bytes);

#endif
