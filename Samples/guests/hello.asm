; Says hello on the serial port in real mode, then ends with status 0 of the exit port.
; Flat image, entered at 0000:7C00 with nothing set up; also a boot sector.
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
    mov si, text
.next:
    lodsb
    test al, al
    jz .done
    mov dx, 0x3F8
    out dx, al
    jmp .next
.done:
    xor ax, ax
    out 0xF4, al
.stop:
    hlt
    jmp .stop

text: db "Hello from real mode", 10, 0

times 510 - ($ - $$) db 0
dw 0xAA55
