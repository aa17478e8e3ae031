; Virtual-8086 mode: entry by IRET, IOPL-sensitive instructions, faults and interrupts to CPL 0, and back.
%include "common.inc"
%include "protected.inc"

VM      equ 0x20000
%macro TO_VM86 2        ; label, EFLAGS besides VM
        push    dword 0x4444            ; GS
        push    dword 0x3333            ; FS
        push    dword 0x0000            ; DS
        push    dword 0x2222            ; ES
        push    dword 0x1000            ; SS
        push    dword 0xFF00            ; ESP
        push    dword VM | %2
        push    dword 0
        push    dword %1
        iretd
%endmacro

start:  GO_PROTECTED
        mov     byte [IDT + 0x28 * 8 + 5], 0xEE
        mov     byte [TSS + 0x68 + 0x10], 0xFF
        EXPECT  .cli
        TO_VM86 v_cli, 0x2
.cli:   STOP    "#GP of CLI at IOPL 0"
        EXPECT  .sti
        TO_VM86 v_sti, 0x2
.sti:   STOP    "#GP of STI at IOPL 0"
        EXPECT  .pushf
        TO_VM86 v_pushf, 0x2
.pushf: STOP    "#GP of PUSHF at IOPL 0"
        EXPECT  .popf
        TO_VM86 v_popf, 0x2
.popf:  STOP    "#GP of POPF at IOPL 0"
        EXPECT  .int
        TO_VM86 v_int, 0x2
.int:   STOP    "#GP of INT at IOPL 0"
        EXPECT  .iret
        TO_VM86 v_iret, 0x2
.iret:  STOP    "#GP of IRET at IOPL 0"
        EXPECT  .int3
        mov     byte [IDT + 3 * 8 + 5], 0xEE
        TO_VM86 v_int3, 0x2
.int3:  STOP    "#BP at IOPL 0"
        EXPECT  .hlt
        TO_VM86 v_hlt, 0x3002
.hlt:   STOP    "#GP of HLT"
        EXPECT  .int_iopl
        TO_VM86 v_int, 0x3202
.int_iopl: STOP "INT at IOPL 3"
        EXPECT  .flags
        TO_VM86 v_flags, 0x3002
.flags: STOP    "CLI, STI, PUSHF, POPF at IOPL 3"
        EXPECT  .segments
        TO_VM86 v_segments, 0x3002
.segments: STOP "segments and addresses"
        EXPECT  .lar
        TO_VM86 v_lar, 0x3002
.lar:   STOP    "#UD of LAR"
        EXPECT  .verr
        TO_VM86 v_verr, 0x3002
.verr:  STOP    "#UD of VERR"
        EXPECT  .cr
        TO_VM86 v_cr, 0x3002
.cr:    STOP    "#GP of MOV CR"
        EXPECT  .io
        TO_VM86 v_in, 0x3002
.io:    STOP    "#GP of IN, whatever IOPL"
        EXPECT  .lgdt
        TO_VM86 v_lgdt, 0x3002
.lgdt:  STOP    "#GP of LGDT"
        EXPECT  .divide
        TO_VM86 v_divide, 0x2
.divide: STOP   "#DE"
        EXPECT  .undefined
        TO_VM86 v_undefined, 0x2
.undefined: STOP "#UD"
        EXPECT  .far
        TO_VM86 v_far, 0x3002
.far:   STOP    "far call, jump and return"
        EXPECT  .iret_inside
        TO_VM86 v_iret_inside, 0x3002
.iret_inside: STOP "IRET at IOPL 3"
        ; IRET at CPL 3 must leave VM alone, which TCG gets wrong: a test of its own.
        STOP    "end"

        bits 16
v_cli:  cli
v_sti:  sti
v_pushf: pushf
v_popf: popf
v_int:  int     0x28
v_iret: iret
v_int3: int3
v_hlt:  hlt
v_flags:
        cli
        pushf
        pop     ax
        sti
        pushf
        pop     bx
        and     ax, ~ARITHMETIC & 0xFFFF
        and     bx, ~ARITHMETIC & 0xFFFF
        push    word 0x0002             ; IOPL stays 3
        popf
        pushf
        pop     cx
        and     cx, ~ARITHMETIC & 0xFFFF
        int     0x28
v_segments:
        mov     ax, SCRATCH >> 4
        mov     ds, ax
        mov     ax, SCRATCH >> 4
        mov     es, ax
        mov     word [0x10], 0x1234
        mov     bx, [es:0x10]
        mov     cx, ss
        mov     dx, fs
        mov     si, gs
        int     0x28
v_lar:  lar     ax, bx
v_verr: verr    ax
v_cr:   mov     eax, cr0
v_in:   in      al, 0x80
v_lgdt: lgdt    [0]
v_divide:
        xor     cx, cx
        div     cx
v_undefined: ud2
v_far:  call    0x0010:v_far_routine - 0x100
        mov     bx, cs
        jmp     0x0020:.next - 0x200
.next:  mov     cx, cs
        int     0x28
v_far_routine:
        mov     dx, cs
        retf
v_iret_inside:
        push    word 0x0202
        push    word 0x0010
        push    word .after - 0x100
        iret
.after: mov     bx, cs
        int     0x28
        bits 32
        PROTECTED_HANDLERS

        align 8, db 0
gdt_image: BASE_DESCRIPTORS
gdt_image_end:
