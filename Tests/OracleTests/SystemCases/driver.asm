; Driver of system cases in long mode: puts each case in place, enters it, and keeps what is left when something ends it.
; The harness writes cases, then COMMAND; layouts stand in SystemCaseLayout.swift.

        org 0x7C00
        bits 16

; Guest physical memory.
PML4        equ 0x1000
PDPT        equ 0x2000
DIR         equ 0x3000
WINDOW_DIR  equ 0x4000
WINDOW      equ 0x5000      ; page table of the window's first 2 MiB
TABLES      equ 0x10000     ; GDT, LDT, TSS and IDT of a case
DATA        equ 0x11000     ; its stacks
CODE        equ 0x12000
LOW_CODE    equ 0xC000      ; reached by 16 bits of address
SCRATCH     equ 0x13000     ; right behind it: pages behind random page-table entries
SCRATCH_PAGES equ 4
STACK       equ 0x19000
IST1        equ 0x1B000
COMMAND     equ 0x1C000     ; how many cases to run; the harness writes it last, the driver clears it
CURRENT     equ 0x1C008     ; the case under way
SAVED       equ 0x1C100
CASES       equ 0x200000
RESULTS     equ 0x800000
PAGE        equ 0x1000

; Offsets in a case's page and in its result's.
REGISTERS   equ 0x000
FRAME       equ 0x080
SELECTORS   equ 0x0A8
SYSTEM_SELECTORS equ 0x0B0
CONTROL     equ 0x0B8       ; CR0, CR4, EFER
MSRS        equ 0x0D0
DEBUG       equ 0x120
DEBUG_STATUS equ 0x148
FAULT_ADDRESS equ 0x150
VECTOR      equ 0x158
ERROR       equ 0x160
CASE_CODE   equ 0x180
ENTRIES     equ 0x1C0
DIRECTORY   equ 0x240       ; the window's second entry
CASE_DATA   equ 0x280
CASE_TABLES equ 0x400
CASE_SCRATCH equ 0xB00
CODE_BYTES  equ 0x40
ENTRY_BYTES equ 0x80
DATA_BYTES  equ 0x180
TABLE_BYTES equ 0x700
SCRATCH_BYTES equ 0x40

; In the tables' page.
GDT         equ 0x000
IDT         equ 0x280
VECTORS     equ 0x48
GDT_LIMIT   equ 0xFF
IDT_LIMIT   equ VECTORS * 16 - 1

CODE64      equ 0x08
DATA64      equ 0x10
TSS64       equ 0x18
CR0_DRIVER  equ 0x80000011
CR4_DRIVER  equ 0x40220     ; PAE, OSFXSR, OSXSAVE
PATIENCE    equ 33          ; so many bits of turns of the waiting loop: most of a minute
EFER        equ 0xC0000080
EFER_DRIVER equ 0x901       ; SCE, LME, NXE

        jmp     start
        align   8, db 0
        dd      stubs           ; where the harness's gates lead; 16 bytes a vector

start:  cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        cld
        mov     di, PML4
        mov     cx, 0x5000 / 2
        rep     stosw
        mov     word [PML4], PDPT | 7
        mov     word [PDPT], DIR | 7
        mov     word [PDPT + 8], WINDOW_DIR | 7
        mov     word [WINDOW_DIR], WINDOW | 7
        mov     di, DIR
        mov     eax, 0xE3       ; 2 MiB, accessed, dirty, supervisor, writable
        mov     cx, 8           ; 16 MiB as they are
.identity:
        mov     [di], eax
        add     di, 8
        add     eax, 0x200000
        loop    .identity
        lgdt    [first_gdtr]
        mov     eax, CR4_DRIVER
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, EFER
        mov     eax, EFER_DRIVER
        xor     edx, edx
        wrmsr
        mov     eax, CR0_DRIVER
        mov     cr0, eax
        jmp     CODE64:long_start

        align   8, db 0
first_gdt:
        dq      0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
first_gdtr:
        dw      first_gdtr - first_gdt - 1
        dd      first_gdt
gdtr:   dw      GDT_LIMIT
        dq      TABLES + GDT
idtr:   dw      IDT_LIMIT
        dq      TABLES + IDT
no_idtr:
        dw      0
        dq      0
        align   4, db 0
msr_numbers:                    ; in the order of MSRS
        dd      0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102
        dd      0xC0000100, 0xC0000101, 0x174, 0x175, 0x176
MSR_COUNT   equ ($ - msr_numbers) / 4

        bits 64
        default abs
long_start:
        mov     rsp, STACK
        ; What jumps to where no case put its code meets INT3.
        mov     edi, CODE
        mov     al, 0xCC
        mov     ecx, PAGE + SCRATCH_PAGES * PAGE
        rep     stosb
        mov     edi, LOW_CODE
        mov     ecx, PAGE
        rep     stosb

wait_for_cases:
        xor     r15d, r15d
.wait:  pause
        inc     r15
        bt      r15, PATIENCE
        jc      abandoned
        cmp     qword [COMMAND], 0
        je      .wait
        mov     qword [CURRENT], 0

next_case:
        mov     rax, [CURRENT]
        cmp     rax, [COMMAND]
        jb      enter_case
        mov     qword [COMMAND], 0
        jmp     wait_for_cases

; Nobody is there any more: a triple fault ends QEMU.
abandoned:
        lidt    [no_idtr]
        int3

%macro COPY 3                   ; to, from, bytes
        lea     rdi, [%1]
        lea     rsi, [%2]
        mov     ecx, (%3) / 8
        rep     movsq
%endmacro

enter_case:
        shl     rax, 12
        lea     rbx, [rax + CASES]
        COPY    WINDOW, rbx + ENTRIES, ENTRY_BYTES
        mov     rax, [rbx + DIRECTORY]
        mov     [WINDOW_DIR + 8], rax
        COPY    DATA, rbx + CASE_DATA, DATA_BYTES
        COPY    CODE, rbx + CASE_CODE, CODE_BYTES
        COPY    TABLES, rbx + CASE_TABLES, TABLE_BYTES
%assign page 0
%rep SCRATCH_PAGES
        COPY    SCRATCH + page * PAGE, rbx + CASE_SCRATCH + page * SCRATCH_BYTES, SCRATCH_BYTES
%assign page page + 1
%endrep
        lgdt    [gdtr]
        lidt    [idtr]
        mov     eax, TSS64
        ltr     ax
        lldt    [rbx + SYSTEM_SELECTORS]
        mov     ds, [rbx + SELECTORS]
        mov     es, [rbx + SELECTORS + 2]
        mov     fs, [rbx + SELECTORS + 4]
        mov     gs, [rbx + SELECTORS + 6]
        mov     eax, DATA64
        mov     ss, eax
        lea     rsi, [rbx + MSRS]
        xor     edi, edi
.msr:   mov     ecx, [msr_numbers + rdi * 4]
        mov     eax, [rsi + rdi * 8]
        mov     edx, [rsi + rdi * 8 + 4]
        wrmsr
        inc     edi
        cmp     edi, MSR_COUNT
        jb      .msr
        mov     ecx, EFER
        mov     eax, [rbx + CONTROL + 16]
        xor     edx, edx
        wrmsr
        ; CR3 forgets translations; there are no global ones, since CR4.PGE is clear between cases.
        mov     rax, cr3
        mov     cr3, rax
        mov     rax, [rbx + DEBUG]
        mov     dr0, rax
        mov     rax, [rbx + DEBUG + 8]
        mov     dr1, rax
        mov     rax, [rbx + DEBUG + 16]
        mov     dr2, rax
        mov     rax, [rbx + DEBUG + 24]
        mov     dr3, rax
        mov     eax, 0xFFFF0FF0
        mov     dr6, rax
        xor     eax, eax
        mov     cr2, rax
        fninit
        xor     ecx, ecx
        mov     eax, 1
        xor     edx, edx
        xsetbv
        mov     rax, [rbx + CONTROL + 8]
        mov     cr4, rax
        mov     rax, [rbx + CONTROL]
        mov     cr0, rax
        mov     rsp, STACK
        push    qword [rbx + FRAME + 32]
        push    qword [rbx + FRAME + 24]
        push    qword [rbx + FRAME + 16]
        push    qword [rbx + FRAME + 8]
        push    qword [rbx + FRAME]
        mov     rax, [rbx + DEBUG + 32]
        mov     dr7, rax
        mov     rax, [rbx]
        mov     rcx, [rbx + 8]
        mov     rdx, [rbx + 16]
        mov     rbp, [rbx + 40]
        mov     rsi, [rbx + 48]
        mov     rdi, [rbx + 56]
%assign number 8
%rep 8
        mov     r%[number], [rbx + number * 8]
%assign number number + 1
%endrep
        mov     rbx, [rbx + 24]
        iretq

; Every vector's own entry: pushes 0 where the processor pushed no error code, then the vector.
        align   16, db 0xCC
stubs:
%assign vector 0
%rep VECTORS
  %if vector = 8 || (vector >= 10 && vector <= 14) || vector = 17 || vector = 21
  %else
        push    0
  %endif
        push    vector
        jmp     near ended
        align   16, db 0xCC
%assign vector vector + 1
%endrep

; Vector, error code and the processor's frame are on the stack.
ended:  mov     [SAVED], rax
        mov     rax, dr7
        mov     [SAVED + 8], rax
        xor     eax, eax
        mov     dr7, rax
        mov     rax, cr0
        mov     [SAVED + 16], rax
        mov     rax, cr4
        mov     [SAVED + 24], rax
        mov     eax, CR0_DRIVER
        mov     cr0, rax
        mov     eax, CR4_DRIVER
        mov     cr4, rax
        mov     [SAVED + 32], rbx
        mov     rbx, [CURRENT]
        shl     rbx, 12
        add     rbx, RESULTS
        mov     rax, [SAVED]
        mov     [rbx], rax
        mov     [rbx + 8], rcx
        mov     [rbx + 16], rdx
        mov     rax, [SAVED + 32]
        mov     [rbx + 24], rax
        mov     rax, [rsp + 40]
        mov     [rbx + 32], rax
        mov     [rbx + 40], rbp
        mov     [rbx + 48], rsi
        mov     [rbx + 56], rdi
%assign number 8
%rep 8
        mov     [rbx + number * 8], r%[number]
%assign number number + 1
%endrep
        pop     qword [rbx + VECTOR]
        pop     qword [rbx + ERROR]
        pop     qword [rbx + FRAME]
        pop     qword [rbx + FRAME + 8]
        pop     qword [rbx + FRAME + 16]
        pop     qword [rbx + FRAME + 24]
        pop     qword [rbx + FRAME + 32]
        mov     rsp, STACK
        cld
        mov     word [rbx + SELECTORS], ds
        mov     word [rbx + SELECTORS + 2], es
        mov     word [rbx + SELECTORS + 4], fs
        mov     word [rbx + SELECTORS + 6], gs
        sldt    [rbx + SYSTEM_SELECTORS]
        str     [rbx + SYSTEM_SELECTORS + 2]
        mov     rax, [SAVED + 16]
        mov     [rbx + CONTROL], rax
        mov     rax, [SAVED + 24]
        mov     [rbx + CONTROL + 8], rax
        mov     ecx, EFER
        rdmsr
        mov     [rbx + CONTROL + 16], eax
        mov     [rbx + CONTROL + 20], edx
        mov     eax, EFER_DRIVER
        xor     edx, edx
        wrmsr
        lea     rsi, [rbx + MSRS]
        xor     edi, edi
.msr:   mov     ecx, [msr_numbers + rdi * 4]
        rdmsr
        mov     [rsi + rdi * 8], eax
        mov     [rsi + rdi * 8 + 4], edx
        inc     edi
        cmp     edi, MSR_COUNT
        jb      .msr
        mov     rax, dr0
        mov     [rbx + DEBUG], rax
        mov     rax, dr1
        mov     [rbx + DEBUG + 8], rax
        mov     rax, dr2
        mov     [rbx + DEBUG + 16], rax
        mov     rax, dr3
        mov     [rbx + DEBUG + 24], rax
        mov     rax, [SAVED + 8]
        mov     [rbx + DEBUG + 32], rax
        mov     rax, dr6
        mov     [rbx + DEBUG_STATUS], rax
        mov     rax, cr2
        mov     [rbx + FAULT_ADDRESS], rax
        COPY    rbx + ENTRIES, WINDOW, ENTRY_BYTES
        mov     rax, [WINDOW_DIR + 8]
        mov     [rbx + DIRECTORY], rax
        COPY    rbx + CASE_DATA, DATA, DATA_BYTES
        COPY    rbx + CASE_TABLES, TABLES, TABLE_BYTES
%assign page 0
%rep SCRATCH_PAGES
        COPY    rbx + CASE_SCRATCH + page * SCRATCH_BYTES, SCRATCH + page * PAGE, SCRATCH_BYTES
%assign page page + 1
%endrep
        inc     qword [CURRENT]
        jmp     next_case
