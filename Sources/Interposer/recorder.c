// The shim's way out: attaching to a ring or a raw file, and appending records. Rules: recorder.h.
#define _GNU_SOURCE
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <ring_system.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE_OFF 0
#define MODE_RING 1
#define MODE_RAW 2
#define PARTS_MAX 16
#define RAW_PAYLOAD_MAX (1u << 20)

/// On a page of its own, which the system zeroes in a child however it was forked: `mode` is then off.
struct attachment {
    atomic_uint mode;
    atomic_bool is_told;
    bool ignores_library;
    uint32_t level;
    uint32_t options;
    int file;
    atomic_ullong sequence;  // of a raw file
    struct ring_writer writer;
};

static struct attachment unattached;
static _Atomic(struct attachment *) attachment = &unattached;
static atomic_flag is_attaching = ATOMIC_FLAG_INIT;

// Initial-exec: the first use in a thread must not allocate.
#define THREAD_OWN static _Thread_local __attribute__((tls_model("initial-exec")))
THREAD_OWN uint32_t lane_plus_one;
THREAD_OWN uint32_t thread_number;

static struct attachment *current(void) { return atomic_load_explicit(&attachment, memory_order_acquire); }

// MARK: - Attaching

/// To standard error, once, without stdio: the only thing that a user ever sees of the shim.
static void complain(const char *what, const char *file) {
    static bool has_complained;
    if (has_complained) return;
    has_complained = true;
    const char *pieces[] = {"vmtrace: ", file, ": ", what, "; not recorded\n"};
    char line[512];
    size_t length = 0;
    for (size_t piece = 0; piece < sizeof pieces / sizeof *pieces; piece++) {
        size_t count = strlen(pieces[piece]);
        if (count > sizeof line - length) count = sizeof line - length;
        memcpy(line + length, pieces[piece], count);
        length += count;
    }
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
}

static void forget_in_child(void) { atomic_store(&current()->mode, MODE_OFF); }

static struct attachment *new_attachment(void) {
    struct attachment *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (page == MAP_FAILED) return NULL;
#if defined(MADV_WIPEONFORK)
    madvise(page, 4096, MADV_WIPEONFORK);
#elif defined(MAP_INHERIT_ZERO)
    minherit(page, 4096, MAP_INHERIT_ZERO);
#endif
    return page;
}

static bool attach_ring(struct attachment *target, const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return complain("the ring cannot be opened", path), false;
    struct stat status;
    void *memory = MAP_FAILED;
    if (fstat(file, &status) == 0 && status.st_size > 0) {
        memory = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    close(file);
    if (memory == MAP_FAILED) return complain("the ring cannot be mapped", path), false;
    if (!ring_writer_open(&target->writer, memory, (uint64_t)status.st_size)) {
        munmap(memory, (size_t)status.st_size);
        return complain("no ring of this version", path), false;
    }
    // No word of this: one client in a tree of processes is recorded, and the drainer tells how many were not.
    if (!ring_is_on(memory) || !ring_claim(memory, ring_system_process())) {
        munmap(memory, (size_t)status.st_size);
        return false;
    }
#if defined(MADV_DONTFORK)
    madvise(memory, (size_t)status.st_size, MADV_DONTFORK);
#endif
    target->level = ((struct ring_control *)memory)->level;
    target->options = target->writer.options;
    atomic_store(&target->mode, MODE_RING);
    return true;
}

#define NO_LEVEL UINT32_MAX

static uint32_t level_of_environment(void) {
    const char *name = getenv("VMTRACE_LEVEL");
    if (name == NULL || strcmp(name, "exits") == 0) return RING_LEVEL_EXITS;
    if (strcmp(name, "replay") == 0) return RING_LEVEL_REPLAY;
    if (strcmp(name, "client") == 0) return RING_LEVEL_CLIENT;
    return NO_LEVEL;
}

/// A new file, nobody else's since guest memory is in it, or the one that this process began before it called exec.
static bool attach_raw(struct attachment *target, const char *path) {
    struct ring_file_header header = {
        .magic = RING_FILE_MAGIC,
        .version = RING_VERSION,
        .header_bytes = sizeof header,
        .level = level_of_environment(),
        .client_pid = ring_system_process(),
    };
    if (header.level == NO_LEVEL) return complain("VMTRACE_LEVEL is exits, replay or client", path), false;
    // A write beyond it would not fail but kill the client, by SIGXFSZ.
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        return complain("the size of files is limited", path), false;
    }
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        if (write(file, &header, sizeof header) != (ssize_t)sizeof header) {
            close(file);
            return complain("cannot be written", path), false;
        }
    } else if (errno == EEXIST && (file = open(path, O_RDWR | O_APPEND | O_CLOEXEC)) >= 0) {
        struct ring_file_header found;
        bool is_one = read(file, &found, sizeof found) == (ssize_t)sizeof found && found.magic == RING_FILE_MAGIC;
        bool is_ours = is_one && found.version == RING_VERSION && found.client_pid == header.client_pid;
        if (!is_ours) {
            close(file);
            // No word where the recording is under way: one client in a tree of processes is recorded.
            if (is_one && ring_system_probe(found.client_pid) != -ESRCH) return false;
            return complain("exists", path), false;
        }
        header = found;
    } else {
        return complain("cannot be created", path), false;
    }
    target->file = file;
    target->level = header.level;
    target->options = 0;
    atomic_store(&target->mode, MODE_RAW);
    return true;
}

void recorder_attach(struct ring_attach attach) {
    const char *ring = getenv("VMTRACE_RING"), *raw = getenv("VMTRACE_RAW");
    if ((ring == NULL && raw == NULL) || recorder_is_on()) return;
    // Whoever comes second while the first attaches is recorded from its next call on.
    if (atomic_flag_test_and_set(&is_attaching)) return;
    static bool has_fork_handler;
    struct attachment *target = new_attachment();
    const char *tells = getenv("VMTRACE_LIBRARY_TELLS");
    if (target != NULL) target->ignores_library = tells != NULL && strcmp(tells, "no") == 0;
    if (target != NULL && (ring != NULL ? attach_ring(target, ring) : attach_raw(target, raw))) {
        if (!has_fork_handler) pthread_atfork(NULL, NULL, forget_in_child);
        has_fork_handler = true;
        lane_plus_one = 0;
        thread_number = 0;
        atomic_store_explicit(&attachment, target, memory_order_release);
        attach.pid = ring_system_process();
        attach.parent_pid = (uint32_t)getppid();
        attach.level = target->level;
        struct ring_part parts[2] = {{&attach, sizeof attach}};
        recorder_write(RING_KIND_ATTACH, RING_NOBODY, RING_NOBODY, parts, 1);
    } else if (target != NULL) {
        munmap(target, 4096);
    }
    atomic_flag_clear(&is_attaching);
}

static void (*at_exit)(void);

void recorder_at_exit(void (*record)(void)) { at_exit = record; }

__attribute__((destructor)) static void detach(void) {
    if (recorder_is_on() && at_exit != NULL) at_exit();
    struct ring_detach detach = {.reason = RING_DETACH_EXIT};
    struct ring_part parts[2] = {{&detach, sizeof detach}};
    if (recorder_is_on()) recorder_write(RING_KIND_DETACH, RING_NOBODY, RING_NOBODY, parts, 1);
}

// MARK: - Recording

bool recorder_is_on(void) {
    const struct attachment *target = current();
    unsigned mode = atomic_load_explicit(&target->mode, memory_order_relaxed);
    return mode == MODE_RAW || (mode == MODE_RING && ring_is_on(target->writer.memory));
}

bool recorder_takes_calls(void) {
    return recorder_is_on() && !atomic_load_explicit(&current()->is_told, memory_order_relaxed);
}

bool recorder_asks_library(void) { return recorder_is_on() && !current()->ignores_library; }

void recorder_leave_to_library(void) { atomic_store(&current()->is_told, true); }

uint32_t recorder_level(void) { return current()->level; }

uint32_t recorder_payload_max(void) {
    const struct attachment *target = current();
    unsigned mode = atomic_load_explicit(&target->mode, memory_order_relaxed);
    return mode == MODE_RING ? ring_payload_max(&target->writer) : RAW_PAYLOAD_MAX;
}

void recorder_turn_off(uint32_t reason) {
    struct attachment *target = current();
    if (atomic_exchange(&target->mode, MODE_OFF) == MODE_RING) ring_turn_off(target->writer.memory, reason);
}

/// One system call for each record: appending is atomic, so threads need no lock, and a killed client loses nothing.
static bool write_raw(
    struct attachment *target, uint16_t kind, struct ring_record *record, struct ring_part *parts, uint32_t count) {
    static const uint8_t zeros[8];
    struct iovec pieces[PARTS_MAX + 2];
    uint64_t payload = 0;
    if (count > PARTS_MAX) return false;
    for (uint32_t part = 0; part < count; part++) {
        pieces[part + 1].iov_base = (void *)(uintptr_t)parts[part].bytes;
        pieces[part + 1].iov_len = parts[part].count;
        payload += parts[part].count;
    }
    uint64_t bytes = (sizeof *record + payload + 7) & ~UINT64_C(7);
    pieces[0].iov_base = record;
    pieces[0].iov_len = sizeof *record;
    pieces[count + 1].iov_base = (void *)(uintptr_t)zeros;
    pieces[count + 1].iov_len = (size_t)(bytes - sizeof *record - payload);
    record->commit = RING_COMMIT(kind, bytes);
    record->sequence = atomic_fetch_add_explicit(&target->sequence, 1, memory_order_relaxed);
    record->payload_bytes = (uint32_t)payload;
    long written;
    do {
        written = ring_system_writev(target->file, pieces, (int)count + 2);
    } while (written == -EINTR);
    // A full disk: what stands there is complete but for the last record. Whatever followed could not be read.
    if (written != (long)bytes) recorder_turn_off(RING_OFF_FILE_FAILED);
    return written == (long)bytes;
}

bool recorder_write(uint16_t kind, uint32_t machine, uint32_t vcpu, struct ring_part *parts, uint32_t part_count) {
    struct attachment *target = current();
    unsigned mode = atomic_load_explicit(&target->mode, memory_order_relaxed);
    if (mode == MODE_OFF) return false;
    if (thread_number == 0) thread_number = ring_system_thread();
    struct ring_record record = {
        .time = target->options & RING_OPTION_TIME ? ring_now() : 0,
        .machine = machine,
        .vcpu = vcpu,
        .thread = thread_number,
    };
    if (mode == MODE_RAW) return write_raw(target, kind, &record, parts, part_count);
    if (lane_plus_one == 0) lane_plus_one = ring_writer_lane(&target->writer) + 1;
    return ring_write(&target->writer, lane_plus_one - 1, kind, &record, parts, part_count);
}
