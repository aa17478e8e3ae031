; Real mode: the IVT, faults without error codes, INT, IRET, TF, the limits of a 64 KiB segment.
%include "common.inc"

; Real-mode handler: vector in the stub, everything else from the stack.
%macro HANDLER 1
handler_%1:
        push    word %1
        jmp     common_handler
%endmacro

start:  cli
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7000
        mov     word [log_place], 0
        ; Every vector that is tested points to its stub.
%assign vector 0
%rep 16
        mov     word [vector * 4], handler_ %+ vector
        mov     word [vector * 4 + 2], 0
%assign vector vector + 1
%endrep
        mov     word [0x40 * 4], handler_64
        mov     word [0x40 * 4 + 2], 0
        STOP    "set up"

        mov     ax, 100
        xor     bx, bx
        mov     word [resume], after_divide
        div     bl
after_divide:
        STOP    "#DE"

        mov     word [resume], after_int
        int     0x40
after_int:
        STOP    "INT 40h"

        mov     word [resume], after_breakpoint
        int3
after_breakpoint:
        STOP    "#BP"

        mov     al, 0x7F
        add     al, 1
        mov     word [resume], after_overflow
        into
after_overflow:
        STOP    "#OF"

        mov     word [scratch], 5
        mov     word [scratch + 2], 9
        mov     ax, 10
        mov     word [resume], after_bound
        bound   ax, [scratch]
after_bound:
        STOP    "#BR"

        mov     word [resume], after_undefined
        ud2
after_undefined:
        STOP    "#UD"

        ; A task-switched FPU: WAIT with MP and TS, ESC with TS.
        mov     eax, cr0
        or      al, 0x0A
        mov     cr0, eax
        mov     word [resume], after_device
        fwait
after_device:
        STOP    "#NM"
        clts

        ; VERR, LAR, ARPL, SLDT are not recognised in real mode.
        mov     word [resume], after_verr
        verr    ax
after_verr:
        STOP    "#UD of VERR"
        mov     word [resume], after_lldt
        lldt    ax
after_lldt:
        STOP    "#UD of LLDT"

        ; Single step: the trap comes after the instruction behind POPF.
        mov     word [resume], after_step
        pushf
        pop     ax
        or      ax, 0x100
        push    ax
        popf
        nop
        nop
after_step:
        STOP    "#DB by TF"

        ; PUSHF and POPF carry IF and IOPL here; 32-bit ones AC as well.
        pushf
        pop     cx
        mov     ax, 0x7002
        push    ax
        popf
        pushf
        pop     bx
        push    cx
        popf
        STOP    "POPF of IOPL and NT"

        ; Far call and return, IRET with a frame of our own making.
        call    0x0010:far_routine - 0x100
        STOP    "far call"
        pushf
        push    word 0x0020
        push    word after_iret - 0x200
        iret
after_iret:
        mov     ax, cs
        jmp     0:normal
normal: STOP    "IRET"

        ; LIDT moves the vector table, here to 0x600.
        mov     cx, 0x200
        xor     si, si
        mov     di, 0x600
        xor     ax, ax
        mov     es, ax
        cld
        rep     movsw
        lidt    [idt_moved]
        mov     word [0x600 + 0x40 * 4], handler_65
        mov     word [resume], after_moved
        int     0x40
after_moved:
        lidt    [idt_usual]
        STOP    "LIDT"

        ; MOV SS holds traps back for one instruction.
        mov     word [resume], after_shadow
        pushf
        pop     ax
        or      ax, 0x100
        push    ax
        xor     bx, bx
        popf
        mov     ss, bx
        nop
        nop
after_shadow:
        STOP    "TF and MOV SS"

        ; SMSW, LMSW: PE can be set, not cleared; here only TS and EM.
        smsw    ax
        or      al, 0x0C
        lmsw    ax
        smsw    bx
        and     al, 0xF1
        lmsw    ax
        smsw    cx
        STOP    "LMSW"
        cli
        STOP    "end"

far_routine:
        mov     dx, cs
        retf

%assign vector 0
%rep 16
        HANDLER vector
%assign vector vector + 1
%endrep
        HANDLER 64
        HANDLER 65

; Logs vector, IP, CS, FLAGS (without the arithmetic ones) and SP, then goes to [resume].
common_handler:
        push    bp
        mov     bp, sp
        push    ax
        push    bx
        push    es
        mov     ax, LOG >> 4
        mov     es, ax
        mov     bx, [log_place]
        mov     ax, [bp + 2]
        mov     [es:bx], ax
        mov     ax, [bp + 4]
        mov     [es:bx + 2], ax
        mov     ax, [bp + 6]
        mov     [es:bx + 4], ax
        mov     ax, [bp + 8]
        and     ax, ~ARITHMETIC & 0xFFFF
        mov     [es:bx + 6], ax
        mov     [es:bx + 8], bp
        add     word [log_place], 16
        pop     es
        pop     bx
        mov     ax, [resume]
        mov     [bp + 4], ax
        and     word [bp + 8], ~0x100 & 0xFFFF
        pop     ax
        pop     bp
        add     sp, 2
        iret

        align 8, db 0
idt_moved:  dw 0x3FF
            dd 0x600
idt_usual:  dw 0x3FF
            dd 0
resume:     dw 0
log_place:  dw 0
scratch:    times 8 db 0
        RANGE "variables", resume, 16
