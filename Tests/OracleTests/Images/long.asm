; 64-bit mode: gates, IST, privilege changes, faults, SYSCALL, SYSENTER, paging with 4 levels, compatibility mode.
%include "common.inc"
%include "protected.inc"

CODE64  equ 0x40
CODE64_3 equ 0x58 | 3           ; SYSRET: 0x48 + 16
DATA64_3 equ 0x50 | 3           ; SYSRET: 0x48 + 8
CODE32_3 equ 0x48 | 3
TSS64   equ 0x60                ; 16 bytes
CALL_GATE equ 0x70 | 3          ; 16 bytes
CODE64_CONFORMING equ 0x80
PML4    equ PAGES
PDPT    equ PAGES + 0x1000
DIR     equ PAGES + 0x2000
TABLE   equ PAGES + 0x3000      ; linear 0x400000
IDT64   equ IDT + 0x400
TSS_64  equ TSS + 0x200
V       equ 0x400000
IST1    equ STACK0 - 0x6000

%macro EXPECT64 1
        mov     qword [RESUME], %1
        mov     [RESUME_SP], rsp
%endmacro
%macro FAULT 2+
        EXPECT64 %%after
        %2
%%after: STOP   %1
%endmacro
%macro USER 2-3 2               ; name, routine, RFLAGS
        EXPECT64 %%after
        push    DATA64_3
        push    STACK3
        push    %3
        push    CODE64_3
        push    %2
        iretq
%%after: STOP   %1
%endmacro

start:  GO_PROTECTED
        ; 4 levels: PML4[0] -> PDPT[0] -> DIR[0]: 2 MiB identity for all, DIR[2]: TABLE.
        mov     dword [PML4], PDPT | 7
        mov     dword [PDPT], DIR | 7
        mov     dword [PDPT + 8], 0x87          ; 1 GiB: a 1 GiB page at 0
        mov     dword [DIR], 0x87
        mov     dword [DIR + 16], TABLE | 7
        mov     dword [TABLE + 0], SCRATCH | 7
        mov     dword [TABLE + 8], SCRATCH | 5
        mov     dword [TABLE + 16], SCRATCH | 3
        mov     dword [TABLE + 24], 0
        mov     dword [TABLE + 32], SCRATCH | 7
        mov     dword [TABLE + 36], 0x80000000
        mov     eax, cr4
        or      eax, 0x6A0                      ; PAE, PGE, OSFXSR, OSXMMEXCPT
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, 0xC0000080
        mov     eax, 0x901                      ; SCE, LME, NXE
        xor     edx, edx
        wrmsr
        mov     eax, cr0
        or      eax, 0x80010000                 ; PG, WP
        mov     cr0, eax
        cmp     eax, eax
        STOP    "compatibility mode"
        jmp     CODE64:long_start
        bits 64
long_start:
        lidt    [idt64_register]
        mov     edi, IDT64
        mov     esi, stub64_table
        mov     ecx, 48
.gate:  mov     eax, [rsi]
        add     esi, 4
        mov     [rdi], ax
        mov     word [rdi + 2], CODE64
        mov     word [rdi + 4], 0x8E00
        shr     eax, 16
        mov     [rdi + 6], ax
        mov     qword [rdi + 8], 0
        add     edi, 16
        loop    .gate
        mov     qword [TSS_64 + 4], STACK0 - 0x1000
        mov     qword [TSS_64 + 0x24], IST1
        mov     word [TSS_64 + 0x66], 0x68
        mov     ax, TSS64
        ltr     ax
        mov     byte [IDT64 + 0x28 * 16 + 5], 0xEE
        xor     eax, eax
        mov     ss, ax
        mov     rsp, STACK0
        cmp     eax, eax
        STOP    "64-bit mode"

        xor     ecx, ecx
        FAULT   "#DE", div rcx
        FAULT   "#BP", int3
        FAULT   "#UD", ud2
        FAULT   "#UD of PUSHA", db 0x60
        mov     rax, 0x123456789ABCDEF0
        FAULT   "#GP of a non-canonical address", mov rbx, [rax]
        ; Through RBP it is #SS, for which TCG raises #GP: a test of its own.
        ; First one that succeeds: whether a walk that fails sets A on its way is the processor's choice.
        mov     rax, [V + 8]
        STOP    "read sets A"
        FAULT   "#PF not present", mov rax, [V + 0x3008]
        FAULT   "#PF write of read-only", mov [V + 0x1008], rax
        FAULT   "#PF fetch of NX", jmp V + 0x4000
        FAULT   "#PF no PML4 entry", mov rax, [qword 0x7F0000000000]
        mov     [V + 0x10], rax
        STOP    "write sets D"
        mov     rbx, [0x40000000 + SCRATCH]
        STOP    "1 GiB page"
        FAULT   "interrupt gate", int 0x20
        mov     byte [IDT64 + 0x21 * 16 + 5], 0x8F
        EXPECT64 .trap
        sti
        int     0x21
.trap:  STOP    "trap gate"
        mov     byte [IDT64 + 0x22 * 16 + 4], 1
        mov     rsp, STACK0 - 0x13              ; delivery aligns the stack
        FAULT   "IST", int 0x22
        mov     rsp, STACK0
        ; Errors that name a gate: TCG counts 16 for each vector, the manual and processors 8.
        mov     word [IDT64 + 0x25 * 16 + 2], CODE0
        FAULT   "#GP of a gate to 32-bit code", int 0x25
        ; Double fault: the gate of #GP is absent, #DF goes onto its own stack.
        and     byte [IDT64 + 13 * 16 + 5], 0x7F
        mov     byte [IDT64 + 8 * 16 + 4], 1
        mov     rax, 0x8000000000000000
        EXPECT64 .double
        mov     rbx, [rax]
.double: or     byte [IDT64 + 13 * 16 + 5], 0x80
        STOP    "#DF through IST"

        USER    "#GP of CLI at CPL 3", user_cli
        USER    "INT at CPL 3", user_int, 0x202
        USER    "#PF user read of supervisor", user_read
        USER    "#GP of RDMSR", user_rdmsr
        ; SYSCALL and SYSRET
        mov     ecx, 0xC0000081                 ; STAR
        xor     eax, eax
        mov     edx, (0x4B << 16) | CODE64
        wrmsr
        mov     ecx, 0xC0000082                 ; LSTAR
        mov     eax, syscall_entry
        xor     edx, edx
        wrmsr
        mov     ecx, 0xC0000084                 ; SFMASK
        mov     eax, 0x600
        wrmsr
        USER    "SYSCALL", user_syscall, 0x602
        USER    "SYSRET", user_sysret, 0x202
        ; SYSENTER and SYSEXIT
        mov     ecx, 0x174
        mov     eax, 0x40
        xor     edx, edx
        wrmsr
        mov     ecx, 0x175
        mov     eax, STACK0 - 0x2000
        wrmsr
        mov     ecx, 0x176
        mov     eax, sysenter_entry
        wrmsr
        USER    "SYSENTER", user_sysenter, 0x202
        ; SWAPGS, and the bases of FS and GS by MSR
        mov     ecx, 0xC0000101
        mov     eax, 0x11111111
        mov     edx, 0x1111
        wrmsr
        mov     ecx, 0xC0000102
        mov     eax, 0x22222222
        mov     edx, 0x2222
        wrmsr
        mov     ecx, 0xC0000100
        mov     eax, SCRATCH
        xor     edx, edx
        wrmsr
        mov     rbx, [fs:8]
        swapgs
        STOP    "SWAPGS, FS and GS bases"
        ; Call gate to 64-bit code from CPL 3
        mov     word [GDT + 0x70], gate64
        mov     word [GDT + 0x72], CODE64
        mov     dword [GDT + 0x74], 0xEC00
        mov     qword [GDT + 0x78], 0
        USER    "call gate", user_call_gate
        ; Compatibility mode at CPL 3 and back by INT
        EXPECT64 .compat
        push    DATA3
        push    STACK3
        push    2
        push    CODE32_3
        push    user32
        iretq
.compat: STOP   "interrupt from compatibility mode"
        ; IRETQ at CPL 0 with a null SS, far return, far jump through memory
        mov     rax, rsp
        push    0
        push    rax
        push    2
        push    CODE64
        push    .iretq
        iretq
.iretq: cmp     eax, eax
        STOP    "IRETQ to CPL 0 with null SS"
        push    CODE64_CONFORMING
        push    .retfq
        o64 retf
.retfq: mov     ebx, cs
        STOP    "far return to conforming code"
        mov     rax, cr8
        mov     ecx, 5
        mov     cr8, rcx
        mov     rbx, cr8
        xor     ecx, ecx
        mov     cr8, rcx
        STOP    "CR8"
        ; Writes to CR0, CR4 and MSRs that must fault are tests of their own: TCG lets them pass.
        STOP    "end"

user_cli: cli
user_int: int   0x28
user_read: mov  rax, [V + 0x2000]
user_rdmsr: rdmsr
user_syscall:
        mov     r8, rsp
        syscall
syscall_entry:
        ; Still on the user's stack. r9 tells which test it is.
        mov     r10, rsp
        mov     r12d, cs
        mov     r13d, ss
        pushfq
        pop     r14
        and     r14, ~UNSEEN
        and     r11, ~UNSEEN
        cmp     r9, 0x5151
        je      .back
        mov     rsp, STACK0
        int     0x20
.back:  o64 sysret
user_sysret:
        mov     r9, 0x5151
        syscall
        mov     r15d, cs
        mov     r8d, ss
        int     0x28
user_sysenter:
        mov     r8, rsp
        sysenter
sysenter_entry:
        mov     r10, rsp
        mov     r12d, cs
        mov     r13d, ss
        int     0x20
user_call_gate:
        call far dword [.pointer]
        mov     r8d, cs
        int     0x28
.pointer: dd 0
        dw      CALL_GATE
gate64: mov     r12d, cs
        mov     r13d, ss
        mov     r14, rsp
        o64 retf
        bits 32
user32: mov     eax, 0x12345678
        mov     ebx, cs
        int     0x28
        bits 64

; Entry: vector, RFLAGS in the handler, error code, RSP there; RIP, CS, RFLAGS, RSP; then SS and CR2 in the halves
; that are left: 8 words of 64 bits are vector | flags << 32, code | CS << 32, RSP there, RIP, RFLAGS, RSP, SS, CR2.
common64:
        push    rax
        pushfq
        push    rbx
        mov     rbx, [LOG_AT]
        mov     rax, [rsp + 24]
        mov     [rbx], eax
        mov     rax, [rsp + 8]
        and     eax, ~UNSEEN
        mov     [rbx + 4], eax
        mov     rax, [rsp + 32]
        mov     [rbx + 8], eax
        mov     rax, [rsp + 48]
        mov     [rbx + 12], eax
        mov     [rbx + 16], rsp
        mov     rax, [rsp + 40]
        mov     [rbx + 24], rax
        mov     rax, [rsp + 56]
        and     rax, ~UNSEEN
        mov     [rbx + 32], rax
        mov     rax, [rsp + 64]
        mov     [rbx + 40], rax
        mov     rax, [rsp + 72]
        mov     [rbx + 48], rax
        mov     rax, cr2
        mov     [rbx + 56], rax
        add     qword [LOG_AT], 64
        pop     rbx
        add     rsp, 8
        pop     rax
        mov     rsp, [RESUME_SP]
        push    2
        popfq
        cmp     eax, eax
        jmp     [RESUME]
%assign vector 0
%rep 48
stub64_ %+ vector:
%if vector != 8 && !(vector >= 10 && vector <= 14) && vector != 17
        push    0
%endif
        push    vector
        jmp     common64
%assign vector vector + 1
%endrep
        align 4, db 0
stub64_table:
%assign vector 0
%rep 48
        dd stub64_ %+ vector
%assign vector vector + 1
%endrep
        align 8, db 0
idt64_register: dw 48 * 16 - 1
        dq      IDT64
        bits 32
        PROTECTED_HANDLERS

        align 8, db 0
gdt_image: BASE_DESCRIPTORS
        DESC 0, 0xFFFFF, 0x9B, 0xA      ; 40 64-bit code
        DESC 0, 0xFFFFF, 0xFB, 0xC      ; 48 32-bit code, CPL 3
        DESC 0, 0xFFFFF, 0xF3, 0xC      ; 50 data, CPL 3
        DESC 0, 0xFFFFF, 0xFB, 0xA      ; 58 64-bit code, CPL 3
        DESC TSS_64, 0x67, 0x89, 0      ; 60
        dq 0
        dq 0                            ; 70 call gate
        dq 0
        DESC 0, 0xFFFFF, 0x9F, 0xA      ; 80 64-bit conforming code
gdt_image_end:
