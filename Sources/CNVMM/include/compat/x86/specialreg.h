// Control and model-specific registers for sources written for a BSD. Values: Intel SDM, volume 3, section 2.5,
// volume 4; AMD64 Architecture Programmer's Manual, volume 2, section 3.1.
#ifndef NVMM_COMPAT_X86_SPECIALREG_H
#define NVMM_COMPAT_X86_SPECIALREG_H

#define CR0_PE 0x00000001  // protected mode
#define CR0_MP 0x00000002
#define CR0_EM 0x00000004
#define CR0_TS 0x00000008
#define CR0_ET 0x00000010
#define CR0_NE 0x00000020
#define CR0_WP 0x00010000
#define CR0_AM 0x00040000
#define CR0_NW 0x20000000
#define CR0_CD 0x40000000
#define CR0_PG 0x80000000  // paging

#define CR4_VME 0x00000001
#define CR4_TSD 0x00000004
#define CR4_DE 0x00000008
#define CR4_PSE 0x00000010
#define CR4_PAE 0x00000020
#define CR4_MCE 0x00000040
#define CR4_PGE 0x00000080
#define CR4_OSFXSR 0x00000200
#define CR4_OSXMMEXCPT 0x00000400
#define CR4_OSXSAVE 0x00040000

#define MSR_TSC 0x00000010
#define MSR_APICBASE 0x0000001B
#define APICBASE_BSP 0x00000100  // the processor that starts the machine
#define APICBASE_EN 0x00000800   // the local APIC is on
#define MSR_EFER 0xC0000080
#define EFER_SCE 0x00000001  // SYSCALL
#define EFER_LME 0x00000100  // long mode is wanted
#define EFER_LMA 0x00000400  // long mode is active
#define EFER_NXE 0x00000800  // not-executable pages

#define CPUID_NOX 0x00100000  // leaf 0x80000001, EDX: not-executable pages

#endif
