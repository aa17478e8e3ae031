; The guest of kvm_two.c: real mode, both processors start at 0000:1000 with their number in BX. They take turns at a
; counter, by a lock that is polled and by locked instructions, and tell a port of each round.
bits 16
org 0x1000

%define LOCK 0x3000
%define COUNTER 0x3010
%define LOCKED 0x3020
%define LAST 0x3030             ; who came last: the other one is waited for
%define READY 0x3040
%define ROUNDS 100

start:
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, bx
    shl sp, 8
    add sp, 0x2100
    ; Neither begins before the other one is there.
    lock inc word [READY]
.together:
    cmp word [READY], 2
    jne .together
    mov cx, ROUNDS
.round:
    lock inc dword [LOCKED]
    mov al, 1
.taken:
    xchg al, [LOCK]
    test al, al
    jz .mine
    mov al, 1
    jmp .taken
.mine:
    ; Read, changed and written, which only the lock protects.
    mov eax, [COUNTER]
    inc eax
    mov [COUNTER], eax
    mov byte [LOCK], 0
    ; In turns, for the first half.
    cmp cx, ROUNDS / 2
    jb .alone
    mov [LAST], bl
.wait:
    cmp byte [LAST + 4], 0      ; unless the other one is done
    jne .alone
    cmp [LAST], bl
    je .look
.alone:
    mov dx, 0x81
    mov al, bl
    out dx, al
    loop .round
    mov byte [LAST + 4], 1
    mov dx, 0x82
    out dx, al
    hlt
.look:
    pause
    jmp .wait
times 0x800 - ($ - $$) db 0
