// The structures of libnvmm itself, without its functions: whoever implements the functions in another language
// imports this header (module CNVMM) and has no declarations in the way of his own.
#ifndef NVMM_TYPES_H
#define NVMM_TYPES_H

#include <dev/nvmm/nvmm.h>
#include <dev/nvmm/nvmm_ioctl.h>

#define NVMM_USER_VERSION 2

typedef uint64_t nvmm_prot_t;

// PROT_READ, PROT_WRITE, PROT_EXEC have the same values; USER comes from page tables only.
#define NVMM_PROT_READ 0x01
#define NVMM_PROT_WRITE 0x02
#define NVMM_PROT_EXEC 0x04
#define NVMM_PROT_USER 0x08
#define NVMM_PROT_ALL 0x0F

struct nvmm_machine;
struct nvmm_vcpu;

/// An access to a port, as an assist hands it to the client's callback.
struct nvmm_io {
    struct nvmm_machine *mach;
    struct nvmm_vcpu *vcpu;
    uint16_t port;
    bool in;
    size_t size;    // bytes: 1, 2 or 4
    uint8_t *data;  // read for OUT, filled for IN
};

/// An access to memory that nothing is mapped at.
struct nvmm_mem {
    struct nvmm_machine *mach;
    struct nvmm_vcpu *vcpu;
    gpaddr_t gpa;
    bool write;
    size_t size;    // bytes: 1, 2, 4 or 8
    uint8_t *data;  // read for a store, filled for a load
};

#define NVMM_VCPU_CONF_CALLBACKS 0

struct nvmm_assist_callbacks {
    void (*io)(struct nvmm_io *);
    void (*mem)(struct nvmm_mem *);
};

struct nvmm_machine {
    nvmm_machid_t machid;
    struct nvmm_comm_page **pages;  // by VCPU number
    void *areas;                    // the library's own
};

struct nvmm_vcpu {
    nvmm_cpuid_t cpuid;
    struct nvmm_assist_callbacks cbs;
    struct nvmm_vcpu_state *state;  // in the comm page
    struct nvmm_vcpu_event *event;  // in the comm page
    struct nvmm_vcpu_exit *exit;    // the library's copy of the last one
    volatile int *stop;             // in the comm page
};

#endif
