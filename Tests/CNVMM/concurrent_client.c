// Two VCPUs, each in a thread of its own, count together: LOCK INC in one place, INC under a spin lock in another.
#define _DEFAULT_SOURCE
#include <err.h>
#include <nvmm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define CODE 0x1000
#define ROUNDS 200000

static const unsigned char guest[] = {
    0x66, 0xB9, ROUNDS & 0xFF, ROUNDS >> 8 & 0xFF, ROUNDS >> 16 & 0xFF, 0x00,  // 1000 mov ecx, ROUNDS
    0xF0, 0x66, 0xFF, 0x06, 0x00, 0x18,  // 1006 lock inc dword [0x1800]
    0xB0, 0x01,                          // 100C mov al, 1
    0x86, 0x06, 0x40, 0x18,              // 100E xchg [0x1840], al
    0x84, 0xC0,                          // 1012 test al, al
    0x75, 0xF6,                          // 1014 jnz 100C
    0x66, 0xFF, 0x06, 0x80, 0x18,        // 1016 inc dword [0x1880]
    0xC6, 0x06, 0x40, 0x18, 0x00,        // 101B mov byte [0x1840], 0
    0x66, 0x49,                          // 1020 dec ecx
    0x75, 0xE2,                          // 1022 jnz 1006
    0xF4,                                // 1024 hlt
};

static struct nvmm_machine machine;
static struct nvmm_vcpu vcpus[2];

static void *run(void *argument) {
    struct nvmm_vcpu *vcpu = argument;
    do {
        if (nvmm_vcpu_run(&machine, vcpu) == -1) err(1, "run");
    } while (vcpu->exit->reason == NVMM_VCPU_EXIT_NONE);
    if (vcpu->exit->reason != NVMM_VCPU_EXIT_HALTED) errx(1, "exit %llx", (unsigned long long)vcpu->exit->reason);
    return NULL;
}

int main(void) {
    unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) err(1, "mmap");
    if (nvmm_init() == -1 || nvmm_machine_create(&machine) == -1) err(1, "machine");
    if (nvmm_hva_map(&machine, (uintptr_t)page, PAGE) == -1) err(1, "hva");
    if (nvmm_gpa_map(&machine, (uintptr_t)page, CODE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == -1) err(1, "gpa");
    memcpy(page, guest, sizeof guest);
    for (unsigned id = 0; id < 2; id++) {
        struct nvmm_vcpu *vcpu = &vcpus[id];
        if (nvmm_vcpu_create(&machine, id, vcpu) == -1) err(1, "vcpu");
        vcpu->state->segs[NVMM_X64_SEG_CS].selector = 0;
        vcpu->state->segs[NVMM_X64_SEG_CS].base = 0;
        vcpu->state->gprs[NVMM_X64_GPR_RIP] = CODE;
        if (nvmm_vcpu_setstate(&machine, vcpu, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
    }
    pthread_t threads[2];
    for (unsigned id = 0; id < 2; id++) pthread_create(&threads[id], NULL, run, &vcpus[id]);
    for (unsigned id = 0; id < 2; id++) pthread_join(threads[id], NULL);
    unsigned locked, guarded;
    memcpy(&locked, page + 0x800, sizeof locked);
    memcpy(&guarded, page + 0x880, sizeof guarded);
    printf("%u with LOCK, %u under a spin lock\n", locked, guarded);
    return 0;
}
