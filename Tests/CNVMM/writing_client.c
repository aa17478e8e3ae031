// Writes guest memory in every way that a client's devices do while a guest reads it: plain stores, copies across
// pages, read(2) and readv(2) into it, a second thread, and stores beside what the guest itself writes. With an
// argument it kills itself after so many rounds.
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MEMORY_BYTES 0x4000
#define INPUT 0x2000    // 16 bytes that the guest adds up
#define COUNTER 0x2800  // a byte of the same page, which the guest counts up
#define ROUNDS 60

static const uint8_t guest[] = {
    0xE6, 0x10,              // 1000 out 0x10, al: the client writes
    0xBE, 0x00, 0x20,        // 1002 mov si, 0x2000
    0xB9, 0x10, 0x00,        // 1005 mov cx, 16
    0x30, 0xC0,              // 1008 xor al, al
    0x02, 0x04,              // 100A add al, [si]
    0x46,                    // 100C inc si
    0xE2, 0xFB,              // 100D loop 0x100A
    0xFE, 0x06, 0x00, 0x28,  // 100F inc byte [0x2800]
    0x02, 0x06, 0x00, 0x28,  // 1013 add al, [0x2800]
    0xE6, 0x11,              // 1017 out 0x11, al: the client compares
    0xEB, 0xE5,              // 1019 jmp 0x1000
};

static uint8_t *memory;
static int pipe_ends[2];
static unsigned round_number, differences;
static uint8_t expected;

static void *store_from_thread(void *bytes) {
    memcpy(memory + INPUT, bytes, 16);
    return NULL;
}

static void write_input(void) {
    uint8_t bytes[16];
    for (unsigned place = 0; place < sizeof bytes; place++) bytes[place] = (uint8_t)(round_number * 7 + place * place);
    switch (round_number % 6) {
    case 0: memcpy(memory + INPUT, bytes, 16); break;
    case 1:
        if (write(pipe_ends[1], bytes, 16) != 16 || read(pipe_ends[0], memory + INPUT, 16) != 16) err(1, "read");
        break;
    case 2: {
        struct iovec parts[] = {{memory + INPUT, 5}, {memory + INPUT + 5, 11}};
        if (write(pipe_ends[1], bytes, 16) != 16 || readv(pipe_ends[0], parts, 2) != 16) err(1, "readv");
        break;
    }
    case 3: {
        pthread_t thread;
        if (pthread_create(&thread, NULL, store_from_thread, bytes) != 0) errx(1, "pthread_create");
        pthread_join(thread, NULL);
        break;
    }
    case 4: {
        uint8_t across[0x1010] = {0};  // ends with the input, begins in the page before
        memcpy(across, memory + INPUT - 0x1000, 0x1000);
        memcpy(across + 0x1000, bytes, 16);
        memcpy(memory + INPUT - 0x1000, across, sizeof across);
        break;
    }
    default: memory[INPUT + round_number % 16] ^= 0x55; break;  // one byte, in a page that the guest writes
    }
    expected = (uint8_t)(memory[COUNTER] + 1);
    for (unsigned place = 0; place < 16; place++) expected = (uint8_t)(expected + memory[INPUT + place]);
}

static void on_port(struct nvmm_io *io) {
    if (io->port == 0x10) {
        write_input();
    } else {
        if (io->data[0] != expected) differences++;
        round_number++;
    }
}

int main(int argc, char **argv) {
    const unsigned last = argc > 1 ? (unsigned)atoi(argv[1]) : ROUNDS + 1;
    struct nvmm_machine machine;
    struct nvmm_vcpu vcpu;
    struct nvmm_assist_callbacks callbacks = {.io = on_port};
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu");
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || pipe(pipe_ends) == -1) err(1, "mmap or pipe");
    if (nvmm_hva_map(&machine, (uintptr_t)memory, MEMORY_BYTES) == -1) err(1, "hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0, MEMORY_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) {
        err(1, "gpa_map");
    }
    memcpy(memory + 0x1000, guest, sizeof guest);
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    while (round_number < ROUNDS) {
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
        if (vcpu.exit->reason != NVMM_VCPU_EXIT_IO) errx(1, "exit %#llx", (unsigned long long)vcpu.exit->reason);
        if (nvmm_assist_io(&machine, &vcpu) == -1) err(1, "assist_io");
        if (round_number == last) raise(SIGKILL);
    }
    printf("%u rounds, %u differ\n", round_number, differences);
    return differences != 0;
}
