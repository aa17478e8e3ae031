// The few system calls that recording needs, without the C library's wrappers where the system allows it: those may be
// shadowed by another preloaded library, and set errno. They return a negative errno number.
#ifndef RING_SYSTEM_H
#define RING_SYSTEM_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>

static inline long ring_syscall(long number, long first, long second, long third) {
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long ring_syscall_six(
    long number, long first, long second, long third, long fourth, long fifth, long sixth) {
    long result;
    register long in_r10 __asm__("r10") = fourth;
    register long in_r8 __asm__("r8") = fifth;
    register long in_r9 __asm__("r9") = sixth;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third), "r"(in_r10), "r"(in_r8), "r"(in_r9)
                     : "rcx", "r11", "memory");
    return result;
}

/// Whether a result is an error, where it may be an address above all positive numbers.
static inline bool ring_syscall_failed(long result) { return result < 0 && result > -4096; }

static inline long ring_system_writev(int file, const struct iovec *pieces, int count) {
    return ring_syscall(SYS_writev, file, (long)(uintptr_t)pieces, count);
}
static inline void ring_system_sleep(const struct timespec *pause) {
    ring_syscall(SYS_nanosleep, (long)(uintptr_t)pause, 0, 0);
}
static inline void ring_system_clock(struct timespec *now) {
    ring_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)(uintptr_t)now, 0);
}
/// 0 where the process exists, also where it is not ours.
static inline long ring_system_probe(uint32_t pid) { return ring_syscall(SYS_kill, (long)pid, 0, 0); }
static inline uint32_t ring_system_thread(void) { return (uint32_t)ring_syscall(SYS_gettid, 0, 0, 0); }
static inline uint32_t ring_system_process(void) { return (uint32_t)ring_syscall(SYS_getpid, 0, 0, 0); }

#else
#include <signal.h>
#include <unistd.h>
#if defined(__NetBSD__)
#include <lwp.h>
#elif defined(__DragonFly__)
#include <sys/lwp.h>
#endif

static inline long ring_system_result(long result) { return result == -1 ? -errno : result; }
static inline long ring_system_writev(int file, const struct iovec *pieces, int count) {
    return ring_system_result(writev(file, pieces, count));
}
static inline void ring_system_sleep(const struct timespec *pause) { nanosleep(pause, NULL); }
static inline void ring_system_clock(struct timespec *now) { clock_gettime(CLOCK_MONOTONIC, now); }
static inline long ring_system_probe(uint32_t pid) { return ring_system_result(kill((pid_t)pid, 0)); }
static inline uint32_t ring_system_process(void) { return (uint32_t)getpid(); }
static inline uint32_t ring_system_thread(void) {
#if defined(__NetBSD__)
    return (uint32_t)_lwp_self();
#elif defined(__DragonFly__)
    return (uint32_t)lwp_gettid();
#else
    return ring_system_process();
#endif
}
#endif

#endif
