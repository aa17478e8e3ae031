// Interrupt and trap gates of protected mode, privilege change through the TSS, faults on the way:
// SDM vol. 3, sections 6.12 and 6.13, and vol. 2, INT n.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct InterruptGateTests {
    private let int40: [UInt8] = [0xCD, 0x40]  // int 0x40

    @Test func `a 32-bit interrupt gate pushes EFLAGS, CS and EIP and clears IF`() throws {
        let guest = try protectedGuest(flags: 0x4202)
        try guest.run(int40)
        guest.expectFault(0x40, nil, at: GuestLayout.code + 2)
        #expect(guest[.rsp] == GuestLayout.stack - 12)
        #expect(guest.stackSlot(1, byteCount: 4) == UInt64(GuestSelector.code32))
        #expect(guest.stackSlot(2, byteCount: 4) == 0x4202)
        #expect(guest[.rflags] == 2)  // IF and NT cleared
    }

    @Test func `a 32-bit trap gate keeps IF`() throws {
        let guest = try protectedGuest(flags: 0x202)
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0x8F)
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rflags] == 0x202)
    }

    @Test(arguments: [(UInt8(0x86), UInt64(2)), (0x87, 0x202)])
    func `a 16-bit gate pushes words and uses 16 bits of its offset`(access: UInt8, flags: UInt64) throws {
        let guest = try protectedGuest(flags: 0x202)
        try guest.setGate(
            0x40, selector: GuestSelector.code32, access: access, offset: 0xABCD_0000 + GuestMachine.handler(0x40))
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rsp] == GuestLayout.stack - 6)
        #expect(guest.stackSlot(0, byteCount: 2) == GuestLayout.code + 2)
        #expect(guest.stackSlot(1, byteCount: 2) == UInt64(GuestSelector.code32))
        #expect(guest.stackSlot(2, byteCount: 2) == 0x202)
        #expect(guest[.rflags] == flags)
    }

    @Test func `a gate to an inner level takes the stack from the TSS and pushes the old one`() throws {
        let guest = try protectedGuest(level: 3, flags: 0x202)
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
        try guest.run(int40)
        guest.expectFault(0x40, nil, at: GuestLayout.code + 2)
        #expect(guest[.rsp] == GuestLayout.innerStack - 20)
        #expect(guest.stackSlot(1, byteCount: 4) == UInt64(GuestSelector.userCode32))
        #expect(guest.stackSlot(2, byteCount: 4) == 0x202)
        #expect(guest.stackSlot(3, byteCount: 4) == GuestLayout.userStack)
        #expect(guest.stackSlot(4, byteCount: 4) == UInt64(GuestSelector.userData32))
        #expect(guest.level == 0)
        #expect(guest[.ss].selector == GuestSelector.data32)
        #expect(guest[.cs].selector == GuestSelector.code32)
        #expect(guest[.ds].selector == GuestSelector.userData32)
    }

    @Test func `a 16-bit gate to an inner level pushes words`() throws {
        let guest = try protectedGuest(level: 3, flags: 0x202)
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xE6)
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rsp] == GuestLayout.innerStack - 10)
        #expect(guest.stackSlot(3, byteCount: 2) == GuestLayout.userStack)
        #expect(guest.stackSlot(4, byteCount: 2) == UInt64(GuestSelector.userData32))
    }

    @Test func `a 16-bit TSS gives a 16-bit stack pointer`() throws {
        let guest = try protectedGuest(level: 3)
        guest.change {
            $0[.tr].attributes = SegmentAttributes(rawValue: 0x83)
            $0[.tr].limit = 0x2B
        }
        try guest.write16(0xB400, at: GuestLayout.task + 2)
        try guest.write16(GuestSelector.data32, at: GuestLayout.task + 4)
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rsp] == 0xB400 - 20)
    }

    @Test func `a handler in a conforming segment keeps the level and the stack`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.setGate(0x40, selector: GuestSelector.conforming32, access: 0xEE)
        try guest.write([0xEB, 0xFE], at: GuestMachine.handler(0x40))
        try guest.run(int40, budget: 20)
        #expect(guest[.rip] == GuestMachine.handler(0x40))
        #expect(guest[.cs].selector == GuestSelector.conforming32 | 3)
        #expect(guest[.rsp] == GuestLayout.userStack - 12)
        #expect(guest.level == 3)
    }

    @Test func `INT n needs a gate whose DPL is not below the CPL`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.run(int40)
        guest.expectFault(13, 0x40 * 8 + 2)
    }

    @Test func `INT3 and INTO need the DPL, INT1 does not`() throws {
        for (opcode, vector) in [(UInt8(0xCC), UInt64(3)), (0xCE, 4)] {
            let guest = try protectedGuest(level: 3, flags: 0x802)
            try guest.run([opcode])
            guest.expectFault(13, vector * 8 + 2)
        }
        let guest = try protectedGuest(level: 3)
        try guest.run([0xF1])
        guest.expectFault(1, nil, at: GuestLayout.code + 1)
    }

    @Test func `exceptions and injected interrupts ignore the DPL`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.run([0x0F, 0x0B])  // ud2
        guest.expectFault(6, nil)
        let other = try protectedGuest(level: 3)
        other.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        try other.run([0x90])
        other.expectFault(0x40, nil)
    }

    @Test func `faults of INT n name the gate without EXT`() throws {
        let cases: [(Int, UInt64, (GuestMachine) throws -> Void)] = [
            (11, 0x202, { try $0.setGate(0x40, selector: GuestSelector.code32, access: 0x0E) }),  // not present
            (13, 0x202, { try $0.setGate(0x40, selector: GuestSelector.code32, access: 0x8C) }),  // a call gate
            (13, 0x202, { try $0.setGate(0x40, selector: GuestSelector.code32, access: 0x9E) }),  // a segment
            (13, 0x202, { guest in guest.change { $0[.idt].limit = 0x206 } }),  // one byte of it missing
        ]
        for (vector, code, prepare) in cases {
            let guest = try protectedGuest()
            try prepare(guest)
            try guest.run(int40)
            guest.expectFault(vector, code)
        }
    }

    @Test func `faults of the handler's segment name its selector`() throws {
        let cases: [(Int, UInt64, UInt16)] = [
            (13, 0, 0), (13, 0, 3),  // null
            (13, UInt64(GuestSelector.beyond), GuestSelector.beyond),
            (13, UInt64(GuestSelector.data32), GuestSelector.data32),
            (13, UInt64(GuestSelector.userCode32 & ~3), GuestSelector.userCode32),  // DPL above CPL
            (11, UInt64(GuestSelector.absentCode), GuestSelector.absentCode),
            (13, 0x44, 0x44),  // beyond the LDT
        ]
        for (vector, code, selector) in cases {
            let guest = try protectedGuest()
            try guest.setGate(0x40, selector: selector, access: 0x8E)
            try guest.run(int40)
            guest.expectFault(vector, code)
        }
    }

    @Test func `a handler beyond its segment's limit is #GP with 0`() throws {
        let guest = try protectedGuest()
        try guest.setGate(0x40, selector: GuestSelector.code16, access: 0x8E, offset: 0x1_0000)
        try guest.run(int40)
        guest.expectFault(13, 0)
    }

    @Test func `faults on the way from an external event or an exception have EXT`() throws {
        let injected = try protectedGuest()
        try injected.setGate(0x50, selector: GuestSelector.code32, access: 0x0E)
        injected.inject(VCPUEvent(kind: .interrupt, vector: 0x50))
        try injected.run([0x90])
        injected.expectFault(11, 0x50 * 8 + 3)

        let exception = try protectedGuest()
        try exception.setGate(6, selector: GuestSelector.absentCode, access: 0x8E)
        try exception.run([0x0F, 0x0B])  // ud2
        exception.expectFault(11, UInt64(GuestSelector.absentCode) | 1)
    }

    @Test func `a TSS too short for the new stack is #TS with the TSS`() throws {
        let guest = try protectedGuest(level: 3)
        guest.change { $0[.tr].limit = 8 }
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
        try guest.stayOnStack(in: 10)
        try guest.run(int40, budget: 20)
        guest.expectLoop(in: 10, UInt64(GuestSelector.task))
    }

    @Test func `a bad stack in the TSS is #TS, an absent one #SS, with its selector`() throws {
        let cases: [(Int, UInt64, UInt16)] = [
            (10, 0, 0),
            (10, UInt64(GuestSelector.beyond), GuestSelector.beyond),
            (10, UInt64(GuestSelector.data32), GuestSelector.data32 | 3),  // RPL
            (10, UInt64(GuestSelector.userData32 & ~3), GuestSelector.userData32 & ~3),  // DPL
            (10, UInt64(GuestSelector.readOnlyData), GuestSelector.readOnlyData),
            (10, UInt64(GuestSelector.code32), GuestSelector.code32),
            (12, UInt64(GuestSelector.absentData), GuestSelector.absentData),
        ]
        for (vector, code, selector) in cases {
            let guest = try protectedGuest(level: 3)
            try guest.write16(selector, at: GuestLayout.task + 8)
            try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
            try guest.stayOnStack(in: vector)
            try guest.run(int40, budget: 20)
            guest.expectLoop(in: vector, code)
        }
    }

    @Test func `an inner stack without room is #SS with its selector; where no handler finds room, shutdown`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.setDescriptor(GuestSelector.scratch, GuestDescriptor.segment(limit: 0xFFF, access: 0x93, flags: 4))
        try guest.write16(GuestSelector.scratch, at: GuestLayout.task + 8)
        try guest.write32(16, at: GuestLayout.task + 4)  // 20 bytes are needed
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
        try guest.stayOnStack(in: 12)
        try guest.run(int40, budget: 20)
        guest.expectLoop(in: 12, UInt64(GuestSelector.scratch))

        let flat = try protectedGuest()
        flat.change {
            $0[.ss].limit = 0xFFF
            $0[.rsp] = 0x2000
        }
        #expect(try flat.run(int40).reason == .shutdown)  // neither #SS nor #DF find room
    }

    @Test func `the accessed bits of handler and stack are set`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.setDescriptor(GuestSelector.code32, GuestDescriptor.segment(access: 0x9A))
        try guest.setDescriptor(GuestSelector.data32, GuestDescriptor.segment(access: 0x92))
        try guest.setGate(0x40, selector: GuestSelector.code32, access: 0xEE)
        try guest.run(int40)
        #expect(guest.haltedVector == 0x40)
        #expect(guest.descriptor(GuestSelector.code32) == GuestDescriptor.segment(access: 0x9B))
        #expect(guest.descriptor(GuestSelector.data32) == GuestDescriptor.segment(access: 0x93))
    }

    @Test func `IRET to an outer level restores the stack and nulls inner data segments`() throws {
        let guest = try protectedGuest()
        let top = GuestLayout.stack - 20
        guest.change {
            $0[.rsp] = top
            $0[.es].selector = GuestSelector.userData32
            $0[.es].attributes = SegmentAttributes(rawValue: 0xCF3)
        }
        for (place, value) in [
            0x8100, UInt32(GuestSelector.userCode32), 0x3202, 0xD000, UInt32(GuestSelector.userData32),
        ].enumerated() {
            try guest.write32(value, at: top + UInt64(place) * 4)
        }
        try guest.write([0xEB, 0xFE], at: 0x8100)
        try guest.run([0xCF], budget: 5)  // iret
        #expect(guest[.rip] == 0x8100)
        #expect(guest.level == 3)
        #expect(guest[.cs].selector == GuestSelector.userCode32)
        #expect(guest[.ss].selector == GuestSelector.userData32)
        #expect(guest[.rsp] == 0xD000)
        #expect(guest[.rflags] == 0x3202)
        #expect(guest[.ds] == Segment())
        #expect(guest[.es].selector == GuestSelector.userData32)
    }

    @Test func `IRET at CPL 3 changes neither IOPL nor IF`() throws {
        let guest = try protectedGuest(level: 3, flags: 0x202)
        let top = GuestLayout.userStack - 12
        guest.change { $0[.rsp] = top }
        for (place, value) in [0x8100, UInt32(GuestSelector.userCode32), 0x3003].enumerated() {
            try guest.write32(value, at: top + UInt64(place) * 4)
        }
        try guest.write([0xEB, 0xFE], at: 0x8100)
        try guest.run([0xCF], budget: 5)
        #expect(guest[.rip] == 0x8100)
        #expect(guest[.rflags] == 0x203)
    }

    @Test func `IRET to a bad segment faults with its selector and leaves the stack`() throws {
        let cases: [(Int, UInt64, UInt16, UInt16)] = [
            (13, 0, 0, GuestSelector.data32),
            (13, UInt64(GuestSelector.data32), GuestSelector.data32, GuestSelector.data32),
            (13, UInt64(GuestSelector.code32), GuestSelector.code32 | 3, GuestSelector.userData32),  // DPL not RPL
            (11, UInt64(GuestSelector.absentCode), GuestSelector.absentCode, GuestSelector.data32),
            (13, 0, GuestSelector.userCode32, 0),
            (13, UInt64(GuestSelector.data32), GuestSelector.userCode32, GuestSelector.data32),
        ]
        for (vector, code, selector, stack) in cases {
            let guest = try protectedGuest()
            let top = GuestLayout.stack - 20
            guest.change { $0[.rsp] = top }
            for (place, value) in [0x8100, UInt32(selector), 2, 0xD000, UInt32(stack)].enumerated() {
                try guest.write32(value, at: top + UInt64(place) * 4)
            }
            try guest.run([0xCF])
            guest.expectFault(vector, code)
            #expect(guest[.rsp] == top - 16)
        }
    }
}
