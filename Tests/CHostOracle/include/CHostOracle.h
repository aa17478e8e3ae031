// The host processor as an oracle: runs short user-mode code with a chosen register state in a child process and
// gives back registers, memory and fault. Method: a signal frame loads the state (rt_sigreturn), every byte around
// the code is HLT, which faults in user mode, and the fault's signal frame holds the state after (signal(7)).
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Where the windows lie, in the child and in the guest alike (linear addresses).
#define HOST_DATA_BASE 0x20000000u  ///< 64 KiB: sixteen pages, see `host_page_kind`
#define HOST_CODE_BASE 0x20100000u  ///< 64 KiB of slots, readable and executable
#define HOST_WINDOW_BYTES 0x10000u
#define HOST_SLOT_BYTES 128u   ///< one case's code
#define HOST_SLOT_ENTRY 48u    ///< where in its slot a case starts
#define HOST_CASES_MAX (HOST_WINDOW_BYTES / HOST_SLOT_BYTES)
#define HOST_CHANGES_MAX 96u
#define HOST_PATCH_BYTES 64u
#define HOST_PATCHES_MAX 3u
#define HOST_YMM_BYTES 256u  ///< upper halves of YMM0 to YMM15 (SDM vol. 1, 13.5.2)
#define HOST_FPU_BYTES 416u  ///< of the FXSAVE image: up to XMM15 (SDM vol. 1, table 10-2)

enum host_page_kind { HOST_PAGE_NONE, HOST_PAGE_READ_ONLY, HOST_PAGE_WRITABLE };

/// What the page of the data window is: pages 0, 1 (data), 5, 6 (stack) and 15 (end of a 16-bit segment) can be
/// written, 3 can be read, the others are not there.
static inline enum host_page_kind host_page_kind(uint32_t page) {
    switch (page) {
    case 0: case 1: case 5: case 6: case 15: return HOST_PAGE_WRITABLE;
    case 3: return HOST_PAGE_READ_ONLY;
    default: return HOST_PAGE_NONE;
    }
}

/// Bytes of the data window that a case wants there before it runs.
struct host_patch {
    uint16_t offset;  ///< into the data window; the whole patch lies in writable pages
    uint8_t count;    ///< 0: unused
    uint8_t bytes[HOST_PATCH_BYTES];
};

/// Selectors that mean the same on the host and in the guest. GDT ones are Linux's.
enum host_selector {
    HOST_CODE32 = 0x23, HOST_DATA = 0x2B, HOST_CODE64 = 0x33,
    HOST_LDT_CODE16 = 0x07,        ///< base HOST_CODE_BASE, limit FFFF
    HOST_LDT_DATA16 = 0x0F,        ///< base HOST_DATA_BASE, limit FFFF
    HOST_LDT_SHORT = 0x17,         ///< 32-bit data, base HOST_DATA_BASE, limit 17FF
    HOST_LDT_EXPAND_DOWN = 0x1F,   ///< 32-bit data, expand-down, base HOST_DATA_BASE, limit 07FF
    HOST_LDT_READ_ONLY = 0x27,     ///< 32-bit data, read-only, base HOST_DATA_BASE, limit FFFF
    HOST_LDT_CODE32 = 0x2F,        ///< 32-bit code, readable, base HOST_CODE_BASE, limit FFFF
    HOST_LDT_EXECUTE_ONLY = 0x37,  ///< 32-bit code, not readable, base HOST_CODE_BASE, limit FFFF
    HOST_LDT_NOT_PRESENT = 0x3F,   ///< data, not present
    HOST_LDT_DATA_BIG = 0x47,      ///< 32-bit data, base HOST_DATA_BASE, limit FFFF
    HOST_LDT_COUNT = 9
};

/// One code or data segment of the LDT, as modify_ldt(2) takes it.
struct host_ldt_entry {
    uint32_t base, limit;
    uint8_t is_32bit, contents /* 0 data, 1 expand-down, 2 code, 3 conforming */, read_or_execute_only, not_present;
};
extern const struct host_ldt_entry host_ldt[HOST_LDT_COUNT];

/// State before a case. The code stands in its slot of the code window.
struct host_case {
    uint64_t gprs[16];  ///< hardware encoding order; RSP is 4
    uint64_t rip;       ///< offset in CS: linear in 64- and flat 32-bit code, from HOST_CODE_BASE in 16-bit code
    uint64_t rflags;    ///< arithmetic flags, TF, DF, AC, RF; the kernel keeps the rest
    uint16_t cs, ss, ds, es;
    uint8_t fpu[HOST_FPU_BYTES];  ///< FXSAVE image without MXCSR_MASK; no reserved bit of MXCSR is set
    uint8_t ymm[HOST_YMM_BYTES];  ///< left out where the host's kernel keeps none
    struct host_patch patches[HOST_PATCHES_MAX];
};

/// One byte that differs after a case.
struct host_change {
    uint16_t offset;  ///< into the data window
    uint8_t value;
};

/// State after a case: at the fault that ended it, which is the HLT behind the code where it ran to its end.
struct host_result {
    uint64_t gprs[16];
    uint64_t rip;
    uint64_t rflags;
    uint16_t cs, ss, ds, es;
    uint8_t fpu[HOST_FPU_BYTES];  ///< FXSAVE image
    uint8_t ymm[HOST_YMM_BYTES];
    uint32_t vector;      ///< of the exception
    uint32_t error_code;
    uint64_t cr2;         ///< meaningful with vector 14
    uint32_t change_count;  ///< all of them, also beyond HOST_CHANGES_MAX
    struct host_change changes[HOST_CHANGES_MAX];
};

/// What this host can run; a reason where it cannot.
struct host_support {
    int mode64, mode32, mode16;  ///< 0 or 1
    char reason64[80], reason32[80], reason16[80];
};

struct host_oracle;

/// Starts the child. NULL where that failed, errno says why.
struct host_oracle *host_oracle_open(void);
void host_oracle_close(struct host_oracle *);
/// EAX, EBX, ECX and EDX of the host's CPUID, subleaf 0; zeros for a leaf beyond the last.
struct host_cpuid {
    uint32_t registers[4];
};
struct host_cpuid host_oracle_cpuid(uint32_t leaf);
struct host_support host_oracle_support(const struct host_oracle *);
/// Room for HOST_CASES_MAX cases and results.
struct host_case *host_oracle_cases(struct host_oracle *);
const struct host_result *host_oracle_results(const struct host_oracle *);
/// The code window; the caller fills it, what is not code with HLT.
uint8_t *host_oracle_code(struct host_oracle *);
/// What every case finds in the data window, but for its patches; filled once, before the first run.
uint8_t *host_oracle_pristine(struct host_oracle *);
/// Runs the first `count` cases. Returns how many ran; fewer where one hung for over `timeout_ms` or killed the
/// child, which is then started anew.
uint32_t host_oracle_run(struct host_oracle *, uint32_t count, int timeout_ms);

/// Lists the bytes in which the writable pages of `window` differ from `before`. Returns their number; the first
/// HOST_CHANGES_MAX are stored.
uint32_t host_collect_changes(const uint8_t *window, const uint8_t *before, struct host_change *changes);
/// Bytes `pristine` with the patches of `test` in `window`.
void host_apply_patches(uint8_t *window, const struct host_case *test);

/// Starts a program with all signals as they are by default, which a thread of the tests does not have, and its
/// streams at /dev/null. `arguments` ends with NULL. Returns its process id, or -1.
int oracle_spawn(const char *const arguments[]);
/// Exit status of the process when it has ended; -1 for a signal.
int oracle_wait(int child);
/// Kills the process and waits for it.
void oracle_end(int child);
