// Asynchronous input and output is refused to a client of KVM whose trace is to replay: the kernel then writes to guest
// memory at a time of its own, where neither the write protection nor a buffer of ours comes in between, and what it
// finds protected it fails to write. Who has no such interface works with threads, which are seen.
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include "shadow.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define SETUP_IO_URING 425
#define SETUP_AIO 206

// Set up before there is a machine, by a VMM that opens its disks first: what counts is what it will be recorded at.
static bool is_refused;

__attribute__((constructor)) static void decide(void) {
    const char *level = getenv("VMTRACE_LEVEL");
    bool is_recorded = getenv("VMTRACE_RING") != NULL || getenv("VMTRACE_RAW") != NULL;
    // A client of libnvmm has that library's own ways (Docs/libnvmm.md).
    bool is_of_nvmm = dlsym(RTLD_NEXT, "nvmm_init") != NULL;
    is_refused = is_recorded && !is_of_nvmm && level != NULL && strcmp(level, "exits") != 0;
}

// liburing and libaio return the error; the library itself may be missing, where the client brings its own.
SHADOW int io_uring_queue_init_params(unsigned entries, void *ring, void *parameters) {
    NEXT(int, "io_uring_queue_init_params", (unsigned, void *, void *))
    return is_refused || next == NULL ? -ENOSYS : next(entries, ring, parameters);
}

SHADOW int io_uring_queue_init(unsigned entries, void *ring, unsigned flags) {
    NEXT(int, "io_uring_queue_init", (unsigned, void *, unsigned))
    return is_refused || next == NULL ? -ENOSYS : next(entries, ring, flags);
}

SHADOW int io_setup(int events, void *context) {
    NEXT(int, "io_setup", (int, void *))
    return is_refused || next == NULL ? -ENOSYS : next(events, context);
}

SHADOW long syscall(long number, ...) {
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (unsigned index = 0; index < 6; index++) arguments[index] = va_arg(list, long);
    va_end(list);
    long result = -ENOSYS;
    if ((number != SETUP_IO_URING && number != SETUP_AIO) || !is_refused) {
        result = ring_syscall_six(
            number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    }
    if (!ring_syscall_failed(result)) return result;
    errno = (int)-result;
    return -1;
}

#endif
