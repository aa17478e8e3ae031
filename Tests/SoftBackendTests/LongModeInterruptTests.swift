// 64-bit gates, IST, IRETQ: SDM vol. 3, section 6.14.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct LongModeInterruptTests {
    private let int40: [UInt8] = [0xCD, 0x40]  // int 0x40

    @Test func `a 64-bit gate aligns the stack and always pushes SS and RSP`() throws {
        let guest = try longGuest(flags: 0x202)
        guest.change { $0[.rsp] = 0x9FFB }
        try guest.run(int40)
        guest.expectFault(0x40, nil, at: GuestLayout.code + 2, slotBytes: 8)
        #expect(guest[.rsp] == 0x9FF0 - 40)
        #expect(guest.stackSlot(1, byteCount: 8) == UInt64(GuestSelector.code64))
        #expect(guest.stackSlot(2, byteCount: 8) == 0x202)
        #expect(guest.stackSlot(3, byteCount: 8) == 0x9FFB)
        #expect(guest.stackSlot(4, byteCount: 8) == UInt64(GuestSelector.data32))
        #expect(guest[.ss].selector == GuestSelector.data32)
        #expect(guest[.rflags] == 2)
    }

    @Test func `a 64-bit trap gate keeps IF`() throws {
        let guest = try longGuest(flags: 0x202)
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0x8F)
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rflags] == 0x202)
    }

    @Test(arguments: [false, true])
    func `an inner level takes RSP from the TSS and a null SS`(compatibility: Bool) throws {
        let guest = try longGuest(level: 3, compatibility: compatibility)
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0xEE)
        try guest.run(int40)
        guest.expectFault(0x40, nil, at: GuestLayout.code + 2, slotBytes: 8)
        #expect(guest[.rsp] == GuestLayout.innerStack - 40)
        #expect(guest[.ss].selector == 0)
        #expect(guest.level == 0)
        #expect(
            guest.stackSlot(1, byteCount: 8)
                == UInt64(compatibility ? GuestSelector.userCode32 : GuestSelector.userCode64))
        #expect(guest.stackSlot(3, byteCount: 8) == GuestLayout.userStack)
        #expect(guest.stackSlot(4, byteCount: 8) == UInt64(GuestSelector.userData32))
    }

    @Test func `a gate with an IST switches the stack at the same level and keeps SS`() throws {
        let guest = try longGuest()
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0x8E, count: 1)
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rsp] == GuestLayout.interruptStack - 40)
        #expect(guest[.ss].selector == GuestSelector.data32)
    }

    @Test func `an exception with an error code pushes six slots`() throws {
        let guest = try longGuest()
        try guest.run([0xCD, 0x41, 0x90])  // through a gate that is not present
        #expect(guest.haltedVector == 0x41)
        let other = try longGuest()
        try other.setGate(0x41, selector: GuestSelector.code64, access: 0x0E)
        try other.run([0xCD, 0x41])
        other.expectFault(11, 0x41 * 8 + 2, slotBytes: 8)
        #expect(other[.rsp] == GuestLayout.stack - 48)
    }

    @Test func `gates of other types and handlers in other code are #GP`() throws {
        for access: UInt8 in [0x85, 0x86, 0x87, 0x8C] {
            let guest = try longGuest()
            try guest.setGate(0x40, selector: GuestSelector.code64, access: access)
            try guest.run(int40)
            guest.expectFault(13, 0x40 * 8 + 2, slotBytes: 8)
        }
        let guest = try longGuest()
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0x8E)
        try guest.run(int40)
        guest.expectFault(13, UInt64(GuestSelector.code32), slotBytes: 8)
    }

    @Test func `a handler that is not canonical is #GP with 0`() throws {
        let guest = try longGuest()
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0x8E, offset: 0x8000_0000_0000)
        try guest.run(int40)
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `a stack pointer in the TSS that is not canonical is #SS`() throws {
        let guest = try longGuest(level: 3)
        try guest.write64(0x8000_0000_0000, at: GuestLayout.task + 4)
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0xEE)
        try guest.setGate(12, selector: GuestSelector.code64, access: 0x8E, count: 1)
        try guest.run(int40)
        guest.expectFault(12, 0, slotBytes: 8)
    }

    @Test func `a TSS too short for the IST is #TS with the TSS`() throws {
        let guest = try longGuest()
        guest.change { $0[.tr].limit = 0x28 }
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0x8E, count: 1)
        try guest.run(int40)
        guest.expectFault(10, UInt64(GuestSelector.task), slotBytes: 8)
    }

    private func returning(
        to selector: UInt16, stack: UInt16, flags: UInt64 = 2, _ code: [UInt8] = [0x48, 0xCF]  // iretq
    ) throws -> GuestMachine {
        let guest = try longGuest()
        let top = GuestLayout.stack - 40
        guest.change { $0[.rsp] = top }
        for (place, value) in [0x8100, UInt64(selector), flags, GuestLayout.userStack, UInt64(stack)].enumerated() {
            try guest.write64(value, at: top + UInt64(place) * 8)
        }
        try guest.write([0xEB, 0xFE], at: 0x8100)  // jmp $
        try guest.run(code, budget: 5)
        return guest
    }

    @Test func `IRETQ goes to 64-bit user code`() throws {
        let guest = try returning(to: GuestSelector.userCode64, stack: GuestSelector.userData32, flags: 0x3202)
        #expect(guest[.rip] == 0x8100)
        #expect(guest.level == 3)
        #expect(guest[.rsp] == GuestLayout.userStack)
        #expect(guest[.rflags] == 0x3202)
    }

    @Test func `IRETQ goes to compatibility mode`() throws {
        let guest = try returning(to: GuestSelector.userCode32, stack: GuestSelector.userData32)
        #expect(guest[.rip] == 0x8100)
        #expect(guest[.cs].selector == GuestSelector.userCode32)
        #expect(!guest[.cs].attributes.contains(.long))
        // The code there is 32-bit: inc eax is one byte.
        try guest.write([0x40, 0xEB, 0xFD], at: 0x8100)
        guest.change { $0[.rax] = 0xFFFF_FFFF }
        try guest.run(budget: 1)
        #expect(guest[.rax] == 0)
        #expect(guest[.rip] == 0x8101)
    }

    @Test func `IRETQ at the same level pops RSP and takes a null SS`() throws {
        let guest = try returning(to: GuestSelector.code64, stack: 0)
        #expect(guest[.rip] == 0x8100)
        #expect(guest[.rsp] == GuestLayout.userStack)
        #expect(guest[.ss].selector == 0)
        #expect(guest.level == 0)
    }

    @Test func `IRETQ to CPL 3 refuses a null SS`() throws {
        let guest = try returning(to: GuestSelector.userCode64, stack: 3)
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `IRETQ to an address that is not canonical is #GP at the instruction`() throws {
        let guest = try longGuest()
        let top = GuestLayout.stack - 40
        guest.change { $0[.rsp] = top }
        for (place, value) in [1 << 47, UInt64(GuestSelector.code64), 2, 0xA000, UInt64(GuestSelector.data32)]
            .enumerated()
        {
            try guest.write64(value, at: top + UInt64(place) * 8)
        }
        try guest.run([0x48, 0xCF])
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `IRET with NT is #GP in long mode`() throws {
        let guest = try longGuest(flags: 0x4002)
        try guest.run([0x48, 0xCF])
        guest.expectFault(13, 0, slotBytes: 8)
    }
}
