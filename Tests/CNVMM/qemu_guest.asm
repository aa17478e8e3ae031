; The guest of qemu_sequence.c: 64-bit code at 0x10000, the first 2 MiB mapped one to one, nothing behind 0x1F0000,
; interrupts off, CS 8, SS 16. Each part brings about exits that the client answers as QEMU's accelerator does.
; Ports: 0x3F8 text, 0x80 raise the interrupt line, 0x81 raise NMI, 0x82 change the APIC's TPR to 3, 0x20 acknowledge,
; 0x83 raise the line once the processor halts, 0xF4 end.
bits 64
org 0x10000

%define MMIO 0x1F0000

start:
    mov edi, 0x8000 + 2 * 16
    mov eax, on_nmi
    call set_gate
    mov edi, 0x8000 + 6 * 16
    mov eax, on_invalid_opcode
    call set_gate
    mov edi, 0x8000 + 0x40 * 16
    mov eax, on_interrupt
    call set_gate
    lidt [idt_pointer]
    xor r13d, r13d                  ; #UD taken
    xor r14d, r14d                  ; interrupts taken
    xor r15d, r15d                  ; NMIs taken

    in al, 0x61
    cmp al, 0xFF
    jne fail
    mov esi, text
    mov ecx, text_end - text
    mov dx, 0x3F8
    rep outsb

    mov dword [MMIO + 8], 0x12345678
    mov eax, [MMIO + 8]
    cmp eax, 0x12345678
    jne fail

    mov ecx, 0x1B
    rdmsr
    test eax, 0xFEE00000
    jz fail
    wrmsr
    mov ecx, 0xFE
    rdmsr
    or eax, edx
    jnz fail

    mov eax, 5
    mov cr8, rax
    xor eax, eax
    mov cr8, rax

    out 0x80, al                    ; interrupts are off: a window is armed
    mov ecx, 50
.work:
    loop .work
    test r14d, r14d
    jnz fail
    sti
    nop
.wait:
    pause
    cmp r14d, 1
    jb .wait

    cli
    out 0x83, al
    sti
    hlt
    cmp r14d, 2
    jne fail

    out 0x81, al
    cmp r15d, 1
    jne fail

    out 0x82, al
    mov rax, cr8
    cmp eax, 3
    jne fail

    xor ecx, ecx
    xor edx, edx
    mov eax, 0x9000
    monitor
    cmp r13d, 1
    jne fail

    fxsave [0xA000]                 ; the client's round trips left XMM3 alone
    mov rax, [0xA000 + 160 + 3 * 16]
    mov rcx, 0x1122334455667788
    cmp rax, rcx
    jne fail
    mov al, 0
    out 0xF4, al
fail:
    mov al, 1
    out 0xF4, al
    hlt

on_interrupt:
    inc r14d
    out 0x20, al
    iretq
on_nmi:
    inc r15d
    iretq
on_invalid_opcode:
    inc r13d
    add qword [rsp], 3              ; MONITOR is 3 bytes
    iretq

set_gate:
    mov [rdi], ax
    mov word [rdi + 2], 8
    mov word [rdi + 4], 0x8E00
    shr eax, 16
    mov [rdi + 6], ax
    mov qword [rdi + 8], 0
    ret

idt_pointer:
    dw 0x41 * 16 - 1
    dq 0x8000
text:
    db "the accelerator's sequence", 10
text_end:
