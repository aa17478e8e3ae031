// libnvmm: what a virtual machine monitor calls. Lineage v2, which has the stop flag.
// Every function returns 0, or -1 with errno; Docs/nvmm-abi.md has the numbers.
#ifndef NVMM_H
#define NVMM_H

#include <nvmm_types.h>

#ifdef __cplusplus
extern "C" {
#endif

// Before everything else. root_init is for tools that look at other processes' machines.
int nvmm_init(void);
int nvmm_root_init(void);
int nvmm_capability(struct nvmm_capability *);
int nvmm_ctl(int, void *, size_t);

int nvmm_machine_create(struct nvmm_machine *);
int nvmm_machine_destroy(struct nvmm_machine *);
int nvmm_machine_configure(struct nvmm_machine *, uint64_t, void *);

int nvmm_vcpu_create(struct nvmm_machine *, nvmm_cpuid_t, struct nvmm_vcpu *);
int nvmm_vcpu_destroy(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_configure(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t, void *);

// setstate and inject are stores into the comm page; getstate is a call only for parts that the page lacks.
int nvmm_vcpu_setstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_getstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_inject(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_run(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_stop(struct nvmm_vcpu *);  // from any thread or signal handler
int nvmm_vcpu_dump(struct nvmm_machine *, struct nvmm_vcpu *);

// hva_map replaces what stands in the range by zeroed shared memory; gpa_map lets the guest see a part of it.
int nvmm_hva_map(struct nvmm_machine *, uintptr_t, size_t);
int nvmm_hva_unmap(struct nvmm_machine *, uintptr_t, size_t);
int nvmm_gpa_map(struct nvmm_machine *, uintptr_t, gpaddr_t, size_t, int);
int nvmm_gpa_unmap(struct nvmm_machine *, uintptr_t, gpaddr_t, size_t);
int nvmm_gva_to_gpa(struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t, gpaddr_t *, nvmm_prot_t *);
int nvmm_gpa_to_hva(struct nvmm_machine *, gpaddr_t, uintptr_t *, nvmm_prot_t *);

// Perform the access of the exit that was just returned, through the VCPU's callbacks.
int nvmm_assist_io(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_assist_mem(struct nvmm_machine *, struct nvmm_vcpu *);

#ifdef __cplusplus
}
#endif

#endif
