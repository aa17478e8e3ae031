// SYSCALL, SYSRET, SYSENTER, SYSEXIT: SDM vol. 2.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct SystemCallTests {
    private static let star: UInt64 = 0x0020_0028 << 32  // user 0x20, kernel 0x28

    private func guest(level: UInt8, compatibility: Bool = false, _ body: (inout VCPUState) -> Void = { _ in }) throws
        -> GuestMachine
    {
        let guest = try longGuest(level: level, compatibility: compatibility, flags: 0x703)
        guest.change { state in
            state[.rflags] = 0x603
            state[.star] = Self.star
            state[.lstar] = 0x8100
            state[.sfmask] = 0x600
            state[.sysenterCS] = 0x08
            state[.sysenterESP] = 0xB100
            state[.sysenterEIP] = 0x8100
            body(&state)
        }
        try guest.write([0xEB, 0xFE], at: 0x8100)  // jmp $
        return guest
    }

    @Test func `SYSCALL saves RIP and RFLAGS, masks RFLAGS and loads flat segments`() throws {
        let guest = try guest(level: 3)
        try guest.run([0x0F, 0x05], budget: 2)
        #expect(guest[.rip] == 0x8100)
        #expect(guest[.rcx] == GuestLayout.code + 2)
        #expect(guest[.r11] == 0x603)
        #expect(guest[.rflags] == 3)
        #expect(guest[.rsp] == GuestLayout.userStack)
        #expect(guest.level == 0)
        #expect(
            guest[.cs] == Segment(selector: 0x28, attributes: SegmentAttributes(rawValue: 0xA9B), limit: 0xFFFF_FFFF))
        #expect(
            guest[.ss] == Segment(selector: 0x30, attributes: SegmentAttributes(rawValue: 0xC93), limit: 0xFFFF_FFFF))
    }

    @Test func `SYSCALL is #UD without SCE, in compatibility mode and in protected mode`() throws {
        let off = try guest(level: 0) { $0[.efer] = 0xD00 }
        try off.run([0x0F, 0x05])
        off.expectFault(6, nil, slotBytes: 8)
        let compatible = try guest(level: 0, compatibility: true)
        try compatible.run([0x0F, 0x05])
        compatible.expectFault(6, nil, slotBytes: 8)
        let legacy = try protectedGuest()
        legacy.change { $0[.efer] = 1 }
        try legacy.run([0x0F, 0x05])
        legacy.expectFault(6, nil)
    }

    @Test func `SYSRET with REX.W goes to 64-bit code, without to compatibility mode`() throws {
        for (code, selector, rights) in [
            ([0x48, 0x0F, 0x07] as [UInt8], UInt16(0x33), UInt16(0xAFB)), ([0x0F, 0x07], 0x23, 0xCFB),
        ] {
            let guest = try guest(level: 0) {
                $0[.rcx] = code.count == 3 ? 0x8100 : 0xFFFF_0000_0000_8100
                $0[.r11] = 0xFFFF_FFFF_FFFF_FEFF  // everything but TF
            }
            try guest.run(code, budget: 1)
            #expect(guest[.rip] == 0x8100)
            #expect(guest[.cs].selector == selector)
            #expect(guest[.cs].attributes.rawValue == rights)
            #expect(
                guest[.ss]
                    == Segment(selector: 0x2B, attributes: SegmentAttributes(rawValue: 0xCF3), limit: 0xFFFF_FFFF))
            #expect(guest[.rflags] == 0x3C_7ED7)
            #expect(guest.level == 3)
        }
    }

    @Test func `SYSRET to an address that is not canonical is #GP before it leaves CPL 0`() throws {
        let guest = try guest(level: 0) { $0[.rcx] = 1 << 47 }
        try guest.run([0x48, 0x0F, 0x07])
        guest.expectFault(13, 0, slotBytes: 8)
        #expect(guest.stackSlot(2, byteCount: 8) == UInt64(GuestSelector.code64))
    }

    @Test func `SYSRET and SYSEXIT at CPL 3 are #GP`() throws {
        for code: [UInt8] in [[0x48, 0x0F, 0x07], [0x0F, 0x35]] {
            let guest = try guest(level: 3)
            try guest.run(code)
            guest.expectFault(13, 0, slotBytes: 8)
        }
    }

    @Test func `SYSENTER enters CPL 0 from 64-bit and from compatibility mode`() throws {
        for compatibility in [false, true] {
            let guest = try guest(level: 3, compatibility: compatibility)
            try guest.run([0x0F, 0x34], budget: 2)
            #expect(guest[.rip] == 0x8100)
            #expect(guest[.rsp] == 0xB100)
            #expect(guest[.rflags] == 0x403)
            #expect(
                guest[.cs] == Segment(selector: 8, attributes: SegmentAttributes(rawValue: 0xA9B), limit: 0xFFFF_FFFF))
            #expect(
                guest[.ss] == Segment(selector: 16, attributes: SegmentAttributes(rawValue: 0xC93), limit: 0xFFFF_FFFF))
        }
    }

    @Test func `SYSENTER in protected mode uses 32-bit code`() throws {
        let guest = try protectedGuest(level: 3)
        guest.change {
            $0[.sysenterCS] = 0x0B
            $0[.sysenterESP] = 0xFFFF_FFFF_0000_B100
            $0[.sysenterEIP] = 0xFFFF_FFFF_0000_8100
        }
        try guest.write([0xEB, 0xFE], at: 0x8100)
        try guest.run([0x0F, 0x34], budget: 2)
        #expect(guest[.rip] == 0x8100)
        #expect(guest[.rsp] == 0xB100)
        #expect(guest[.cs] == Segment(selector: 8, attributes: SegmentAttributes(rawValue: 0xC9B), limit: 0xFFFF_FFFF))
    }

    @Test func `SYSENTER and SYSEXIT without a code segment, and in real mode, are #GP`() throws {
        for code: [UInt8] in [[0x0F, 0x34], [0x0F, 0x35]] {
            let guest = try guest(level: 0) { $0[.sysenterCS] = 3 }
            try guest.run(code)
            guest.expectFault(13, 0, slotBytes: 8)
            let real = try realGuest()
            real.change { $0[.sysenterCS] = 8 }
            try real.run(code)
            real.expectFault(13, nil, slotBytes: 2)
        }
    }

    @Test func `SYSEXIT goes to 32-bit code, with REX.W to 64-bit code`() throws {
        for (code, selector, rights) in [
            ([0x0F, 0x35] as [UInt8], UInt16(0x1B), UInt16(0xCFB)), ([0x48, 0x0F, 0x35], 0x2B, 0xAFB),
        ] {
            let guest = try guest(level: 0) {
                $0[.rcx] = 0xC100
                $0[.rdx] = 0x8100
            }
            try guest.run(code, budget: 1)
            #expect(guest[.rip] == 0x8100)
            #expect(guest[.rsp] == 0xC100)
            #expect(guest[.cs].selector == selector)
            #expect(guest[.cs].attributes.rawValue == rights)
            #expect(guest[.ss].selector == selector + 8)
            #expect(guest.level == 3)
        }
    }

    @Test func `SWAPGS exchanges the base of GS, at CPL 0 only`() throws {
        let guest = try guest(level: 0) {
            $0[.gs].base = 0x1111
            $0[.kernelGSBase] = 0xE000
        }
        try guest.write([0x5A], at: 0xE004)
        // swapgs; mov al, gs:[4]; hlt
        try guest.run([0x0F, 0x01, 0xF8, 0x65, 0x8A, 0x04, 0x25, 0x04, 0x00, 0x00, 0x00, 0xF4])
        #expect(guest[.rax] & 0xFF == 0x5A)
        #expect(guest[.gs].base == 0xE000)
        #expect(guest.state[.kernelGSBase] == 0x1111)
        let user = try self.guest(level: 3)
        try user.run([0x0F, 0x01, 0xF8])
        user.expectFault(13, 0, slotBytes: 8)
    }
}
