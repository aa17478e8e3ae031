// Holding writers by userfaultfd's write protection: Linux, Documentation/admin-guide/mm/userfaultfd.rst.
#define _GNU_SOURCE
#include "write_holding.h"

#include <errno.h>

#if defined(__linux__)
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Numbers that older system headers lack are spelled out.
#define FEATURE_THREAD (UINT64_C(1) << 8)          // UFFD_FEATURE_THREAD_ID
#define FEATURE_SHARED_MEMORY (UINT64_C(1) << 12)  // UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define FEATURE_UNPOPULATED (UINT64_C(1) << 13)    // UFFD_FEATURE_WP_UNPOPULATED
#define NEW_FROM_DEVICE _IO(0xAA, 0x00)            // USERFAULTFD_IOC_NEW

#define MESSAGES 16

/// A descriptor whose faults may come from inside system calls: read(2) into guest memory must wait, not fail.
static int open_fault_file(void) {
    int file = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (file >= 0 || errno != EPERM) return file;
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) return -1;
    file = ioctl(device, NEW_FROM_DEVICE, O_CLOEXEC | O_NONBLOCK);
    int error = errno;
    close(device);
    errno = error;
    return file;
}

int write_holder_open(struct write_holder *holder) {
    holder->end_file = -1;
    holder->fault_file = open_fault_file();
    if (holder->fault_file < 0) return errno;
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = FEATURE_THREAD | FEATURE_SHARED_MEMORY | FEATURE_UNPOPULATED,
    };
    if (ioctl(holder->fault_file, UFFDIO_API, &api) == 0) {
        holder->end_file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (holder->end_file >= 0) return 0;
    }
    int error = errno;
    write_holder_close(holder);
    return error;
}

void write_holder_close(struct write_holder *holder) {
    if (holder->end_file >= 0) close(holder->end_file);
    if (holder->fault_file >= 0) close(holder->fault_file);
    holder->fault_file = holder->end_file = -1;
}

static int change(struct write_holder *holder, uintptr_t start, size_t bytes, uint64_t mode) {
    struct uffdio_writeprotect request = {.range = {start, bytes}, .mode = mode};
    // EAGAIN: the process's mappings were changing.
    while (ioctl(holder->fault_file, UFFDIO_WRITEPROTECT, &request) != 0) {
        if (errno != EAGAIN) return errno;
    }
    return 0;
}

int write_holder_add(struct write_holder *holder, uintptr_t start, size_t bytes) {
    struct uffdio_register request = {.range = {start, bytes}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(holder->fault_file, UFFDIO_REGISTER, &request) != 0) return errno;
    int error = write_holder_protect(holder, start, bytes);
    if (error != 0) write_holder_remove(holder, start, bytes);
    return error;
}

int write_holder_remove(struct write_holder *holder, uintptr_t start, size_t bytes) {
    struct uffdio_range range = {start, bytes};
    return ioctl(holder->fault_file, UFFDIO_UNREGISTER, &range) == 0 ? 0 : errno;
}

int write_holder_protect(struct write_holder *holder, uintptr_t start, size_t bytes) {
    return change(holder, start, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
}

int write_holder_admit(struct write_holder *holder, uintptr_t page, size_t bytes) {
    return change(holder, page, bytes, 0);
}

void write_holder_wait(struct write_holder *holder) {
    struct pollfd files[] = {{.fd = holder->fault_file, .events = POLLIN}, {.fd = holder->end_file, .events = POLLIN}};
    poll(files, 2, -1);
}

bool write_holder_has_next(struct write_holder *holder) {
    struct pollfd file = {.fd = holder->fault_file, .events = POLLIN};
    return poll(&file, 1, 0) > 0;
}

unsigned write_holder_next(struct write_holder *holder, struct held_writer *writers, unsigned room) {
    struct uffd_msg messages[MESSAGES];
    if (room > MESSAGES) room = MESSAGES;
    ssize_t bytes = read(holder->fault_file, messages, room * sizeof messages[0]);
    if (bytes <= 0) return 0;
    unsigned count = 0;
    for (unsigned index = 0; index < (size_t)bytes / sizeof messages[0]; index++) {
        if (messages[index].event != UFFD_EVENT_PAGEFAULT) continue;
        const uintptr_t page_mask = ~(uintptr_t)4095;
        writers[count].page = (uintptr_t)messages[index].arg.pagefault.address & page_mask;
        writers[count].thread = (int32_t)messages[index].arg.pagefault.feat.ptid;
        count++;
    }
    return count;
}

void write_holder_end(struct write_holder *holder) {
    uint64_t one = 1;
    ssize_t written = write(holder->end_file, &one, sizeof one);
    (void)written;
}

#else

int write_holder_open(struct write_holder *holder) {
    holder->fault_file = holder->end_file = -1;
    return ENOSYS;
}
void write_holder_close(struct write_holder *holder) { (void)holder; }
int write_holder_add(struct write_holder *holder, uintptr_t start, size_t bytes) {
    (void)holder, (void)start, (void)bytes;
    return ENOSYS;
}
int write_holder_remove(struct write_holder *holder, uintptr_t start, size_t bytes) {
    (void)holder, (void)start, (void)bytes;
    return ENOSYS;
}
int write_holder_protect(struct write_holder *holder, uintptr_t start, size_t bytes) {
    (void)holder, (void)start, (void)bytes;
    return ENOSYS;
}
int write_holder_admit(struct write_holder *holder, uintptr_t page, size_t bytes) {
    (void)holder, (void)page, (void)bytes;
    return ENOSYS;
}
void write_holder_wait(struct write_holder *holder) { (void)holder; }
bool write_holder_has_next(struct write_holder *holder) { return holder == NULL; }
unsigned write_holder_next(struct write_holder *holder, struct held_writer *writers, unsigned room) {
    (void)holder, (void)writers, (void)room;
    return 0;
}
void write_holder_end(struct write_holder *holder) { (void)holder; }

#endif
