; Another guest for kvm_client.c, real mode at 0000:1000: it reads the time-stamp counter, keeps and writes times, and
; waits by it while another thread stores to its memory. Port 0x81 takes anything, and prints nothing.
bits 16
org 0x1000

%define FLAG 0x8000             ; another thread counts here
%define TIMES 0x9000
%define WAIT 40000

start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x0F00
    cld
    mov dx, 0x81
    mov cx, [rounds]
    mov di, TIMES
.round:
    push cx
    rdtsc
    mov ebx, eax
    mov [di], eax
    mov [di + 4], edx
    mov dx, 0x81
    out dx, al
    ; Until it is later.
.wait:
    inc dword [turns]           ; how often is up to the time
    mov esi, [FLAG]
    rdtsc
    sub eax, ebx
    cmp eax, WAIT
    jb .wait
    ; What was measured, from memory.
    mov [di + 8], eax
    mov dx, 0x81
    mov si, di
    mov cx, 12
    rep outsb
    ; One bit of it.
    test byte [di + 8], 1
    setz bl
    mov al, bl
    out dx, al
    ; What has nothing to do with times.
    stc
    adc bp, cx
    add di, 12
    and di, 0x90FF
    pop cx
    loop .round
    mov dx, 0x82
    out dx, al
    hlt

align 4
turns:  dd 0
times 0x7F0 - ($ - $$) db 0
; Of the last part, set by the client: at 0x17F0.
rounds: dw 0
times 0x800 - ($ - $$) db 0
