// Which of the client's file descriptors are of /dev/kvm, of its VMs and of their VCPUs: by what made them, or by what
// the system calls them, for those that were inherited or sent.
#define _GNU_SOURCE
#include "kvm.h"

#if defined(__linux__) && defined(__x86_64__)

#include <stdatomic.h>
#include <string.h>

#define FILES_MAX 65536
#define PAGES 64
#define PER_PAGE (FILES_MAX / PAGES)

// A table in pages, made as numbers come: most clients have few.
static _Atomic(struct kvm_descriptor *) pages[PAGES];
// For numbers beyond the table: not followed.
static struct kvm_descriptor beyond = {.kind = KVM_FOREIGN};

static struct kvm_descriptor *place(int file) {
    if (file < 0 || file >= FILES_MAX) return &beyond;
    _Atomic(struct kvm_descriptor *) *page = &pages[file / PER_PAGE];
    struct kvm_descriptor *table = atomic_load_explicit(page, memory_order_acquire);
    if (table == NULL) {
        // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
        long made = ring_syscall_six(SYS_mmap, 0, PER_PAGE * sizeof *table, 3, 0x22, -1, 0);
        if (ring_syscall_failed(made)) return &beyond;
        struct kvm_descriptor *fresh = (struct kvm_descriptor *)(uintptr_t)made;
        if (atomic_compare_exchange_strong(page, &table, fresh)) table = fresh;
        else ring_syscall(SYS_munmap, made, PER_PAGE * sizeof *table, 0);
    }
    return &table[file % PER_PAGE];
}

/// The name that the system gives to a descriptor, such as `anon_inode:kvm-vcpu:0`.
static void find_out(int file, struct kvm_descriptor *descriptor) {
    static const char folder[] = "/proc/self/fd/";
    char path[sizeof folder + 12], digits[12], name[64];
    memcpy(path, folder, sizeof folder - 1);
    size_t count = 0, length = sizeof folder - 1;
    for (unsigned left = (unsigned)file; count == 0 || left != 0; left /= 10) digits[count++] = (char)('0' + left % 10);
    while (count > 0) path[length++] = digits[--count];
    path[length] = 0;
    long bytes = ring_syscall(SYS_readlink, (long)(uintptr_t)path, (long)(uintptr_t)name, sizeof name - 1);
    if (bytes < 0) return;
    name[bytes] = 0;
    static const char vcpu[] = "anon_inode:kvm-vcpu:";
    descriptor->machine = descriptor->vcpu = RING_NOBODY;
    if (strcmp(name, "/dev/kvm") == 0) {
        descriptor->kind = KVM_SYSTEM;
    } else if (strcmp(name, "anon_inode:kvm-vm") == 0) {
        descriptor->kind = KVM_VM;
        descriptor->machine = 0;
    } else if (strncmp(name, vcpu, sizeof vcpu - 1) == 0) {
        descriptor->kind = KVM_VCPU;
        descriptor->machine = descriptor->vcpu = 0;
        for (const char *digit = name + sizeof vcpu - 1; *digit >= '0' && *digit <= '9'; digit++) {
            descriptor->vcpu = descriptor->vcpu * 10 + (uint32_t)(*digit - '0');
        }
    } else {
        descriptor->kind = KVM_FOREIGN;
    }
}

struct kvm_descriptor *kvm_descriptor(int file) {
    struct kvm_descriptor *descriptor = place(file);
    // A number that was another file's is asked again: it may have been closed where nobody saw it.
    if (descriptor->kind <= KVM_FOREIGN && descriptor != &beyond) find_out(file, descriptor);
    return descriptor;
}

void kvm_descriptor_made(int file, enum kvm_kind kind, uint32_t machine, uint32_t vcpu) {
    struct kvm_descriptor *descriptor = place(file);
    if (descriptor == &beyond) return;
    *descriptor = (struct kvm_descriptor){.kind = kind, .machine = machine, .vcpu = vcpu};
}

void kvm_descriptor_copied(int from, int to) {
    if (from == to || from < 0 || to < 0) return;
    struct kvm_descriptor *source = place(from), *target = place(to);
    if (target == &beyond) return;
    *target = source->kind >= KVM_SYSTEM ? *source : (struct kvm_descriptor){.kind = KVM_UNKNOWN};
}

void kvm_descriptor_closed(int file) {
    if (file < 0 || file >= FILES_MAX || atomic_load(&pages[file / PER_PAGE]) == NULL) return;
    struct kvm_descriptor *descriptor = place(file);
    if (descriptor != &beyond) *descriptor = (struct kvm_descriptor){.kind = KVM_UNKNOWN};
}

#endif
