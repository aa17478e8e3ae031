// Prints what this compiler makes of <nvmm.h>, one a line, in the order of layout.h: `type bytes`,
// `type.member offset bytes`, `type.member bit lowest width`, `NAME value`. Docs/nvmm-abi.md must say the same.
#include <nvmm.h>
#include <stdio.h>
#include <string.h>

/// Prints the place of the bits that are set in `bytes`: the program sets a bit-field to all ones and looks.
static void print_bits(const char *name, const unsigned char *bytes, size_t count) {
    size_t lowest = count * 8, width = 0;
    for (size_t bit = 0; bit < count * 8; bit++) {
        if (!(bytes[bit / 8] >> (bit % 8) & 1)) continue;
        if (bit < lowest) lowest = bit;
        width++;
    }
    printf("%s bit %zu width %zu\n", name, lowest, width);
}

static void print_value(const char *name, unsigned long long value) {
    printf(value < 256 ? "%s %llu\n" : "%s 0x%llX\n", name, value);
}

#define TYPE(type, bytes) printf(#type " %zu\n", sizeof(type));
#define FIELD(type, member, offset, bytes) \
    printf(#type "." #member " %zu %zu\n", offsetof(type, member), sizeof(((type *)0)->member));
#define BITS(type, member, lowest, width) \
    { \
        type value; \
        memset(&value, 0, sizeof value); \
        value.member = ~value.member; \
        print_bits(#type "." #member, (const unsigned char *)&value, sizeof value); \
    }
#define CONSTANT(name, value) print_value(#name, (unsigned long long)(name));

int main(void) {
#include "layout.h"
    return 0;
}
