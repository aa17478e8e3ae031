; Code that changes itself in every way that a processor must notice: the instruction just ahead, the one it executes in
; a loop, a routine through another linear address, a string store over a routine, and its own REP STOS.
bits 16
org 0x7C00

start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    cld

    ; The immediate of an instruction right ahead.
    mov byte [.ahead + 1], 'A'
.ahead:
    mov al, '?'
    call put

    ; A loop whose body changes at every turn.
    mov cx, 5
.loop:
    mov al, 'a'
    call put
    inc byte [.loop + 1]
    loop .loop

    ; A routine patched through another segment of the same bytes.
    call routine
    mov ax, 0x07C0
    mov es, ax
    mov byte [es:routine + 1 - 0x7C00], 'X'
    call routine
    xor ax, ax
    mov es, ax

    ; A routine overwritten whole by REP MOVSB.
    mov si, other
    mov di, routine
    mov cx, other_end - other
    rep movsb
    call routine

    ; REP STOSB that overwrites the instructions after itself: they must be seen as NOPs.
    mov di, .after
    mov cx, .after_end - .after
    mov al, 0x90
    rep stosb
.after:
    mov al, '!'
    call put
    mov al, '!'
    call put
.after_end:
    mov al, 10
    call put
    xor ax, ax
    out 0xF4, al
.stop:
    hlt
    jmp .stop

put:
    push dx
    mov dx, 0x3F8
    out dx, al
    pop dx
    ret

routine:
    mov al, 'R'
    jmp put
    nop
    nop
    nop
    nop

other:
    mov al, 'N'
    inc al
    call near [put_pointer]
    ret
other_end:
put_pointer: dw put

times 510 - ($ - $$) db 0
dw 0xAA55
