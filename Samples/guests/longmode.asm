; 64-bit mode with paging, an IDT, timer interrupts from the 8254 while waiting in HLT, and page faults: not present,
; write to a read-only page, and instruction fetch. Prints what it saw; the numbers do not depend on speed.
org 0x7C00
%include "long.inc"

ticks:      dq 0
faults:     dq 0
resume:     dq 0

main64:
    call setup_idt
    mov al, 0x20
    mov rdi, timer
    call set_gate
    mov al, 14
    mov rdi, page_fault
    call set_gate
    mov rsi, text_start
    call print

    ; Five timer interrupts of 1 ms, each waited for.
    mov bx, 0xFFFE
    call setup_pic
    mov al, 0x34
    out 0x43, al
    mov al, 1193 & 0xFF
    out 0x40, al
    mov al, 1193 >> 8
    out 0x40, al
.wait:
    sti
    hlt
    cli
    cmp qword [ticks], 5
    jb .wait
    mov al, 0xFF
    out 0x21, al
    mov rsi, text_ticks
    call print

    ; The page at 4 MiB is not present: the handler maps it, and the load is done again.
    mov rbx, [0x400010]
    mov rsi, text_mapped
    call print
    mov rdi, rbx
    call print_hex

    ; Made read-only with CR0.WP set: a store faults and is skipped.
    mov rax, cr0
    or eax, 1 << 16
    mov cr0, rax
    and byte [PD + 16], 0xFD
    invlpg [0x400000]
    mov qword [resume], .after_store
    mov qword [0x400018], rbx
.after_store:
    ; A call into nowhere: the fetch faults.
    mov qword [resume], .after_call
    mov rax, 0x800000
    call rax
.after_call:
    mov rsp, 0x7C00
    mov rsi, text_faults
    call print
    mov rdi, [faults]
    call print_hex
    ; The dirty bit of the page at 2 MiB: clear until it is written.
    mov al, [PD + 8]
    and al, 0x40
    mov bl, al
    mov byte [0x200000], 1
    mov al, [PD + 8]
    and al, 0x60
    shl eax, 8
    or al, bl
    movzx edi, ax
    mov rsi, text_dirty
    push rdi
    call print
    pop rdi
    call print_hex
    mov al, 0
    jmp finish

timer:
    push rax
    inc qword [ticks]
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq

; Prints CR2 and the error code, then maps the page if nothing was there at 4 MiB, or goes on at [resume].
page_fault:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    inc qword [faults]
    mov rsi, text_cr2
    call print
    mov rdi, cr2
    call print_hex
    mov rsi, text_error
    call print
    mov rdi, [rsp + 40]
    call print_hex
    mov rax, cr2
    cmp rax, 0x400010
    jne .skip
    mov dword [PD + 16], 0x200083
    mov qword [0x200010], 0x1234
    and byte [PD + 8], 0x9F             ; clean and not accessed
    invlpg [0x200000]
    jmp .done
.skip:
    mov rax, [resume]
    mov [rsp + 48], rax
.done:
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 8
    iretq

text_start:  db "64-bit mode", 10, 0
text_ticks:  db "five ticks", 10, 0
text_mapped: db "mapped and read: ", 0
text_cr2:    db "#PF at ", 0
text_error:  db "  error ", 0
text_faults: db "faults: ", 0
text_dirty:  db "dirty: ", 0
image_ends
