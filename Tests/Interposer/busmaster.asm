; A disk image of 64 KiB whose boot sector reads the rest of it by IDE bus-master DMA (PIIX3, primary channel), 4 KiB at
; a time: the device writes to guest memory while the guest polls. Prints the sum of what was read on the serial port,
; ends at the exit port.
bits 16
org 0x7C00

%define BUFFER 0x9000
%define PRDT 0x0600
%define CHUNKS 14

start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    cld
    mov si, text_boot
    call print
    ; BAR 4 of 00:01.1, then I/O space and bus master on.
    mov eax, 0x80000920
    mov dx, 0xCF8
    out dx, eax
    mov dx, 0xCFC
    in eax, dx
    and ax, 0xFFFC
    mov [base], ax
    mov eax, 0x80000904
    mov dx, 0xCF8
    out dx, eax
    mov dx, 0xCFC
    in ax, dx
    or ax, 5
    out dx, ax
    ; No interrupt from the drive: the status register says when.
    mov dx, 0x3F6
    mov al, 2
    out dx, al
    xor ebp, ebp
    mov word [lba], 1
    mov cx, CHUNKS
.chunk:
    push cx
    call read
    mov si, BUFFER
    mov cx, 2048
.sum:
    lodsw
    movzx eax, ax
    add ebp, eax
    loop .sum
    add word [lba], 8
    pop cx
    loop .chunk
    mov cx, 8
.digit:
    rol ebp, 4
    mov eax, ebp
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe .out
    add al, 'a' - '0' - 10
.out:
    call put
    loop .digit
    mov si, text_done
    call print
    xor ax, ax
    out 0xF4, al
    hlt

; Eight sectors from `lba` to BUFFER.
read:
    mov dword [PRDT], BUFFER
    mov dword [PRDT + 4], 0x80001000
    mov dx, [base]
    mov al, 0
    out dx, al
    add dx, 2
    mov al, 6
    out dx, al
    add dx, 2
    mov eax, PRDT
    out dx, eax
    mov dx, 0x1F6
    mov al, 0xE0
    out dx, al
    mov dx, 0x1F2
    mov al, 8
    out dx, al
    inc dx
    mov al, [lba]
    out dx, al
    inc dx
    mov al, [lba + 1]
    out dx, al
    inc dx
    mov al, 0
    out dx, al
    mov dx, 0x1F7
    mov al, 0xC8
    out dx, al
    mov dx, [base]
    mov al, 9
    out dx, al
    ; Memory and registers while the device works: it may store at any time.
    add dx, 2
.wait:
    inc dword [turns]
    in al, dx
    test al, 1
    jnz .wait
    mov dx, [base]
    mov al, 8
    out dx, al
    mov dx, 0x1F7
    in al, dx
    test al, 1
    jnz failed
    ret

failed:
    mov si, text_failed
    call print
    mov al, 1
    out 0xF4, al
    hlt

print:
    lodsb
    test al, al
    jz .done
    call put
    jmp print
.done:
    ret

put:
    mov dx, 0x3F8
    out dx, al
    ret

base:        dw 0
lba:         dw 0
turns:       dd 0
text_boot:   db "bus master ", 0
text_done:   db " done", 13, 10, 0
text_failed: db "failed", 13, 10, 0

times 510 - ($ - $$) db 0
dw 0xAA55

%assign word_number 0
%rep (65536 - 512) / 2
    dw (word_number * 40503 + 17) & 0xFFFF
%assign word_number word_number + 1
%endrep
