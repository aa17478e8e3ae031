// The boundary's vocabulary, lineage v2: identifiers, capability, comm page, slots of configuration.
// Sizes and offsets: Docs/nvmm-abi.md, held by Sources/CNVMM/layout.c.
#ifndef DEV_NVMM_NVMM_H
#define DEV_NVMM_NVMM_H

#include <nvmm_compat.h>

typedef uint64_t gpaddr_t;
typedef uint64_t gvaddr_t;
typedef uint32_t nvmm_machid_t;
typedef uint32_t nvmm_cpuid_t;

/// The interface's revision as the hypervisor's side knows it: 2 has the stop flag.
#define NVMM_KERN_VERSION 2

// Who may use which configuration number: the library, any hypervisor, one architecture.
#define NVMM_MACH_CONF_LIBNVMM_BEGIN 0
#define NVMM_MACH_CONF_MI_BEGIN 100
#define NVMM_MACH_CONF_MD_BEGIN 200
#define NVMM_MACH_CONF_MD(op) ((op) - NVMM_MACH_CONF_MD_BEGIN)

#define NVMM_VCPU_CONF_LIBNVMM_BEGIN 0
#define NVMM_VCPU_CONF_MI_BEGIN 100
#define NVMM_VCPU_CONF_MD_BEGIN 200
#define NVMM_VCPU_CONF_MD(op) ((op) - NVMM_VCPU_CONF_MD_BEGIN)

#include <dev/nvmm/x86/nvmm_x86.h>

struct nvmm_capability {
    uint32_t version;     // NVMM_KERN_VERSION of the hypervisor
    uint32_t state_size;  // sizeof(struct nvmm_vcpu_state)
    uint32_t max_machines;
    uint32_t max_vcpus;  // in one machine
    uint64_t max_ram;    // bytes, in one machine
    struct nvmm_cap_md arch;
};

/// One page for each VCPU, shared by the client's library and the hypervisor.
struct nvmm_comm_page {
    uint64_t state_wanted;  // parts that the hypervisor is asked to read or write at once
    uint64_t state_cached;  // parts of `state` that equal the VCPU's
    uint64_t state_commit;  // parts that the next run installs
    struct nvmm_vcpu_state state;
    bool event_commit;  // the next run delivers `event`
    struct nvmm_vcpu_event event;
    volatile int stop;  // the next run returns at once
};

#define NVMM_COMM_PAGE_SIZE 4096

/// Where a VCPU's comm page stands in the device file. Kept for sources that mention it; nothing here is mapped so.
#define NVMM_COMM_OFF(machid, cpuid) ((((uint64_t)(machid) & 0xFF) << 20) | (((uint64_t)(cpuid) & 0xFF) << 12))

#endif
