// Page-table entries for sources written for a BSD. Values: Intel SDM, volume 3, section 4.5.
#ifndef NVMM_COMPAT_MACHINE_PTE_H
#define NVMM_COMPAT_MACHINE_PTE_H

#include <stdint.h>

typedef uint64_t pd_entry_t;
typedef uint64_t pt_entry_t;

#define PTE_P 0x0000000000000001ULL   // present
#define PTE_W 0x0000000000000002ULL   // writable
#define PTE_U 0x0000000000000004ULL   // for programs too
#define PTE_A 0x0000000000000020ULL   // accessed
#define PTE_D 0x0000000000000040ULL   // dirty
#define PTE_PS 0x0000000000000080ULL  // a large page
#define PTE_NX 0x8000000000000000ULL  // not executable

#endif
