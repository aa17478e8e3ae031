// Makes two machines and waits for the end of its input; with an argument asks about the machine of that number.
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
    if (nvmm_init() == -1) err(1, "init");
    if (argc > 1) {
        struct nvmm_ctl_mach_info info = {.machid = (nvmm_machid_t)atoi(argv[1])};
        if (nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof info) == -1) err(1, "ctl");
        printf("machine %u: %u VCPUs, %llu bytes, process %d\n", info.machid, info.nvcpus,
            (unsigned long long)info.nram, info.pid);
        return 0;
    }
    struct nvmm_machine machines[2];
    struct nvmm_vcpu vcpus[2];
    const size_t bytes = 0x10000;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) err(1, "mmap");
    if (nvmm_machine_create(&machines[0]) == -1 || nvmm_machine_create(&machines[1]) == -1) err(1, "machine");
    if (nvmm_hva_map(&machines[1], (uintptr_t)memory, bytes) == -1) err(1, "hva_map");
    for (nvmm_cpuid_t id = 0; id < 2; id++) {
        if (nvmm_vcpu_create(&machines[1], id, &vcpus[id]) == -1) err(1, "vcpu");
    }
    while (getchar() != EOF) {}
    printf("machines %u and %u\n", machines[0].machid, machines[1].machid);
    return 0;
}
