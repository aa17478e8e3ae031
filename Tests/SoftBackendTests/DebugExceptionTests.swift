// #DB: single steps, breakpoints, debug registers, RF: SDM vol. 3, chapter 17.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct DebugExceptionTests {
    @Test func `TF traps after the instruction, with BS and RF clear`() throws {
        let guest = try protectedGuest(flags: 0x102)
        try guest.run([0x90, 0x90])
        guest.expectFault(1, nil, at: GuestLayout.code + 1)
        #expect(guest[.dr6] == 0xFFFF_4FF0)
        #expect(guest.stackSlot(2, byteCount: 4) == 0x102)
        #expect(guest[.rflags] == 2)
    }

    @Test func `POPF that sets TF traps after the next instruction`() throws {
        let guest = try protectedGuest()
        try guest.run([0x68, 0x02, 0x01, 0, 0, 0x9D, 0x90, 0x90])  // push 0x102; popf; nop; nop
        guest.expectFault(1, nil, at: GuestLayout.code + 7)
    }

    @Test func `POPF that clears TF traps itself`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rsp] = GuestLayout.stack - 4 }
        try guest.write32(2, at: GuestLayout.stack - 4)
        guest.change { $0[.rflags] = 0x102 }
        try guest.run([0x9D, 0x90])
        guest.expectFault(1, nil, at: GuestLayout.code + 1)
        #expect(guest.stackSlot(2, byteCount: 4) == 2)
    }

    @Test func `INT n is not trapped, it clears TF`() throws {
        let guest = try protectedGuest(flags: 0x102)
        try guest.run([0xCD, 0x40])
        guest.expectFault(0x40, nil, at: GuestLayout.code + 2)
        #expect(guest.stackSlot(2, byteCount: 4) == 0x102)
    }

    @Test func `MOV SS holds a single step back until after the next instruction`() throws {
        let guest = try protectedGuest(flags: 0x102)
        guest.change { $0[.rax] = UInt64(GuestSelector.data32) }
        try guest.run([0x8E, 0xD0, 0x90, 0x90])  // mov ss, eax; nop; nop
        guest.expectFault(1, nil, at: GuestLayout.code + 3)
    }

    @Test func `a faulting instruction is not trapped, and its handler runs without TF`() throws {
        let guest = try protectedGuest(flags: 0x102)
        try guest.run([0x0F, 0x0B])
        guest.expectFault(6, nil)
        #expect(guest.stackSlot(2, byteCount: 4) == 0x1_0102)
        #expect(guest[.dr6] == 0xFFFF_0FF0)
    }

    @Test func `HLT with TF exits first and traps at the next run`() throws {
        let guest = try protectedGuest(flags: 0x102)
        #expect(try guest.run([0xF4, 0x90]).reason == .halted)
        #expect(guest[.rip] == GuestLayout.code + 1)
        try guest.run()
        guest.expectFault(1, nil, at: GuestLayout.code + 1)
    }

    @Test func `an instruction breakpoint hits before the instruction, once RF is clear`() throws {
        let guest = try protectedGuest()
        guest.change {
            $0[.dr0] = GuestLayout.code + 1
            $0[.dr7] = 0x401
        }
        // The handler returns with RF set in the image: or byte [esp+10], 1; iret
        try guest.write([0xFF, 0x05, 0, 0xE0, 0, 0, 0x80, 0x4C, 0x24, 0x0A, 0x01, 0xCF], at: GuestMachine.handler(1))
        try guest.run([0x90, 0x40, 0xF4])  // nop; inc eax; hlt
        #expect(guest[.rip] == GuestLayout.code + 3)
        #expect(guest[.rax] == 1)
        #expect(guest.read32(GuestLayout.data) == 1)
        #expect(guest[.dr6] & 0xF == 1)
        #expect(guest[.rflags] & 0x1_0000 == 0)
    }

    @Test func `data breakpoints trap after the access`() throws {
        // Break on writes (01) of 4 bytes, or on reads and writes (11) of 1 byte, at the data.
        let cases: [(UInt64, [UInt8], Bool)] = [
            (0xD_0402, [0xA2, 0x03, 0xE0, 0, 0], true),  // mov [0xe003], al
            (0xD_0402, [0xA0, 0x03, 0xE0, 0, 0], false),  // mov al, [0xe003]
            (0xD_0402, [0xA2, 0x04, 0xE0, 0, 0], false),
            (0x3_0402, [0xA0, 0x00, 0xE0, 0, 0], true),
            (0x3_0402, [0xA1, 0xFD, 0xDF, 0, 0], true),  // mov eax, [0xdffd]: its last byte
        ]
        for (dr7, code, hits) in cases {
            let guest = try protectedGuest()
            guest.change {
                $0[.dr0] = GuestLayout.data
                $0[.dr7] = dr7
            }
            try guest.run(code + [0xF4])
            #expect(guest.haltedVector == (hits ? 1 : nil))
            if hits {
                guest.expectFault(1, nil, at: GuestLayout.code + 5)
                #expect(guest[.dr6] & 0xF == 1)
            }
        }
    }

    @Test func `DR7.GD makes debug register moves fault with BD, and #DB clears it`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.dr7] = 0x2400 }
        try guest.run([0x0F, 0x21, 0xC0])  // mov eax, dr0
        guest.expectFault(1, nil)
        #expect(guest[.dr6] == 0xFFFF_2FF0)
        #expect(guest[.dr7] == 0x400)
        #expect(guest.stackSlot(2, byteCount: 4) == 0x1_0002)
    }

    @Test func `DR4 and DR5 are DR6 and DR7 without CR4.DE, and #UD with it`() throws {
        let guest = try protectedGuest()
        try guest.run([0x0F, 0x21, 0xE0, 0xF4])  // mov eax, dr4
        #expect(guest[.rax] == 0xFFFF_0FF0)
        let extended = try protectedGuest()
        extended.change { $0[.cr4] = 8 }
        try extended.run([0x0F, 0x21, 0xE0])
        extended.expectFault(6, nil)
    }

    @Test func `DR6 and DR7 keep their fixed bits, and refuse upper halves`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rax] = 0 }
        // mov dr6, eax; mov eax, 0xffffd7ff (GD clear); mov dr7, eax is tried with the enables off: and eax, ~0xff
        try guest.run([0x0F, 0x23, 0xF0, 0xB8, 0x00, 0xD7, 0xFF, 0xFF, 0x0F, 0x23, 0xF8, 0xF4])
        #expect(guest[.dr6] == 0xFFFF_0FF0)
        #expect(guest[.dr7] == 0xFFFF_0700)
        for code: [UInt8] in [[0x0F, 0x23, 0xF0], [0x0F, 0x23, 0xF8]] {
            let long = try longGuest()
            long.change { $0[.rax] = 1 << 32 }
            try long.run(code)
            long.expectFault(13, 0, slotBytes: 8)
        }
    }

    @Test func `debug registers are for CPL 0`() throws {
        for code: [UInt8] in [[0x0F, 0x21, 0xC0], [0x0F, 0x23, 0xC0]] {
            let guest = try protectedGuest(level: 3)
            try guest.run(code)
            guest.expectFault(13, 0)
        }
    }

    @Test func `an injected #DB changes neither DR6 nor RF`() throws {
        let guest = try protectedGuest()
        guest.inject(VCPUEvent(kind: .exception, vector: 1))
        try guest.run([0x90])
        guest.expectFault(1, nil)
        #expect(guest[.dr6] == 0xFFFF_0FF0)
        #expect(guest.stackSlot(2, byteCount: 4) == 2)
    }
}
