// Tracking by the kernel's asynchronous write protection. Numbers that older system headers lack are spelled out:
// Linux, Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst.
#define _GNU_SOURCE
#include "write_tracking.h"

#include <errno.h>

#if defined(__linux__)
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FEATURE_SHARED_MEMORY (UINT64_C(1) << 12)  // UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define FEATURE_UNPOPULATED (UINT64_C(1) << 13)    // UFFD_FEATURE_WP_UNPOPULATED
#define FEATURE_ASYNCHRONOUS (UINT64_C(1) << 15)   // UFFD_FEATURE_WP_ASYNC

// Allowed to everybody: faults in system calls need no privilege here, because the kernel answers them itself.
#define USER_MODE_ONLY 1  // UFFD_USER_MODE_ONLY

/// struct pm_scan_arg
struct scan_request {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
/// struct page_region
struct scan_region {
    uint64_t start, end, categories;
};
#define SCAN _IOWR('f', 16, struct scan_request)  // PAGEMAP_SCAN
#define SCAN_PROTECT 1                            // PM_SCAN_WP_MATCHING: protects what it finds, in the same step
#define SCAN_TRACKED_ONLY 2                       // PM_SCAN_CHECK_WPASYNC: fails where protection is not asynchronous
#define PAGE_WRITTEN 2                            // PAGE_IS_WRITTEN

#define REGIONS 64

static uint64_t faults_so_far(void) {
    struct rusage usage;
    // All threads. A fault that reads a page in for the first time is counted too.
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt : 0;
}

int write_tracker_open(struct write_tracker *tracker) {
    tracker->pagemap_file = -1;
    tracker->faults_seen = 0;
    tracker->fault_file = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (tracker->fault_file < 0) return errno;
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = FEATURE_SHARED_MEMORY | FEATURE_UNPOPULATED | FEATURE_ASYNCHRONOUS,
    };
    if (ioctl(tracker->fault_file, UFFDIO_API, &api) == 0) {
        tracker->pagemap_file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (tracker->pagemap_file >= 0) return 0;
    }
    int error = errno;
    write_tracker_close(tracker);
    return error;
}

void write_tracker_close(struct write_tracker *tracker) {
    if (tracker->pagemap_file >= 0) close(tracker->pagemap_file);
    if (tracker->fault_file >= 0) close(tracker->fault_file);
    tracker->pagemap_file = tracker->fault_file = -1;
}

int write_tracker_add(struct write_tracker *tracker, uintptr_t start, size_t bytes) {
    struct uffdio_register request = {.range = {start, bytes}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(tracker->fault_file, UFFDIO_REGISTER, &request) != 0) return errno;
    // At first every page counts as written: look once.
    struct written_range ranges[REGIONS];
    uintptr_t next = start;
    while (next < start + bytes) {
        int found = write_tracker_scan(tracker, &next, start + bytes, ranges, REGIONS);
        if (found < 0) {
            ioctl(tracker->fault_file, UFFDIO_UNREGISTER, &request.range);
            return -found;
        }
    }
    return 0;
}

int write_tracker_remove(struct write_tracker *tracker, uintptr_t start, size_t bytes) {
    struct uffdio_range range = {start, bytes};
    return ioctl(tracker->fault_file, UFFDIO_UNREGISTER, &range) == 0 ? 0 : errno;
}

bool write_tracker_is_unchanged(struct write_tracker *tracker) {
    // Read before the scan that follows, so that a fault during the scan makes the next answer false.
    uint64_t faults = faults_so_far();
    if (faults != 0 && faults == tracker->faults_seen) return true;
    tracker->faults_seen = faults;
    return false;
}

int write_tracker_scan(
    struct write_tracker *tracker, uintptr_t *next, uintptr_t end, struct written_range *ranges, unsigned room) {
    struct scan_region regions[REGIONS];
    if (room > REGIONS) room = REGIONS;
    struct scan_request request = {
        .size = sizeof request,
        .flags = SCAN_PROTECT | SCAN_TRACKED_ONLY,
        .start = *next,
        .end = end,
        .vec = (uint64_t)(uintptr_t)regions,
        .vec_len = room,
        .category_mask = PAGE_WRITTEN,
        .return_mask = PAGE_WRITTEN,
    };
    int found = ioctl(tracker->pagemap_file, SCAN, &request);
    if (found < 0) return -errno;
    for (int region = 0; region < found; region++) {
        ranges[region].start = (uintptr_t)regions[region].start;
        ranges[region].end = (uintptr_t)regions[region].end;
    }
    *next = (uintptr_t)request.walk_end;
    return found;
}

#else

int write_tracker_open(struct write_tracker *tracker) {
    tracker->fault_file = tracker->pagemap_file = -1;
    return ENOSYS;
}
void write_tracker_close(struct write_tracker *tracker) { (void)tracker; }
int write_tracker_add(struct write_tracker *tracker, uintptr_t start, size_t bytes) {
    (void)tracker, (void)start, (void)bytes;
    return ENOSYS;
}
int write_tracker_remove(struct write_tracker *tracker, uintptr_t start, size_t bytes) {
    (void)tracker, (void)start, (void)bytes;
    return ENOSYS;
}
bool write_tracker_is_unchanged(struct write_tracker *tracker) { return tracker == NULL; }
int write_tracker_scan(
    struct write_tracker *tracker, uintptr_t *next, uintptr_t end, struct written_range *ranges, unsigned room) {
    (void)tracker, (void)next, (void)end, (void)ranges, (void)room;
    return -ENOSYS;
}

#endif
