// System calls that read into the client's memory. Where guest memory is protected by mprotect the kernel would not
// wait for a page to be opened but fail with EFAULT: the data goes through a buffer then, and the copy out of it is a
// store like any other. libnvmm.so exports these by the C library's names (Scripts/install.sh).
#define _GNU_SOURCE
#include "client_threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic(client_covers_function *) covers_function;

void client_watch_reads(client_covers_function *covers) { atomic_store(&covers_function, covers); }

static bool covers(const void *start, size_t bytes) {
    client_covers_function *asked = atomic_load_explicit(&covers_function, memory_order_acquire);
    return asked != NULL && asked((uintptr_t)start, bytes);
}

/// `NEXT(name, parameters)`: the C library's own, looked up at the first call.
#define NEXT(name, parameters) \
    typedef ssize_t function parameters; \
    static _Atomic(function *) kept; \
    function *next = atomic_load_explicit(&kept, memory_order_relaxed); \
    if (next == NULL) { \
        next = (function *)(uintptr_t)dlsym(RTLD_NEXT, name); \
        atomic_store_explicit(&kept, next, memory_order_relaxed); \
    }

// MARK: The buffer

#define SMALL_MAX 4096

/// Storage for `bytes`: `small` where they fit, else a mapping, which keeps this async-signal-safe. NULL with errno.
static void *buffer_of(size_t bytes, char *small) {
    if (bytes <= SMALL_MAX) return small;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/// Copies what came to where it belongs, and returns `got` with the errno that the call left.
static ssize_t deliver(ssize_t got, const struct iovec *pieces, int count, void *buffer, size_t bytes) {
    const int error = errno;
    // A datagram may have been longer than there was room for.
    size_t left = got < 0 ? 0 : (size_t)got < bytes ? (size_t)got : bytes;
    const char *from = buffer;
    for (int piece = 0; piece < count && left > 0; piece++) {
        const size_t length = pieces[piece].iov_len < left ? pieces[piece].iov_len : left;
        memcpy(pieces[piece].iov_base, from, length);
        from += length;
        left -= length;
    }
    if (bytes > SMALL_MAX) munmap(buffer, bytes);
    errno = error;
    return got;
}

/// Bytes of all pieces; 0 where none is covered, or they are too many for the kernel too.
static size_t covered(const struct iovec *pieces, int count) {
    size_t bytes = 0;
    bool is_covered = false;
    for (int piece = 0; piece < count; piece++) {
        is_covered = is_covered || covers(pieces[piece].iov_base, pieces[piece].iov_len);
        if (__builtin_add_overflow(bytes, pieces[piece].iov_len, &bytes) || bytes > 0x7FFFF000) return 0;
    }
    return is_covered ? bytes : 0;
}

/// `CALL(pieces, count, plain call, call into `buffer` of `bytes`)`.
#define CALL(pieces, count, plain, buffered) \
    const size_t bytes_wanted = atomic_load_explicit(&covers_function, memory_order_relaxed) == NULL \
        ? 0 : covered(pieces, count); \
    if (bytes_wanted == 0) return plain; \
    char small[SMALL_MAX]; \
    void *store = buffer_of(bytes_wanted, small); \
    if (store == NULL) return -1; \
    return deliver(buffered, pieces, count, store, bytes_wanted)

// MARK: The calls

ssize_t client_read(int file, void *buffer, size_t bytes) {
    NEXT("read", (int, void *, size_t))
    const struct iovec piece = {buffer, bytes};
    CALL(&piece, 1, next(file, buffer, bytes), next(file, store, bytes));
}

ssize_t client_pread(int file, void *buffer, size_t bytes, off_t offset) {
    NEXT("pread64", (int, void *, size_t, off_t))
    const struct iovec piece = {buffer, bytes};
    CALL(&piece, 1, next(file, buffer, bytes, offset), next(file, store, bytes, offset));
}

ssize_t client_readv(int file, const struct iovec *pieces, int count) {
    NEXT("readv", (int, const struct iovec *, int))
    struct iovec one = {NULL, 0};
    CALL(pieces, count, next(file, pieces, count),
        (one.iov_base = store, one.iov_len = bytes_wanted, next(file, &one, 1)));
}

ssize_t client_preadv(int file, const struct iovec *pieces, int count, off_t offset) {
    NEXT("preadv64", (int, const struct iovec *, int, off_t))
    struct iovec one = {NULL, 0};
    CALL(pieces, count, next(file, pieces, count, offset),
        (one.iov_base = store, one.iov_len = bytes_wanted, next(file, &one, 1, offset)));
}

ssize_t client_recv(int file, void *buffer, size_t bytes, int flags) {
    NEXT("recv", (int, void *, size_t, int))
    const struct iovec piece = {buffer, bytes};
    CALL(&piece, 1, next(file, buffer, bytes, flags), next(file, store, bytes, flags));
}

ssize_t client_recvfrom(int file, void *buffer, size_t bytes, int flags, void *from, socklen_t *from_bytes) {
    NEXT("recvfrom", (int, void *, size_t, int, void *, socklen_t *))
    const struct iovec piece = {buffer, bytes};
    CALL(&piece, 1, next(file, buffer, bytes, flags, from, from_bytes),
        next(file, store, bytes, flags, from, from_bytes));
}

ssize_t client_recvmsg(int file, struct msghdr *message, int flags) {
    NEXT("recvmsg", (int, struct msghdr *, int))
    struct msghdr through = *message;
    struct iovec one = {NULL, 0};
    const struct iovec *pieces = message->msg_iov;
    const int count = (int)message->msg_iovlen;
    const size_t bytes_wanted = covered(pieces, count);
    if (bytes_wanted == 0) return next(file, message, flags);
    char small[SMALL_MAX];
    void *store = buffer_of(bytes_wanted, small);
    if (store == NULL) return -1;
    one.iov_base = store;
    one.iov_len = bytes_wanted;
    through.msg_iov = &one;
    through.msg_iovlen = 1;
    const ssize_t got = next(file, &through, flags);
    if (got >= 0) {
        message->msg_namelen = through.msg_namelen;
        message->msg_controllen = through.msg_controllen;
        message->msg_flags = through.msg_flags;
    }
    return deliver(got, pieces, count, store, bytes_wanted);
}

ssize_t client_read_checked(int file, void *buffer, size_t bytes, size_t room) {
    NEXT("__read_chk", (int, void *, size_t, size_t))
    return bytes <= room ? client_read(file, buffer, bytes) : next(file, buffer, bytes, room);
}

ssize_t client_pread_checked(int file, void *buffer, size_t bytes, off_t offset, size_t room) {
    NEXT("__pread64_chk", (int, void *, size_t, off_t, size_t))
    return bytes <= room ? client_pread(file, buffer, bytes, offset) : next(file, buffer, bytes, offset, room);
}

ssize_t client_recv_checked(int file, void *buffer, size_t bytes, size_t room, int flags) {
    NEXT("__recv_chk", (int, void *, size_t, size_t, int))
    return bytes <= room ? client_recv(file, buffer, bytes, flags) : next(file, buffer, bytes, room, flags);
}

// Each may be called by a signal handler first, and finding the C library's own may allocate: found when the library is
// loaded, by calls that fail.
__attribute__((constructor)) static void find_next(void) {
    const int error = errno;
    const struct iovec none = {NULL, 0};
    struct msghdr message = {.msg_iovlen = 0};
    (void)client_read(-1, NULL, 0);
    (void)client_pread(-1, NULL, 0, 0);
    (void)client_readv(-1, &none, 1);
    (void)client_preadv(-1, &none, 1, 0);
    (void)client_recv(-1, NULL, 0, 0);
    (void)client_recvfrom(-1, NULL, 0, 0, NULL, NULL);
    (void)client_recvmsg(-1, &message, 0);
    errno = error;
}
