; A guest for kvm_client.c, real mode at 0000:1000: every kind of exit that KVM leaves unfinished, interrupts, and memory
; that the client changes while the guest looks at it. Results go to port 0xE9 as bytes.
bits 16
org 0x1000

%define DEVICE 0xD000           ; segment of 4 KiB that is no memory
%define FLAG 0x8000             ; another thread counts here
%define BUFFER 0x9000

start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x0F00
    cld
    mov word [0x20 * 4], tick
    mov word [0x20 * 4 + 2], 0

    ; Ports of every width, both ways.
    mov dx, 0x60
    in al, dx
    out 0xE9, al
    in ax, dx
    call show
    in eax, dx
    call show_long
    mov eax, 0x01234567
    mov dx, 0x70
    out dx, eax
    out dx, ax
    out dx, al

    ; Strings: more than one page's worth in, some out.
    mov dx, 0x60
    mov di, BUFFER
    mov cx, 5000
    rep insb
    mov si, BUFFER
    mov cx, 5000
    call sum
    mov dx, 0x70
    mov si, BUFFER + 100
    mov cx, 7
    rep outsw
    std
    mov di, BUFFER + 0x40
    mov cx, 3
    rep insb
    cld

    ; A device in memory: load, store, both in one instruction, strings, across eight bytes.
    mov ax, DEVICE
    mov es, ax
    mov eax, [es:0x10]
    call show_long
    mov dword [es:0x20], 0x89ABCDEF
    add dword [es:0x30], 0x1111
    pushf
    pop ax
    and ax, 0x08C5
    call show
    xchg [es:0x40], bx
    not byte [es:0x44]
    push word [es:0x50]
    pop ax
    call show
    mov si, BUFFER
    mov di, 0x60
    mov cx, 5
    rep movsw
    mov di, 0x80
    mov ax, 0x5A5A
    mov cx, 4
    rep stosw
    push ds
    push es
    pop ds
    xor ax, ax
    mov es, ax
    mov si, 0x100
    mov di, BUFFER + 0x200
    mov cx, 6
    rep movsb
    pop ds
    mov ax, [BUFFER + 0x204]
    call show
    mov si, BUFFER
    mov ax, DEVICE
    mov es, ax
    mov di, 0x180
    mov cx, 9
    repne cmpsb
    mov ax, cx
    call show
    mov eax, 0x0F0F0F0F
    cmpxchg [es:0x1A0], ebx
    call show_long
    xor ax, ax
    mov es, ax

    ; Interrupts: one while halted, one that has to wait for STI, several in a loop.
    sti
    hlt
    mov al, [ticks]
    out 0xE9, al
    cli
    mov bl, [ticks]
    add bl, 4
    mov dx, 0x80
    out dx, al
    mov cx, 100
.closed:
    loop .closed
    sti
    nop
    nop
.some:
    mov al, [ticks]
    cmp al, bl
    jne .some

    ; Memory that another thread stores to, which waits for a lock of the thread that runs this guest.
    mov dx, 0x81
    out dx, al
    mov cx, [rounds]
    jcxz .done
.round:
    mov eax, [FLAG]
.unchanged:
    ; In a register too: a place that memory alone tells from another is not to be found.
    inc ebp
    mov [turns], ebp
    cmp eax, [FLAG]
    je .unchanged
    loop .round
.done:
    cli
    mov dx, 0x82
    out dx, al
    hlt

tick:
    inc byte [ticks]
    iret

; The sum of CX bytes at SI.
sum:
    xor eax, eax
    xor ebx, ebx
.next:
    lodsb
    add ebx, eax
    loop .next
    ; Carries: 1 + 0xFFFFFFFF, on and on.
    mov ecx, 0xFFFFFFFF
    stc
    adc ecx, 0
    adc ebx, 0
    mov eax, ebx
show_long:
    call show
    ror eax, 16
    call show
    ror eax, 16
    ret
show:
    out 0xE9, al
    xchg al, ah
    out 0xE9, al
    xchg al, ah
    ret

align 4
turns:  dd 0
ticks:  db 0
times 0x7F0 - ($ - $$) db 0
; Of the last part, set by the client: at 0x17F0.
rounds: dw 0
times 0x800 - ($ - $$) db 0
