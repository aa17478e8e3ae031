// Makes the calls that QEMU's nvmm accelerator makes, in its order, for each exit: registers go round through a copy
// of the client's own, interrupts wait for windows, TPR is kept in step, HALTED waits for something to do.
// Prints what the guest said, how often each exit came that must come, and "end 0". The numbers in comments are the
// steps of one turn: 1 registers in, 2 stop, 3 before the run, 4 kick, 5 run, 6 after it, 7 the exit.
//
// Every access to a port kicks the VCPU, as a device does that wants attention: the run that follows returns early
// with an event armed or CR8 waiting to be committed. Its exit state must tell of what waits, or TPR would be lost.
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "qemu_guest.h"

#define MEMORY_BYTES 0x1F0000
#define WHOLE_SYNC 0x5F  // all parts but INTR
#define RFLAGS_IF 0x200

static struct nvmm_machine machine;
static struct nvmm_vcpu vcpu;
static bool offers_tpr_exits;

// What QEMU keeps of the processor, and what its devices ask of it.
static struct {
    struct nvmm_x64_state env;
    bool dirty;  // `env` is newer than the VCPU
    uint8_t tpr;
    uint8_t apic_tpr;
    bool hard, nmi;  // interrupt requests
    bool int_shadow, int_window_exit, nmi_window_exit;
    bool halted, exit_request, stop;
    uint64_t eflags;
    bool line_at_halt;
    int end;
} cpu = {.end = -1};

static struct {
    uint64_t reason;
    unsigned count;
} tally[16];
static unsigned round_trips;
static uint32_t device_register;

/// The counter of an exit reason; there are fewer reasons than counters.
static unsigned *count_of(uint64_t reason) {
    size_t place = 0;
    while (tally[place].count != 0 && tally[place].reason != reason) place++;
    tally[place].reason = reason;
    return &tally[place].count;
}

// MARK: - Registers

/// Step 1: everything but INTR, whose windows would be lost.
static void set_registers(void) {
    struct nvmm_vcpu_state *state = vcpu.state;
    memcpy(state->segs, cpu.env.segs, sizeof state->segs);
    memcpy(state->gprs, cpu.env.gprs, sizeof state->gprs);
    memcpy(state->crs, cpu.env.crs, sizeof state->crs);
    state->crs[NVMM_X64_CR_CR8] = cpu.tpr;
    memcpy(state->drs, cpu.env.drs, sizeof state->drs);
    memcpy(state->msrs, cpu.env.msrs, sizeof state->msrs);
    state->fpu = cpu.env.fpu;
    state->fpu.fx_mxcsr_mask = 0xFFFF;
    const uint64_t flags = NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS | NVMM_X64_STATE_CRS | NVMM_X64_STATE_DRS
        | NVMM_X64_STATE_MSRS | NVMM_X64_STATE_FPU;
    if (nvmm_vcpu_setstate(&machine, &vcpu, flags) == -1) err(1, "setstate");
}

static void get_registers(void) {
    if (nvmm_vcpu_getstate(&machine, &vcpu, WHOLE_SYNC) == -1) err(1, "getstate");
    cpu.env = *vcpu.state;
    cpu.tpr = (uint8_t)vcpu.state->crs[NVMM_X64_CR_CR8];
}

// MARK: - Steps 3 and 6

static bool can_take_interrupt(void) {
    if (cpu.int_window_exit) return false;
    if (!cpu.int_shadow && (cpu.eflags & RFLAGS_IF)) return true;
    if (nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_INTR) == -1) err(1, "getstate");
    vcpu.state->intr.int_window_exiting = 1;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_INTR) == -1) err(1, "setstate");
    return false;
}

static void before_run(void) {
    bool has_event = false, sync_tpr = false;
    if (cpu.apic_tpr != cpu.tpr) {
        cpu.tpr = cpu.apic_tpr;
        sync_tpr = true;
    }
    if (cpu.nmi && !cpu.nmi_window_exit) {
        cpu.nmi = false;
        vcpu.event->type = NVMM_VCPU_EVENT_INTR;
        vcpu.event->vector = 2;
        has_event = true;
    }
    if (!has_event && cpu.hard && can_take_interrupt()) {
        cpu.hard = false;
        vcpu.event->type = NVMM_VCPU_EVENT_INTR;
        vcpu.event->vector = 0x40;
        has_event = true;
    }
    if (sync_tpr) {
        if (nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_CRS) == -1) err(1, "getstate");
        vcpu.state->crs[NVMM_X64_CR_CR8] = cpu.tpr;
        if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_CRS) == -1) err(1, "setstate");
    }
    if (has_event && nvmm_vcpu_inject(&machine, &vcpu) == -1) err(1, "inject");
}

static void after_run(void) {
    const struct nvmm_x86_exitstate *now = &vcpu.exit->exitstate;
    cpu.eflags = now->rflags;
    cpu.int_shadow = now->int_shadow;
    cpu.int_window_exit = now->int_window_exiting;
    cpu.nmi_window_exit = now->nmi_window_exiting;
    if (cpu.tpr != now->cr8) {
        cpu.tpr = (uint8_t)now->cr8;
        cpu.apic_tpr = cpu.tpr;
    }
}

// MARK: - Devices; each clears `dirty`, or registers from before the assist would be set again

static void on_port(struct nvmm_io *io) {
    if (io->in) {
        memset(io->data, 0xFF, io->size);
    } else {
        switch (io->port) {
        case 0x3F8: putchar(io->data[0]); break;
        case 0x80: cpu.hard = true; break;
        case 0x81: cpu.nmi = true; break;
        case 0x82: cpu.apic_tpr = 3; break;
        case 0x83: cpu.line_at_halt = true; break;
        case 0x20: break;
        case 0xF4: cpu.end = io->data[0]; break;
        default: errx(1, "port %#x", io->port);
        }
    }
    cpu.exit_request = true;
    cpu.dirty = false;
}

static void on_memory(struct nvmm_mem *access) {
    if (access->gpa != 0x1F0008 || access->size != 4) errx(1, "memory %#llx", (unsigned long long)access->gpa);
    memcpy(access->write ? (void *)&device_register : access->data,
        access->write ? access->data : (void *)&device_register, 4);
    cpu.dirty = false;
}

// MARK: - Step 7

static void on_msr(void) {
    const struct nvmm_vcpu_exit *exit = vcpu.exit;
    bool is_read = exit->reason == NVMM_VCPU_EXIT_RDMSR;
    uint64_t value = is_read && exit->u.rdmsr.msr == 0x1B ? 0xFEE00900 : 0;
    if (nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == -1) err(1, "getstate");
    if (is_read) {
        vcpu.state->gprs[NVMM_X64_GPR_RAX] = (uint32_t)value;
        vcpu.state->gprs[NVMM_X64_GPR_RDX] = value >> 32;
    }
    vcpu.state->gprs[NVMM_X64_GPR_RIP] = is_read ? exit->u.rdmsr.npc : exit->u.wrmsr.npc;
    if (nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == -1) err(1, "setstate");
}

static void on_halt(void) {
    bool has_work = (cpu.hard && (cpu.eflags & RFLAGS_IF)) || cpu.nmi;
    if (!has_work) cpu.halted = true;
}

static void refuse_instruction(void) {
    vcpu.event->type = NVMM_VCPU_EVENT_EXCP;
    vcpu.event->vector = 6;
    vcpu.event->u.excp.error = 0;
    if (nvmm_vcpu_inject(&machine, &vcpu) == -1) err(1, "inject");
}

static void handle_exit(void) {
    uint64_t reason = vcpu.exit->reason;
    if (reason == NVMM_VCPU_EXIT_STOPPED) {
        cpu.stop = true;
        return;
    }
    ++*count_of(reason);
    switch (reason) {
    case NVMM_VCPU_EXIT_NONE:
    case NVMM_VCPU_EXIT_INT_READY:
    case NVMM_VCPU_EXIT_NMI_READY:
    case NVMM_VCPU_EXIT_TPR_CHANGED: break;
    case NVMM_VCPU_EXIT_MEMORY:
        if (nvmm_assist_mem(&machine, &vcpu) == -1) err(1, "assist_mem");
        break;
    case NVMM_VCPU_EXIT_IO:
        if (nvmm_assist_io(&machine, &vcpu) == -1) err(1, "assist_io");
        break;
    case NVMM_VCPU_EXIT_HALTED: on_halt(); break;
    case NVMM_VCPU_EXIT_RDMSR:
    case NVMM_VCPU_EXIT_WRMSR: on_msr(); break;
    case NVMM_VCPU_EXIT_MONITOR:
    case NVMM_VCPU_EXIT_MWAIT: refuse_instruction(); break;
    default: errx(1, "unexpected exit %#llx", (unsigned long long)reason);
    }
}

/// QEMU's inner loop, up to a halt, a stop or the end.
static void run_vcpu(void) {
    cpu.stop = false;
    while (!cpu.halted && cpu.end < 0) {
        if (cpu.dirty) {
            set_registers();
            cpu.dirty = false;
        }
        if (cpu.stop) break;
        before_run();
        if (cpu.exit_request) {
            cpu.exit_request = false;
            nvmm_vcpu_stop(&vcpu);
        }
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "run");
        after_run();
        handle_exit();
    }
}

static void start_in_long_mode(uint8_t *memory) {
    static const uint64_t gdt[] = {0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF};
    const uint64_t tables[] = {0x2003, 0x3003, 0x83};
    memcpy(memory, gdt, sizeof gdt);
    for (size_t level = 0; level < 3; level++) memcpy(memory + 0x1000 * (level + 1), &tables[level], 8);
    memcpy(memory + 0x10000, qemu_guest, sizeof qemu_guest);

    get_registers();
    for (int place = NVMM_X64_SEG_ES; place <= NVMM_X64_SEG_GS; place++) {
        bool is_code = place == NVMM_X64_SEG_CS;
        struct nvmm_x64_state_seg segment = {.selector = is_code ? 8 : 16, .limit = 0xFFFFFFFF};
        segment.attrib.type = is_code ? 11 : 3;
        segment.attrib.s = segment.attrib.p = segment.attrib.g = 1;
        segment.attrib.l = is_code;
        segment.attrib.def = !is_code;
        cpu.env.segs[place] = segment;
    }
    cpu.env.segs[NVMM_X64_SEG_GDT].limit = sizeof gdt - 1;
    cpu.env.segs[NVMM_X64_SEG_TR].attrib.type = 11;
    cpu.env.crs[NVMM_X64_CR_CR0] = 0x80000011;
    cpu.env.crs[NVMM_X64_CR_CR3] = 0x1000;
    cpu.env.crs[NVMM_X64_CR_CR4] = 0x220;  // OSFXSR, PAE
    cpu.env.msrs[NVMM_X64_MSR_EFER] = 0x500;
    cpu.env.gprs[NVMM_X64_GPR_RSP] = 0x7000;
    cpu.env.gprs[NVMM_X64_GPR_RIP] = 0x10000;
    const uint64_t mark = 0x1122334455667788;
    memcpy(cpu.env.fpu.fx_xmm[3].xmm_bytes, &mark, sizeof mark);
    cpu.dirty = true;
}

int main(void) {
    struct nvmm_capability capability;
    if (nvmm_init() == -1) err(1, "init");
    if (nvmm_capability(&capability) == -1) err(1, "capability");
    if (capability.version < NVMM_KERN_VERSION || capability.state_size != sizeof(struct nvmm_x64_state)) {
        errno = EPROGMISMATCH;
        err(1, "capability");
    }
    if (nvmm_machine_create(&machine) == -1) err(1, "machine_create");

    uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) err(1, "mmap");
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    if (nvmm_hva_map(&machine, (uintptr_t)memory, MEMORY_BYTES) == -1) err(1, "hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0, MEMORY_BYTES, all) == -1) err(1, "gpa_map");

    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "vcpu_create");
    struct nvmm_vcpu_conf_cpuid cpuid = {.mask = 1, .leaf = 1};
    cpuid.u.mask.set.edx = 1U << 7 | 1U << 14 | 1U << 12;  // MCE, MCA, MTRR
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CPUID, &cpuid) == -1) err(1, "cpuid");
    struct nvmm_assist_callbacks callbacks = {.io = on_port, .mem = on_memory};
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");
    offers_tpr_exits = capability.arch.vcpu_conf_support & NVMM_CAP_ARCH_VCPU_CONF_TPR;
    struct nvmm_vcpu_conf_tpr tpr = {.exit_changed = 1};
    if (offers_tpr_exits && nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_TPR, &tpr) == -1) err(1, "tpr");

    start_in_long_mode(memory);
    while (cpu.end < 0) {
        run_vcpu();
        if (cpu.halted) {
            if (!cpu.line_at_halt) errx(1, "halted for ever");
            cpu.line_at_halt = false;
            cpu.hard = true;
            cpu.halted = false;
        }
        // Another thread wants the registers, as `info registers` does.
        get_registers();
        cpu.dirty = true;
        round_trips++;
    }

    unsigned tpr_exits = *count_of(NVMM_VCPU_EXIT_TPR_CHANGED);
    printf("MEMORY %u, HALTED %u, INT_READY %u, ", *count_of(NVMM_VCPU_EXIT_MEMORY),
        *count_of(NVMM_VCPU_EXIT_HALTED), *count_of(NVMM_VCPU_EXIT_INT_READY));
    printf("RDMSR %u, WRMSR %u, MONITOR %u\n", *count_of(NVMM_VCPU_EXIT_RDMSR), *count_of(NVMM_VCPU_EXIT_WRMSR),
        *count_of(NVMM_VCPU_EXIT_MONITOR));
    printf("TPR_CHANGED %u of %u, round trips %u\n", tpr_exits, offers_tpr_exits ? 2 : 0, round_trips);
    printf("end %d\n", cpu.end);
    return cpu.end;
}
