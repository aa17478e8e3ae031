// A VMM on /dev/kvm with two VCPUs in threads of their own, which share memory and locks (kvm_two.asm). Prints what
// they counted. Arguments: the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY 0x10000
#define VCPUS 2

static int system_file, machine;
static uint8_t *memory;
static unsigned told[VCPUS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int checked(int result, const char *what) {
    if (result >= 0) return result;
    perror(what);
    exit(3);
}

static void *run_vcpu(void *argument) {
    uintptr_t number = (uintptr_t)argument;
    int vcpu = checked(ioctl(machine, KVM_CREATE_VCPU, number), "KVM_CREATE_VCPU");
    size_t bytes = (size_t)checked(ioctl(system_file, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED) checked(-1, "mmap");
    struct kvm_sregs system;
    checked(ioctl(vcpu, KVM_GET_SREGS, &system), "KVM_GET_SREGS");
    system.cs.base = 0;
    system.cs.selector = 0;
    checked(ioctl(vcpu, KVM_SET_SREGS, &system), "KVM_SET_SREGS");
    struct kvm_regs registers = {.rip = 0x1000, .rflags = 2, .rbx = number};
    checked(ioctl(vcpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
    for (bool is_over = false; !is_over;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0) {
            if (errno != EINTR) checked(-1, "KVM_RUN");
            continue;
        }
        pthread_mutex_lock(&lock);
        if (run->exit_reason != KVM_EXIT_IO) {
            printf("exit %u\n", run->exit_reason);
            exit(4);
        }
        if (run->io.port == 0x81) told[*((uint8_t *)run + run->io.data_offset) % VCPUS]++;
        is_over = run->io.port == 0x82;
        pthread_mutex_unlock(&lock);
    }
    munmap(run, bytes);
    close(vcpu);
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    system_file = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    machine = checked(ioctl(system_file, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) checked(-1, "mmap");
    int file = checked(open(arguments[1], O_RDONLY), arguments[1]);
    if (read(file, memory + 0x1000, 0x800) != 0x800) checked(-1, "guest");
    close(file);
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)memory};
    checked(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    pthread_t threads[VCPUS];
    for (uintptr_t number = 0; number < VCPUS; number++) {
        pthread_create(&threads[number], NULL, run_vcpu, (void *)number);
    }
    for (int number = 0; number < VCPUS; number++) pthread_join(threads[number], NULL);
    uint32_t counter, locked;
    memcpy(&counter, memory + 0x3010, sizeof counter);
    memcpy(&locked, memory + 0x3020, sizeof locked);
    printf("told %u %u, counted %u, locked %u\n", told[0], told[1], counter, locked);
    return 0;
}
