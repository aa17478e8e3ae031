; A disk image of 64 KiB that PC firmware boots: reads its second part with int 13h (CHS, then LBA), prints through
; int 10h and on the serial port, shows the firmware's memory map, writes a sector and reads it back, ends at the exit
; port.
bits 16
org 0x7C00

start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    sti
    cld
    mov [drive], dl
    mov si, text_boot
    call print
    ; Sectors 2 to 5 by CHS.
    mov ax, 0x0204
    mov cx, 0x0002
    mov dh, 0
    mov dl, [drive]
    mov bx, 0x7E00
    int 0x13
    jc failed
    ; Sector 100 by LBA.
    mov ah, 0x42
    mov dl, [drive]
    mov si, packet
    int 0x13
    jc failed
    jmp second

failed:
    mov si, text_failed
    call print
    mov al, 1
    out 0xF4, al
    hlt

; Prints the string at SI by int 10h.
print:
    lodsb
    test al, al
    jz .done
    mov ah, 0x0E
    mov bx, 7
    int 0x10
    jmp print
.done:
    ret

drive:       db 0
align 4
packet:      db 16, 0
             dw 1
             dw 0x9000, 0
             dq 100
text_boot:   db "boot sector", 13, 10, 0
text_failed: db "failed", 13, 10, 0

times 510 - ($ - $$) db 0
dw 0xAA55

second:
    mov si, text_second
    call print
    mov si, 0x9000
    call print
    ; Straight to the serial port, past the firmware.
    mov si, text_serial
.next:
    lodsb
    test al, al
    jz .sent
    mov dx, 0x3F8
    out dx, al
    jmp .next
.sent:
    ; Conventional memory, in KiB.
    int 0x12
    call print_word
    call two_ticks
    ; Write sector 101, read it back elsewhere, compare.
    mov di, 0x9200
    mov cx, 256
    mov ax, 0x1234
.fill:
    stosw
    add ax, 0x0307
    loop .fill
    mov word [packet + 4], 0x9200
    mov word [packet + 8], 101
    mov ax, 0x4300
    mov dl, [drive]
    mov si, packet
    int 0x13
    jc failed
    mov word [packet + 4], 0x9400
    mov ah, 0x42
    mov dl, [drive]
    mov si, packet
    int 0x13
    jc failed
    mov si, 0x9200
    mov di, 0x9400
    mov cx, 256
    repe cmpsw
    jne failed
    mov si, text_done
    call print
    ; A serial console of the firmware sends its last characters when the timer ticks.
    call two_ticks
    xor ax, ax
    out 0xF4, al
    hlt

; Waits until the time of day has moved twice.
two_ticks:
    xor ax, ax
    int 0x1A
    mov bx, dx
.tick:
    hlt
    push bx
    xor ax, ax
    int 0x1A
    pop bx
    sub dx, bx
    cmp dx, 2
    jb .tick
    ret

print_word:
    mov cx, 4
.next:
    rol ax, 4
    push ax
    and al, 15
    cmp al, 10
    jb .digit
    add al, 'a' - '0' - 10
.digit:
    add al, '0'
    mov ah, 0x0E
    mov bx, 7
    push cx
    int 0x10
    pop cx
    pop ax
    loop .next
    mov si, text_line
    call print
    ret

text_second: db "second part by CHS", 13, 10, 0
text_serial: db "on the serial port", 13, 10, 0
text_line:   db 13, 10, 0
text_done:   db "written and read back", 13, 10, 0

times 100 * 512 - ($ - $$) db 0
text_lba:    db "sector 100 by LBA", 13, 10, 0

times 65536 - ($ - $$) db 0
