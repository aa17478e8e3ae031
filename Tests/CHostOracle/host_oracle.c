// The child that runs code natively, and the door to it. See CHostOracle.h.
#define _GNU_SOURCE
#include "CHostOracle.h"

#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

const struct host_ldt_entry host_ldt[HOST_LDT_COUNT] = {
    {HOST_CODE_BASE, 0xFFFF, 0, 2, 0, 0}, {HOST_DATA_BASE, 0xFFFF, 0, 0, 0, 0},
    {HOST_DATA_BASE, 0x17FF, 1, 0, 0, 0}, {HOST_DATA_BASE, 0x07FF, 1, 1, 0, 0},
    {HOST_DATA_BASE, 0xFFFF, 1, 0, 1, 0}, {HOST_CODE_BASE, 0xFFFF, 1, 2, 0, 0},
    {HOST_CODE_BASE, 0xFFFF, 1, 2, 1, 0}, {HOST_DATA_BASE, 0xFFFF, 1, 0, 0, 1},
    {HOST_DATA_BASE, 0xFFFF, 1, 0, 0, 0},
};

/// Shared between parent and child; the code window is mapped a second time, executable, in the child.
struct mailbox {
    uint8_t code[HOST_WINDOW_BYTES];
    uint8_t pristine[HOST_WINDOW_BYTES];
    struct host_case cases[HOST_CASES_MAX];
    struct host_result results[HOST_CASES_MAX];
    struct host_support support;
    volatile uint32_t done;  // cases finished in this batch: names the one that killed the child
};

struct host_oracle {
    struct mailbox *box;
    int memory;  // memfd behind `box`
    pid_t child;
    int channel;
};

// MARK: - Memory of a case

uint32_t host_collect_changes(const uint8_t *window, const uint8_t *before, struct host_change *changes) {
    uint32_t count = 0;
    for (uint32_t page = 0; page < 16; page++) {
        if (host_page_kind(page) != HOST_PAGE_WRITABLE) continue;
        uint32_t start = page * 4096;
        if (memcmp(window + start, before + start, 4096) == 0) continue;
        for (uint32_t offset = start; offset < start + 4096; offset++) {
            if (window[offset] == before[offset]) continue;
            if (count < HOST_CHANGES_MAX) {
                changes[count].offset = (uint16_t)offset;
                changes[count].value = window[offset];
            }
            count++;
        }
    }
    return count;
}

void host_apply_patches(uint8_t *window, const struct host_case *test) {
    for (uint32_t index = 0; index < HOST_PATCHES_MAX; index++) {
        const struct host_patch *patch = &test->patches[index];
        memcpy(window + patch->offset, patch->bytes, patch->count);
    }
}

// MARK: - The child

// The child has one thread, and the handler runs on its own stack; all it needs is here.
static struct mailbox *box;
static uint8_t *const window = (uint8_t *)(uintptr_t)HOST_DATA_BASE;
static uint8_t before[HOST_WINDOW_BYTES];  // the data window as the running case found it
static uint32_t case_index, case_count;
static int running;
static gregset_t resume;  // the child's own registers while cases run
static uint8_t resume_fpu[HOST_FPU_BYTES];
static const uint8_t resume_ymm[HOST_YMM_BYTES];

// Order of REG_* in the hardware's encoding order.
static const int register_order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// Places in the frame's XSAVE area: Linux's description of it, and SDM vol. 1, 13.4.
enum { mask_offset = 28, software_offset = 464, features_offset = 472, header_offset = 512, avx_offset = 576 };
enum { avx_bit = 4 };

static bool has_xsave(const uint8_t *frame) {
    const uint32_t xstate_magic = 0x46505853;
    uint32_t magic;
    memcpy(&magic, frame + software_offset, sizeof magic);
    return magic == xstate_magic;
}

static bool has_avx(const uint8_t *frame) { return has_xsave(frame) && frame[features_offset] & avx_bit; }

/// Puts an FXSAVE image and the upper halves into the frame. What its XSAVE header calls initial would be reset
/// instead of loaded: bits 0 to 2 of XSTATE_BV are x87, SSE and AVX (SDM vol. 1, 13.4.2).
static void load_fpu(ucontext_t *context, const uint8_t *image, const uint8_t *ymm) {
    uint8_t *frame = (uint8_t *)context->uc_mcontext.fpregs;
    memcpy(frame, image, mask_offset);
    memcpy(frame + mask_offset + 4, image + mask_offset + 4, HOST_FPU_BYTES - mask_offset - 4);
    if (has_xsave(frame)) frame[header_offset] |= 3;
    if (!has_avx(frame)) return;
    frame[header_offset] |= avx_bit;
    memcpy(frame + avx_offset, ymm, HOST_YMM_BYTES);
}

static void capture(const ucontext_t *context) {
    const greg_t *registers = context->uc_mcontext.gregs;
    struct host_result *result = &box->results[case_index];
    const uint8_t *frame = (const uint8_t *)context->uc_mcontext.fpregs;
    memcpy(result->fpu, frame, HOST_FPU_BYTES);
    // Without its bit the halves are zero, whatever stands there.
    if (has_avx(frame) && frame[header_offset] & avx_bit) memcpy(result->ymm, frame + avx_offset, HOST_YMM_BYTES);
    else memset(result->ymm, 0, HOST_YMM_BYTES);
    for (int index = 0; index < 16; index++) result->gprs[index] = (uint64_t)registers[register_order[index]];
    result->rip = (uint64_t)registers[REG_RIP];
    result->rflags = (uint64_t)registers[REG_EFL];
    // REG_CSGSFS packs cs, gs, fs, ss from the low end.
    result->cs = (uint16_t)registers[REG_CSGSFS];
    result->ss = (uint16_t)((uint64_t)registers[REG_CSGSFS] >> 48);
    // The kernel leaves DS and ES alone on the way into a 64-bit handler.
    __asm__ volatile("mov %%ds, %0" : "=r"(result->ds));
    __asm__ volatile("mov %%es, %0" : "=r"(result->es));
    result->vector = (uint32_t)registers[REG_TRAPNO];
    result->error_code = (uint32_t)registers[REG_ERR];
    result->cr2 = (uint64_t)registers[REG_CR2];
    result->change_count = host_collect_changes(window, before, result->changes);
    // Undo: whole pages where the code stored, the patches everywhere.
    for (uint32_t page = 0; page < 16; page++) {
        if (host_page_kind(page) != HOST_PAGE_WRITABLE) continue;
        if (result->change_count && memcmp(window + page * 4096, before + page * 4096, 4096) != 0)
            memcpy(window + page * 4096, box->pristine + page * 4096, 4096);
    }
    for (uint32_t index = 0; index < HOST_PATCHES_MAX; index++) {
        const struct host_patch *patch = &box->cases[case_index].patches[index];
        memcpy(window + patch->offset, box->pristine + patch->offset, patch->count);
        memcpy(before + patch->offset, box->pristine + patch->offset, patch->count);
    }
}

static void load(ucontext_t *context) {
    greg_t *registers = context->uc_mcontext.gregs;
    const struct host_case *test = &box->cases[case_index];
    host_apply_patches(window, test);
    host_apply_patches(before, test);
    for (int index = 0; index < 16; index++) registers[register_order[index]] = (greg_t)test->gprs[index];
    load_fpu(context, test->fpu, test->ymm);
    registers[REG_RIP] = (greg_t)test->rip;
    registers[REG_EFL] = (greg_t)test->rflags;
    registers[REG_CSGSFS] = (greg_t)(test->cs | (uint64_t)test->ss << 48
        | ((uint64_t)resume[REG_CSGSFS] & 0x0000FFFFFFFF0000u));
    registers[REG_ERR] = 0;
    registers[REG_TRAPNO] = 0;
    context->uc_flags |= 2 | 4;  // UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS: our SS, in every mode
    __asm__ volatile("mov %0, %%ds" : : "r"(test->ds));
    __asm__ volatile("mov %0, %%es" : : "r"(test->es));
}

__attribute__((used)) static void on_signal(int number, siginfo_t *info, void *argument) {
    (void)number;
    (void)info;
    ucontext_t *context = argument;
    if (running) {
        capture(context);
        box->done = ++case_index;
    } else {
        memcpy(resume, context->uc_mcontext.gregs, sizeof resume);
        memcpy(resume_fpu, context->uc_mcontext.fpregs, sizeof resume_fpu);
        running = 1;
        case_index = 0;
    }
    if (case_index == case_count) {
        memcpy(context->uc_mcontext.gregs, resume, sizeof resume);
        load_fpu(context, resume_fpu, resume_ymm);
        context->uc_flags |= 2 | 4;
        running = 0;
    } else {
        load(context);
    }
}

// The kernel enters a handler with AC, NT and ID as the case had them. The C library reads unaligned words, and the
// next case must not inherit the others: clear them first.
void host_oracle_signal_entry(int, siginfo_t *, void *);
__asm__(".text\n.type host_oracle_signal_entry, @function\n"
        "host_oracle_signal_entry:\n"
        "  pushfq\n  andq $~0x244000, (%rsp)\n  popfq\n  jmp on_signal\n"
        ".size host_oracle_signal_entry, . - host_oracle_signal_entry\n");

static void run_batch(uint32_t count) {
    case_count = count;
    box->done = 0;
    if (count) raise(SIGUSR1);
}

static int install_ldt(void) {
    for (unsigned index = 0; index < HOST_LDT_COUNT; index++) {
        const struct host_ldt_entry *entry = &host_ldt[index];
        struct user_desc descriptor = {
            .entry_number = index, .base_addr = entry->base, .limit = entry->limit, .seg_32bit = entry->is_32bit,
            .contents = entry->contents, .read_exec_only = entry->read_or_execute_only,
            .seg_not_present = entry->not_present, .useable = 1};
        if (syscall(SYS_modify_ldt, 0x11, &descriptor, sizeof descriptor) != 0) return errno;
    }
    return 0;
}

/// Runs one NOP in the mode and looks whether the HLT behind it was reached.
static int mode_works(uint16_t cs, uint16_t ss, uint16_t ds, uint64_t rip, uint64_t rsp) {
    memset(box->code, 0xF4, 64);
    box->code[0] = 0x90;
    memset(&box->cases[0], 0, sizeof box->cases[0]);
    box->cases[0].cs = cs;
    box->cases[0].ss = ss;
    box->cases[0].ds = box->cases[0].es = ds;
    box->cases[0].rip = rip;
    box->cases[0].gprs[4] = rsp;
    box->cases[0].rflags = 0x202;
    run_batch(1);
    return box->results[0].vector == 13 && box->results[0].rip == rip + 1 && box->results[0].cs == cs;
}

static void probe(int ldt_error) {
    struct host_support *support = &box->support;
    uint64_t stack = HOST_DATA_BASE + 0x6000;
    memset(support, 0, sizeof *support);
    support->mode64 = mode_works(HOST_CODE64, HOST_DATA, 0, HOST_CODE_BASE, stack);
    if (!support->mode64)
        snprintf(support->reason64, sizeof support->reason64, "the signal frame did not load the state");
    support->mode32 = mode_works(HOST_CODE32, HOST_DATA, HOST_DATA, HOST_CODE_BASE, stack);
    if (!support->mode32) snprintf(support->reason32, sizeof support->reason32, "the kernel refuses code segment 0x23");
    if (ldt_error) {
        snprintf(support->reason16, sizeof support->reason16, "modify_ldt: %s", strerror(ldt_error));
    } else {
        support->mode16 = mode_works(HOST_LDT_CODE16, HOST_LDT_DATA16, HOST_LDT_DATA16, 0, 0x6000);
        if (!support->mode16)
            snprintf(support->reason16, sizeof support->reason16, "the kernel refuses a 16-bit code segment");
    }
}

static int map_windows(int memory) {
    for (uint32_t page = 0; page < 16; page++) {
        if (host_page_kind(page) == HOST_PAGE_NONE) continue;
        uint8_t *address = window + page * 4096;
        if (mmap(address, 4096, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0) != address)
            return -1;
    }
    void *code = (void *)(uintptr_t)HOST_CODE_BASE;
    return mmap(code, HOST_WINDOW_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE,
                memory, offsetof(struct mailbox, code)) == code ? 0 : -1;
}

static void fill_window(void) {
    for (uint32_t page = 0; page < 16; page++) {
        uint8_t *address = window + page * 4096;
        if (host_page_kind(page) == HOST_PAGE_NONE) continue;
        mprotect(address, 4096, PROT_READ | PROT_WRITE);
        memcpy(address, box->pristine + page * 4096, 4096);
        if (host_page_kind(page) == HOST_PAGE_READ_ONLY) mprotect(address, 4096, PROT_READ);
    }
    memcpy(before, box->pristine, sizeof before);
}

__attribute__((noreturn)) static void child_main(int memory, int parent) {
    static uint8_t signal_stack[1 << 16];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = host_oracle_signal_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGUSR1};
    for (unsigned index = 0; index < sizeof signals / sizeof *signals; index++)
        sigaction(signals[index], &action, NULL);
    if (map_windows(memory) != 0) _exit(2);
    int ldt_error = install_ldt();
    uint32_t request;
    while (read(parent, &request, sizeof request) == sizeof request) {
        fill_window();
        alarm(20);  // a case that loops must not outlive a parent that died
        if (request == UINT32_MAX) probe(ldt_error); else run_batch(request);
        if (send(parent, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) break;
    }
    _exit(0);
}

// MARK: - The parent's side

static int start_child(struct host_oracle *oracle) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -1;
    box = oracle->box;
    oracle->child = fork();
    if (oracle->child == 0) {
        close(ends[0]);
        child_main(oracle->memory, ends[1]);
    }
    close(ends[1]);
    oracle->channel = ends[0];
    return oracle->child > 0 ? 0 : -1;
}

static void end_child(struct host_oracle *oracle) {
    close(oracle->channel);
    kill(oracle->child, SIGKILL);
    waitpid(oracle->child, NULL, 0);
}

static int ask(struct host_oracle *oracle, uint32_t request, int timeout_ms) {
    struct pollfd answer = {.fd = oracle->channel, .events = POLLIN};
    // A dead child is an answer, not the end of the tests, whose own children must keep SIGPIPE.
    if (send(oracle->channel, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) return -1;
    int ready;
    do ready = poll(&answer, 1, timeout_ms); while (ready < 0 && errno == EINTR);
    return ready == 1 && read(oracle->channel, &request, sizeof request) == sizeof request ? 0 : -1;
}

struct host_oracle *host_oracle_open(void) {
    struct host_oracle *oracle = calloc(1, sizeof *oracle);
    if (!oracle) return NULL;
    oracle->memory = memfd_create("host-oracle", MFD_CLOEXEC);
    if (oracle->memory < 0 || ftruncate(oracle->memory, sizeof(struct mailbox)) != 0) return NULL;
    oracle->box = mmap(NULL, sizeof(struct mailbox), PROT_READ | PROT_WRITE, MAP_SHARED, oracle->memory, 0);
    if (oracle->box == MAP_FAILED) return NULL;
    if (start_child(oracle) != 0) return NULL;
    if (ask(oracle, UINT32_MAX, 5000) != 0) {
        end_child(oracle);
        errno = ENOTSUP;
        return NULL;
    }
    return oracle;
}

void host_oracle_close(struct host_oracle *oracle) {
    if (!oracle) return;
    end_child(oracle);
    munmap(oracle->box, sizeof(struct mailbox));
    close(oracle->memory);
    free(oracle);
}

struct host_cpuid host_oracle_cpuid(uint32_t leaf) {
    struct host_cpuid found = {{0, 0, 0, 0}};
    uint32_t *registers = found.registers;
    __get_cpuid_count(leaf, 0, &registers[0], &registers[1], &registers[2], &registers[3]);
    return found;
}

struct host_support host_oracle_support(const struct host_oracle *oracle) { return oracle->box->support; }
struct host_case *host_oracle_cases(struct host_oracle *oracle) { return oracle->box->cases; }
const struct host_result *host_oracle_results(const struct host_oracle *oracle) { return oracle->box->results; }
uint8_t *host_oracle_code(struct host_oracle *oracle) { return oracle->box->code; }
uint8_t *host_oracle_pristine(struct host_oracle *oracle) { return oracle->box->pristine; }

uint32_t host_oracle_run(struct host_oracle *oracle, uint32_t count, int timeout_ms) {
    if (count > HOST_CASES_MAX) count = HOST_CASES_MAX;
    // A child that does not even begin has done nothing, whatever it did before.
    oracle->box->done = 0;
    if (ask(oracle, count, timeout_ms) == 0) return count;
    uint32_t done = oracle->box->done;
    end_child(oracle);
    start_child(oracle);
    return done;
}

// MARK: - Other processes

extern char **environ;

int oracle_spawn(const char *const arguments[]) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    sigset_t none, all;
    pid_t child = -1;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    int error = posix_spawn(&child, arguments[0], &files, &attributes, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error == 0 ? child : -1;
}

int oracle_wait(int child) {
    int status = 0;
    pid_t result;
    do result = waitpid(child, &status, 0); while (result < 0 && errno == EINTR);
    return result == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void oracle_end(int child) {
    kill(child, SIGKILL);
    oracle_wait(child);
}
