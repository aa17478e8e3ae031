// A guest polls for a value and a second thread of the client stores it into guest memory, while the VCPU runs: by a
// plain store, by one across two pages, by read(2), by readv(2) and by recv(2), by an event after a store, and with a
// lock that the VCPU's thread wants held. The VCPU's own thread stores in the same ways between the runs, and a signal
// handler of it reads guest memory. Ends by itself; a deadlock is for the caller's time limit to find.
#define _GNU_SOURCE
#include <nvmm.h>
#include <err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MEMORY_BYTES 0x8000
#define ANSWER 0x3FFC  // 8 bytes across two pages: the value in the first word, its complement in the last
#define ECHO 0x2000    // what the guest made of it
#define ROUNDS 120

// Real mode. SI is the last value; polls until the word at ANSWER differs and the one at ANSWER+6 is its complement.
static const uint8_t guest[] = {
    0x31, 0xF6,              // 1000 xor si, si
    0xFB,                    // 1002 sti
    0xA1, 0xFC, 0x3F,        // 1003 mov ax, [0x3FFC]
    0x39, 0xF0,              // 1006 cmp ax, si
    0x74, 0xF9,              // 1008 je 0x1003
    0x8B, 0x1E, 0x02, 0x40,  // 100A mov bx, [0x4002]
    0xF7, 0xD3,              // 100E not bx
    0x39, 0xC3,              // 1010 cmp bx, ax
    0x75, 0xEF,              // 1012 jne 0x1003
    0x89, 0xC6,              // 1014 mov si, ax
    0xA3, 0x00, 0x20,        // 1016 mov [0x2000], ax
    0xE7, 0x10,              // 1019 out 0x10, ax
    0xEB, 0xE6,              // 101B jmp 0x1003
};
// The interrupt: counts at 0x2002.
static const uint8_t handler[] = {
    0xFF, 0x06, 0x02, 0x20,  // 1100 inc word [0x2002]
    0xCF,                    // 1104 iret
};

static uint8_t *memory;
static struct nvmm_machine machine;
static struct nvmm_vcpu vcpu;
static int pipe_ends[2], sockets[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint answered, failures;
static unsigned events;

/// In the way that `way` says.
static void store(unsigned way, uint16_t value) {
    uint8_t bytes[8] = {(uint8_t)value, (uint8_t)(value >> 8), 0, 0, 0, 0, (uint8_t)~value, (uint8_t)(~value >> 8)};
    uint64_t whole;
    memcpy(&whole, bytes, sizeof whole);
    struct iovec parts[] = {{memory + ANSWER, 3}, {memory + ANSWER + 3, 5}};
    switch (way) {
    case 0:
        memcpy(memory + ANSWER + 6, bytes + 6, 2);
        *(volatile uint16_t *)(void *)(memory + ANSWER) = value;
        break;
    case 1: __asm__ volatile("movq %1, %0" : "=m"(*(uint64_t *)(void *)(memory + ANSWER)) : "r"(whole)); break;
    case 2:
        if (write(pipe_ends[1], bytes, 8) != 8 || read(pipe_ends[0], memory + ANSWER, 8) != 8) failures++;
        break;
    case 3:
        if (write(pipe_ends[1], bytes, 8) != 8 || readv(pipe_ends[0], parts, 2) != 8) failures++;
        break;
    default:
        if (send(sockets[1], bytes, 8, 0) != 8 || recv(sockets[0], memory + ANSWER, 8, MSG_WAITALL) != 8) failures++;
        break;
    }
}

static void *answer(void *unused) {
    (void)unused;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        // The VCPU's thread stores every seventh answer itself, before it runs.
        while (atomic_load(&answered) < round - 1) usleep(10);
        if (round % 7 == 0) continue;
        if (round % 3 == 0) usleep(500);  // the guest polls
        pthread_mutex_lock(&lock);
        store(round % 5, (uint16_t)(round * 257));
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/// Stores and injects while the guest polls: the guest must find what was stored before the event.
static void *interrupt(void *unused) {
    (void)unused;
    while (atomic_load(&answered) < ROUNDS) {
        usleep(2000);
        vcpu.event->type = NVMM_VCPU_EVENT_INTR;
        vcpu.event->vector = 0x20;
        if (nvmm_vcpu_inject(&machine, &vcpu) == -1) failures++;
        events++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    const int with_events = argc > 1 && strcmp(argv[1], "events") == 0;
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu");
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || pipe(pipe_ends) == -1 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == -1) {
        err(1, "mmap, pipe or socketpair");
    }
    if (nvmm_hva_map(&machine, (uintptr_t)memory, MEMORY_BYTES) == -1) err(1, "hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0, MEMORY_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) {
        err(1, "gpa_map");
    }
    memcpy(memory + 0x1000, guest, sizeof guest);
    memcpy(memory + 0x1100, handler, sizeof handler);
    const uint16_t vector[] = {0x1100, 0};
    memcpy(memory + 0x20 * 4, vector, sizeof vector);
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    vcpu.state->gprs[NVMM_X64_GPR_RSP] = 0x0F00;
    vcpu.state->gprs[NVMM_X64_GPR_RFLAGS] = 0x202;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");

    pthread_t threads[2];
    if (pthread_create(&threads[0], NULL, answer, NULL) != 0) errx(1, "pthread_create");
    if (with_events && pthread_create(&threads[1], NULL, interrupt, NULL) != 0) errx(1, "pthread_create");
    unsigned differences = 0;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        if (round % 7 == 0) store(round % 5, (uint16_t)(round * 257));
        do {
            if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
        } while (vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
        // Held by the writer around its store.
        pthread_mutex_lock(&lock);
        if (vcpu.exit->reason != NVMM_VCPU_EXIT_IO) errx(1, "exit %#llx", (unsigned long long)vcpu.exit->reason);
        if (*(uint16_t *)(void *)(memory + ECHO) != (uint16_t)(round * 257)) differences++;
        pthread_mutex_unlock(&lock);
        vcpu.state->gprs[NVMM_X64_GPR_RIP] = vcpu.exit->u.io.npc;
        if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
        atomic_store(&answered, round);
    }
    pthread_join(threads[0], NULL);
    if (with_events) pthread_join(threads[1], NULL);
    const unsigned taken = *(uint16_t *)(void *)(memory + ECHO + 2);
    printf("%d rounds, %u differ, %u failures\n", ROUNDS, differences, atomic_load(&failures));
    if (with_events && (taken == 0 || taken > events)) printf("%u of %u events taken\n", taken, events);
    return differences != 0 || failures != 0;
}
