// A client that does nothing but port I/O: its guest polls a serial port's status and sends a byte, again and again; it
// collects the bytes and writes them away 64 at a time, as a device with a buffer does. The argument is the number of
// exits after which it ends. A second one changes what it does at each: `noise` fills a page of guest memory with what
// no trace can compress, `disk` writes 4 KiB to the file that the third names, as an emulated disk does. `fork` makes,
// half way through, a child that ends with exit(), and waits for it.
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t guest[] = {
    0xBA, 0xFD, 0x03,  // 1000 mov dx, 0x3FD
    0xEC,              // 1003 in al, dx
    0xA8, 0x20,        // 1004 test al, 0x20
    0x74, 0xFB,        // 1006 jz 0x1003
    0xBA, 0xF8, 0x03,  // 1008 mov dx, 0x3F8
    0x88, 0xD8,        // 100B mov al, bl
    0xEE,              // 100D out dx, al
    0x43,              // 100E inc bx
    0xEB, 0xEF,        // 100F jmp 0x1000
};

static int away;
static uint8_t line[64];
static unsigned used;

static void serial(struct nvmm_io *io) {
    if (io->in) {
        io->data[0] = 0x60;  // ready
        return;
    }
    line[used++] = io->data[0];
    if (used < sizeof line) return;
    used = 0;
    if (write(away, line, sizeof line) != (ssize_t)sizeof line) err(1, "write");
}

static void make_noise(uint8_t *page) {
    static uint64_t state = 88172645463325252u;
    for (size_t place = 0; place < 4096; place += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(page + place, &state, sizeof state);
    }
}

static void make_a_child(void) {
    pid_t child = fork();
    if (child == 0) exit(7);
    int status;
    if (child == -1 || waitpid(child, &status, 0) != child) err(1, "fork");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) errx(1, "the child ended with %#x", (unsigned)status);
}

int main(int count, char **arguments) {
    const long exits = count > 1 ? atol(arguments[1]) : 1000;
    const bool is_noisy = count > 2 && strcmp(arguments[2], "noise") == 0;
    const bool forks = count > 2 && strcmp(arguments[2], "fork") == 0;
    const int disk = count > 3 ? open(arguments[3], O_WRONLY | O_CREAT, 0600) : -1;
    struct nvmm_machine machine;
    struct nvmm_vcpu vcpu;
    struct nvmm_assist_callbacks callbacks = {.io = serial};
    if ((away = open("/dev/null", O_WRONLY)) == -1) err(1, "/dev/null");
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu");
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");
    uint8_t *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || nvmm_hva_map(&machine, (uintptr_t)memory, 8192) == -1) err(1, "memory");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0x1000, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) {
        err(1, "gpa_map");
    }
    memcpy(memory, guest, sizeof guest);
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    for (long done = 0; done < exits; done++) {
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
        if (vcpu.exit->reason == NVMM_VCPU_EXIT_NONE) continue;
        if (vcpu.exit->reason != NVMM_VCPU_EXIT_IO) errx(1, "exit %#llx", (unsigned long long)vcpu.exit->reason);
        if (nvmm_assist_io(&machine, &vcpu) == -1) err(1, "assist_io");
        if (forks && done == exits / 2) make_a_child();
        if (is_noisy) make_noise(memory + 4096);
        if (disk != -1 && pwrite(disk, memory, 4096, done % 1024 * 4096) != 4096) err(1, "pwrite");
    }
    printf("%ld exits\n", exits);
    return 0;
}
