// Virtual-8086 mode: SDM vol. 3, section 20.2. VME is not offered.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct Virtual8086Tests {
    /// A guest at CPL 0 whose IRET enters virtual-8086 mode at 0800:0000 (linear 0x8000).
    private func guest(_ code: [UInt8], iopl: UInt32 = 0, flags: UInt32 = 0x202, budget: UInt64 = 10) throws
        -> GuestMachine
    {
        let guest = try protectedGuest()
        let top = GuestLayout.stack - 36
        let frame: [UInt32] = [0, 0x800, 0x2_0000 | flags | iopl << 12, 0x200, 0xC00, 0x111, 0x222, 0x333, 0x444]
        for (place, value) in frame.enumerated() { try guest.write32(value, at: top + UInt64(place) * 4) }
        guest.change {
            $0[.rip] = 0x7000
            $0[.rsp] = top
        }
        try guest.write([0xCF], at: 0x7000)  // iret
        try guest.run(code, budget: budget)
        return guest
    }

    private func expectMonitor(
        _ guest: GuestMachine, _ vector: Int, _ errorCode: UInt64?, at ip: UInt64, flags: UInt64 = 0x2_0202
    ) {
        #expect(guest.haltedVector == vector)
        let words: UInt64 = errorCode == nil ? 9 : 10
        #expect(guest[.rsp] == GuestLayout.innerStack - words * 4)
        let slots = (0..<words).map { guest.stackSlot($0, byteCount: 4) }
        #expect(slots == (errorCode.map { [$0] } ?? []) + [ip, 0x800, flags, 0x200, 0xC00, 0x111, 0x222, 0x333, 0x444])
    }

    @Test func `IRET enters virtual-8086 mode with all segments`() throws {
        let guest = try guest([0xEB, 0xFE])  // jmp $
        #expect(guest[.rip] == 0)
        #expect(guest[.rflags] == 0x2_0202)
        #expect(guest[.rsp] == 0x200)
        #expect(guest.level == 3)
        let rights = SegmentAttributes(rawValue: 0xF3)
        for (register, selector) in [
            (SegmentRegister.cs, UInt16(0x800)), (.ss, 0xC00), (.es, 0x111), (.ds, 0x222), (.fs, 0x333), (.gs, 0x444),
        ] {
            #expect(
                guest[register]
                    == Segment(selector: selector, attributes: rights, limit: 0xFFFF, base: UInt64(selector) << 4))
        }
    }

    @Test func `segment loads and far jumps are those of real mode`() throws {
        // mov ax, 0x900; mov ds, ax; jmp 0x0810:0
        let virtual = try self.guest([0xB8, 0x00, 0x09, 0x8E, 0xD8, 0xEA, 0x00, 0x00, 0x10, 0x08], budget: 4)
        #expect(virtual[.ds].base == 0x9000)
        #expect(virtual[.cs].base == 0x8100)
        #expect(virtual[.rip] == 0)
    }

    @Test func `an exception pushes all segments on the stack of level 0 and nulls them`() throws {
        let guest = try guest([0x0F, 0x0B])  // ud2
        expectMonitor(guest, 6, nil, at: 0, flags: 0x3_0202)
        for register: SegmentRegister in [.es, .ds, .fs, .gs] { #expect(guest[register] == Segment()) }
        #expect(guest[.rflags] == 2)
        #expect(guest.level == 0)
        #expect(guest[.cs].selector == GuestSelector.code32)
    }

    @Test func `the handler's IRET goes back to virtual-8086 mode`() throws {
        let guest = try protectedGuest()
        let top = GuestLayout.stack - 36
        let frame: [UInt32] = [0, 0x800, 0x2_3202, 0x200, 0xC00, 0x111, 0x222, 0x333, 0x444]
        for (place, value) in frame.enumerated() { try guest.write32(value, at: top + UInt64(place) * 4) }
        guest.change {
            $0[.rip] = 0x7000
            $0[.rsp] = top
        }
        try guest.write([0xCF], at: 0x7000)
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
        try guest.write([0xCF], at: GuestMachine.handler(0x40))
        try guest.run([0xCD, 0x40, 0xEB, 0xFE], budget: 10)  // int 0x40; jmp $
        #expect(guest[.rip] == 2)
        #expect(guest[.cs].selector == 0x800)
        #expect(guest[.gs].selector == 0x444)
        #expect(guest[.rsp] == 0x200)
    }

    @Test func `an injected interrupt leaves virtual-8086 mode`() throws {
        let guest = try guest([0xEB, 0xFE])
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        try guest.run()
        expectMonitor(guest, 0x40, nil, at: 0)
    }

    @Test func `CLI, STI, PUSHF, POPF, INT n and IRET need IOPL 3`() throws {
        for code: [UInt8] in [[0xFA], [0xFB], [0x9C], [0x9D], [0xCD, 0x40], [0xCF]] {
            expectMonitor(try guest(code), 13, 0, at: 0, flags: 0x3_0202)
        }
    }

    @Test func `with IOPL 3 they execute, and INT n needs a gate of DPL 3 to level 0`() throws {
        // cli; pushf; sti; pushf; popf; jmp $
        let guest = try guest([0xFA, 0x9C, 0xFB, 0x9C, 0x9D, 0xEB, 0xFE], iopl: 3)
        #expect(guest[.rip] == 5)
        #expect(guest[.rflags] == 0x2_3202)
        #expect(guest.read16(0xC1FE) == 0x3002)
        let interrupt = try self.guest([0xCD, 0x40], iopl: 3)
        expectMonitor(interrupt, 13, 0x40 * 8 + 2, at: 0, flags: 0x3_3202)
    }

    @Test func `IRET with IOPL 3 stays in virtual-8086 mode and keeps IOPL`() throws {
        let guest = try protectedGuest()
        let top = GuestLayout.stack - 36
        let frame: [UInt32] = [0, 0x800, 0x2_3202, 0x200, 0xC00, 0, 0, 0, 0]
        for (place, value) in frame.enumerated() { try guest.write32(value, at: top + UInt64(place) * 4) }
        for (place, value) in [UInt16(0x10), 0x810, 0x0003].enumerated() {
            try guest.write16(value, at: 0xC200 + UInt64(place) * 2)
        }
        guest.change {
            $0[.rip] = 0x7000
            $0[.rsp] = top
        }
        try guest.write([0xCF], at: 0x7000)
        try guest.write([0xEB, 0xFE], at: 0x8110)
        try guest.run([0xCF], budget: 10)
        #expect(guest[.rip] == 0x10)
        #expect(guest[.cs].selector == 0x810)
        #expect(guest[.rflags] == 0x2_3003)
        #expect(guest[.rsp] == 0x206)
    }

    @Test func `privileged instructions are #GP with 0, system segment ones #UD`() throws {
        for code: [UInt8] in [[0xF4], [0x0F, 0x20, 0xC0], [0x0F, 0x06]] {  // hlt; mov eax, cr0; clts
            expectMonitor(try guest(code), 13, 0, at: 0, flags: 0x3_0202)
        }
        for code: [UInt8] in [[0x0F, 0x00, 0xC0], [0x0F, 0x02, 0xC0]] {  // sldt; lar
            expectMonitor(try guest(code), 6, nil, at: 0, flags: 0x3_0202)
        }
    }

    @Test func `a handler that is not at level 0 is #GP with its selector`() throws {
        let top = GuestLayout.stack - 36
        for target in [GuestSelector.userCode32, GuestSelector.code32Level1, GuestSelector.conforming32] {
            let guest = try protectedGuest()
            let frame: [UInt32] = [0, 0x800, 0x2_0202, 0x200, 0xC00, 0x111, 0x222, 0x333, 0x444]
            for (place, value) in frame.enumerated() { try guest.write32(value, at: top + UInt64(place) * 4) }
            guest.change {
                $0[.rip] = 0x7000
                $0[.rsp] = top
            }
            try guest.write([0xCF], at: 0x7000)
            try guest.setGate(6, selector: target, access: 0x8E)
            try guest.run([0x0F, 0x0B], budget: 10)
            expectMonitor(guest, 13, UInt64(target & ~3) | 1, at: 0, flags: 0x3_0202)
        }
    }
}
