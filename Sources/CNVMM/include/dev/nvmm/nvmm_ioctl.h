// The device's requests and their arguments (lineage v2), in BSD's encoding whatever the host: clients include this
// header for `struct nvmm_ctl_mach_info`; the numbers serve those who read or write them in traces.
#ifndef DEV_NVMM_NVMM_IOCTL_H
#define DEV_NVMM_NVMM_IOCTL_H

#include <dev/nvmm/nvmm.h>
#include <time.h>

struct nvmm_ioc_capability {
    struct nvmm_capability cap;
};

struct nvmm_ioc_machine_create {
    nvmm_machid_t machid;
};

struct nvmm_ioc_machine_destroy {
    nvmm_machid_t machid;
};

struct nvmm_ioc_machine_configure {
    nvmm_machid_t machid;
    uint64_t op;
    void *conf;
};

struct nvmm_ioc_vcpu_create {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
};

struct nvmm_ioc_vcpu_destroy {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
};

struct nvmm_ioc_vcpu_configure {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
    uint64_t op;
    void *conf;
};

struct nvmm_ioc_vcpu_setstate {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
};

struct nvmm_ioc_vcpu_getstate {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
};

struct nvmm_ioc_vcpu_inject {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
};

struct nvmm_ioc_vcpu_run {
    nvmm_machid_t machid;
    nvmm_cpuid_t cpuid;
    struct nvmm_vcpu_exit exit;
};

struct nvmm_ioc_gpa_map {
    nvmm_machid_t machid;
    uintptr_t hva;
    gpaddr_t gpa;
    size_t size;
    int prot;
};

struct nvmm_ioc_gpa_unmap {
    nvmm_machid_t machid;
    gpaddr_t gpa;
    size_t size;
};

struct nvmm_ioc_hva_map {
    nvmm_machid_t machid;
    uintptr_t hva;
    size_t size;
    int flags;
};

struct nvmm_ioc_hva_unmap {
    nvmm_machid_t machid;
    uintptr_t hva;
    size_t size;
    int flags;
};

#define NVMM_CTL_MACH_INFO 0

struct nvmm_ctl_mach_info {
    nvmm_machid_t machid;  // asked for by the caller
    uint32_t nvcpus;
    uint64_t nram;  // bytes, the sum of the HVA mappings
    pid_t pid;
    time_t time;  // of creation, seconds
};

struct nvmm_ioc_ctl {
    int op;
    void *data;
    size_t size;
};

// Bits 31 and 30: copied in, copied out; 28..16 bytes of the argument; 15..8 the group; 7..0 the number.
#define NVMM_IOC_IN 0x80000000UL
#define NVMM_IOC_OUT 0x40000000UL
#define NVMM_IOC_REQUEST(direction, number, type) \
    ((direction) | ((sizeof(type) & 0x1FFFUL) << 16) | (0x4EUL << 8) | (number))

#define NVMM_IOC_CAPABILITY NVMM_IOC_REQUEST(NVMM_IOC_OUT, 0, struct nvmm_ioc_capability)
#define NVMM_IOC_MACHINE_CREATE NVMM_IOC_REQUEST(NVMM_IOC_IN | NVMM_IOC_OUT, 1, struct nvmm_ioc_machine_create)
#define NVMM_IOC_MACHINE_DESTROY NVMM_IOC_REQUEST(NVMM_IOC_IN, 2, struct nvmm_ioc_machine_destroy)
#define NVMM_IOC_MACHINE_CONFIGURE NVMM_IOC_REQUEST(NVMM_IOC_IN, 3, struct nvmm_ioc_machine_configure)
#define NVMM_IOC_VCPU_CREATE NVMM_IOC_REQUEST(NVMM_IOC_IN, 4, struct nvmm_ioc_vcpu_create)
#define NVMM_IOC_VCPU_DESTROY NVMM_IOC_REQUEST(NVMM_IOC_IN, 5, struct nvmm_ioc_vcpu_destroy)
#define NVMM_IOC_VCPU_CONFIGURE NVMM_IOC_REQUEST(NVMM_IOC_IN, 6, struct nvmm_ioc_vcpu_configure)
#define NVMM_IOC_VCPU_SETSTATE NVMM_IOC_REQUEST(NVMM_IOC_IN, 7, struct nvmm_ioc_vcpu_setstate)
#define NVMM_IOC_VCPU_GETSTATE NVMM_IOC_REQUEST(NVMM_IOC_IN, 8, struct nvmm_ioc_vcpu_getstate)
#define NVMM_IOC_VCPU_INJECT NVMM_IOC_REQUEST(NVMM_IOC_IN, 9, struct nvmm_ioc_vcpu_inject)
#define NVMM_IOC_VCPU_RUN NVMM_IOC_REQUEST(NVMM_IOC_IN | NVMM_IOC_OUT, 10, struct nvmm_ioc_vcpu_run)
#define NVMM_IOC_GPA_MAP NVMM_IOC_REQUEST(NVMM_IOC_IN, 11, struct nvmm_ioc_gpa_map)
#define NVMM_IOC_GPA_UNMAP NVMM_IOC_REQUEST(NVMM_IOC_IN, 12, struct nvmm_ioc_gpa_unmap)
#define NVMM_IOC_HVA_MAP NVMM_IOC_REQUEST(NVMM_IOC_IN, 13, struct nvmm_ioc_hva_map)
#define NVMM_IOC_HVA_UNMAP NVMM_IOC_REQUEST(NVMM_IOC_IN, 14, struct nvmm_ioc_hva_unmap)
#define NVMM_IOC_CTL NVMM_IOC_REQUEST(NVMM_IOC_IN, 20, struct nvmm_ioc_ctl)

#endif
