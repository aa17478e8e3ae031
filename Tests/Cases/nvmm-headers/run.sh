# needs: tool cc
# needs: tool c++
# The headers stand alone in both languages without a warning, and every size and offset is asserted.
include=$ROOT/Sources/CNVMM/include
warnings=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only)
check() { # what, source
    cc -std=c11 "${warnings[@]}" "-I$include" "-I$include/compat" -x c "$2" && echo "$1: C11"
    c++ -std=c++17 "${warnings[@]}" "-I$include" "-I$include/compat" -x c++ "$2" && echo "$1: C++17"
}
check layout "$ROOT/Sources/CNVMM/layout.c"
for header in nvmm.h dev/nvmm/nvmm.h dev/nvmm/nvmm_ioctl.h nvmm_types.h nvmm_compat.h nvmm_publication.h \
    machine/segments.h machine/psl.h machine/pte.h x86/specialreg.h; do
    printf '#include <%s>\n#include <%s>\nint here;\n' "$header" "$header" >alone.c
    check "$header" alone.c
done
