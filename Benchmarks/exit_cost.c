// What one run of a VCPU costs a client of libnvmm that does the least: a guest that only makes OUTs, the client moves
// RIP on. Prints nanoseconds for a run with its exit.
//   cc exit_cost.c $(pkg-config --cflags --libs nvmm) -o exit_cost && ./exit_cost RUNS
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096

static const unsigned char guest[] = {
    0xE6, 0x80,  // out 0x80, al
    0xEB, 0xFC,  // jmp to it
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int count, char **arguments) {
    long runs = count > 1 ? atol(arguments[1]) : 1000000;
    struct nvmm_machine machine;
    struct nvmm_vcpu vcpu;
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu");
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) err(1, "mmap");
    if (nvmm_hva_map(&machine, (uintptr_t)page, PAGE) == -1) err(1, "hva");
    if (nvmm_gpa_map(&machine, (uintptr_t)page, 0x1000, PAGE, PROT_READ | PROT_EXEC) == -1) err(1, "gpa");
    memcpy(page, guest, sizeof guest);
    vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    double begin = now();
    for (long run = 0; run < runs; run++) {
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
        if (vcpu.exit->reason != NVMM_VCPU_EXIT_IO) errx(1, "exit %llx", (unsigned long long)vcpu.exit->reason);
        if (nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == -1) err(1, "getstate");
        vcpu.state->gprs[NVMM_X64_GPR_RIP] = vcpu.exit->u.io.npc;
        if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    }
    printf("%.1f\n", (now() - begin) / (double)runs);
    return 0;
}
