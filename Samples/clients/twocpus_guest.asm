; The guest of twocpus.c: real mode, both processors start at 0000:1000 with their number in BX.
; Together they count to 2000, under a lock that they take with XCHG; the first starts the second through port 0x90.
bits 16
org 0x1000

%define TURNS 1000

start:
    test bx, bx
    jnz second
    mov al, 1
    out 0x90, al                ; start the other
    call work
.join:
    pause
    cmp byte [finished], 1
    jne .join
    mov si, text
    cld
.next:
    lodsb
    test al, al
    jz .number
    mov dx, 0x3F8
    out dx, al
    jmp .next
.number:
    ; [counter] as four decimal digits, the highest first.
    mov bp, 1000
    mov ax, [counter]
.digit:
    xor dx, dx
    div bp
    push dx
    add al, '0'
    mov dx, 0x3F8
    out dx, al
    mov ax, bp
    xor dx, dx
    mov cx, 10
    div cx
    mov bp, ax
    pop ax
    test bp, bp
    jnz .digit
    mov al, 10
    mov dx, 0x3F8
    out dx, al
    mov al, 0
    out 0xF4, al
    hlt

second:
    call work
    mov byte [finished], 1
    cli
    hlt

; Adds one TURNS times. Read and write of the counter stand apart, so that without the lock some would be lost.
work:
    mov di, TURNS
.turn:
    mov al, 1
.spin:
    xchg al, [lock_byte]
    test al, al
    jz .locked
    pause
    jmp .spin
.locked:
    mov ax, [counter]
    mov cx, 5
.hold:
    loop .hold
    inc ax
    mov [counter], ax
    mov byte [lock_byte], 0
    dec di
    jnz .turn
    ret

counter:   dw 0
lock_byte: db 0
finished:  db 0
text:      db "two processors counted to ", 0
