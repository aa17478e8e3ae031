// What a record costs the thread that writes it: nanoseconds for each record of a step's usual size, a drainer beside.
//   cc -O2 -I Sources/CRing/include Benchmarks/ring_cost.c Sources/CRing/ring.c -pthread && ./a.out
#define _DEFAULT_SOURCE
#include <ring.h>
#include <ring_records.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LANE_BYTES (8 << 20)
#define RECORDS 20000  // less than a lane holds: what is measured is writing, not waiting
#define ROUNDS 50

static void *memory;
static atomic_bool is_over;
static atomic_ulong drained;

static void *drain(void *unused) {
    (void)unused;
    static struct ring_reader reader;
    bool is_damaged;
    ring_reader_open(&reader, memory, ring_size(1, LANE_BYTES));
    while (!atomic_load(&is_over)) {
        const struct ring_record *record;
        ring_beat(memory);
        while ((record = ring_next(&reader, 0, &is_damaged)) != NULL) {
            ring_release(&reader, 0, record);
            atomic_fetch_add(&drained, 1);
        }
        usleep(100);
    }
    return NULL;
}

int main(void) {
    static uint8_t payload[232];
    const struct ring_part part = {payload, sizeof payload};
    const struct ring_record record = {.machine = 0};
    struct ring_writer writer;
    pthread_t drainer;
    memory = mmap(NULL, ring_size(1, LANE_BYTES), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || !ring_format(memory, 1, LANE_BYTES, 0, 0, 0)) return 1;
    if (!ring_writer_open(&writer, memory, ring_size(1, LANE_BYTES))) return 1;
    pthread_create(&drainer, NULL, drain, NULL);
    double best = 1e9, sum = 0;
    for (unsigned long round = 1; round <= ROUNDS; round++) {
        uint64_t start = ring_now();
        for (int count = 0; count < RECORDS; count++) ring_write(&writer, 0, RING_KIND_TOLD_EVENT, &record, &part, 1);
        double each = (double)(ring_now() - start) / RECORDS;
        if (each < best) best = each;
        sum += each;
        while (atomic_load(&drained) < round * RECORDS) usleep(100);
    }
    atomic_store(&is_over, true);
    pthread_join(drainer, NULL);
    printf("a ring record of %zu bytes: %.0f ns (mean of %d rounds), %.0f ns at best\n",
        sizeof payload + sizeof record, sum / ROUNDS, ROUNDS, best);
    return 0;
}
