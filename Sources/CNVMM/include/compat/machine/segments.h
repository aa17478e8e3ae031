// Segment and gate types for sources written for a BSD. Values: AMD64 Architecture Programmer's Manual, volume 2,
// chapter 4; Intel SDM, volume 3, chapter 3.
#ifndef NVMM_COMPAT_MACHINE_SEGMENTS_H
#define NVMM_COMPAT_MACHINE_SEGMENTS_H

// Type and S bit together, as in bits 4..0 of a descriptor's access byte.
#define SDT_SYSLDT 2      // LDT
#define SDT_SYS386BSY 11  // task state segment, busy
#define SDT_MEMRWA 19     // data, writable, accessed
#define SDT_MEMERA 27     // code, readable, accessed

#define SEL_KPL 0  // ring of the kernel
#define SEL_UPL 3  // ring of programs

#define GCODE_SEL 1  // place of the kernel's code segment in the GDT
#define GDATA_SEL 2

/// Selector of entry `place` in the GDT with requested privilege level `ring`.
#define GSEL(place, ring) (((place) << 3) | (ring))

#endif
