// A small VMM on /dev/kvm that prints what its guest (kvm_guest.asm) gave and a sum of its memory in the end. Recorded
// it must print the same. Arguments: the guest, then any of
//   rounds=N   the guest waits so often for another thread to store to memory, which holds a lock that the VCPU's
//              thread takes at every exit
//   read=N     so often another thread reads from a pipe into guest memory meanwhile
//   copy       uses copies of its descriptors
//   again      makes a second machine when the first is gone
//   unknown    makes ioctls that nobody knows
//   fork       a child lives on for a while
//   sync       keeps the registers in kvm_run itself
//   exits=N    runs the guest again and again, until there were so many exits, and prints their number alone
//   count      prints how many exits of which kind there were, in the end
//   stores=N   stores to N pages before each run, up to 16
//   other      its device gives other bytes
//   slots      memory in three slots, one of them an alias, one taken away and set again
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define MEMORY 0x20000
#define FLAG 0x8000

static uint8_t *memory;
static struct kvm_run *run;
static int vcpu;
static long rounds, reads, exits_wanted, stores;
static bool copies, unknown, forks, syncs, more_slots, counts;
static uint32_t device_state = 12345;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile bool may_store, is_over;

static void fail(const char *what) {
    perror(what);
    exit(3);
}

static int checked(int result, const char *what) {
    if (result < 0) fail(what);
    return result;
}

static void kicked(int number) {
    (void)number;
    run->immediate_exit = 1;
}

static void *store(void *ignored) {
    (void)ignored;
    while (!is_over) {
        pthread_mutex_lock(&lock);
        // The guest polls; this thread holds what the VCPU's thread needs, and stores.
        if (may_store) {
            volatile uint32_t *flag = (void *)(memory + FLAG);
            *flag += 1;
            volatile uint32_t *total = (void *)(memory + FLAG + 0x100);
            *total += *flag;
        }
        pthread_mutex_unlock(&lock);
        usleep(300);
    }
    return NULL;
}

static void *read_into(void *ignored) {
    (void)ignored;
    int ends[2];
    checked(pipe(ends), "pipe");
    for (long round = 0; round < reads; round++) {
        char text[64];
        memset(text, 'a' + (int)(round % 26), sizeof text);
        if (write(ends[1], text, sizeof text) != sizeof text) fail("write");
        if (read(ends[0], memory + 0x10000 + round % 100 * 0x100 - 0x20, sizeof text) != sizeof text) fail("read");
        usleep(200);
    }
    return NULL;
}

static void set_slot(int machine, unsigned slot, uint64_t gpa, uint64_t bytes, uint8_t *at) {
    struct kvm_userspace_memory_region region = {
        .slot = slot, .guest_phys_addr = gpa, .memory_size = bytes, .userspace_addr = (uintptr_t)at};
    checked(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void set_memory(int machine) {
    if (!more_slots) return set_slot(machine, 0, 0, MEMORY, memory);
    set_slot(machine, 0, 0, 0x10000, memory);
    set_slot(machine, 1, 0x10000, MEMORY - 0x10000, memory + 0x10000);
    set_slot(machine, 7, 0x100000, 0x4000, memory + 0x8000);
    set_slot(machine, 7, 0x100000, 0, memory + 0x8000);
    set_slot(machine, 7, 0x200000, 0x4000, memory + 0x8000);
}

static void set_registers(void) {
    struct kvm_sregs system;
    checked(ioctl(vcpu, KVM_GET_SREGS, &system), "KVM_GET_SREGS");
    system.cs.base = 0;
    system.cs.selector = 0;
    checked(ioctl(vcpu, KVM_SET_SREGS, &system), "KVM_SET_SREGS");
    struct kvm_regs registers = {.rip = 0x1000, .rflags = 2};
    checked(ioctl(vcpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
}

static void inject(unsigned vector) {
    struct kvm_interrupt interrupt = {.irq = vector};
    checked(ioctl(vcpu, KVM_INTERRUPT, &interrupt), "KVM_INTERRUPT");
}

static void show(const char *format, ...) {
    if (exits_wanted > 0) return;
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
}

static uint8_t next_byte(void) {
    device_state = device_state * 1103515245 + 12345;
    return (uint8_t)(device_state >> 16);
}

static bool wants_interrupt;
static unsigned interrupts, exits, by_reason[64];

/// Returns false where the guest is done.
static bool handle_port(void) {
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    if (run->io.direction == KVM_EXIT_IO_IN) {
        for (uint32_t index = 0; index < run->io.size * run->io.count; index++) data[index] = next_byte();
        return true;
    }
    switch (run->io.port) {
    case 0xE9:
        show("%02x", *data);
        return true;
    case 0x70:
        for (uint32_t index = 0; index < run->io.size * run->io.count; index++) show("[%02x]", data[index]);
        return true;
    case 0x80: wants_interrupt = true; return true;
    case 0x81:
        may_store = true;
        return true;
    default: return false;
    }
}

static void handle_memory(void) {
    if (run->mmio.is_write) {
        uint64_t value = 0;
        memcpy(&value, run->mmio.data, run->mmio.len);
        show("(%llx:%u=%llx)", run->mmio.phys_addr, run->mmio.len, (unsigned long long)value);
        return;
    }
    for (uint32_t index = 0; index < run->mmio.len; index++) run->mmio.data[index] = next_byte();
}

static void run_guest(void) {
    bool is_halted = false;
    unsigned ticks_left = 0;
    for (;;) {
        if (is_halted || (ticks_left > 0 && run->ready_for_interrupt_injection)) {
            inject(0x20);
            interrupts++;
            if (!is_halted) ticks_left--;
            is_halted = false;
        }
        for (long page = 0; page < stores; page++) memory[0x10000 + page * 0x1000] += 1;
        run->request_interrupt_window = wants_interrupt || ticks_left > 0;
        int result = ioctl(vcpu, KVM_RUN, 0);
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
        if (result < 0) {
            if (errno != EINTR) fail("KVM_RUN");
            run->immediate_exit = 0;
            continue;
        }
        exits++;
        if (run->exit_reason < sizeof by_reason / sizeof *by_reason) by_reason[run->exit_reason]++;
        switch (run->exit_reason) {
        case KVM_EXIT_IO:
            if (!handle_port()) return;
            break;
        case KVM_EXIT_MMIO: handle_memory(); break;
        case KVM_EXIT_HLT: is_halted = true; break;
        case KVM_EXIT_IRQ_WINDOW_OPEN:
            if (wants_interrupt) ticks_left = 4;
            wants_interrupt = false;
            break;
        default: printf("exit %u\n", run->exit_reason); exit(4);
        }
        if (wants_interrupt && run->ready_for_interrupt_injection) {
            ticks_left = 4;
            wants_interrupt = false;
        }
    }
}

static void run_machine(const char *guest) {
    // The number of /dev/kvm was another file's first, and that was closed where a preloaded library doesn't see it.
    int other = checked(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
    if (ioctl(other, KVM_GET_API_VERSION, 0) != -1) fail("/dev/null as /dev/kvm");
    checked((int)syscall(SYS_close, other), "close");
    int system = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    if (system != other) fail("/dev/kvm by another number");
    int machine = checked(ioctl(system, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    if (copies) machine = checked(dup(machine), "dup");
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    int file = checked(open(guest, O_RDONLY), guest);
    if (read(file, memory + 0x1000, 0x800) != 0x800) fail("guest");
    close(file);
    uint16_t count = (uint16_t)rounds;
    memcpy(memory + 0x17F0, &count, sizeof count);
    set_memory(machine);
    vcpu = checked(ioctl(machine, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    if (copies) vcpu = checked(dup2(vcpu, 200), "dup2");
    size_t bytes = (size_t)checked(ioctl(system, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED) fail("mmap");
    set_registers();
    if (syncs) run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    if (unknown) {
        uint64_t nothing[16] = {0};
        int result = ioctl(vcpu, _IOWR(KVMIO, 0xFE, nothing), nothing);
        printf("unknown: %d %d\n", result, errno);
        result = ioctl(machine, _IO(KVMIO, 0xFD), 5);
        printf("unknown: %d %d\n", result, errno);
    }
    if (forks && fork() == 0) {
        usleep(100000);
        _exit(0);
    }
    pthread_t storer, reader;
    if (rounds > 0) pthread_create(&storer, NULL, store, NULL);
    if (reads > 0) pthread_create(&reader, NULL, read_into, NULL);
    run_guest();
    while ((long)exits < exits_wanted) {
        set_registers();
        run_guest();
    }
    is_over = true;
    if (rounds > 0) pthread_join(storer, NULL);
    if (reads > 0) pthread_join(reader, NULL);
    // How often a guest polled, where it was interrupted, and how often a thread stored, depends on the host.
    memset(memory, 0, 0x1800);
    memset(memory + FLAG, 0, 0x200);
    uint32_t sum = 0;
    for (size_t place = 0; place < MEMORY; place++) sum = sum * 31 + memory[place];
    if (exits_wanted > 0) printf("%ld exits\n", exits_wanted);
    show("\ninterrupts %u memory %08x\n", interrupts, sum);
    if (counts) {
        printf("IO %u MEMORY %u HALTED %u INT_READY %u\n", by_reason[KVM_EXIT_IO], by_reason[KVM_EXIT_MMIO],
            by_reason[KVM_EXIT_HLT], by_reason[KVM_EXIT_IRQ_WINDOW_OPEN]);
    }
    if (syncs && run->s.regs.regs.rip == 0) printf("no registers\n");
    if (!syncs && run->kvm_valid_regs != 0) printf("registers that nobody asked for\n");
    munmap(run, bytes);
    close(vcpu);
    close(machine);
    close(system);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    bool again = false;
    if (count < 2) return 2;
    for (int index = 2; index < count; index++) {
        const char *word = arguments[index];
        if (strncmp(word, "rounds=", 7) == 0) rounds = atol(word + 7);
        else if (strncmp(word, "read=", 5) == 0) reads = atol(word + 5);
        else if (strncmp(word, "exits=", 6) == 0) exits_wanted = atol(word + 6);
        else if (strncmp(word, "stores=", 7) == 0 && atol(word + 7) <= 16) stores = atol(word + 7);
        else if (strcmp(word, "copy") == 0) copies = true;
        else if (strcmp(word, "again") == 0) again = true;
        else if (strcmp(word, "unknown") == 0) unknown = true;
        else if (strcmp(word, "fork") == 0) forks = true;
        else if (strcmp(word, "sync") == 0) syncs = true;
        else if (strcmp(word, "slots") == 0) more_slots = true;
        else if (strcmp(word, "count") == 0) counts = true;
        else if (strcmp(word, "other") == 0) device_state = 54321;
        else return 2;
    }
    signal(SIGUSR1, kicked);
    run_machine(arguments[1]);
    if (again) run_machine(arguments[1]);
    return 0;
}
