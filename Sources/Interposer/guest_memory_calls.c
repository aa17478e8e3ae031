// System calls that write into the client's memory, shadowed: in watched guest memory they would fail with EFAULT.
// Where nothing is watched each costs one load. Rules: recorder.h; the functions below are looked up when the shim is
// loaded.
#define _GNU_SOURCE
#include "guest_memory.h"

#include "shadow.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/// Where a call's data goes instead of watched memory, which the system may not write to: it is copied from there when
/// the call has returned. The call may wait for its data as long as it likes.
struct detour {
    const struct iovec *pieces;  // what the call is to be given
    const struct iovec *asked;
    int count;
    void *memory;  // NULL where nothing is watched
    size_t bytes;
};

static struct detour detour_begin(const struct iovec *asked, int count) {
    struct detour detour = {.pieces = asked, .asked = asked, .count = count};
    if (!guest_memory_is_watched() || count <= 0) return detour;
    size_t watched = 0;
    for (int piece = 0; piece < count; piece++) {
        if (guest_memory_touches((uintptr_t)asked[piece].iov_base, asked[piece].iov_len)) {
            watched += asked[piece].iov_len;
        }
    }
    if (watched == 0) return detour;
    size_t head = (size_t)count * sizeof *asked;
    void *memory = mmap(NULL, head + watched, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (memory == MAP_FAILED) {
        for (int piece = 0; piece < count; piece++) {
            guest_memory_open((uintptr_t)asked[piece].iov_base, asked[piece].iov_len);
        }
        return detour;
    }
    struct iovec *pieces = memory;
    uint8_t *place = (uint8_t *)memory + head;
    for (int piece = 0; piece < count; piece++) {
        pieces[piece] = asked[piece];
        if (!guest_memory_touches((uintptr_t)asked[piece].iov_base, asked[piece].iov_len)) continue;
        pieces[piece].iov_base = place;
        place += asked[piece].iov_len;
    }
    detour.pieces = pieces;
    detour.memory = memory;
    detour.bytes = head + watched;
    return detour;
}

/// Returns `result`, the call's: how many bytes it wrote, or -1.
static ssize_t detour_end(struct detour *detour, ssize_t result) {
    if (detour->memory == NULL) return result;
    int error = errno;
    size_t left = result > 0 ? (size_t)result : 0;
    for (int piece = 0; piece < detour->count && left > 0; piece++) {
        size_t count = detour->asked[piece].iov_len < left ? detour->asked[piece].iov_len : left;
        if (detour->pieces[piece].iov_base != detour->asked[piece].iov_base) {
            guest_memory_store(detour->asked[piece].iov_base, detour->pieces[piece].iov_base, count);
        }
        left -= count;
    }
    munmap(detour->memory, detour->bytes);
    errno = error;
    return result;
}

/// Gives a call its one buffer or another: `CALL` names it `buffer`.
#define WITH_BUFFER(buffer, bytes, CALL) \
    const struct iovec asked = {buffer, bytes}; \
    struct detour detour = detour_begin(&asked, 1); \
    buffer = detour.pieces[0].iov_base; \
    return detour_end(&detour, CALL)

#define WITH_PIECES(pieces, count, CALL) \
    struct detour detour = detour_begin(pieces, count); \
    pieces = detour.pieces; \
    return detour_end(&detour, CALL)

SHADOW ssize_t read(int file, void *buffer, size_t bytes) {
    NEXT(ssize_t, "read", (int, void *, size_t))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes));
}

SHADOW ssize_t pread(int file, void *buffer, size_t bytes, off_t offset) {
    NEXT(ssize_t, "pread", (int, void *, size_t, off_t))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, offset));
}

SHADOW ssize_t readv(int file, const struct iovec *pieces, int count) {
    NEXT(ssize_t, "readv", (int, const struct iovec *, int))
    WITH_PIECES(pieces, count, next(file, pieces, count));
}

SHADOW ssize_t preadv(int file, const struct iovec *pieces, int count, off_t offset) {
    NEXT(ssize_t, "preadv", (int, const struct iovec *, int, off_t))
    WITH_PIECES(pieces, count, next(file, pieces, count, offset));
}

SHADOW ssize_t recv(int file, void *buffer, size_t bytes, int flags) {
    NEXT(ssize_t, "recv", (int, void *, size_t, int))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, flags));
}

SHADOW ssize_t recvmsg(int file, struct msghdr *message, int flags) {
    NEXT(ssize_t, "recvmsg", (int, struct msghdr *, int))
    struct iovec *asked = message->msg_iov;
    struct detour detour = detour_begin(asked, (int)message->msg_iovlen);
    memcpy(&message->msg_iov, &detour.pieces, sizeof message->msg_iov);
    ssize_t result = next(file, message, flags);
    message->msg_iov = asked;
    return detour_end(&detour, result);
}

#if defined(__GLIBC__)
typedef __SOCKADDR_ARG sender;
#else
typedef struct sockaddr *sender;
#endif

SHADOW ssize_t recvfrom(int file, void *buffer, size_t bytes, int flags, sender from, socklen_t *from_bytes) {
    NEXT(ssize_t, "recvfrom", (int, void *, size_t, int, sender, socklen_t *))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, flags, from, from_bytes));
}

#if defined(__GLIBC__)
// The GNU C library's other names: of 64-bit offsets, and what _FORTIFY_SOURCE makes of them.
SHADOW ssize_t pread64(int file, void *buffer, size_t bytes, off_t offset) {
    NEXT(ssize_t, "pread64", (int, void *, size_t, off_t))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, offset));
}

SHADOW ssize_t preadv64(int file, const struct iovec *pieces, int count, off_t offset) {
    NEXT(ssize_t, "preadv64", (int, const struct iovec *, int, off_t))
    WITH_PIECES(pieces, count, next(file, pieces, count, offset));
}

SHADOW ssize_t preadv2(int file, const struct iovec *pieces, int count, off_t offset, int flags) {
    NEXT(ssize_t, "preadv2", (int, const struct iovec *, int, off_t, int))
    WITH_PIECES(pieces, count, next(file, pieces, count, offset, flags));
}

SHADOW ssize_t preadv64v2(int file, const struct iovec *pieces, int count, off_t offset, int flags) {
    NEXT(ssize_t, "preadv64v2", (int, const struct iovec *, int, off_t, int))
    WITH_PIECES(pieces, count, next(file, pieces, count, offset, flags));
}

ssize_t __read_chk(int file, void *buffer, size_t bytes, size_t room);
SHADOW ssize_t __read_chk(int file, void *buffer, size_t bytes, size_t room) {
    NEXT(ssize_t, "__read_chk", (int, void *, size_t, size_t))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, room));
}

ssize_t __pread64_chk(int file, void *buffer, size_t bytes, off_t offset, size_t room);
SHADOW ssize_t __pread64_chk(int file, void *buffer, size_t bytes, off_t offset, size_t room) {
    NEXT(ssize_t, "__pread64_chk", (int, void *, size_t, off_t, size_t))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, offset, room));
}

ssize_t __recv_chk(int file, void *buffer, size_t bytes, size_t room, int flags);
SHADOW ssize_t __recv_chk(int file, void *buffer, size_t bytes, size_t room, int flags) {
    NEXT(ssize_t, "__recv_chk", (int, void *, size_t, size_t, int))
    WITH_BUFFER(buffer, bytes, next(file, buffer, bytes, room, flags));
}
#endif

// MARK: - SIGSEGV

/// Whether this process is to be recorded. A thread that blocks all signals may do so long before its first machine.
static bool may_watch(void) { return getenv("VMTRACE_RING") != NULL || getenv("VMTRACE_RAW") != NULL; }

/// `set` without SIGSEGV: where it is blocked, the first store to a protected page would kill the client.
static const sigset_t *unblocked(int how, const sigset_t *set, sigset_t *changed) {
    if (set == NULL || how == SIG_UNBLOCK || !may_watch()) return set;
    *changed = *set;
    sigdelset(changed, SIGSEGV);
    return changed;
}

SHADOW int pthread_sigmask(int how, const sigset_t *set, sigset_t *before) {
    NEXT(int, "pthread_sigmask", (int, const sigset_t *, sigset_t *))
    sigset_t changed;
    return next(how, unblocked(how, set, &changed), before);
}

SHADOW int sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    NEXT(int, "sigprocmask", (int, const sigset_t *, sigset_t *))
    sigset_t changed;
    return next(how, unblocked(how, set, &changed), before);
}

SHADOW int sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    NEXT(int, "sigaction", (int, const struct sigaction *, struct sigaction *))
    if (number == SIGSEGV && guest_memory_take_handler(action, before)) return 0;
    return next(number, action, before);
}

typedef void handler_function(int);

SHADOW handler_function *signal(int number, handler_function *handler) {
    NEXT(handler_function *, "signal", (int, handler_function *))
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    if (number == SIGSEGV && guest_memory_take_handler(&action, &before)) return before.sa_handler;
    return next(number, handler);
}

// By calls that fail, or ask: a signal handler may be the first to make one.
__attribute__((constructor)) static void find_next(void) {
    int error = errno;
    const struct iovec none = {NULL, 0};
    struct msghdr message;
    struct sigaction action;
    sigset_t mask;
    memset(&message, 0, sizeof message);
    (void)!read(-1, NULL, 0);
    (void)!pread(-1, NULL, 0, 0);
    (void)!readv(-1, &none, 1);
    (void)!preadv(-1, &none, 1, 0);
    (void)!recv(-1, NULL, 0, 0);
    (void)!recvfrom(-1, NULL, 0, 0, NULL, NULL);
    (void)!recvmsg(-1, &message, 0);
    (void)sigaction(SIGSEGV, NULL, &action);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    (void)sigprocmask(SIG_BLOCK, NULL, &mask);
#if defined(__GLIBC__)
    (void)!pread64(-1, NULL, 0, 0);
    (void)!preadv64(-1, &none, 1, 0);
    (void)!preadv2(-1, &none, 1, 0, 0);
    (void)!preadv64v2(-1, &none, 1, 0, 0);
#endif
    errno = error;
}
