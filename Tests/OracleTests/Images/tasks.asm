; Hardware task switches (SDM vol. 3, chapter 8): JMP, CALL, IRET, task gates; 32- and 16-bit TSS; errors.
%include "common.inc"
%include "protected.inc"

TASK_B  equ 0x40        ; 32-bit task at CPL 0
TASK_C  equ 0x48        ; 32-bit task at CPL 3
TASK_16 equ 0x50
TASK_GATE equ 0x58 | 3
LDT_SEL equ 0x60
TASK_BAD equ 0x68       ; its CS is data

TSS_B   equ TSS + 0x200
TSS_C   equ TSS + 0x400
TSS_16  equ TSS + 0x600
TSS_BAD equ TSS + 0x800

%macro FILL_TSS 5       ; TSS, EIP, CS, data and stack selector, ESP
        mov     edi, %1
        mov     dword [edi + 0x04], STACK0 - 0x2000
        mov     dword [edi + 0x08], DATA0
        mov     dword [edi + 0x20], %2
        mov     dword [edi + 0x24], 0x2
        mov     dword [edi + 0x28], 0xA0A0A0A0
        mov     dword [edi + 0x2C], 0xC1C1C1C1
        mov     dword [edi + 0x30], 0xD2D2D2D2
        mov     dword [edi + 0x34], 0xB3B3B3B3
        mov     dword [edi + 0x38], %5
        mov     dword [edi + 0x3C], 0x05050505
        mov     dword [edi + 0x40], 0x06060606
        mov     dword [edi + 0x44], 0x07070707
        mov     dword [edi + 0x48], %4
        mov     dword [edi + 0x4C], %3
        mov     dword [edi + 0x50], %4
        mov     dword [edi + 0x54], %4
        mov     dword [edi + 0x58], 0
        mov     dword [edi + 0x5C], 0
        mov     dword [edi + 0x60], LDT_SEL
        mov     word [edi + 0x66], 0x68
%endmacro

start:  GO_PROTECTED
        FILL_TSS TSS_B, task_b, CODE0, DATA0, STACK0 - 0x4000
        FILL_TSS TSS_C, task_c, CODE3, DATA3, STACK3
        FILL_TSS TSS_BAD, task_b, DATA0, DATA0, STACK0 - 0x4000
        mov     edi, TSS_16
        mov     word [edi + 0x02], 0x6F00
        mov     word [edi + 0x04], DATA0
        mov     word [edi + 0x0E], task_16
        mov     word [edi + 0x10], 2
        mov     word [edi + 0x12], 0xAAAA
        mov     word [edi + 0x14], 0xCCCC
        mov     word [edi + 0x16], 0xDDDD
        mov     word [edi + 0x18], 0xBBBB
        mov     word [edi + 0x1A], 0x6E00
        mov     word [edi + 0x1C], 0x5555
        mov     word [edi + 0x1E], 0x6666
        mov     word [edi + 0x20], 0x7777
        mov     word [edi + 0x22], DATA0
        mov     word [edi + 0x24], CODE16
        mov     word [edi + 0x26], DATA0
        mov     word [edi + 0x28], DATA0
        mov     word [edi + 0x2A], 0
        mov     ecx, 0x11
        mov     edx, 0x22
        mov     ebx, 0x33
        mov     ebp, 0x55
        mov     esi, 0x66
        cmp     eax, eax
        STOP    "set up"

        call    TASK_B:0
        cmp     eax, eax
        STOP    "back from CALL"
        mov     dword [TSS_B + 0x20], task_b_jumps
        cmp     eax, eax
        jmp     TASK_B:0
        STOP    "back from JMP"
        cmp     eax, eax
        jmp     TASK_B:0
        STOP    "back from the second JMP"
        ; A task gate in the IDT: INT nests as CALL does.
        mov     dword [IDT + 0x20 * 8], TASK_B << 16
        mov     dword [IDT + 0x20 * 8 + 4], 0xE500
        mov     dword [TSS_B + 0x20], task_b
        cmp     eax, eax
        int     0x20
        STOP    "back from INT through a task gate"
        ; A fault with an error code through a task gate: the code goes onto the new task's stack.
        mov     dword [IDT + 11 * 8], TASK_B << 16
        mov     dword [IDT + 11 * 8 + 4], 0xE500
        mov     dword [TSS_B + 0x20], task_b_fault
        mov     ax, 0x70
        cmp     eax, eax
        mov     es, ax
        STOP    "back from #NP through a task gate"
        call    TASK_GATE:0
        cmp     eax, eax
        STOP    "back from CALL through a task gate"
        ; A task at CPL 3, left by an interrupt to CPL 0 of that task's own stack, then by IRET of ours.
        mov     byte [IDT + 0x28 * 8 + 5], 0xEE
        mov     dword [IDT + 0x28 * 8 + 2], CODE0
        mov     word [IDT + 0x28 * 8], from_task_c
        mov     word [IDT + 0x28 * 8 + 6], 0
        mov     byte [IDT + 0x28 * 8 + 5], 0xEE
        mov     byte [IDT + 0x28 * 8 + 4], 0
        cmp     eax, eax
        call    TASK_C:0
        cmp     eax, eax
        STOP    "back from a task at CPL 3"
        call    TASK_16:0
        cmp     eax, eax
        STOP    "back from a 16-bit task"
        ; Errors: busy, not a task, a bad CS, NT with a bad link.
        EXPECT  .busy
        jmp     TSS_MAIN:0
.busy:  STOP    "#GP of JMP to a busy task"
        EXPECT  .link
        mov     word [TSS], 0x10
        pushfd
        or      dword [esp], 0x4000
        popfd
        iretd
.link:  STOP    "#TS of a bad link"
        mov     byte [IDT + 0x20 * 8 + 3], 0
        mov     word [IDT + 0x20 * 8 + 2], 0x10
        EXPECT  .gate
        int     0x20
.gate:  STOP    "#GP of a task gate to data"
        STOP    "end"

; Task B: what it starts with, then back by IRET, and on from there at the next CALL.
task_b: STOP    "task B"
        pushfd
        pop     edx
        and     edx, ~UNSEEN
        mov     ebx, cr0
        str     ecx
        sldt    esi
        cmp     eax, eax
        STOP    "task B: NT, TS, TR, LDT"
        clts
        cmp     eax, eax
        iretd
        jmp     task_b
task_b_jumps:
        STOP    "task B after JMP"
        pushfd
        pop     edx
        and     edx, ~UNSEEN
        clts
        cmp     eax, eax
        jmp     TSS_MAIN:0
        jmp     task_b_jumps
task_b_fault:
        pop     edx
        and     byte [TSS + 0x26], ~1   ; RF, which TCG does not save
        STOP    "task B: error code"
        ; The faulting instruction would fault again: go on behind it.
        add     dword [TSS + 0x20], 2
        clts
        cmp     eax, eax
        iretd
        jmp     task_b_fault

task_c: mov     eax, cs
        mov     ebx, ss
        int     0x28
from_task_c:
        STOP    "task C through an interrupt gate"
        clts
        mov     eax, cr3
        cmp     eax, eax
        ; Still in task C, nested, at CPL 0.
        pushfd
        or      dword [esp], 0x4000
        popfd
        iretd

        bits 16
task_16:
        ; What a 16-bit TSS leaves in the upper halves is the processor's choice.
        movzx   eax, ax
        movzx   ecx, cx
        movzx   edx, dx
        movzx   ebx, bx
        movzx   esp, sp
        movzx   ebp, bp
        movzx   esi, si
        movzx   edi, di
        STOP    "16-bit task"
        clts
        cmp     ax, ax
        iretd
        jmp     task_16
        bits 32
        PROTECTED_HANDLERS

        align 8, db 0
gdt_image: BASE_DESCRIPTORS
        DESC TSS_B, 0x67, 0x89, 0       ; 40
        DESC TSS_C, 0x67, 0x89, 0       ; 48
        DESC TSS_16, 0x2B, 0x81, 0      ; 50
        dw 0, TASK_B                    ; 58 task gate
        db 0, 0xE5
        dw 0
        DESC LDT, 0x1F, 0x82, 0         ; 60
        DESC TSS_BAD, 0x67, 0x89, 0     ; 68
        DESC 0, 0xFFFFF, 0x12, 0xC      ; 70 not present
gdt_image_end:
