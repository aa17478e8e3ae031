// The smallest virtual machine monitor: one page of real-mode code says hello on a serial port and halts.
//
//   cc hello.c $(pkg-config --cflags --libs nvmm) -o hello && ./hello
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define CODE_GPA 0x1000
#define SERIAL_PORT 0x3F8

static const uint8_t guest[] = {
    0xFC,              // 1000 cld
    0xBE, 0x11, 0x10,  // 1001 mov si, 0x1011
    0xBA, 0xF8, 0x03,  // 1004 mov dx, 0x3F8
    0xAC,              // 1007 lodsb
    0x84, 0xC0,        // 1008 test al, al
    0x74, 0x03,        // 100A jz 0x100F
    0xEE,              // 100C out dx, al
    0xEB, 0xF8,        // 100D jmp 0x1007
    0xF4,              // 100F hlt
    0x90,              // 1010 nop
    'h', 'e', 'l', 'l', 'o', ' ', 'f', 'r', 'o', 'm', ' ', 'a', ' ', 'g', 'u', 'e', 's', 't', '\n', 0,
};

/// Called by nvmm_assist_io with one byte of what the guest sends.
static void serial(struct nvmm_io *io) {
    if (io->in) {
        memset(io->data, 0xFF, io->size);  // nobody there
    } else if (io->port == SERIAL_PORT) {
        putchar(io->data[0]);
    }
}

int main(void) {
    struct nvmm_machine machine;
    struct nvmm_vcpu vcpu;
    struct nvmm_assist_callbacks callbacks = {.io = serial};

    if (nvmm_init() == -1) err(1, "nvmm_init");
    if (nvmm_machine_create(&machine) == -1) err(1, "nvmm_machine_create");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "nvmm_vcpu_create");
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");

    // The range is replaced by memory that guest and client share; the guest sees it where gpa_map puts it.
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) err(1, "mmap");
    if (nvmm_hva_map(&machine, (uintptr_t)page, PAGE) == -1) err(1, "nvmm_hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)page, CODE_GPA, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) {
        err(1, "nvmm_gpa_map");
    }
    memcpy(page, guest, sizeof guest);

    // A new VCPU is in its reset state, which is valid in the comm page: only what differs is written. The code
    // segment's base at reset is high above, where firmware would be.
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = CODE_GPA;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");

    for (;;) {
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "nvmm_vcpu_run");
        switch (vcpu.exit->reason) {
        case NVMM_VCPU_EXIT_NONE:  // the host wanted the processor for a moment
            continue;
        case NVMM_VCPU_EXIT_IO:
            if (nvmm_assist_io(&machine, &vcpu) == -1) err(1, "nvmm_assist_io");
            continue;
        case NVMM_VCPU_EXIT_HALTED:
            break;
        default:
            errx(1, "unexpected exit %#llx", (unsigned long long)vcpu.exit->reason);
        }
        break;
    }

    if (nvmm_vcpu_destroy(&machine, &vcpu) == -1) err(1, "nvmm_vcpu_destroy");
    if (nvmm_machine_destroy(&machine) == -1) err(1, "nvmm_machine_destroy");
    return 0;
}
