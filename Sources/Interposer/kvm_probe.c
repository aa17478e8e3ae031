// What CPUID shows to a guest, found out by asking one: hypervisors change some of the table that a client sets, and
// some do not take all of it. A machine of the shim's own, of one page and some dozens of instructions, which is gone
// before the client's call returns.
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define CODE 0x100u

/// CPUID; HLT.
static const uint8_t code[] = {0x0F, 0xA2, 0xF4};

static bool set_up(int vcpu) {
    struct kvm_sregs system;
    if (kvm_ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&system) != 0) return false;
    system.cs.base = 0;
    system.cs.selector = 0;
    return kvm_ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&system) == 0;
}

static bool ask(int vcpu, const struct kvm_run *run, struct kvm_cpuid_entry2 *entry) {
    struct kvm_regs registers;
    memset(&registers, 0, sizeof registers);
    registers.rax = entry->function;
    registers.rcx = entry->index;
    registers.rip = CODE;
    registers.rflags = 2;
    if (kvm_ioctl(vcpu, KVM_SET_REGS, (uintptr_t)&registers) != 0) return false;
    if (kvm_ioctl(vcpu, KVM_RUN, 0) != 0 || run->exit_reason != KVM_EXIT_HLT) return false;
    if (kvm_ioctl(vcpu, KVM_GET_REGS, (uintptr_t)&registers) != 0) return false;
    entry->eax = (uint32_t)registers.rax;
    entry->ebx = (uint32_t)registers.rbx;
    entry->ecx = (uint32_t)registers.rcx;
    entry->edx = (uint32_t)registers.rdx;
    return true;
}

static bool ask_all(int system, int machine, int vcpu, struct kvm_cpuid2 *table, uint8_t *memory) {
    struct kvm_userspace_memory_region slot = {.memory_size = PAGE, .userspace_addr = (uintptr_t)memory};
    if (kvm_ioctl(machine, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&slot) != 0) return false;
    if (kvm_ioctl(vcpu, KVM_SET_CPUID2, (uintptr_t)table) != 0 || !set_up(vcpu)) return false;
    long bytes = kvm_ioctl(system, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes < (long)PAGE) return false;
    long run = ring_syscall_six(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (ring_syscall_failed(run)) return false;
    bool is_known = true;
    for (uint32_t index = 0; index < table->nent && is_known; index++) {
        is_known = ask(vcpu, (const struct kvm_run *)run, &table->entries[index]);
    }
    ring_syscall(SYS_munmap, run, bytes, 0);
    return is_known;
}

bool kvm_probe_cpuid(struct kvm_cpuid2 *table) {
    // A recording shows CPUID as it was seen.
    if (kvm_recording != NULL) return true;
    long system = ring_syscall(SYS_open, (long)(uintptr_t) "/dev/kvm", O_RDWR | O_CLOEXEC, 0);
    if (system < 0) return false;
    bool is_known = false;
    long machine = kvm_ioctl((int)system, KVM_CREATE_VM, 0);
    long vcpu = machine < 0 ? -1 : kvm_ioctl((int)machine, KVM_CREATE_VCPU, 0);
    long memory = ring_syscall_six(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (vcpu >= 0 && !ring_syscall_failed(memory)) {
        memcpy((uint8_t *)memory + CODE, code, sizeof code);
        is_known = ask_all((int)system, (int)machine, (int)vcpu, table, (uint8_t *)memory);
    }
    if (vcpu >= 0) ring_syscall(SYS_close, vcpu, 0, 0);
    if (machine >= 0) ring_syscall(SYS_close, machine, 0, 0);
    if (!ring_syscall_failed(memory)) ring_syscall(SYS_munmap, memory, PAGE, 0);
    ring_syscall(SYS_close, system, 0, 0);
    return is_known;
}

#endif
