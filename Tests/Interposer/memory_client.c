// A client whose devices put data into guest memory in every way that a shim must see: by stores, read, pread, readv,
// preadv, recv and recvmsg, between runs of a guest that adds up what it finds. With `fault` it then stores where
// nothing is mapped, with `caught` it does so with a handler of its own.
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGES 10

static const uint8_t guest[] = {
    0xBE, 0x00, 0x20,        // 1000 mov si, 0x2000
    0xB9, 0x00, 0x40,        // 1003 mov cx, 0x4000: half of the words that the segment has left
    0x31, 0xDB,              // 1006 xor bx, bx
    0xAD,                    // 1008 lodsw
    0x01, 0xC3,              // 1009 add bx, ax
    0xE2, 0xFB,              // 100B loop 0x1008
    0x89, 0xD8,              // 100D mov ax, bx
    0xE7, 0x80,              // 100F out 0x80, ax
    0xFF, 0x06, 0x00, 0x20,  // 1011 inc word [0x2000]: the guest stores into the same pages
    0xE4, 0x60,              // 1015 in al, 0x60
    0xEB, 0xE7,              // 1017 jmp 0x1000
};

static unsigned sums[64], rounds;
static uint8_t port;

static void io(struct nvmm_io *access) {
    if (access->in) {
        for (size_t index = 0; index < access->size; index++) access->data[index] = port++;
        return;
    }
    sums[rounds++] = (unsigned)(access->data[0] | access->data[1] << 8);
}

static sigjmp_buf landing;
static void catch_fault(int number) {
    (void)number;
    siglongjmp(landing, 1);
}

static void store(uint8_t *memory, unsigned round, int file, const int *sockets) {
    uint8_t bytes[512];
    memset(bytes, (int)round + 1, sizeof bytes);
    uint8_t *place = memory + 0x1000 + (round % 8) * 4096 + 4096 - 100;  // into the next page as well
    struct iovec pieces[2] = {{place, 50}, {place + 4096, 70}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    if (pwrite(file, bytes, sizeof bytes, 0) != sizeof bytes || lseek(file, 0, SEEK_SET) != 0) err(1, "file");
    ssize_t got = 200, expected = 200;
    switch (round % 8) {
    case 0: memcpy(place, bytes, 200); break;
    case 1: got = read(file, place, 200); break;
    case 2: got = pread(file, place, 200, 3); break;
    case 3: got = readv(file, pieces, 2), expected = 120; break;
    case 4: got = preadv(file, pieces, 2, 7), expected = 120; break;
    case 5:
        if (send(sockets[0], bytes, 200, 0) != 200) err(1, "send");
        got = recv(sockets[1], place, 200, 0);
        break;
    case 6:
        if (send(sockets[0], bytes, 120, 0) != 120) err(1, "send");
        got = recvmsg(sockets[1], &message, 0), expected = 120;
        break;
    default: place[0]++, place[1000]++;
    }
    if (got != expected) err(1, "way %u of storing gave %zd", round % 8, got);
}

int main(int count, char **arguments) {
    // Many a thread blocks all signals, and none of them may matter.
    sigset_t all;
    sigfillset(&all);
    if (count == 1) pthread_sigmask(SIG_BLOCK, &all, NULL);
    const bool faults = count > 1, catches = count > 1 && strcmp(arguments[1], "caught") == 0;
    struct nvmm_machine machine;
    struct nvmm_vcpu vcpu;
    struct nvmm_assist_callbacks callbacks = {.io = io};
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu");
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");
    uint8_t *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || nvmm_hva_map(&machine, (uintptr_t)memory, PAGES * 4096) == -1) err(1, "memory");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0x1000, PAGES * 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) {
        err(1, "gpa_map");
    }
    memcpy(memory, guest, sizeof guest);
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    char name[] = "memory_client.XXXXXX";
    int file = mkstemp(name), sockets[2];
    if (file == -1 || unlink(name) == -1 || socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == -1) err(1, "files");
    if (catches) {
        struct sigaction action = {.sa_handler = catch_fault};
        sigaction(SIGSEGV, &action, NULL);
    }
    while (rounds < 32) {
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
        if (vcpu.exit->reason != NVMM_VCPU_EXIT_IO) errx(1, "exit %#llx", (unsigned long long)vcpu.exit->reason);
        unsigned before = rounds;
        if (nvmm_assist_io(&machine, &vcpu) == -1) err(1, "assist_io");
        if (rounds != before) store(memory, before, file, sockets);
    }
    unsigned total = 0;
    for (unsigned round = 0; round < 32; round++) total = total * 31 + sums[round];
    printf("sum %x\n", total);
    if (faults && sigsetjmp(landing, 1) == 0) *(volatile char *)(memory + PAGES * 4096 + 0x10000000) = 1;
    if (faults) printf("caught\n");
    return 0;
}
