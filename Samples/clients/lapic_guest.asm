; The guest of lapic.c: 64-bit code at 0x10000, with everything mapped and interrupts off when it starts.
; It asks for ten timer interrupts, then waits for five NMIs, and says how many of each it took.
; Client's part: page tables, GDT (code 8, data 16), stack; what is read and written at 0xFEE00000 and the ports.
bits 64
org 0x10000

%define TICKS 10
%define NMIS 5

start:
    ; Gates 2 and 0x30 of the table at 0x8000.
    mov edi, 0x8000 + 2 * 16
    mov eax, on_nmi
    call set_gate
    mov edi, 0x8000 + 0x30 * 16
    mov eax, on_timer
    call set_gate
    lidt [idt_pointer]

    ; The local APIC: its address by RDMSR, which exits; switched on by WRMSR, which exits too.
    mov ecx, 0x1B
    rdmsr
    or eax, 0x800
    wrmsr
    and eax, 0xFFFFF000
    mov ebx, eax
    mov eax, [rbx + 0x30]           ; version
    mov [version], al
    mov dword [rbx + 0xF0], 0x1FF   ; on, spurious vector 0xFF
    mov dword [rbx + 0x320], 0x30   ; timer: vector 0x30, once

next_tick:
    cli
    mov dword [rbx + 0x380], 1000   ; the timer starts while interrupts are off: the client needs a window
    mov ecx, 100
.work:
    loop .work
    mov eax, r14d
    sti
.wait:
    pause
    cmp r14d, eax
    je .wait
    cmp r14d, TICKS
    jb next_tick

    ; Interrupts stay on; only NMIs come now, from the client's second thread.
    mov al, 'n'
    out 0x80, al
.halt:
    cmp r15d, NMIS
    jae .done
    hlt
    jmp .halt
.done:
    mov rsi, text_ticks
    call print
    mov eax, r14d
    call print_two_digits
    mov rsi, text_nmis
    call print
    mov eax, r15d
    call print_two_digits
    mov rsi, text_end
    call print
    mov al, 0
    out 0xF4, al
    hlt

; R14 and R15 are the handlers' own; RBX holds the APIC's address everywhere.
on_timer:
    inc r14d
    mov dword [rbx + 0xB0], 0       ; end of interrupt
    iretq
on_nmi:
    inc r15d
    iretq

; Makes the gate at RDI lead to EAX, which is below 4 GiB.
set_gate:
    mov [rdi], ax
    mov word [rdi + 2], 8
    mov word [rdi + 4], 0x8E00
    shr eax, 16
    mov [rdi + 6], ax
    mov qword [rdi + 8], 0
    ret

; Sends the string at RSI, which ends with 0.
print:
    lodsb
    test al, al
    jz .done
    mov dx, 0x3F8
    out dx, al
    jmp print
.done:
    ret

; Sends EAX, 0 to 99.
print_two_digits:
    mov cl, 10
    div cl
    add ax, '00'
    mov dx, 0x3F8
    out dx, al
    mov al, ah
    out dx, al
    ret

idt_pointer:
    dw 0x31 * 16 - 1
    dq 0x8000
version:    db 0
text_ticks: db "timer interrupts: ", 0
text_nmis:  db ", NMIs: ", 0
text_end:   db 10, 0
