// The layouts of <nvmm.h> as assertions: a compiler that would lay a structure out differently does not get past this
// file. Valid as C11 and as C++17.
#include <nvmm.h>
#include <nvmm_publication.h>

#ifndef __cplusplus
#include <assert.h>
#endif

#define TYPE(type, bytes) static_assert(sizeof(type) == (bytes), #type);
#define FIELD(type, member, offset, bytes) \
    static_assert(offsetof(type, member) == (offset), #type "." #member " offset"); \
    static_assert(sizeof(((type *)0)->member) == (bytes), #type "." #member " size");
#define BITS(type, member, lowest, width)  // has no address: Tests/CNVMM/print_layout.c looks at the bits
#define CONSTANT(name, value) static_assert((unsigned long long)(name) == (value), #name);
#include "layout.h"

static_assert(sizeof(struct nvmm_comm_page) <= NVMM_PUBLICATION_OFFSET, "the publication stands behind the structure");
static_assert(sizeof(struct nvmm_publication) == 88, "a tracer reads it by these offsets");
static_assert(offsetof(struct nvmm_publication, event) == 56, "a tracer reads it by these offsets");
static_assert(NVMM_PUBLICATION_OFFSET + sizeof(struct nvmm_publication) <= NVMM_COMM_PAGE_SIZE, "one page");

static_assert(__BIT(0) == 1 && __BIT(63) == 0x8000000000000000ULL, "__BIT");
static_assert(__BITS(3, 1) == 0xE && __BITS(1, 3) == 0xE && __BITS(63, 0) == UINTMAX_MAX, "__BITS");
static_assert(__SHIFTIN(5, __BITS(6, 4)) == 0x50 && __SHIFTOUT(0x5A, __BITS(6, 4)) == 5, "__SHIFTIN, __SHIFTOUT");
