// What clients of <nvmm.h> take for granted on a BSD and Linux lacks: bit macros, branch hints, one errno.
// Included by <dev/nvmm/nvmm.h>, because there clients get these through the headers that it includes.
#ifndef NVMM_COMPAT_H
#define NVMM_COMPAT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef EPROGMISMATCH
// BSD gives it 75, which is EOVERFLOW on Linux. A number of its own keeps a client's `switch` over errno legal;
// it lies above all that Linux returns and below 4096, where the kernel's range of error returns ends.
#define EPROGMISMATCH 2075
#endif

#ifndef __BIT
/// The number with bit `n` set, 0 where `n` does not fit the type.
#define __BIT(n) ((uintmax_t)((n) >= 64 ? 0 : (uintmax_t)1 << ((n) & 63)))
#endif
#ifndef __BITS
/// The number with the bits from `m` to `n` set, both included, in either order.
#define __BITS(m, n) \
    ((__BIT(((m) > (n) ? (m) : (n)) + 1) - 1) & ~(__BIT((m) < (n) ? (m) : (n)) - 1))
#endif
#ifndef __LOWEST_SET_BIT
#define __LOWEST_SET_BIT(mask) ((mask) & (~(mask) + 1))
#endif
#ifndef __SHIFTIN
// Multiplication and division by the mask's lowest bit shift by its place, and stay constant expressions.
#define __SHIFTIN(value, mask) ((value) * __LOWEST_SET_BIT(mask))
#endif
#ifndef __SHIFTOUT
#define __SHIFTOUT(field, mask) (((field) & (mask)) / __LOWEST_SET_BIT(mask))
#endif
#ifndef __SHIFTOUT_MASK
#define __SHIFTOUT_MASK(mask) __SHIFTOUT((mask), (mask))
#endif

#ifndef __predict_true
#define __predict_true(condition) __builtin_expect((condition) ? 1 : 0, 1)
#endif
#ifndef __predict_false
#define __predict_false(condition) __builtin_expect((condition) ? 1 : 0, 0)
#endif
#ifndef __arraycount
#define __arraycount(array) (sizeof(array) / sizeof((array)[0]))
#endif

#endif
