; Two processors count to 2000 together under a spin lock. The first starts the second with INIT and start-up messages.
; Needs two VCPUs; with one it says so and ends with status 2 of the exit port.
org 0x7C00
%include "long.inc"

%define APIC 0xFEE00000
%define TRAMPOLINE 0x8000 + 0x8000      ; 0x10000: page 0x10
%define TURNS 1000

lock_word:  dd 0
counter:    dq 0
arrived:    dd 0
finished:   dd 0

main64:
    mov rsi, text_start
    call print
    ; The second processor's first code, at a page of its own.
    mov esi, trampoline
    mov edi, 0x10000
    mov ecx, trampoline_end - trampoline
    rep movsb
    mov rbx, APIC
    or dword [rbx + 0xF0], 0x100
    mov dword [rbx + 0x300], 0x000C4500     ; INIT to all others
    mov ecx, 20000
.pause:
    loop .pause
    mov dword [rbx + 0x300], 0x000C4610     ; start up at page 0x10
    mov ecx, 2000000
.wait:
    cmp dword [arrived], 1
    je .together
    pause
    loop .wait
    mov rsi, text_alone
    call print
    mov al, 2
    jmp finish
.together:
    call work
.join:
    pause
    cmp dword [finished], 1
    jne .join
    mov rsi, text_sum
    call print
    mov rdi, [counter]
    call print_hex
    mov al, 0
    jmp finish

; Adds one TURNS times, each under the lock, with the read and the write apart.
work:
    mov ebp, TURNS
.next:
    mov eax, 1
.spin:
    xchg eax, [lock_word]
    test eax, eax
    jz .locked
    pause
    jmp .spin
.locked:
    mov rax, [counter]
    mov ecx, 7
.hold:
    loop .hold
    inc rax
    mov [counter], rax
    mov dword [lock_word], 0
    dec ebp
    jnz .next
    ret

second64:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov rsp, 0x9000
    mov dword [arrived], 1
    call work
    mov dword [finished], 1
.stop:
    cli
    hlt
    jmp .stop

; Position-independent but for the two jumps, which name linear addresses.
bits 16
trampoline:
    cli
    xor ax, ax
    mov ds, ax
    mov eax, PML4
    mov cr3, eax
    mov eax, cr4
    or eax, 1 << 5
    mov cr4, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 1 << 8
    wrmsr
    lgdt [gdt_pointer]
    mov eax, cr0
    or eax, 0x80000001
    and eax, ~0x60000000
    mov cr0, eax
    jmp dword 8:second64
trampoline_end:
bits 64

text_start: db "two processors", 10, 0
text_alone: db "the second did not come", 10, 0
text_sum:   db "counted: ", 0
image_ends
