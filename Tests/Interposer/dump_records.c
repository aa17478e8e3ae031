// The simplest drainer: prints what a shim records, a line for each record, without what differs from run to run.
//
//   dump_records ring FILE [drop] [dead] [quiet] [kill MS] -- CLIENT ARGUMENTS...   starts the client under $SHIM
//   dump_records raw FILE
//
// The last line counts. `drop` makes writers lose records instead of waiting; `dead` reads only once the client has
// ended, and gives no heartbeat; `quiet` prints the last line alone; `kill` ends the client so many milliseconds after
// its start. The client's output goes away.
#define _GNU_SOURCE
#include <ring.h>
#include <ring_records.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANES 4

static unsigned long printed, missing, losses;
static bool is_quiet;
static long kill_after_ms;

static uint64_t sum(const void *bytes, size_t count) {
    uint64_t value = 14695981039346656037u;
    for (size_t place = 0; place < count; place++) value = (value ^ ((const uint8_t *)bytes)[place]) * 1099511628211u;
    return value & 0xFFFFFFFF;
}

static void print_call(const uint8_t *payload, uint32_t bytes) {
    struct ring_call call;
    memcpy(&call, payload, sizeof call);
    printf("call %d flags %d result %d error %d", call.call, call.flags, call.result, call.error);
    // Addresses differ from run to run.
    bool has_address = call.call == RING_CALL_VCPU_CREATE || call.call == RING_CALL_VCPU_STOP
        || (call.call >= RING_CALL_HVA_MAP && call.call <= RING_CALL_GPA_UNMAP) || call.call == RING_CALL_GPA_TO_HVA;
    for (int place = has_address; place < 4; place++) printf(" %llx", (unsigned long long)call.args[place]);
    // So do machine numbers, owners and times.
    bool has_data = call.data_bytes != 0 && call.call != RING_CALL_CTL;
    printf(" data %u", call.data_bytes);
    if (has_data) printf(" %08llx", (unsigned long long)sum(payload + sizeof call, bytes - sizeof call));
}

static void print_record(const struct ring_record *record) {
    const uint8_t *payload = ring_record_payload(record);
    uint32_t bytes = record->payload_bytes;
    uint16_t kind = ring_record_kind(record);
    printed++;
    if (kind == RING_KIND_LOST) losses += ((const struct ring_lost_record *)(const void *)payload)->count;
    if (is_quiet) return;
    printf("%d.%d ", (int)record->machine, (int)record->vcpu);
    switch (kind) {
    case RING_KIND_ATTACH: {
        struct ring_attach attach;
        memcpy(&attach, payload, sizeof attach);
        printf("attach api %u level %u lineage %u state %u page %u published %u", attach.api, attach.level,
            attach.lineage, attach.state_bytes, attach.comm_bytes, attach.publication_offset);
        break;
    }
    case RING_KIND_DETACH: printf("detach"); break;
    case RING_KIND_CALL: print_call(payload, bytes); break;
    case RING_KIND_RUN_ENTRY: {
        struct ring_run_entry entry;
        memcpy(&entry, payload, sizeof entry);
        printf("entry commit %llx cached %llx event %d stop %d parts %u", (unsigned long long)entry.commit,
            (unsigned long long)entry.cached, entry.event_commit, entry.stop, bytes - (uint32_t)sizeof entry);
        if (entry.event_commit) printf(" type %d vector %d", entry.event[0], entry.event[4]);
        break;
    }
    case RING_KIND_RUN_EXIT: {
        struct ring_run_exit exit;
        memcpy(&exit, payload, sizeof exit);
        uint64_t reason;
        memcpy(&reason, exit.exit, sizeof reason);
        printf("exit %d errno %d reason %llx kind %d doubts %d cached %llx commit %llx event %d parts %u published %u",
            exit.result, exit.error, (unsigned long long)reason, exit.run_kind, exit.doubts,
            (unsigned long long)exit.cached, (unsigned long long)exit.commit, exit.event_commit,
            bytes - (uint32_t)sizeof exit, exit.publication_bytes);
        break;
    }
    default: printf("kind %d bytes %u", kind, bytes);
    }
    printf("\n");
}

// MARK: - Order

/// Records wait here until all numbers before theirs have come.
static struct ring_record **waiting;
static uint64_t waiting_room, next_number;

static void hold(const struct ring_record *record) {
    if (record->sequence >= waiting_room) {
        uint64_t room = record->sequence * 2 + 1024;
        waiting = realloc(waiting, room * sizeof *waiting);
        memset(waiting + waiting_room, 0, (room - waiting_room) * sizeof *waiting);
        waiting_room = room;
    }
    struct ring_record *copy = malloc(ring_record_bytes(record));
    memcpy(copy, record, ring_record_bytes(record));
    waiting[record->sequence] = copy;
}

/// Prints what is in order; at the end also what has a gap before it.
static void release_held(bool is_end) {
    uint64_t last = waiting_room;
    if (is_end) {
        while (last > 0 && waiting[last - 1] == NULL) last--;
    }
    while (next_number < last) {
        struct ring_record *record = waiting[next_number];
        if (record == NULL && !is_end) return;
        if (record == NULL) missing++;
        if (record != NULL) print_record(record);
        free(record);
        waiting[next_number++] = NULL;
    }
}

// MARK: - The two sources

static int dump_ring(const char *path, bool drops, bool is_dead, char **client) {
    uint64_t bytes = ring_size(LANES, 65536);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || posix_fallocate(file, 0, (off_t)bytes) != 0) return 2;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return 2;
    ring_format(memory, LANES, 65536, RING_LEVEL_EXITS, drops ? RING_OPTION_DROP : 0, (uint32_t)getpid());
    static struct ring_reader reader;
    if (!ring_reader_open(&reader, memory, bytes)) return 2;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setenv("VMTRACE_RING", path, 1);
        setenv("LD_PRELOAD", getenv("SHIM"), 1);
        int away = open("/dev/null", O_WRONLY);
        dup2(away, STDOUT_FILENO);
        execv(client[0], client);
        _exit(127);
    }
    bool has_ended = false, is_damaged = false;
    int status = 0;
    uint64_t start = ring_now();
    for (;;) {
        bool had_ended = has_ended;
        bool is_time = kill_after_ms != 0 && ring_now() - start > (uint64_t)kill_after_ms * 1000000;
        if (is_time && !has_ended) kill(child, SIGKILL);
        if (!has_ended && waitpid(child, &status, is_dead ? 0 : WNOHANG) == child) has_ended = true;
        if (!is_dead) ring_beat(memory);
        bool found = false;
        for (uint32_t lane = 0; lane < LANES; lane++) {
            const struct ring_record *record;
            while ((record = ring_next(&reader, lane, &is_damaged)) != NULL) {
                hold(record);
                ring_release(&reader, lane, record);
                found = true;
            }
            if (is_damaged) return 3;
        }
        release_held(false);
        if (had_ended && !found) break;
    }
    release_held(true);
    unsigned long lost = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) lost += ring_lost(&reader, lane);
    if (!is_quiet) printf("records %lu\n", printed);
    printf("missing %lu, told of losses %s, lost %s, refused %u, off %u, status %d\n", missing,
        losses == 0 ? "no" : "yes", lost == 0 ? "no" : "yes", ring_refused(memory), ring_off_reason(memory),
        WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    return 0;
}

static int dump_raw(const char *path) {
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) return 2;
    size_t end = (size_t)status.st_size, place = sizeof(struct ring_file_header);
    uint8_t *bytes = mmap(NULL, end, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED || ((struct ring_file_header *)(void *)bytes)->magic != RING_FILE_MAGIC) return 2;
    while (place + sizeof(struct ring_record) <= end) {
        const struct ring_record *record = (const void *)(bytes + place);
        if (ring_record_bytes(record) > end - place) break;
        if (ring_record_kind(record) == RING_KIND_ATTACH && next_number > 0) {
            release_held(true);
            next_number = 0;
        }
        hold(record);
        release_held(false);
        place += ring_record_bytes(record);
    }
    release_held(true);
    printf("records %lu\n", printed);
    printf("missing %lu, cut off %zu\n", missing, end - place);
    return 0;
}

int main(int count, char **arguments) {
    bool drops = false, is_dead = false;
    if (count < 3) return 2;
    if (strcmp(arguments[1], "raw") == 0) return dump_raw(arguments[2]);
    for (int place = 3; place < count; place++) {
        if (strcmp(arguments[place], "drop") == 0) drops = true;
        if (strcmp(arguments[place], "dead") == 0) is_dead = true;
        if (strcmp(arguments[place], "quiet") == 0) is_quiet = true;
        if (strcmp(arguments[place], "kill") == 0) kill_after_ms = atol(arguments[place + 1]);
        if (strcmp(arguments[place], "--") == 0) return dump_ring(arguments[2], drops, is_dead, arguments + place + 1);
    }
    return 2;
}
