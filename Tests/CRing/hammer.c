// Two writers and a drainer at full speed, with what may go wrong: a lane that both share, a lane that is full, a
// signal handler that writes in mid-record, a drainer that is dead, memory that a client scribbled over. Prints a line
// for each part; status 1 if any fails. To be built with -fsanitize=thread and with -fsanitize=address.
#define _DEFAULT_SOURCE
#include <ring.h>
#include <ring_records.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WRITERS 2
#define KIND 100

static unsigned long records_each = 200000;
static int failures;

static void report(const char *part, bool holds) {
    printf("%s %s\n", holds ? "ok" : "FAILED", part);
    if (!holds) failures++;
}

static void *new_ring(uint32_t lanes, uint64_t lane_bytes, uint32_t options, uint64_t *bytes) {
    *bytes = ring_size(lanes, lane_bytes);
    void *memory = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || !ring_format(memory, lanes, lane_bytes, 0, options, (uint32_t)getpid())) abort();
    return memory;
}

static uint64_t mix(uint64_t value) {
    value = (value ^ value >> 31) * 0x9E3779B97F4A7C15;
    return value ^ value >> 29;
}

// MARK: - Writers and drainer

struct job {
    struct ring_writer writer;
    uint32_t lane, number;
    uint64_t written;
};

/// Payload: the writer's counter, then bytes that follow from it; sizes differ and are no multiples of 8.
static bool write_one(const struct ring_writer *writer, uint32_t lane, uint32_t number, uint64_t counter) {
    uint8_t bytes[1200];
    uint32_t count = (uint32_t)(mix(counter * 2 + number) % sizeof bytes);
    if (counter % 8) count %= 64;
    memset(bytes, (int)(counter & 0xFF), count);
    struct ring_record record = {.machine = 0, .vcpu = number, .thread = number};
    struct ring_part parts[] = {{&counter, sizeof counter}, {bytes, count}};
    return ring_write(writer, lane, KIND, &record, parts, 2);
}

static void *write_all(void *argument) {
    struct job *job = argument;
    for (uint64_t counter = 0; counter < records_each; counter++) {
        job->written += write_one(&job->writer, job->lane, job->number, counter);
    }
    return NULL;
}

struct drain {
    struct ring_reader reader;
    uint64_t records, lost_told, highest, sum_of_sequences;
    uint64_t next[WRITERS + 1];  // counter that each writer must bring next, or more where records are lost
    bool may_lose, is_wrong;
    atomic_bool finish;
};

static void check_record(struct drain *drain, const struct ring_record *record) {
    drain->records++;
    drain->sum_of_sequences += record->sequence;
    if (record->sequence > drain->highest) drain->highest = record->sequence;
    if (ring_record_kind(record) == RING_KIND_LOST) {
        drain->lost_told += ((const struct ring_lost_record *)ring_record_payload(record))->count;
        return;
    }
    uint64_t counter;
    const uint8_t *payload = ring_record_payload(record);
    memcpy(&counter, payload, sizeof counter);
    for (uint32_t place = sizeof counter; place < record->payload_bytes; place++) {
        if (payload[place] != (counter & 0xFF)) drain->is_wrong = true;
    }
    uint64_t *next = &drain->next[record->vcpu];
    if (counter < *next || (!drain->may_lose && counter != *next)) drain->is_wrong = true;
    *next = counter + 1;
}

static void *drain_all(void *argument) {
    struct drain *drain = argument;
    for (unsigned long turn = 0;; turn++) {
        bool was_finishing = atomic_load(&drain->finish), found = false, is_damaged = false;
        for (uint32_t lane = 0; lane < drain->reader.lane_count; lane++) {
            const struct ring_record *record;
            while ((record = ring_next(&drain->reader, lane, &is_damaged)) != NULL) {
                check_record(drain, record);
                ring_release(&drain->reader, lane, record);
                found = true;
            }
            if (is_damaged) drain->is_wrong = true;
        }
        if (turn % 64 == 0) ring_beat(drain->reader.memory);
        if (was_finishing && !found) return NULL;
    }
}

static void hammer(const char *part, uint32_t lanes, uint32_t options) {
    uint64_t bytes;
    void *memory = new_ring(lanes, RING_LANE_BYTES_MIN, options, &bytes);
    static struct drain drain;
    memset(&drain, 0, sizeof drain);
    drain.may_lose = options & RING_OPTION_DROP;
    struct job jobs[WRITERS];
    pthread_t threads[WRITERS], drainer;
    if (!ring_reader_open(&drain.reader, memory, bytes)) abort();
    pthread_create(&drainer, NULL, drain_all, &drain);
    for (uint32_t number = 0; number < WRITERS; number++) {
        jobs[number] = (struct job){.number = number};
        if (!ring_writer_open(&jobs[number].writer, memory, bytes)) abort();
        jobs[number].lane = ring_writer_lane(&jobs[number].writer);
        pthread_create(&threads[number], NULL, write_all, &jobs[number]);
    }
    uint64_t written = 0, lost = 0;
    for (uint32_t number = 0; number < WRITERS; number++) {
        pthread_join(threads[number], NULL);
        written += jobs[number].written;
    }
    atomic_store(&drain.finish, true);
    pthread_join(drainer, NULL);
    for (uint32_t lane = 0; lane < lanes; lane++) lost += ring_lost(&drain.reader, lane);
    bool numbers_are_dense = drain.sum_of_sequences == drain.records * (drain.records - 1) / 2
        && drain.highest == drain.records - 1;
    bool all_there = written + lost == WRITERS * records_each && (drain.may_lose || lost == 0)
        && drain.lost_told <= lost;
    report(part, numbers_are_dense && all_there && !drain.is_wrong && ring_is_on(memory));
    munmap(memory, bytes);
}

// MARK: - A signal handler that writes

static struct ring_writer handler_writer;
static uint64_t handler_counter;

static void on_signal(int number) {
    (void)number;
    // The handler does not interrupt itself, so the counter is its own.
    if (write_one(&handler_writer, 0, WRITERS, handler_counter)) handler_counter++;
}

static void signals(void) {
    uint64_t bytes;
    void *memory = new_ring(1, 65536, 0, &bytes);
    static struct drain drain;
    memset(&drain, 0, sizeof drain);
    if (!ring_reader_open(&drain.reader, memory, bytes) || !ring_writer_open(&handler_writer, memory, bytes)) abort();
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_t drainer;
    pthread_sigmask(SIG_BLOCK, &alarms, NULL);
    pthread_create(&drainer, NULL, drain_all, &drain);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    struct job job = {.writer = handler_writer};
    write_all(&job);
    setitimer(ITIMER_REAL, &never, NULL);
    atomic_store(&drain.finish, true);
    pthread_join(drainer, NULL);
    report("a signal handler writes in the middle of a record",
        !drain.is_wrong && drain.records == job.written + handler_counter && drain.highest == drain.records - 1);
    munmap(memory, bytes);
}

// MARK: - What goes wrong

static void dead_drainer(void) {
    uint64_t bytes;
    void *memory = new_ring(1, RING_LANE_BYTES_MIN, 0, &bytes);
    struct ring_writer writer;
    if (!ring_writer_open(&writer, memory, bytes)) abort();
    uint64_t before = ring_now(), count = 0;
    while (ring_is_on(memory)) write_one(&writer, 0, 0, count++);
    double seconds = (double)(ring_now() - before) / 1e9;
    report("a dead drainer turns recording off after about a second",
        seconds > 0.9 && seconds < 3 && ring_off_reason(memory) == RING_OFF_DRAINER_DEAD);
    before = ring_now();
    report("then nothing is written and nobody waits", !write_one(&writer, 0, 0, 0) && ring_now() - before < 500000000);

    // What was written before is there for whoever finds the file.
    struct ring_reader reader;
    bool is_damaged;
    if (!ring_reader_open(&reader, memory, bytes)) abort();
    uint64_t found = 0;
    for (const struct ring_record *record; (record = ring_next(&reader, 0, &is_damaged)) != NULL; found++) {
        ring_release(&reader, 0, record);
        // A second finder begins where the first one stopped.
        if (found == 3) ring_reader_open(&reader, memory, bytes);
    }
    report("its records are all found afterwards", found == count - 1 && !is_damaged);
    munmap(memory, bytes);
}

static void *beat(void *memory) {
    const struct timespec pause = {.tv_nsec = 50000000};
    while (ring_is_on(memory)) {
        ring_beat(memory);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void unfinished(void) {
    uint64_t bytes;
    void *memory = new_ring(1, RING_LANE_BYTES_MIN, 0, &bytes);
    struct ring_writer writer;
    struct ring_reader reader;
    pthread_t drainer;
    if (!ring_writer_open(&writer, memory, bytes) || !ring_reader_open(&reader, memory, bytes)) abort();
    pthread_create(&drainer, NULL, beat, memory);
    // A reservation that is never committed, as of a thread that is stopped in the middle of a record.
    ((struct ring_lane *)(void *)((uint8_t *)memory + RING_CONTROL_BYTES))->head = RING_LANE_BYTES_MIN - 64;
    uint64_t before = ring_now();
    bool was_lost = !write_one(&writer, 0, 0, 8);
    double seconds = (double)(ring_now() - before) / 1e9;
    report("a lane that an unfinished record blocks loses records, and nobody waits for ever",
        was_lost && seconds < 3 && ring_is_on(memory) && ring_lost(&reader, 0) == 1);
    ring_turn_off(memory, RING_OFF_BY_DRAINER);
    pthread_join(drainer, NULL);
    munmap(memory, bytes);
}

static void scribbled(void) {
    uint64_t bytes;
    void *memory = new_ring(2, RING_LANE_BYTES_MIN, 0, &bytes);
    struct ring_writer writer;
    struct ring_reader reader;
    if (!ring_writer_open(&writer, memory, bytes) || !ring_reader_open(&reader, memory, bytes)) abort();
    uint64_t seed = 1;
    bool held = true;
    for (int round = 0; round < 20000; round++) {
        write_one(&writer, 0, 0, (uint64_t)round % 7);
        uint64_t *first = (uint64_t *)(void *)((uint8_t *)memory + reader.data_offset
            + (reader.position[0] & (RING_LANE_BYTES_MIN - 1)));
        seed = mix(seed + (uint64_t)round);
        *first ^= 1ULL << seed % 64;
        bool is_damaged;
        const struct ring_record *record = ring_next(&reader, 0, &is_damaged);
        if (record != NULL) {
            const uint8_t *end = (const uint8_t *)record + ring_record_bytes(record);
            if (end > (uint8_t *)memory + bytes || record->payload_bytes > ring_record_bytes(record)) held = false;
        }
        // Start again with clean memory.
        memset((uint8_t *)memory + RING_CONTROL_BYTES, 0, bytes - RING_CONTROL_BYTES);
        ring_reader_open(&reader, memory, bytes);
    }
    report("no flipped bit of a commit word leads a reader out of the lane", held);

    ((struct ring_control *)memory)->lane_bytes = 1ULL << 40;
    report("a ring larger than its file is refused", !ring_writer_open(&writer, memory, bytes));
    ((struct ring_control *)memory)->lane_bytes = RING_LANE_BYTES_MIN;
    ((struct ring_control *)memory)->version = RING_VERSION + 1;
    report("another version is refused", !ring_reader_open(&reader, memory, bytes));
    munmap(memory, bytes);
}

static void claims(void) {
    uint64_t bytes;
    void *memory = new_ring(1, RING_LANE_BYTES_MIN, 0, &bytes);
    uint32_t self = (uint32_t)getpid(), parent = (uint32_t)getppid();
    bool holds = ring_claim(memory, self) && ring_claim(memory, self) && !ring_claim(memory, parent);
    report("one process records, and may claim again", holds && ring_refused(memory) == 1);
    ((struct ring_control *)memory)->client_pid = 0x3FFFFFF;  // larger than any process number
    report("a process that is gone is replaced", ring_claim(memory, self) && ring_client_pid(memory) == self);
    munmap(memory, bytes);
}

int main(int count, char **arguments) {
    if (count > 1) records_each = strtoul(arguments[1], NULL, 10);
    hammer("two writers, a lane each", 2, 0);
    hammer("two writers share a lane", 1, 0);
    hammer("writers that lose records count them", 2, RING_OPTION_DROP);
    signals();
    dead_drainer();
    unfinished();
    scribbled();
    claims();
    return failures == 0 ? 0 : 1;
}
