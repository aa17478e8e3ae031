; Reads the time-stamp counter in every way a guest does: keeps times, measures code, waits, with and without
; interrupts, branches on what came out, and writes it to a port. What it prints does not depend on them.
org 0x7C00
%include "long.inc"

%define APIC 0xFEE00000
%define WAIT 300000
%define ROUNDS 20

main64:
    call setup_idt
    mov al, 0x40
    mov rdi, timer
    call set_gate
    mov bx, 0xFFFF
    call setup_pic
    mov rbx, APIC
    mov dword [rbx + 0xF0], 0x1FF
    mov dword [rbx + 0x3E0], 0xB            ; divide by 1
    mov dword [rbx + 0x320], 0x40           ; one shot, vector 0x40
    mov r13d, ROUNDS
.round:
    ; What a piece of code takes, kept in memory and in registers over an exit.
    call now
    mov r14, rax
    mov ecx, 100
.work:
    imul rdx, rdx, 7
    loop .work
    call now
    sub rax, r14
    mov [measured + r13 * 8], rax
    mov dx, 0x3FF
    out dx, al
    ; A part of it, from memory, and a flag of it.
    mov al, [measured + r13 * 8]
    and al, 1
    setz cl
    out dx, al
    ; Time goes on: it is only told whether it did.
    call now
    cmp rax, r14
    jb backwards
    ; Wait, in the middle of which the timer comes.
    mov dword [rbx + 0x380], 20000
    sti
    call now
    lea r15, [rax + WAIT]
.wait:
    call now
    cmp rax, r15
    jb .wait
    cli
    ; What has nothing to do with them.
    stc
    adc r11, r13
    ; A string of times.
    mov rsi, measured
    mov ecx, 4
    mov dx, 0x3FF
    rep outsb
    mov ecx, 0x10
    rdmsr
    mov [last], eax
    dec r13d
    jnz .round
    mov rsi, text_done
    call print
    mov al, 0
    jmp finish

backwards:
    mov rsi, text_backwards
    call print
    mov al, 1
    jmp finish

; The counter in RAX.
now:
    rdtsc
    shl rdx, 32
    or rax, rdx
    ret

timer:
    push rax
    push rdx
    call now
    mov [interrupted], rax
    mov dword [rbx + 0xB0], 0
    pop rdx
    pop rax
    iretq

text_done:      db "time passed", 10, 0
text_backwards: db "time went backwards", 10, 0
align 8
interrupted:    dq 0
last:           dq 0
measured:       times ROUNDS + 1 dq 0
image_ends
