// Writes to a tracked mapping in every way that a client has, at random pages, and compares what the tracker finds with
// what was written; writes through the other mapping must not be found. Prints a line for each part; status 1 if any
// fails, 77 where the kernel offers no tracking. Argument: the seed.
#define _GNU_SOURCE
#include <write_tracking.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 3000UL

static struct write_tracker tracker;
static uint8_t *client, *backend;  // two mappings of one object
static bool expected[PAGES], found[PAGES];
static int zero, failures;
static uint64_t state;

static uint64_t random_below(uint64_t bound) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % bound;
}

static void report(const char *part, bool holds) {
    printf("%s %s\n", holds ? "ok" : "FAILED", part);
    if (!holds) failures++;
}

/// Looks at everything, a few ranges at a time; returns false where the tracker fails or finds other pages.
static bool look(void) {
    memset(found, 0, sizeof found);
    bool has_any = false;
    for (unsigned long page = 0; page < PAGES; page++) has_any |= expected[page];
    if (write_tracker_is_unchanged(&tracker)) return !has_any;
    uintptr_t start = (uintptr_t)client, next = start, end = start + PAGES * PAGE;
    while (next < end) {
        struct written_range ranges[5];
        int count = write_tracker_scan(&tracker, &next, end, ranges, 5);
        if (count < 0) return false;
        for (int range = 0; range < count; range++) {
            for (uintptr_t place = ranges[range].start; place < ranges[range].end; place += PAGE) {
                found[(place - start) / PAGE] = true;
            }
        }
    }
    return memcmp(expected, found, sizeof found) == 0;
}

static void *store_in_thread(void *address) {
    *(volatile uint8_t *)address = 7;
    return NULL;
}

/// One write of a random kind; marks the pages that it touches.
static void write_somewhere(int sockets[2]) {
    unsigned long page = random_below(PAGES - 3), count = 1 + random_below(3);
    uint8_t *place = client + page * PAGE;
    size_t bytes = count * PAGE;
    switch (random_below(6)) {
    case 0:
        for (unsigned long next = 0; next < count; next++) place[next * PAGE + random_below(PAGE)]++;
        break;
    case 1: bytes = (size_t)read(zero, place, bytes); break;
    case 2: bytes = (size_t)pread(zero, place, bytes, 0); break;
    case 3: {
        struct iovec pieces[] = {{place, PAGE / 2}, {place + PAGE / 2, bytes - PAGE / 2}};
        bytes = (size_t)readv(zero, pieces, 2);
        break;
    }
    case 4: {
        count = 1;
        char text[] = "received";
        if (send(sockets[0], text, sizeof text, 0) < 0 || recv(sockets[1], place, PAGE, 0) < 0) abort();
        break;
    }
    default: {
        count = 1;
        pthread_t thread;
        pthread_create(&thread, NULL, store_in_thread, place);
        pthread_join(thread, NULL);
    }
    }
    for (unsigned long next = 0; next < count; next++) expected[page + next] = true;
}

static atomic_bool ends;
static atomic_ulong stores;
static void *store_for_ever(void *unused) {
    (void)unused;
    while (!atomic_load(&ends)) {
        __atomic_fetch_add(client + atomic_load(&stores) * 7 % 64 * PAGE, 1, __ATOMIC_SEQ_CST);
        atomic_fetch_add(&stores, 1);
    }
    return NULL;
}

/// A thread writes all the time: every change must be found by some look, also one that it makes during a look.
static bool nothing_escapes(void) {
    static uint8_t copy[64 * PAGE];
    pthread_t thread;
    memcpy(copy, client, sizeof copy);
    pthread_create(&thread, NULL, store_for_ever, NULL);
    for (int looks_left = 5; looks_left > 0;) {
        if (atomic_load(&ends)) {
            looks_left--;
        } else if (atomic_load(&stores) > 200000) {
            atomic_store(&ends, true);
            pthread_join(thread, NULL);
        }
        if (write_tracker_is_unchanged(&tracker)) continue;
        uintptr_t start = (uintptr_t)client, next = start, end = start + PAGES * PAGE;
        while (next < end) {
            struct written_range ranges[64];
            int count = write_tracker_scan(&tracker, &next, end, ranges, 64);
            for (int range = 0; range < count; range++) {
                size_t place = ranges[range].start - start;
                if (place < sizeof copy) memcpy(copy + place, client + place, ranges[range].end - ranges[range].start);
            }
        }
    }
    return memcmp(copy, client, sizeof copy) == 0;
}

int main(int count, char **arguments) {
    uint64_t seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    state = seed * 0x9E3779B97F4A7C15 + 1;
    int error = write_tracker_open(&tracker);
    if (error != 0) {
        fprintf(stderr, "not offered here: %s\n", strerror(error));
        return 77;
    }
    int object = memfd_create("guest", MFD_CLOEXEC), sockets[2];
    zero = open("/dev/zero", O_RDONLY);
    if (object < 0 || zero < 0 || ftruncate(object, PAGES * PAGE) != 0) abort();
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) abort();
    client = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, object, 0);
    backend = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, object, 0);
    if (client == MAP_FAILED || backend == MAP_FAILED) abort();

    report("a range can be added", write_tracker_add(&tracker, (uintptr_t)client, PAGES * PAGE) == 0);
    report("nothing is written at first", look());
    bool holds = true;
    for (int round = 0; round < 300 && holds; round++) {
        memset(expected, 0, sizeof expected);
        for (uint64_t writes = random_below(40); writes > 0; writes--) write_somewhere(sockets);
        for (int write = 0; write < 20; write++) backend[random_below(PAGES) * PAGE] = (uint8_t)write;
        volatile uint8_t seen = client[random_below(PAGES) * PAGE];
        (void)seen;
        holds = look();
        if (!holds) fprintf(stderr, "round %d; rerun with seed %llu\n", round, (unsigned long long)seed);
    }
    report("every page that the client wrote is found, and no other", holds);
    memset(expected, 0, sizeof expected);
    report("what was found is found once", look() && look());
    report("no fault, no scan: an idle process is told so", write_tracker_is_unchanged(&tracker));
    report("nothing escapes a look that a writer overlaps", nothing_escapes());

    pid_t child = fork();
    if (child == 0) {
        client[0]++;
        _exit(0);
    }
    int status;
    report("a forked child may write", waitpid(child, &status, 0) == child && WIFEXITED(status));
    report("a range can be removed", write_tracker_remove(&tracker, (uintptr_t)client, PAGES * PAGE) == 0);
    client[0]++;
    write_tracker_close(&tracker);
    return failures == 0 ? 0 : 1;
}
