; Takes every kind of exit that a VMM handles: MSRs, CPUID, memory-mapped registers through many instruction forms,
; string I/O with and without REP, single I/O of all sizes. Prints sums that are the same on every correct machine.
org 0x7C00
%include "long.inc"

%define APIC 0xFEE00000
%define SCRATCH 0x10000

main64:
    call setup_idt
    mov rsi, text_start
    call print

    ; MSRs: the APIC base, and EFER as it was set up.
    mov ecx, 0x1B
    rdmsr
    and eax, 0xFFFFF900
    mov edi, eax
    wrmsr
    call print_hex
    mov ecx, 0xC0000080
    rdmsr
    and eax, 0x500
    mov edi, eax
    call print_hex
    ; A pair that is only kept: SYSENTER_EIP (a canonical address, or the write would fault).
    mov ecx, 0x176
    mov eax, 0x89ABCDEF
    mov edx, 0x00004567
    wrmsr
    xor eax, eax
    xor edx, edx
    rdmsr
    shl rdx, 32
    lea rdi, [rdx + rax]
    call print_hex

    ; CPUID: leaf 0 tells at least one more, leaf 1 an APIC (bit 9) and a time-stamp counter (bit 4).
    xor eax, eax
    cpuid
    cmp eax, 1
    jb failed
    mov eax, 1
    xor ecx, ecx
    cpuid
    mov edi, edx
    and edi, 1 << 9 | 1 << 4
    call print_hex

    ; Memory-mapped registers. The timer's divide and vectors of the APIC stand for memory.
    mov rbx, APIC
    mov dword [rbx + 0xF0], 0x1FF       ; MOV imm
    mov eax, [rbx + 0xF0]               ; MOV load
    mov edi, eax
    call print_hex
    mov eax, 0x10020                    ; MOV moffs both ways
    mov [rbx + 0x320], eax
    mov eax, [abs qword APIC + 0x320]
    mov edi, eax
    call print_hex
    or dword [rbx + 0x320], 0x20000     ; read-modify-write forms
    and dword [rbx + 0x320], ~0xFF
    xor dword [rbx + 0x320], 0x31
    add dword [rbx + 0x320], 1
    inc dword [rbx + 0x320]
    sub dword [rbx + 0x320], 2
    mov edi, [rbx + 0x320]
    call print_hex
    mov ecx, 0x10077
    xchg ecx, [rbx + 0x320]
    mov edi, ecx
    call print_hex
    mov eax, 0x10077
    mov ecx, 0x10078
    lock cmpxchg [rbx + 0x320], ecx
    jnz failed
    mov ecx, 1
    lock xadd [rbx + 0x320], ecx
    mov edi, ecx
    call print_hex
    test dword [rbx + 0x320], 0x79
    jz failed
    cmp dword [rbx + 0x320], 0x10079
    jne failed
    bt dword [rbx + 0x320], 16
    jnc failed
    ; Strings between registers and memory, with a segment that has a base (FS stays flat) and REP.
    mov rsi, APIC + 0x320
    mov edi, SCRATCH
    mov ecx, 1
    rep movsd
    mov edi, [SCRATCH]
    call print_hex
    mov dword [SCRATCH], 0x10055
    mov esi, SCRATCH
    mov rdi, APIC + 0x320
    movsd
    mov rsi, APIC + 0x320
    lodsd
    mov edi, eax
    call print_hex
    mov eax, 0x10056
    mov rdi, APIC + 0x320
    stosd
    mov rdi, APIC + 0x320
    scasd
    jne failed

    ; String output, bytes with REP: one text in one instruction.
    mov esi, text_string
    mov ecx, text_string_end - text_string
    mov dx, 0x3F8
    rep outsb
    mov esi, text_back_end - 1          ; and backwards
    mov ecx, text_back_end - text_back
    std
    rep outsb
    cld
    ; String input: eight times the scratch register of the serial port, then words and doublewords of the PCI bridge.
    mov dx, 0x3FF
    mov al, 0x5A
    out dx, al
    mov edi, SCRATCH
    mov ecx, 8
    rep insb
    mov rdi, [SCRATCH]
    call print_hex
    mov dx, 0xCF8
    mov eax, 0x80000000
    out dx, eax
    mov dx, 0xCFC
    in eax, dx                          ; all sizes
    mov edi, eax
    call print_hex
    mov dx, 0xCFE
    mov eax, -1
    in ax, dx
    mov edi, eax
    call print_hex
    mov dx, 0xCFD
    mov eax, -1
    in al, dx
    mov edi, eax
    call print_hex
    mov dx, 0xCFC
    mov edi, SCRATCH
    mov ecx, 40                         ; more than one batch
    rep insd
    xor eax, eax
    mov esi, SCRATCH
    mov ecx, 40
.sum:
    add eax, [rsi]
    add rsi, 4
    loop .sum
    mov edi, eax
    call print_hex
    ; A port where nobody is.
    mov dx, 0x2F0
    in al, dx
    movzx edi, al
    call print_hex
    xor eax, eax
    jmp finish

failed:
    mov rsi, text_failed
    call print
    mov al, 1
    jmp finish

text_start:  db "exerciser", 10, 0
text_failed: db "failed", 10, 0
text_string: db "written by one REP OUTSB, longer than the batch of 32 bytes", 10
text_string_end:
text_back:   db 10, "sdrawkcab nettirw"
text_back_end:
image_ends
