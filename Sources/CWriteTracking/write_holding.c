// Holding writers by userfaultfd's write protection: Linux, Documentation/admin-guide/mm/userfaultfd.rst.
#define _GNU_SOURCE
#include "write_holding.h"

#include "page_holding.h"

#include <errno.h>
#include <stdatomic.h>

static atomic_int choice;
static void (*_Atomic install_handler)(void);

void write_holder_choose(int how, void (*install)(void)) {
    atomic_store(&install_handler, install);
    atomic_store(&choice, how);
}

bool write_holder_may_protect(void) {
    int how = atomic_load(&choice);
    return how == WRITE_HOLDING_EITHER || how == WRITE_HOLDING_MPROTECT;
}

bool write_holder_must_protect(void) { return atomic_load(&choice) == WRITE_HOLDING_MPROTECT; }

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

/// By mprotect.
static int open_pages(struct write_holder *holder) {
    holder->fault_file = -1;
    holder->end_file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (holder->end_file < 0) return errno;
    int event_file;
    holder->pages = page_holder_open(&event_file);
    if (holder->pages == NULL) {
        int error = errno;
        write_holder_close(holder);
        return error;
    }
    holder->fault_file = event_file;
    void (*install)(void) = atomic_load(&install_handler);
    if (install != NULL) install();
    return 0;
}

static int open_userfaultfd(struct write_holder *holder);

int write_holder_open(struct write_holder *holder) {
    holder->pages = NULL;
    holder->fault_file = holder->end_file = -1;
    int how = atomic_load(&choice);
    if (how == WRITE_HOLDING_NONE) return ENOTSUP;
    if (how == WRITE_HOLDING_MPROTECT) return open_pages(holder);
    int error = open_userfaultfd(holder);
    return error != 0 && how == WRITE_HOLDING_EITHER ? open_pages(holder) : error;
}

static int open_userfaultfd(struct write_holder *holder) {
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
    if (holder->pages != NULL) {
        page_holder_close(holder->pages);
    } else if (holder->fault_file >= 0) {
        close(holder->fault_file);
    }
    holder->pages = NULL;
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
    if (holder->pages != NULL) return page_holder_add(holder->pages, start, bytes);
    struct uffdio_register request = {.range = {start, bytes}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(holder->fault_file, UFFDIO_REGISTER, &request) != 0) return errno;
    int error = write_holder_protect(holder, start, bytes);
    if (error != 0) write_holder_remove(holder, start, bytes);
    return error;
}

int write_holder_remove(struct write_holder *holder, uintptr_t start, size_t bytes) {
    if (holder->pages != NULL) return page_holder_remove(holder->pages);
    struct uffdio_range range = {start, bytes};
    return ioctl(holder->fault_file, UFFDIO_UNREGISTER, &range) == 0 ? 0 : errno;
}

int write_holder_protect(struct write_holder *holder, uintptr_t start, size_t bytes) {
    if (holder->pages != NULL) return page_holder_protect(holder->pages, start, bytes);
    return change(holder, start, bytes, UFFDIO_WRITEPROTECT_MODE_WP);
}

int write_holder_admit(struct write_holder *holder, uintptr_t page, size_t bytes) {
    if (holder->pages != NULL) return page_holder_admit(holder->pages, page, bytes);
    return change(holder, page, bytes, 0);
}

void write_holder_wait(struct write_holder *holder) {
    struct pollfd files[] = {{.fd = holder->fault_file, .events = POLLIN}, {.fd = holder->end_file, .events = POLLIN}};
    poll(files, 2, -1);
}

bool write_holder_has_next(struct write_holder *holder) {
    if (holder->pages != NULL) return page_holder_has_next(holder->pages);
    struct pollfd file = {.fd = holder->fault_file, .events = POLLIN};
    return poll(&file, 1, 0) > 0;
}

unsigned write_holder_next(struct write_holder *holder, struct held_writer *writers, unsigned room) {
    if (holder->pages != NULL) return page_holder_next(holder->pages, writers, room);
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
