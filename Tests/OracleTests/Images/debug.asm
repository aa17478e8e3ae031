; Debug: TF, breakpoints in DR0 to DR3, general detect, MOV SS and STI, in 32-bit protected mode.
%include "common.inc"
%include "protected.inc"

start:  GO_PROTECTED
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        xor     eax, eax
        STOP    "set up"
        EXPECT  .step
        pushfd
        or      dword [esp], 0x100
        popfd
        nop
        nop
.step:  STOP    "TF"
        EXPECT  .step_ss
        mov     bx, ss
        pushfd
        or      dword [esp], 0x100
        popfd
        mov     ss, bx
        nop
        nop
.step_ss: STOP  "TF and MOV SS"
        EXPECT  .step_int
        pushfd
        or      dword [esp], 0x100
        popfd
        int     0x20
.step_int: STOP "TF and INT"
        mov     eax, SCRATCH + 0x40
        mov     dr0, eax
        mov     eax, 0x000D0402                 ; G0, write, 4 bytes
        mov     dr7, eax
        EXPECT  .write
        mov     dword [SCRATCH + 0x40], 1
        nop
.write: xor     eax, eax
        mov     dr7, eax
        STOP    "data breakpoint, write"
        mov     eax, 0x000F0402                 ; read or write
        mov     dr7, eax
        EXPECT  .read
        mov     ebx, [SCRATCH + 0x40]
        nop
.read:  xor     eax, eax
        mov     dr7, eax
        STOP    "data breakpoint, read"
        mov     eax, .target
        mov     dr1, eax
        mov     eax, 0x00000408                 ; G1, execution
        mov     dr7, eax
        EXPECT  .execute
        nop
.target: mov    ecx, 0x1111
.execute: xor   eax, eax
        mov     dr7, eax
        STOP    "instruction breakpoint"
        ; RF lets the instruction pass.
        mov     eax, 0x00000408
        mov     dr7, eax
        push    dword 0x10002
        push    dword CODE0
        push    dword .target2
        mov     eax, .target2
        mov     dr1, eax
        iretd
.target2: mov   ecx, 0x2222
        xor     eax, eax
        mov     dr7, eax
        STOP    "RF passes an instruction breakpoint"
        mov     eax, SCRATCH + 0x48
        mov     dr2, eax
        mov     dr3, eax
        mov     eax, dr0
        mov     ebx, dr1
        mov     ecx, dr2
        mov     edx, dr3
        mov     esi, dr6
        mov     edi, dr7
        STOP    "reading debug registers"
        mov     eax, cr4
        or      eax, 8
        mov     cr4, eax
        EXPECT  .dr4
        mov     eax, dr4
.dr4:   STOP    "#UD of DR4 with DE"
        mov     byte [IDT + 0x28 * 8 + 5], 0xEE
        mov     ax, DATA3
        mov     ds, ax
        mov     es, ax
        EXPECT  .user
        TO_RING3 user_dr
.user:  STOP    "#GP of MOV DR at CPL 3"
        EXPECT  .user_step
        TO_RING3 user_nop, 0x102
.user_step: STOP "TF by IRET to CPL 3"
        STOP    "end"

user_dr: mov    eax, dr6
user_nop: nop
        nop
        int     0x28
        PROTECTED_HANDLERS

        align 8, db 0
gdt_image: BASE_DESCRIPTORS
gdt_image_end:
