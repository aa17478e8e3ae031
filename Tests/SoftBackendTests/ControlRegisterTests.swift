// Control registers, mode changes, descriptor table registers: SDM vol. 3, chapters 2 and 9.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct ControlRegisterTests {
    /// mov cr, rax; hlt
    private func load(_ register: UInt8) -> [UInt8] { [0x0F, 0x22, 0xC0 | register << 3, 0xF4] }

    @Test func `CR0 refuses PG without PE and NW without CD`() throws {
        for value: UInt64 in [0x8000_0010, 0x2000_0011] {
            let guest = try protectedGuest()
            guest.change { $0[.rax] = value }
            try guest.run(load(0))
            guest.expectFault(13, 0)
            #expect(guest[.cr0] == 0x11)
        }
    }

    @Test func `CR0 keeps ET and drops reserved bits, but refuses upper ones`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rax] = 0x0FFE_FF23 }
        try guest.run(load(0))
        #expect(guest[.cr0] == 0x0004_0033)
        let long = try longGuest()
        long.change { $0[.rax] = 0x1_8000_0011 }
        try long.run(load(0))
        long.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `PG with LME needs PAE, and sets LMA`() throws {
        for hasPAE in [false, true] {
            let guest = try longGuest(compatibility: true)
            guest.change {
                $0[.cr0] = 0x11
                $0[.efer] = 0x100
                $0[.cr4] = hasPAE ? 0x20 : 0
                $0[.rax] = 0x8000_0011
            }
            try guest.run(load(0), budget: 1)
            #expect(guest.state[.efer] == (hasPAE ? 0x500 : 0x100))
            #expect(guest[.cr0] == (hasPAE ? 0x8000_0011 : 0x11))
        }
    }

    @Test func `PG with LME and CS.L is #GP`() throws {
        let guest = try protectedGuest()
        guest.change {
            $0[.cs].attributes.insert(.long)
            $0[.efer] = 0x100
            $0[.cr4] = 0x20
            $0[.rax] = 0x8000_0011
        }
        try guest.run(load(0))
        guest.expectFault(13, 0)
        #expect(guest.state[.efer] == 0x100)
    }

    @Test func `PG cannot be cleared in 64-bit mode, but in compatibility mode, which clears LMA`() throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 0x11 }
        try guest.run(load(0))
        guest.expectFault(13, 0, slotBytes: 8)
        let compatible = try longGuest(compatibility: true)
        compatible.change { $0[.rax] = 0x11 }
        try compatible.run(load(0))
        #expect(compatible[.rip] == GuestLayout.code + 4)
        #expect(compatible.state[.efer] == 0x901)
        #expect(compatible[.cr0] == 0x11)
    }

    @Test func `PAE cannot be cleared in long mode`() throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 0 }
        try guest.run(load(4))
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test(arguments: [0, 1, 13, 14, 17, 18, 22, 23, 40] as [UInt64])
    func `CR4 refuses what the model does not offer`(bit: UInt64) throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 0x20 | 1 << bit }
        try guest.run(load(4))
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `CR3 refuses bits above MAXPHYADDR in long mode`() throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 1 << 40 | GuestLayout.pageTables }
        try guest.run(load(3))
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `PAE paging loads the PDPTEs with CR3 and refuses reserved bits in them`() throws {
        let guest = try protectedGuest()
        try guest.write64(GuestLayout.pageTables + 0x1001, at: GuestLayout.pageTables)
        try guest.write64(0x83, at: GuestLayout.pageTables + 0x1000)  // 2 MiB to itself
        try guest.write64(0x1 | 0x6, at: GuestLayout.pageTables + 0x20)
        guest.change {
            $0[.cr4] = 0x20
            $0[.cr3] = GuestLayout.pageTables
            $0[.rax] = 0x8000_0011
            $0[.rbx] = GuestLayout.pageTables + 0x20
        }
        // mov cr0, eax; mov [pdpte], 0 (not seen before the next load of CR3); mov cr3, ebx
        try guest.run([0x0F, 0x22, 0xC0, 0xC7, 0x05, 0, 0, 1, 0, 0, 0, 0, 0, 0x0F, 0x22, 0xDB])
        guest.expectFault(13, 0, at: GuestLayout.code + 13)
        #expect(guest[.cr3] == GuestLayout.pageTables)
    }

    @Test func `control registers are for CPL 0`() throws {
        // mov eax, cr0; mov cr3, eax; lmsw ax; clts; lgdt; lidt; invlpg; wbinvd; invd; hlt
        let codes: [[UInt8]] = [
            [0x0F, 0x20, 0xC0], [0x0F, 0x22, 0xD8], [0x0F, 0x01, 0xF0], [0x0F, 0x06],
            [0x0F, 0x01, 0x15, 0, 0xE0, 0, 0],
            [0x0F, 0x01, 0x1D, 0, 0xE0, 0, 0], [0x0F, 0x01, 0x3D, 0, 0xE0, 0, 0], [0x0F, 0x09], [0x0F, 0x08], [0xF4],
        ]
        for code in codes {
            let guest = try protectedGuest(level: 3)
            try guest.run(code)
            guest.expectFault(13, 0)
        }
    }

    @Test func `MOV from CR2, CR3 and CR4 reads them, CR1 and CR5 do not exist`() throws {
        let guest = try longGuest()
        guest.change { $0[.cr2] = 0xFFFF_8000_1234_5678 }
        // mov rax, cr2; mov rbx, cr3; mov rcx, cr4; hlt
        try guest.run([0x0F, 0x20, 0xD0, 0x0F, 0x20, 0xDB, 0x0F, 0x20, 0xE1, 0xF4])
        #expect(guest[.rax] == 0xFFFF_8000_1234_5678)
        #expect(guest[.rbx] == GuestLayout.pageTables)
        #expect(guest[.rcx] == 0x20)
        for code: [UInt8] in [[0x0F, 0x20, 0xC8], [0x0F, 0x22, 0xE8]] {
            let missing = try longGuest()
            try missing.run(code)
            missing.expectFault(6, nil, slotBytes: 8)
        }
    }

    @Test func `CR8 takes 0 to 15`() throws {
        let guest = try longGuest()
        // mov eax, 9; mov cr8, rax; mov rbx, cr8; mov al, 16; mov cr8, rax
        try guest.run([
            0xB8, 9, 0, 0, 0, 0x44, 0x0F, 0x22, 0xC0, 0x44, 0x0F, 0x20, 0xC3, 0xB0, 0x10, 0x44, 0x0F, 0x22, 0xC0,
        ])
        guest.expectFault(13, 0, at: GuestLayout.code + 15, slotBytes: 8)
        #expect(guest[.cr8] == 9)
        #expect(guest[.rbx] == 9)
    }

    @Test func `LMSW sets PE and cannot clear it, SMSW reads CR0, CLTS clears TS`() throws {
        let guest = try protectedGuest()
        // mov ax, 0x0e; lmsw ax; smsw ebx; clts; smsw ecx; hlt
        try guest.run([
            0x66, 0xB8, 0x0E, 0, 0x0F, 0x01, 0xF0, 0x0F, 0x01, 0xE3, 0x0F, 0x06, 0x0F, 0x01, 0xE1, 0xF4,
        ])
        #expect(guest[.rbx] == 0x1F)
        #expect(guest[.rcx] == 0x17)
    }

    @Test func `real mode enters protected mode and comes back`() throws {
        let guest = try protectedGuest()
        try guest.enterReal()
        guest.change { $0[.cr0] = 0x10 }
        // lgdt [0xe000]; mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:0x8100
        try guest.write([0xAF, 0x00, 0x00, 0x10, 0x00, 0x00], at: GuestLayout.data)
        // 32-bit code: jmp 0x50:0x8110
        try guest.write([0xEA, 0x10, 0x81, 0, 0, 0x50, 0], at: 0x8100)
        // 16-bit code: mov eax, cr0; and al, 0xfe; mov cr0, eax; jmp 0:0x8200
        try guest.write([0x0F, 0x20, 0xC0, 0x24, 0xFE, 0x0F, 0x22, 0xC0, 0xEA, 0x00, 0x82, 0, 0], at: 0x8110)
        try guest.write([0xF4], at: 0x8200)
        try guest.run([
            0x0F, 0x01, 0x16, 0x00, 0xE0, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0, 0xEA, 0x00, 0x81, 0x08, 0x00,
        ])
        #expect(guest[.rip] == 0x8201)
        #expect(guest[.cr0] == 0x10)
        #expect(guest[.cs].selector == 0)
        #expect(guest[.cs].base == 0)
        #expect(guest.level == 0)
    }

    @Test func `LGDT and LIDT take 24 bits of base with 16-bit operands, SGDT and SIDT store all`() throws {
        let guest = try protectedGuest()
        try guest.write([0x34, 0x12, 0x78, 0x56, 0x34, 0xFF], at: GuestLayout.data)
        // o16 lidt [0xe000]; sidt [0xe010]; lidt [0xe000]; sidt [0xe020]; sgdt [0xe030]; hlt
        try guest.run([
            0x66, 0x0F, 0x01, 0x1D, 0x00, 0xE0, 0, 0, 0x0F, 0x01, 0x0D, 0x10, 0xE0, 0, 0, 0x0F, 0x01, 0x1D, 0x00, 0xE0,
            0, 0,
            0x0F, 0x01, 0x0D, 0x20, 0xE0, 0, 0, 0x0F, 0x01, 0x05, 0x30, 0xE0, 0, 0, 0xF4,
        ])
        #expect(guest.read(GuestLayout.data + 0x10, byteCount: 6) == [0x34, 0x12, 0x78, 0x56, 0x34, 0x00])
        #expect(guest.read(GuestLayout.data + 0x20, byteCount: 6) == [0x34, 0x12, 0x78, 0x56, 0x34, 0xFF])
        #expect(guest.read(GuestLayout.data + 0x30, byteCount: 6) == [0xAF, 0x00, 0x00, 0x10, 0x00, 0x00])
        #expect(guest[.idt].base == 0xFF34_5678)
    }

    @Test func `LGDT of a base that is not canonical is #GP in 64-bit mode`() throws {
        let guest = try longGuest()
        try guest.write16(0xAF, at: GuestLayout.data)
        try guest.write64(1 << 47, at: GuestLayout.data + 2)
        try guest.run([0x0F, 0x01, 0x14, 0x25, 0, 0xE0, 0, 0])
        guest.expectFault(13, 0, slotBytes: 8)
        #expect(guest[.gdt].base == GuestLayout.gdt)
    }

    @Test func `CLI and STI need IOPL in protected mode`() throws {
        for code: [UInt8] in [[0xFA], [0xFB]] {
            let guest = try protectedGuest(level: 3, flags: 0x2002)
            try guest.run(code)
            guest.expectFault(13, 0)
        }
        let guest = try protectedGuest(level: 3, flags: 0x3002)
        try guest.run([0xFB, 0xEB, 0xFE], budget: 3)
        #expect(guest[.rflags] == 0x3202)
    }

    @Test func `POPF changes IF only with IOPL, and IOPL only at CPL 0`() throws {
        for (level, flags, expected) in [
            (UInt8(3), UInt64(0x2002), UInt64(0x2002)), (3, 0x3002, 0x3202), (0, 0x2002, 0x1202),
        ] {
            let guest = try protectedGuest(level: level, flags: flags)
            try guest.run([0x68, 0x02, 0x12, 0, 0, 0x9D, 0xEB, 0xFE], budget: 5)  // push 0x1202; popf; jmp $
            #expect(guest[.rflags] == expected)
        }
    }

    @Test func `XGETBV, MONITOR at CPL 3 and other things that are not offered are #UD`() throws {
        // xgetbv; monitor; mwait; stac; clac; vmcall; rdtscp
        for code: [UInt8] in [
            [0x0F, 0x01, 0xD0], [0x0F, 0x01, 0xC8], [0x0F, 0x01, 0xC9], [0x0F, 0x01, 0xCB], [0x0F, 0x01, 0xCA],
            [0x0F, 0x01, 0xC1], [0x0F, 0x01, 0xF9],
        ] {
            let guest = try protectedGuest(level: 3)
            try guest.run(code)
            guest.expectFault(6, nil)
        }
    }
}
