; Paging in 32-bit mode: #PF codes and CR2, accessed and dirty bits, WP, PSE, then PAE with NX, SMEP and SMAP.
%include "common.inc"
%include "protected.inc"

DIR     equ PAGES               ; 4 KiB
TABLE   equ PAGES + 0x1000      ; linear 0 to 4 MiB, identity
TEST_TABLE equ PAGES + 0x2000   ; linear 0x400000 on: what the cases use
PDPT    equ 0x48000             ; outside what is compared: TCG sets bit 5 of a PAE PDPTE, which is reserved
PAE_DIR equ PAGES + 0x4000
PAE_TABLE equ PAGES + 0x5000
PAE_TEST equ PAGES + 0x6000
FRAME   equ SCRATCH
V       equ 0x400000            ; linear page 0 of TEST_TABLE

%macro FAULT 2+                 ; name, instruction
        EXPECT  %%after
        %2
%%after: STOP   %1
%endmacro
%macro USER 2                   ; name, routine at CPL 3
        mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        EXPECT  %%after
        TO_RING3 %2
%%after: STOP   %1
%endmacro

start:  GO_PROTECTED
        mov     byte [IDT + 0x28 * 8 + 5], 0xEE
        ; Identity for the first 4 MiB, open to user mode; page 0x61 is left for the supervisor.
        mov     edi, TABLE
        mov     eax, 7
.fill:  stosd
        add     eax, 0x1000
        cmp     eax, 0x400007
        jb      .fill
        mov     dword [DIR], TABLE | 7
        mov     dword [DIR + 4], TEST_TABLE | 7
        mov     dword [TEST_TABLE + 0], FRAME | 7       ; V: user, writable
        mov     dword [TEST_TABLE + 4], FRAME | 5       ; V+1000: user, read-only
        mov     dword [TEST_TABLE + 8], FRAME | 3       ; V+2000: supervisor, writable
        mov     dword [TEST_TABLE + 12], FRAME | 6      ; V+3000: not present
        mov     dword [TEST_TABLE + 16], FRAME | 1      ; V+4000: supervisor, read-only
        mov     eax, DIR
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     .paged
.paged: cmp     eax, eax
        STOP    "paging on"
        mov     eax, [V]
        STOP    "read sets A"
        mov     dword [V + 8], 0x12345678
        STOP    "write sets D"
        mov     eax, [V + 0x1004]
        STOP    "read of read-only"
        FAULT   "#PF read, not present", mov eax, [V + 0x3004]
        FAULT   "#PF write, not present", mov [V + 0x3008], eax
        FAULT   "#PF no directory entry", mov eax, [0x800123]
        mov     [V + 0x100C], eax
        STOP    "CPL 0 writes read-only without WP"
        mov     eax, cr0
        or      eax, 0x10000
        mov     cr0, eax
        FAULT   "#PF write, WP", mov [V + 0x1010], eax
        FAULT   "#PF write, WP, supervisor page", mov [V + 0x4010], eax
        FAULT   "#PF of a read-modify-write", add dword [V + 0x1010], 1
        FAULT   "#PF across two pages", mov [V + 0x2FFE], eax
        USER    "#PF of a push", push_outside
        FAULT   "#PF of a fetch", jmp V + 0x3000
        USER    "#PF user read of supervisor", user_read
        USER    "#PF user write of supervisor", user_write
        USER    "#PF user write of read-only", user_write_read_only
        USER    "#PF user fetch of supervisor", user_fetch
        USER    "#PF user, not present", user_absent
        ; INVLPG and stale entries: the change is seen after INVLPG.
        mov     dword [TEST_TABLE + 12], FRAME | 7
        invlpg  [V + 0x3000]
        mov     eax, [V + 0x3008]
        mov     dword [TEST_TABLE + 12], 0
        invlpg  [V + 0x3000]
        FAULT   "INVLPG", mov eax, [V + 0x3008]

; --- 4 MiB pages
        mov     eax, cr4
        or      eax, 0x10
        mov     cr4, eax
        mov     dword [DIR + 8], 0x00000000 | 0x87
        mov     eax, cr3
        mov     cr3, eax
        mov     eax, [0x800000 + SCRATCH + 8]
        STOP    "PSE read"
        mov     dword [0x800000 + SCRATCH + 0x20], 0xABCD
        STOP    "PSE write"
        mov     dword [DIR + 12], 0x00000000 | 0x83
        USER    "#PF user read of a PSE page", user_pse

; --- PAE
        xor     eax, eax
        mov     ebx, cr0
        and     ebx, 0x7FFFFFFF
        mov     cr0, ebx
        mov     ecx, cr4
        or      ecx, 0x20
        mov     cr4, ecx
        mov     edi, PAE_TABLE
        mov     eax, 7
        mov     ecx, 512
.pae:   mov     [edi], eax
        mov     dword [edi + 4], 0
        add     edi, 8
        add     eax, 0x1000
        loop    .pae
        mov     dword [PDPT], PAE_DIR | 1
        mov     dword [PAE_DIR], PAE_TABLE | 7          ; 0 to 2 MiB, identity
        mov     dword [PAE_DIR + 16], PAE_TEST | 7      ; V
        mov     dword [PAE_DIR + 24], 0x00000000 | 0x87 ; 0x600000: 2 MiB page
        mov     dword [PAE_TEST + 0], FRAME | 7
        mov     dword [PAE_TEST + 8], FRAME | 7
        mov     dword [PAE_TEST + 12], 0x80000000       ; V+1000: no execute
        mov     dword [PAE_TEST + 16], FRAME | 3        ; V+2000: supervisor
        mov     byte [FRAME + 0x80], 0xC3               ; RET
        ; NX must be on before an entry that has it is walked.
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x800
        wrmsr
        mov     eax, PDPT
        mov     cr3, eax
        mov     ebx, cr0
        or      ebx, 0x80000000
        mov     cr0, ebx
        jmp     .pae_on
.pae_on: cmp    eax, eax
        STOP    "PAE on"
        mov     eax, [V + 8]
        mov     [V + 0x1028], eax
        STOP    "PAE reads and writes"
        mov     dword [0x600000 + SCRATCH + 0x30], 0x77
        STOP    "PAE 2 MiB page"
        call    V + 0x80
        STOP    "PAE fetch"
        FAULT   "#PF fetch of NX", call V + 0x1080
        mov     esp, [RESUME_SP]
        ; A reserved bit gives error code 9, for which TCG has 8: a test of its own.
        FAULT   "#PF no PDPT entry", mov eax, [0x40000000]
        USER    "#PF user fetch of NX", user_nx

; --- SMEP, SMAP: the code that runs must then be the supervisor's
        mov     edi, PAE_TABLE
        mov     ecx, 512
.supervisor: and dword [edi], ~4
        add     edi, 8
        loop    .supervisor
        mov     eax, cr3
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 0x100000
        mov     cr4, eax
        cmp     eax, eax
        FAULT   "#PF fetch of a user page, SMEP", call V + 0x80
        mov     esp, [RESUME_SP]
        mov     eax, [V + 8]
        mov     eax, cr4
        and     eax, ~0x100000
        or      eax, 0x200000
        mov     cr4, eax
        cmp     eax, eax
        FAULT   "#PF read of a user page, SMAP", mov eax, [V + 8]
        FAULT   "#PF write of a user page, SMAP", mov [V + 8], eax
        stac
        mov     eax, [V + 8]
        mov     [V + 0x40], eax
        pushfd
        pop     ebx
        and     ebx, ~UNSEEN
        clac
        pushfd
        pop     ecx
        and     ecx, ~UNSEEN
        STOP    "STAC and CLAC"
        FAULT   "#PF after CLAC", mov eax, [V + 8]
        mov     eax, [V + 0x2008]
        STOP    "supervisor page under SMAP"
        STOP    "end"

push_outside:
        mov     esp, V + 0x3010
        push    eax
user_read: mov  eax, [V + 0x2004]
user_write: mov [V + 0x2004], eax
user_write_read_only: mov [V + 0x1004], eax
user_fetch: jmp V + 0x2000
user_absent: mov eax, [V + 0x3004]
user_pse: mov   eax, [0xC00000]
user_nx: jmp    V + 0x1080
        PROTECTED_HANDLERS

        align 8, db 0
gdt_image: BASE_DESCRIPTORS
gdt_image_end:
