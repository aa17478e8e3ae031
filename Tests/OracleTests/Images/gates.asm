; 32-bit protected mode: gates of every type, privilege changes, faults with error codes, descriptor checks.
%include "common.inc"
%include "protected.inc"

CONFORMING  equ 0x40
CALL_GATE   equ 0x48 | 3
NOT_PRESENT equ 0x50
CALL_PARAMS equ 0x58 | 3
CALL_GATE16 equ 0x60 | 3
CODE_ABSENT equ 0x68
EXECUTE_ONLY equ 0x70
READ_ONLY   equ 0x78
LDT_SEL     equ 0x80
TSS_ABSENT  equ 0x88
CODE1       equ 0x90 | 1
DATA1       equ 0x98 | 1
EXPAND_DOWN equ 0xA0

start:  GO_PROTECTED
        STOP    "set up"

; --- faults at CPL 0
        EXPECT  .divide
        mov     eax, 7
        xor     ecx, ecx
        div     ecx
.divide: STOP   "#DE"
        EXPECT  .breakpoint
        int3
.breakpoint: STOP "#BP"
        EXPECT  .overflow
        mov     al, 0x7F
        add     al, 1
        into
.overflow: STOP "#OF"
        mov     dword [SCRATCH], 5
        mov     dword [SCRATCH + 4], 9
        mov     eax, 10
        EXPECT  .bound
        bound   eax, [SCRATCH]
.bound: STOP    "#BR"
        EXPECT  .undefined
        ud2
.undefined: STOP "#UD"
        mov     eax, cr0
        or      al, 8
        mov     cr0, eax
        EXPECT  .device
        fnstcw  [SCRATCH]
.device: STOP   "#NM"
        clts
        EXPECT  .limit
        lldt    [idt_register]
.limit: STOP    "#GP of LLDT"
        EXPECT  .not_present
        mov     ax, NOT_PRESENT
        mov     es, ax
.not_present: STOP "#NP"
        EXPECT  .stack_not_present
        mov     ax, NOT_PRESENT
        mov     ss, ax
.stack_not_present: STOP "#SS"
        EXPECT  .stack_null
        xor     eax, eax
        mov     ss, ax
.stack_null: STOP "#GP of null SS"
        EXPECT  .code_in_data
        mov     ax, EXECUTE_ONLY
        mov     es, ax
.code_in_data: STOP "#GP of execute-only"
; Writes to read-only and code segments and uses of a null one are the host oracle's: TCG does not check them.
        EXPECT  .beyond
        mov     ax, 0xFFF8
        mov     es, ax
.beyond: STOP   "#GP beyond the GDT"
        EXPECT  .far_absent
        jmp     CODE_ABSENT:0x1234
.far_absent: STOP "#NP of code"
        EXPECT  .far_data
        jmp     DATA0:0x1234
.far_data: STOP "#GP of far jump to data"
        EXPECT  .far_null
        jmp     0:0x1234
.far_null: STOP "#GP of far jump to null"
        EXPECT  .int_beyond
        int     0x30
.int_beyond: STOP "#GP of INT beyond the IDT"

; --- gates
        EXPECT  .interrupt_gate
        int     0x20
.interrupt_gate: STOP "interrupt gate, 32-bit"
        mov     byte [IDT + 0x21 * 8 + 5], 0x8F
        EXPECT  .trap_gate
        sti
        int     0x21
.trap_gate: STOP "trap gate, 32-bit"
        EXPECT  .interrupt_gate_if
        sti
        int     0x20
.interrupt_gate_if: STOP "interrupt gate clears IF"
        mov     word [IDT + 0x22 * 8], gate16_handler
        mov     word [IDT + 0x22 * 8 + 2], CODE16
        mov     byte [IDT + 0x22 * 8 + 5], 0x86
        xor     ebx, ebx
        int     0x22
        STOP    "interrupt gate, 16-bit"
        mov     word [IDT + 0x23 * 8], gate16_handler
        mov     word [IDT + 0x23 * 8 + 2], CODE16
        mov     byte [IDT + 0x23 * 8 + 5], 0x87
        int     0x23
        STOP    "trap gate, 16-bit"
        mov     byte [IDT + 0x24 * 8 + 5], 0x0E
        EXPECT  .gate_absent
        int     0x24
.gate_absent: STOP "#NP of a gate"
        mov     word [IDT + 0x25 * 8 + 2], DATA0
        EXPECT  .gate_to_data
        int     0x25
.gate_to_data: STOP "#GP of a gate to data"
        mov     word [IDT + 0x26 * 8 + 2], 0
        EXPECT  .gate_to_null
        int     0x26
.gate_to_null: STOP "#GP of a gate to null"
        mov     word [IDT + 0x27 * 8 + 2], CODE_ABSENT
        EXPECT  .gate_to_absent
        int     0x27
.gate_to_absent: STOP "#NP of a gate's code"

; --- double fault: #GP whose gate is not present
        and     byte [IDT + 13 * 8 + 5], 0x7F
        EXPECT  .double_fault
        mov     ax, 0xFFF8
        mov     es, ax
.double_fault: or byte [IDT + 13 * 8 + 5], 0x80
        STOP    "#DF"

; --- CPL 3
        mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        EXPECT  .user_gp
        TO_RING3 user_cli
.user_gp: STOP  "#GP of CLI at CPL 3"
        EXPECT  .user_int
        TO_RING3 user_int20
.user_int: STOP "#GP of INT to a DPL 0 gate"
        mov     byte [IDT + 0x28 * 8 + 5], 0xEE
        EXPECT  .user_gate
        TO_RING3 user_int28, 0x202
.user_gate: STOP "interrupt gate from CPL 3"
        mov     byte [IDT + 0x29 * 8 + 5], 0xEF
        EXPECT  .user_trap
        TO_RING3 user_int29, 0x202
.user_trap: STOP "trap gate from CPL 3"
        EXPECT  .user_divide
        TO_RING3 user_divide
.user_divide: STOP "#DE from CPL 3"
        EXPECT  .user_hlt
        TO_RING3 user_hlt
.user_hlt: STOP "#GP of HLT at CPL 3"
        EXPECT  .user_cr
        TO_RING3 user_cr
.user_cr: STOP  "#GP of MOV CR at CPL 3"
        EXPECT  .user_data0
        TO_RING3 user_data0
.user_data0: STOP "#GP of loading DPL 0 data"
        mov     word [TSS + 0x68 + 0x10], 0xFFFF
        EXPECT  .user_port
        TO_RING3 user_port
.user_port: STOP "#GP of IN without permission"
        mov     byte [TSS + 0x68 + 0x10], 0x7F  ; port 0x87 is free, 0x88 is not
        EXPECT  .user_port_16
        TO_RING3 user_port_pair
.user_port_16: STOP "#GP of IN across the map"
        EXPECT  .user_iopl
        TO_RING3 user_sti_iopl, 0x3002
.user_iopl: STOP "STI at IOPL 3"
        EXPECT  .user_popf
        TO_RING3 user_popf, 0x202
.user_popf: STOP "POPF at CPL 3"
        EXPECT  .user_iret_inner
        TO_RING3 user_iret_inner
.user_iret_inner: STOP "#GP of IRET to CPL 0"

; --- call gates and far returns
        EXPECT  .call_gate
        TO_RING3 user_call_gate
.call_gate: STOP "call gate to CPL 0 and back"
        EXPECT  .call_params
        TO_RING3 user_call_params
.call_params: STOP "call gate with parameters"
        EXPECT  .call_gate_jmp
        TO_RING3 user_jump_gate
.call_gate_jmp: STOP "#GP of JMP through a gate inward"
        call    CALL_GATE16:0
        STOP    "call gate, 16-bit"
        ; The gate above has its own copy of SP: back to ours.
        mov     esp, STACK0
        EXPECT  .conforming
        TO_RING3 user_conforming
.conforming: STOP "conforming code at CPL 3"
        call    CONFORMING:conforming_routine
        STOP    "conforming code at CPL 0"
        EXPECT  .far_return
        push    dword DATA3
        push    dword STACK3
        push    dword CODE3
        push    dword user_int28
        retf
.far_return: STOP "far return to CPL 3"
        EXPECT  .far_return_n
        mov     ax, DATA0
        mov     ds, ax
        mov     es, ax
        push    dword DATA3
        push    dword STACK3
        push    dword 0x11111111
        push    dword CODE3
        push    dword user_int28
        retf    4
.far_return_n: STOP "far return that frees parameters"
        mov     ax, DATA3
        mov     ds, ax
        mov     ax, DATA1
        mov     es, ax
        mov     ax, DATA0
        mov     fs, ax
        EXPECT  .return_clears
        TO_RING3 user_read_segments
.return_clears: STOP "return clears DS, ES, FS, GS"

; --- descriptors
        mov     ecx, gdt_image_end - gdt_image
        shr     ecx, 3
        xor     ebx, ebx
        mov     edi, SCRATCH + 0x100
.check: lea     eax, [ebx * 8]
        xor     edx, edx
        lar     edx, eax
        setz    [edi]
        mov     [edi + 4], edx
        xor     edx, edx
        lsl     edx, eax
        setz    [edi + 1]
        mov     [edi + 8], edx
        verr    ax
        setz    [edi + 2]
        verw    ax
        setz    [edi + 3]
        ; What LAR leaves undefined.
        and     dword [edi + 4], 0x00F0FF00
        add     edi, 12
        inc     ebx
        cmp     ebx, ecx
        jb      .check
        STOP    "LAR, LSL, VERR, VERW"
        mov     ax, 0x10
        mov     bx, 0x03
        arpl    ax, bx
        STOP    "ARPL"
        mov     dword [LDT], 0x0000FFFF
        mov     dword [LDT + 4], 0x00CF9200
        mov     ax, LDT_SEL
        lldt    ax
        sldt    ebx
        mov     ax, 0x04
        mov     es, ax
        mov     ecx, [es:SCRATCH]
        STOP    "LLDT"
        EXPECT  .ltr_busy
        mov     ax, TSS_MAIN
        ltr     ax
.ltr_busy: STOP "#GP of LTR of a busy TSS"
        EXPECT  .ltr_absent
        mov     ax, TSS_ABSENT
        ltr     ax
.ltr_absent: STOP "#NP of LTR"
        str     eax
        sgdt    [SCRATCH + 0x10]
        sidt    [SCRATCH + 0x18]
        smsw    ebx
        STOP    "STR, SGDT, SIDT, SMSW"
        ; A stack fault while entering CPL 0: SS0 in the TSS is no stack.
        mov     dword [TSS + 8], CODE0
        EXPECT  .bad_tss
        and     byte [IDT + 13 * 8 + 5], 0xFF
        STOP    "before #TS"
        mov     word [IDT + 10 * 8 + 2], CODE0
        mov     dword [TSS + 8], DATA0
        EXPECT  .task_limit
        mov     word [GDT + 0x88], 0x20
        mov     byte [GDT + 0x88 + 5], 0x89
        jmp     TSS_ABSENT:0
.task_limit: STOP "#TS of a short TSS"
.bad_tss:
        STOP    "end"

user_cli: cli
user_int20: int 0x20
user_int28: int 0x28
user_int29: int 0x29
user_divide:
        xor     ecx, ecx
        div     ecx
user_hlt: hlt
user_cr: mov    eax, cr0
user_data0:
        mov     ax, DATA0
        mov     es, ax
user_port: in   al, 0x80
user_port_pair: in ax, 0x87
user_sti_iopl:
        sti
        pushfd
        pop     edx
        and     edx, ~ARITHMETIC
        int     0x28
user_popf:
        push    dword 0x3002
        popfd
        pushfd
        pop     edx
        and     edx, ~ARITHMETIC
        int     0x28
user_iret_inner:
        push    dword 2
        push    dword CODE0
        push    dword user_int28
        iretd
user_call_gate:
        call    CALL_GATE:0
        mov     ecx, esp
        int     0x28
user_call_params:
        push    dword 0x11111111
        push    dword 0x22222222
        call    CALL_PARAMS:0
        mov     ecx, esp
        int     0x28
user_jump_gate: jmp CALL_GATE:0
user_conforming:
        call    CONFORMING:conforming_routine
        int     0x28
user_read_segments:
        mov     eax, ds
        mov     ebx, es
        mov     ecx, fs
        mov     edx, gs
        int     0x28

conforming_routine:
        mov     esi, cs
        retf
gate_routine:
        mov     esi, cs
        mov     edi, ss
        mov     ebp, esp
        retf
params_routine:
        mov     esi, [esp + 8]
        mov     edi, [esp + 12]
        mov     ebp, [esp + 16]
        retf    8
        bits 16
gate16_handler:
        ; A 16-bit gate pushed 16-bit IP, CS and FLAGS.
        mov     ebx, esp
        mov     cx, [esp + 2]
        o16 iret
gate16_routine:
        mov     ebx, esp
        mov     cx, [esp + 2]
        o16 retf
        bits 32
        PROTECTED_HANDLERS

        align 8, db 0
gdt_image: BASE_DESCRIPTORS
        DESC 0, 0xFFFFF, 0x9F, 0xC      ; 40 conforming
        GATE CODE0, gate_routine, 0xEC, 0
        DESC 0, 0xFFFFF, 0x12, 0xC      ; 50 not present
        GATE CODE0, params_routine, 0xEC, 2
        GATE CODE16, gate16_routine, 0xE4, 0
        DESC 0, 0xFFFFF, 0x1A, 0xC      ; 68 code, not present
        DESC 0, 0xFFFFF, 0x99, 0xC      ; 70 execute-only
        DESC 0, 0xFFFFF, 0x90, 0xC      ; 78 read-only
        DESC LDT, 0x1F, 0x82, 0         ; 80
        DESC TSS + 0x400, 0x67, 0x09, 0 ; 88 TSS, not present
        DESC 0, 0xFFFFF, 0xBB, 0xC      ; 90 code, DPL 1
        DESC 0, 0xFFFFF, 0xB2, 0xC      ; 98 data, DPL 1
        DESC 0, 0xFFF, 0x96, 0x4        ; A0 expand-down
gdt_image_end:
