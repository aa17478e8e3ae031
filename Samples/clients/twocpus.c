// A monitor with two VCPUs, each in its own thread. The first starts the second through a port; they count together
// in shared memory, under a lock of their own.
//
//   cc twocpus.c $(pkg-config --cflags --libs nvmm) -pthread -o twocpus && ./twocpus
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "twocpus_guest.h"

#define MEMORY_BYTES 0x8000
#define GUEST_GPA 0x1000  // org of twocpus_guest.asm

static struct nvmm_machine machine;
static struct nvmm_vcpu vcpus[2];
static pthread_t second;
static atomic_int status = -1;  // what the guest wrote to the port of the end

static void *run_second(void *);

static void on_port(struct nvmm_io *io) {
    if (io->in) {
        memset(io->data, 0xFF, io->size);
        return;
    }
    switch (io->port) {
    case 0x3F8: putchar(io->data[0]); break;
    case 0x90:
        if (pthread_create(&second, NULL, run_second, NULL) != 0) errx(1, "pthread_create");
        break;
    case 0xF4: atomic_store(&status, io->data[0]); break;
    default: errx(1, "write to port %#x", io->port);
    }
}

/// Creates VCPU `number` with real-mode code at the start of the guest's program and a stack of its own.
static void create(nvmm_cpuid_t number) {
    struct nvmm_assist_callbacks callbacks = {.io = on_port};
    struct nvmm_vcpu *vcpu = &vcpus[number];
    if (nvmm_vcpu_create(&machine, number, vcpu) == -1) err(1, "nvmm_vcpu_create");
    if (nvmm_vcpu_configure(&machine, vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");
    vcpu->state->segs[NVMM_X64_SEG_CS].selector = 0;
    vcpu->state->segs[NVMM_X64_SEG_CS].base = 0;
    vcpu->state->gprs[NVMM_X64_GPR_RIP] = GUEST_GPA;
    vcpu->state->gprs[NVMM_X64_GPR_RSP] = number == 0 ? 0x7000 : 0x6000;
    vcpu->state->gprs[NVMM_X64_GPR_RBX] = number;
    nvmm_vcpu_setstate(&machine, vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS);
}

/// Runs VCPU `number` until it halts. Only this thread calls run for it.
static void run(nvmm_cpuid_t number) {
    struct nvmm_vcpu *vcpu = &vcpus[number];
    for (;;) {
        if (nvmm_vcpu_run(&machine, vcpu) == -1) err(1, "nvmm_vcpu_run");
        switch (vcpu->exit->reason) {
        case NVMM_VCPU_EXIT_NONE: break;
        case NVMM_VCPU_EXIT_HALTED: return;
        case NVMM_VCPU_EXIT_IO:
            if (nvmm_assist_io(&machine, vcpu) == -1) err(1, "nvmm_assist_io");
            break;
        default: errx(1, "unexpected exit %#llx of VCPU %u", (unsigned long long)vcpu->exit->reason, number);
        }
    }
}

static void *run_second(void *unused) {
    (void)unused;
    create(1);
    run(1);
    return NULL;
}

int main(void) {
    if (nvmm_init() == -1) err(1, "nvmm_init");
    if (nvmm_machine_create(&machine) == -1) err(1, "nvmm_machine_create");
    uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) err(1, "mmap");
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    if (nvmm_hva_map(&machine, (uintptr_t)memory, MEMORY_BYTES) == -1) err(1, "nvmm_hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0, MEMORY_BYTES, all) == -1) err(1, "nvmm_gpa_map");
    memcpy(memory + GUEST_GPA, twocpus_guest, sizeof twocpus_guest);

    create(0);
    run(0);
    pthread_join(second, NULL);

    for (nvmm_cpuid_t number = 0; number < 2; number++) {
        if (nvmm_vcpu_destroy(&machine, &vcpus[number]) == -1) err(1, "nvmm_vcpu_destroy");
    }
    if (nvmm_machine_destroy(&machine) == -1) err(1, "nvmm_machine_destroy");
    return atomic_load(&status);
}
