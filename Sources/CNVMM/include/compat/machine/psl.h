// Bits of RFLAGS for sources written for a BSD. Values: Intel SDM, volume 1, section 3.4.3.
#ifndef NVMM_COMPAT_MACHINE_PSL_H
#define NVMM_COMPAT_MACHINE_PSL_H

#define PSL_C 0x00000001   // carry
#define PSL_MBO 0x00000002 // reads as one
#define PSL_PF 0x00000004  // parity
#define PSL_AF 0x00000010  // auxiliary carry
#define PSL_Z 0x00000040   // zero
#define PSL_N 0x00000080   // sign
#define PSL_T 0x00000100   // trap
#define PSL_I 0x00000200   // interrupts are taken
#define PSL_D 0x00000400   // direction
#define PSL_V 0x00000800   // overflow

#endif
