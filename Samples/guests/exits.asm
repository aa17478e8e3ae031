; More than 100,000 exits of mixed kinds, for measurements: port I/O, APIC registers, MSRs, and waiting in HLT for the
; APIC's timer. Ends with a sum that depends on all of them.
org 0x7C00
%include "long.inc"

%define APIC 0xFEE00000
%define ROUNDS 10000

main64:
    call setup_idt
    mov al, 0x40
    mov rdi, timer
    call set_gate
    mov rsi, text_start
    call print
    mov bx, 0xFFFF
    call setup_pic
    mov rbx, APIC
    mov dword [rbx + 0xF0], 0x1FF
    mov dword [rbx + 0x3E0], 0xB            ; divide by 1
    mov dword [rbx + 0x320], 0x40           ; one shot, vector 0x40
    xor r12, r12
    mov r13d, ROUNDS
.round:
    ; Four port accesses: write and read back the serial scratch register, read the PIC mask, the line status.
    mov dx, 0x3FF
    mov eax, r13d
    out dx, al
    in al, dx
    movzx eax, al
    add r12, rax
    in al, 0x21
    movzx eax, al
    add r12, rax
    mov dx, 0x3FD
    in al, dx
    and eax, 0x60
    add r12, rax
    ; Four accesses of APIC registers.
    mov [rbx + 0x3E0], dword 0xB
    mov eax, [rbx + 0x3E0]
    add r12, rax
    mov eax, [rbx + 0x320]
    and eax, 0xFF
    add r12, rax
    mov [rbx + 0x80], dword 0
    ; Two MSR exits.
    mov ecx, 0x1B
    rdmsr
    wrmsr
    shr eax, 12
    add r12, rax
    ; In each eighth round, wait for the timer.
    test r13d, 7
    jnz .no_wait
    mov [rbx + 0x380], dword 2000
    sti
    hlt
    cli
.no_wait:
    dec r13d
    jnz .round
    mov rsi, text_sum
    call print
    mov rdi, r12
    call print_hex
    mov al, 0
    jmp finish

timer:
    inc r12
    mov dword [rbx + 0xB0], 0
    iretq

text_start: db "exits", 10, 0
text_sum:   db "sum: ", 0
image_ends
