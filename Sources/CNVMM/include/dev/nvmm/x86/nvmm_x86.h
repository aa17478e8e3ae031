// What NVMM says about an x86-64 VCPU: its exits, events, state and configuration (lineage v2).
// Constants are plain literals wherever possible, so that they can be imported by other languages.
#ifndef DEV_NVMM_X86_NVMM_X86_H
#define DEV_NVMM_X86_NVMM_X86_H

#ifndef DEV_NVMM_NVMM_H
#error "include <nvmm.h> or <dev/nvmm/nvmm.h>"
#endif

// The names without an architecture are macros: both spellings of a structure are one type.
#define nvmm_vcpu_exit nvmm_x86_exit
#define nvmm_vcpu_event nvmm_x86_event
#define nvmm_vcpu_state nvmm_x64_state

// MARK: - Exits

#define NVMM_VCPU_EXIT_NONE 0x0ULL
#define NVMM_VCPU_EXIT_MEMORY 0x1ULL
#define NVMM_VCPU_EXIT_IO 0x2ULL
#define NVMM_VCPU_EXIT_SHUTDOWN 0x1000ULL
#define NVMM_VCPU_EXIT_INT_READY 0x1001ULL
#define NVMM_VCPU_EXIT_NMI_READY 0x1002ULL
#define NVMM_VCPU_EXIT_HALTED 0x1003ULL
#define NVMM_VCPU_EXIT_TPR_CHANGED 0x1004ULL
#define NVMM_VCPU_EXIT_RDMSR 0x2000ULL
#define NVMM_VCPU_EXIT_WRMSR 0x2001ULL
#define NVMM_VCPU_EXIT_MONITOR 0x2002ULL
#define NVMM_VCPU_EXIT_MWAIT 0x2003ULL
#define NVMM_VCPU_EXIT_CPUID 0x2004ULL
#define NVMM_VCPU_EXIT_STOPPED 0xFFFFFFFFFFFFFFFEULL
#define NVMM_VCPU_EXIT_INVALID 0xFFFFFFFFFFFFFFFFULL

/// MEMORY: an access that the guest's memory map does not allow.
struct nvmm_x86_exit_memory {
    int prot;  // the one right that was missing: PROT_READ, PROT_WRITE or PROT_EXEC
    gpaddr_t gpa;
    uint8_t inst_len;  // 0 where the processor does not give the instruction
    uint8_t inst_bytes[15];
};

/// IO: one IN, OUT, INS or OUTS.
struct nvmm_x86_exit_io {
    bool in;
    uint16_t port;
    int8_t seg;  // NVMM_X64_SEG_ES to _GS, -1 where the processor does not say
    uint8_t address_size;
    uint8_t operand_size;
    bool rep;
    bool str;
    uint64_t npc;
};

struct nvmm_x86_exit_rdmsr {
    uint32_t msr;
    uint64_t npc;
};

struct nvmm_x86_exit_wrmsr {
    uint32_t msr;
    uint64_t val;  // EDX:EAX
    uint64_t npc;
};

/// MONITOR, MWAIT, CPUID.
struct nvmm_x86_exit_insn {
    uint64_t npc;
};

/// INVALID, with the processor's own code.
struct nvmm_x86_exit_invalid {
    uint64_t hwcode;
};

/// What a client checks after every run, so that it needs no call to ask.
struct nvmm_x86_exitstate {
    uint64_t rflags;
    uint64_t cr8;
    uint64_t int_shadow : 1;
    uint64_t int_window_exiting : 1;
    uint64_t nmi_window_exiting : 1;
    uint64_t evt_pending : 1;
    uint64_t rsvd : 60;
};

struct nvmm_x86_exit {
    uint64_t reason;
    union {
        struct nvmm_x86_exit_memory mem;
        struct nvmm_x86_exit_io io;
        struct nvmm_x86_exit_rdmsr rdmsr;
        struct nvmm_x86_exit_wrmsr wrmsr;
        struct nvmm_x86_exit_insn insn;
        struct nvmm_x86_exit_invalid inv;
    } u;
    struct nvmm_x86_exitstate exitstate;
};

// MARK: - Events

#define NVMM_VCPU_EVENT_EXCP 0
/// A hardware interrupt; with vector 2 an NMI.
#define NVMM_VCPU_EVENT_INTR 1

struct nvmm_x86_event {
    unsigned int type;
    uint8_t vector;
    union {
        struct {
            uint64_t error;  // used by the exceptions that push one
        } excp;
    } u;
};

// MARK: - State

// ES to GS as instructions encode them, then the tables.
#define NVMM_X64_SEG_ES 0
#define NVMM_X64_SEG_CS 1
#define NVMM_X64_SEG_SS 2
#define NVMM_X64_SEG_DS 3
#define NVMM_X64_SEG_FS 4
#define NVMM_X64_SEG_GS 5
#define NVMM_X64_SEG_GDT 6
#define NVMM_X64_SEG_IDT 7
#define NVMM_X64_SEG_LDT 8
#define NVMM_X64_SEG_TR 9
#define NVMM_X64_NSEG 10

// RAX to R15 as instructions encode them.
#define NVMM_X64_GPR_RAX 0
#define NVMM_X64_GPR_RCX 1
#define NVMM_X64_GPR_RDX 2
#define NVMM_X64_GPR_RBX 3
#define NVMM_X64_GPR_RSP 4
#define NVMM_X64_GPR_RBP 5
#define NVMM_X64_GPR_RSI 6
#define NVMM_X64_GPR_RDI 7
#define NVMM_X64_GPR_R8 8
#define NVMM_X64_GPR_R9 9
#define NVMM_X64_GPR_R10 10
#define NVMM_X64_GPR_R11 11
#define NVMM_X64_GPR_R12 12
#define NVMM_X64_GPR_R13 13
#define NVMM_X64_GPR_R14 14
#define NVMM_X64_GPR_R15 15
#define NVMM_X64_GPR_RIP 16
#define NVMM_X64_GPR_RFLAGS 17
#define NVMM_X64_NGPR 18

#define NVMM_X64_CR_CR0 0
#define NVMM_X64_CR_CR2 1
#define NVMM_X64_CR_CR3 2
#define NVMM_X64_CR_CR4 3
#define NVMM_X64_CR_CR8 4
#define NVMM_X64_CR_XCR0 5
#define NVMM_X64_NCR 6

#define NVMM_X64_DR_DR0 0
#define NVMM_X64_DR_DR1 1
#define NVMM_X64_DR_DR2 2
#define NVMM_X64_DR_DR3 3
#define NVMM_X64_DR_DR6 4
#define NVMM_X64_DR_DR7 5
#define NVMM_X64_NDR 6

#define NVMM_X64_MSR_EFER 0
#define NVMM_X64_MSR_STAR 1
#define NVMM_X64_MSR_LSTAR 2
#define NVMM_X64_MSR_CSTAR 3
#define NVMM_X64_MSR_SFMASK 4
#define NVMM_X64_MSR_KERNELGSBASE 5
#define NVMM_X64_MSR_SYSENTER_CS 6
#define NVMM_X64_MSR_SYSENTER_ESP 7
#define NVMM_X64_MSR_SYSENTER_EIP 8
#define NVMM_X64_MSR_PAT 9
#define NVMM_X64_MSR_TSC 10
#define NVMM_X64_NMSR 11

#define NVMM_X64_STATE_SEGS 0x01
#define NVMM_X64_STATE_GPRS 0x02
#define NVMM_X64_STATE_CRS 0x04
#define NVMM_X64_STATE_DRS 0x08
#define NVMM_X64_STATE_MSRS 0x10
#define NVMM_X64_STATE_INTR 0x20
#define NVMM_X64_STATE_FPU 0x40
#define NVMM_X64_STATE_ALL 0x7F

struct nvmm_x64_state_seg {
    uint16_t selector;
    struct {
        uint16_t type : 4;
        uint16_t s : 1;
        uint16_t dpl : 2;
        uint16_t p : 1;
        uint16_t avl : 1;
        uint16_t l : 1;
        uint16_t def : 1;
        uint16_t g : 1;
        uint16_t rsvd : 4;
    } attrib;
    uint32_t limit;  // in bytes, whatever g says
    uint64_t base;
};

struct nvmm_x64_state_intr {
    uint64_t int_shadow : 1;
    uint64_t int_window_exiting : 1;
    uint64_t nmi_window_exiting : 1;
    uint64_t evt_pending : 1;  // ignored when it is set
    uint64_t rsvd : 60;
};

/// Last x87 instruction or operand: a 64-bit offset, or offset and selector of the 32-bit form.
union nvmm_x64_state_fpu_addr {
    uint64_t fa_64;
    struct {
        uint32_t fa_off;
        uint16_t fa_seg;
        uint16_t fa_opcode;
    } fa_32;
};

struct nvmm_x64_state_fpu_mmreg {
    uint64_t mm_significand;
    uint16_t mm_exp_sign;
    uint8_t mm_rsvd[6];
};

struct nvmm_x64_state_fpu_xmmreg {
    uint8_t xmm_bytes[16];
};

/// The image that FXSAVE stores in 64-bit mode.
struct nvmm_x64_state_fpu {
    uint16_t fx_cw;
    uint16_t fx_sw;
    uint8_t fx_tw;  // abridged: a bit for each register that is not empty
    uint8_t fx_zero;
    uint16_t fx_opcode;
    union nvmm_x64_state_fpu_addr fx_ip;
    union nvmm_x64_state_fpu_addr fx_dp;
    uint32_t fx_mxcsr;
    uint32_t fx_mxcsr_mask;
    struct nvmm_x64_state_fpu_mmreg fx_87_ac[8];
    struct nvmm_x64_state_fpu_xmmreg fx_xmm[16];
    uint8_t fx_rsvd[96];
} __attribute__((__aligned__(16)));

/// All that the interface shows of a VCPU. FS and GS bases stand in `segs`, not among the MSRs; there is no AVX state.
struct nvmm_x64_state {
    struct nvmm_x64_state_seg segs[NVMM_X64_NSEG];
    uint64_t gprs[NVMM_X64_NGPR];
    uint64_t crs[NVMM_X64_NCR];
    uint64_t drs[NVMM_X64_NDR];
    uint64_t msrs[NVMM_X64_NMSR];
    struct nvmm_x64_state_intr intr;
    struct nvmm_x64_state_fpu fpu;
};

// MARK: - Capability and configuration

#define NVMM_CAP_ARCH_VCPU_CONF_CPUID 0x1
#define NVMM_CAP_ARCH_VCPU_CONF_TPR 0x2

struct nvmm_cap_md {
    uint64_t mach_conf_support;
    uint64_t vcpu_conf_support;  // NVMM_CAP_ARCH_VCPU_CONF_*
    uint64_t xcr0_mask;          // bits of XCR0 that a guest may set
    uint32_t mxcsr_mask;
    uint32_t conf_cpuid_maxops;  // leaves that one VCPU may have configured
    uint64_t rsvd[6];
};

#define NVMM_VCPU_CONF_CPUID 200
#define NVMM_VCPU_CONF_TPR 201

/// What CPUID does in one leaf. The leaf alone is the key; with `mask` and `exit` both 0 its entry is removed.
struct nvmm_vcpu_conf_cpuid {
    uint32_t mask : 1;  // result = (value & ~del) | set
    uint32_t exit : 1;  // exit to the client instead
    uint32_t rsvd : 30;
    uint32_t leaf;
    union {
        struct {
            struct {
                uint32_t eax;
                uint32_t ebx;
                uint32_t ecx;
                uint32_t edx;
            } set;
            struct {
                uint32_t eax;
                uint32_t ebx;
                uint32_t ecx;
                uint32_t edx;
            } del;
        } mask;
    } u;
};

struct nvmm_vcpu_conf_tpr {
    uint32_t exit_changed : 1;  // MOV to CR8 exits with TPR_CHANGED
    uint32_t rsvd : 31;
};

#endif
