// A monitor for 64-bit code: the local APIC is emulated at its address, model-specific registers exit, timer interrupts
// wait for the guest's interrupt window, and a second thread injects NMIs while the VCPU runs.
//
//   cc lapic.c $(pkg-config --cflags --libs nvmm) -pthread -o lapic && ./lapic
#define _DEFAULT_SOURCE
#include <nvmm.h>
#include <err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "lapic_guest.h"

#define MEMORY_BYTES 0x20000
#define GUEST_GPA 0x10000  // org of lapic_guest.asm
#define TABLES_GPA 0x1000  // PML4, PDPT and the page directories of the first and the fourth GiB
#define STACK_GPA 0x7000
#define APIC_GPA 0xFEE00000
#define MSR_APIC_BASE 0x1B

static struct nvmm_machine machine;
static struct nvmm_vcpu vcpu;
static uint8_t *memory;

static uint32_t apic[0x400 / 4];  // by offset / 4
static bool timer_pending;
static bool finished;
static atomic_bool waits_for_nmis;

// There is one slot for an event, and two threads fill it.
static pthread_mutex_t event_lock = PTHREAD_MUTEX_INITIALIZER;

/// Arms an event if the slot is free. The comm page says so: the run that takes the event clears the flag.
static bool inject(uint8_t vector) {
    pthread_mutex_lock(&event_lock);
    bool is_free = !*(volatile bool *)&machine.pages[vcpu.cpuid]->event_commit;
    if (is_free) {
        vcpu.event->type = NVMM_VCPU_EVENT_INTR;
        vcpu.event->vector = vector;
        if (nvmm_vcpu_inject(&machine, &vcpu) == -1) err(1, "nvmm_vcpu_inject");
    }
    pthread_mutex_unlock(&event_lock);
    return is_free;
}

/// The second thread: five NMIs, a millisecond apart, each followed by a stop so that the next run takes it soon.
static void *send_nmis(void *unused) {
    (void)unused;
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int sent = 0; sent < 5;) {
        nanosleep(&pause, NULL);
        if (!atomic_load(&waits_for_nmis) || !inject(2)) continue;
        sent++;
        nvmm_vcpu_stop(&vcpu);
    }
    return NULL;
}

static void on_port(struct nvmm_io *io) {
    if (io->in) {
        memset(io->data, 0xFF, io->size);
        return;
    }
    switch (io->port) {
    case 0x3F8: putchar(io->data[0]); break;
    case 0x80: atomic_store(&waits_for_nmis, true); break;
    case 0xF4: finished = true; break;
    default: errx(1, "write to port %#x", io->port);
    }
}

/// Registers of the local APIC; each is 4 bytes at a multiple of 16.
static void on_memory(struct nvmm_mem *access) {
    uint64_t offset = access->gpa - APIC_GPA;
    if (offset > sizeof apic - 4 || access->size != 4) errx(1, "access to %#llx", (unsigned long long)access->gpa);
    if (!access->write) {
        memcpy(access->data, (uint8_t *)apic + offset, 4);
        return;
    }
    memcpy((uint8_t *)apic + offset, access->data, 4);
    // This timer has expired as soon as it is started, which is with interrupts off.
    if (offset == 0x380) timer_pending = true;
}

static void on_msr(void) {
    const struct nvmm_vcpu_exit *exit = vcpu.exit;
    uint64_t *gprs = vcpu.state->gprs;
    bool is_read = exit->reason == NVMM_VCPU_EXIT_RDMSR;
    uint32_t msr = is_read ? exit->u.rdmsr.msr : exit->u.wrmsr.msr;
    if (msr != MSR_APIC_BASE) errx(1, "MSR %#x", msr);

    // The exit brought the general registers along, so this is no system call.
    if (nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_GPRS) == -1) err(1, "nvmm_vcpu_getstate");
    if (is_read) {
        gprs[NVMM_X64_GPR_RAX] = APIC_GPA | 0x100;  // of the first processor
        gprs[NVMM_X64_GPR_RDX] = 0;
    }
    gprs[NVMM_X64_GPR_RIP] = is_read ? exit->u.rdmsr.npc : exit->u.wrmsr.npc;
    nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_GPRS);
}

/// Delivers the timer's interrupt if the guest can take it now; else asks for an exit when it can.
static void serve_timer(void) {
    const struct nvmm_x86_exitstate *now = &vcpu.exit->exitstate;
    if (!timer_pending || now->int_window_exiting) return;
    bool can_take = (now->rflags & 0x200) && !now->int_shadow && !now->evt_pending;
    if (can_take) {
        if (inject((uint8_t)apic[0x320 / 4])) timer_pending = false;
        return;
    }
    if (nvmm_vcpu_getstate(&machine, &vcpu, NVMM_X64_STATE_INTR) == -1) err(1, "nvmm_vcpu_getstate");
    vcpu.state->intr.int_window_exiting = 1;
    nvmm_vcpu_setstate(&machine, &vcpu, NVMM_X64_STATE_INTR);
}

static void run(void) {
    const struct timespec pause = {.tv_nsec = 200000};
    while (!finished) {
        serve_timer();
        if (nvmm_vcpu_run(&machine, &vcpu) == -1) err(1, "nvmm_vcpu_run");
        switch (vcpu.exit->reason) {
        case NVMM_VCPU_EXIT_NONE:
        case NVMM_VCPU_EXIT_STOPPED:
        case NVMM_VCPU_EXIT_INT_READY:
        case NVMM_VCPU_EXIT_NMI_READY: break;  // an NMI opens this window by itself
        case NVMM_VCPU_EXIT_HALTED: nanosleep(&pause, NULL); break;  // until the other thread has something
        case NVMM_VCPU_EXIT_IO:
            if (nvmm_assist_io(&machine, &vcpu) == -1) err(1, "nvmm_assist_io");
            break;
        case NVMM_VCPU_EXIT_MEMORY:
            if (nvmm_assist_mem(&machine, &vcpu) == -1) err(1, "nvmm_assist_mem");
            break;
        case NVMM_VCPU_EXIT_RDMSR:
        case NVMM_VCPU_EXIT_WRMSR: on_msr(); break;
        default: errx(1, "unexpected exit %#llx", (unsigned long long)vcpu.exit->reason);
        }
    }
}

/// Page tables that map the first 2 MiB and the APIC's 2 MiB one to one.
static void build_tables(void) {
    uint64_t *tables = (uint64_t *)(void *)(memory + TABLES_GPA);
    tables[0] = (TABLES_GPA + 0x1000) | 3;
    tables[512] = (TABLES_GPA + 0x2000) | 3;
    tables[512 + 3] = (TABLES_GPA + 0x3000) | 3;
    tables[1024] = 0x83;
    tables[1536 + (APIC_GPA >> 21 & 511)] = APIC_GPA | 0x9B;  // uncached
}

static struct nvmm_x64_state_seg flat_segment(uint16_t selector, unsigned type, bool is_long) {
    struct nvmm_x64_state_seg segment = {.selector = selector, .limit = 0xFFFFFFFF};
    segment.attrib.type = type & 15;
    segment.attrib.s = 1;
    segment.attrib.p = 1;
    segment.attrib.l = is_long;
    segment.attrib.def = !is_long;
    segment.attrib.g = 1;
    return segment;
}

static void enter_long_mode(void) {
    static const uint64_t gdt[] = {0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF};
    memcpy(memory, gdt, sizeof gdt);  // IRETQ loads its selectors from here
    struct nvmm_vcpu_state *state = vcpu.state;
    for (int segment = NVMM_X64_SEG_ES; segment <= NVMM_X64_SEG_GS; segment++) {
        state->segs[segment] = segment == NVMM_X64_SEG_CS ? flat_segment(8, 11, true) : flat_segment(16, 3, false);
    }
    state->segs[NVMM_X64_SEG_GDT].base = 0;
    state->segs[NVMM_X64_SEG_GDT].limit = sizeof gdt - 1;
    // Processors refuse to enter 64-bit mode with any other kind of task register.
    state->segs[NVMM_X64_SEG_TR].attrib.type = 11;
    state->segs[NVMM_X64_SEG_TR].limit = 0x67;
    state->crs[NVMM_X64_CR_CR0] = 0x80000011;  // PG, ET, PE
    state->crs[NVMM_X64_CR_CR3] = TABLES_GPA;
    state->crs[NVMM_X64_CR_CR4] = 0x20;        // PAE
    state->msrs[NVMM_X64_MSR_EFER] = 0x500;    // LME, LMA
    state->gprs[NVMM_X64_GPR_RSP] = STACK_GPA;
    state->gprs[NVMM_X64_GPR_RIP] = GUEST_GPA;
    nvmm_vcpu_setstate(
        &machine, &vcpu,
        NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS | NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS);
}

int main(void) {
    struct nvmm_assist_callbacks callbacks = {.io = on_port, .mem = on_memory};
    if (nvmm_init() == -1) err(1, "nvmm_init");
    if (nvmm_machine_create(&machine) == -1) err(1, "nvmm_machine_create");
    if (nvmm_vcpu_create(&machine, 0, &vcpu) == -1) err(1, "nvmm_vcpu_create");
    if (nvmm_vcpu_configure(&machine, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == -1) err(1, "callbacks");

    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) err(1, "mmap");
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    if (nvmm_hva_map(&machine, (uintptr_t)memory, MEMORY_BYTES) == -1) err(1, "nvmm_hva_map");
    if (nvmm_gpa_map(&machine, (uintptr_t)memory, 0, MEMORY_BYTES, all) == -1) err(1, "nvmm_gpa_map");
    memcpy(memory + GUEST_GPA, lapic_guest, sizeof lapic_guest);
    apic[0x30 / 4] = 0x00050014;  // version
    build_tables();
    enter_long_mode();

    pthread_t sender;
    if (pthread_create(&sender, NULL, send_nmis, NULL) != 0) errx(1, "pthread_create");
    run();
    pthread_join(sender, NULL);

    if (nvmm_vcpu_destroy(&machine, &vcpu) == -1) err(1, "nvmm_vcpu_destroy");
    if (nvmm_machine_destroy(&machine) == -1) err(1, "nvmm_machine_destroy");
    return 0;
}
