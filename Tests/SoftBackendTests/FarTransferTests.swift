// Far JMP, CALL and RET, direct and through gates: SDM vol. 3, section 5.8.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct FarTransferTests {
    /// jmp selector:offset
    private func jump(_ selector: UInt16, _ offset: UInt32 = 0x8100) -> [UInt8] { [0xEA] + pointer(selector, offset) }
    /// call selector:offset; hlt
    private func call(_ selector: UInt16, _ offset: UInt32 = 0x8100) -> [UInt8] {
        [0x9A] + pointer(selector, offset) + [0xF4]
    }

    private func pointer(_ selector: UInt16, _ offset: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: offset >> ($0 * 8)) } + [UInt8(selector & 0xFF), UInt8(selector >> 8)]
    }

    /// A call gate at ``GuestSelector/scratch``.
    private func setCallGate(
        _ guest: GuestMachine, to selector: UInt16, access: UInt8 = 0xEC, count: UInt8 = 0, offset: UInt32 = 0x8100
    ) throws {
        try guest.setDescriptor(
            GuestSelector.scratch,
            GuestDescriptor.gate(selector: selector, offset: offset, access: access, count: count))
    }

    @Test func `a far JMP loads CS and sets the accessed bit`() throws {
        let guest = try protectedGuest()
        try guest.setDescriptor(GuestSelector.scratch, GuestDescriptor.segment(base: 0x100, access: 0x9A))
        try guest.write([0xF4], at: 0x8100)
        try guest.run(jump(GuestSelector.scratch, 0x8000))
        #expect(guest[.rip] == 0x8001)
        #expect(
            guest[.cs]
                == Segment(
                    selector: GuestSelector.scratch, attributes: SegmentAttributes(rawValue: 0xC9B), limit: 0xFFFF_FFFF,
                    base: 0x100))
        #expect(guest.descriptor(GuestSelector.scratch) == GuestDescriptor.segment(base: 0x100, access: 0x9B))
    }

    @Test func `a far JMP to a 16-bit segment decodes 16-bit code`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rax] = 0xFFFF_FFFF }
        try guest.write([0x40, 0xF4], at: 0x8100)  // inc ax; hlt
        try guest.run(jump(GuestSelector.code16))
        #expect(guest[.rax] == 0xFFFF_0000)
    }

    @Test func `a far JMP through memory reads offset, then selector`() throws {
        let guest = try protectedGuest()
        try guest.write(pointer(GuestSelector.conforming32, 0x8100), at: GuestLayout.data)
        try guest.write([0xF4], at: 0x8100)
        try guest.run([0xFF, 0x2D, 0x00, 0xE0, 0x00, 0x00])  // jmp far [0xe000]
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.cs].selector == GuestSelector.conforming32)
    }

    @Test func `a far JMP to a bad segment faults with its selector`() throws {
        let cases: [(UInt8, UInt16, Int, UInt64)] = [
            (0, 0, 13, 0), (0, 3, 13, 0),
            (0, GuestSelector.beyond, 13, UInt64(GuestSelector.beyond)),
            (0, GuestSelector.data32, 13, UInt64(GuestSelector.data32)),
            (0, GuestSelector.absentCode, 11, UInt64(GuestSelector.absentCode)),
            (0, GuestSelector.userCode32, 13, UInt64(GuestSelector.userCode32 & ~3)),  // RPL above CPL
            (0, GuestSelector.userCode32 & ~3, 13, UInt64(GuestSelector.userCode32 & ~3)),  // DPL not CPL
            (3, GuestSelector.code32, 13, UInt64(GuestSelector.code32)),
            (0, GuestSelector.ldt, 13, UInt64(GuestSelector.ldt)),
            (0, 0x44, 13, 0x44),
        ]
        for (level, selector, vector, code) in cases {
            let guest = try protectedGuest(level: level)
            try guest.run(jump(selector))
            guest.expectFault(vector, code)
        }
    }

    @Test func `a far JMP beyond the limit is #GP with 0`() throws {
        let guest = try protectedGuest()
        try guest.run(jump(GuestSelector.code16, 0x1_0000))
        guest.expectFault(13, 0)
    }

    @Test func `conforming code runs at the caller's level`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.write([0xEB, 0xFE], at: 0x8100)
        try guest.run(jump(GuestSelector.conforming32), budget: 5)
        #expect(guest[.rip] == 0x8100)
        #expect(guest[.cs].selector == GuestSelector.conforming32 | 3)
        #expect(guest.level == 3)
    }

    @Test func `far CALL and RET come back, with the bytes that RET releases`() throws {
        let guest = try protectedGuest()
        try guest.write([0xCA, 0x08, 0x00], at: 0x8100)  // retf 8
        try guest.run(call(GuestSelector.code32))
        #expect(guest[.rip] == GuestLayout.code + 8)
        #expect(guest[.rsp] == GuestLayout.stack + 8)
        #expect(guest.read32(GuestLayout.stack - 4) == UInt32(GuestSelector.code32))
        #expect(guest.read32(GuestLayout.stack - 8) == UInt32(GuestLayout.code + 7))
    }

    @Test func `a far CALL whose push faults changes nothing`() throws {
        let guest = try protectedGuest()
        guest.change {
            $0[.ss].limit = 0x5FFF
            $0[.rsp] = 0x6004
            $0[.tr].limit = 0x67
        }
        try guest.stayOnStack(in: 13)
        #expect(try guest.run(call(GuestSelector.code32)).reason == .shutdown)
        #expect(guest[.rip] == GuestLayout.code)
        #expect(guest[.cs].selector == GuestSelector.code32)
        #expect(guest[.rsp] == 0x6004)
    }

    @Test func `a call gate at the same level uses its own offset and size`() throws {
        let guest = try protectedGuest()
        try setCallGate(guest, to: GuestSelector.code32)
        try guest.write([0xF4], at: 0x8100)
        try guest.run(call(GuestSelector.scratch, 0xDEAD))
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.rsp] == GuestLayout.stack - 8)

        let narrow = try protectedGuest()
        try setCallGate(narrow, to: GuestSelector.code32, access: 0xE4, offset: 0x5_8100)
        try narrow.write([0xF4], at: 0x8100)
        try narrow.run(call(GuestSelector.scratch))
        #expect(narrow[.rip] == 0x8101)
        #expect(narrow[.rsp] == GuestLayout.stack - 4)
        #expect(narrow.stackSlot(0, byteCount: 2) == GuestLayout.code + 7)
    }

    @Test func `a call gate to an inner level switches the stack and copies parameters`() throws {
        let guest = try protectedGuest(level: 3)
        try setCallGate(guest, to: GuestSelector.code32, count: 2)
        try guest.write32(0x1111_1111, at: GuestLayout.userStack - 8)
        try guest.write32(0x2222_2222, at: GuestLayout.userStack - 4)
        guest.change { $0[.rsp] = GuestLayout.userStack - 8 }
        try guest.write([0xF4], at: 0x8100)
        try guest.run(call(GuestSelector.scratch))
        #expect(guest[.rip] == 0x8101)
        #expect(guest.level == 0)
        #expect(guest[.rsp] == GuestLayout.innerStack - 24)
        let slots = (0..<6).map { guest.stackSlot(UInt64($0), byteCount: 4) }
        #expect(
            slots == [
                GuestLayout.code + 7, UInt64(GuestSelector.userCode32), 0x1111_1111, 0x2222_2222,
                GuestLayout.userStack - 8,
                UInt64(GuestSelector.userData32),
            ])
    }

    @Test func `a 16-bit call gate copies words`() throws {
        let guest = try protectedGuest(level: 3)
        try setCallGate(guest, to: GuestSelector.code32, access: 0xE4, count: 1)
        try guest.write16(0x3333, at: GuestLayout.userStack - 2)
        guest.change { $0[.rsp] = GuestLayout.userStack - 2 }
        try guest.write([0xF4], at: 0x8100)
        try guest.run(call(GuestSelector.scratch))
        #expect(guest[.rsp] == GuestLayout.innerStack - 10)
        #expect(guest.stackSlot(2, byteCount: 2) == 0x3333)
    }

    @Test func `RET from an inner level releases parameters on both stacks and nulls inner segments`() throws {
        let guest = try protectedGuest(level: 3)
        try setCallGate(guest, to: GuestSelector.code32, count: 2)
        guest.change { $0[.rsp] = GuestLayout.userStack - 8 }
        // mov ax, 0x10; mov ds, ax; retf 8
        try guest.write([0x66, 0xB8, 0x10, 0x00, 0x8E, 0xD8, 0xCA, 0x08, 0x00], at: 0x8100)
        try guest.run([0x9A] + pointer(GuestSelector.scratch, 0) + [0xEB, 0xFE], budget: 10)
        #expect(guest[.rip] == GuestLayout.code + 7)
        #expect(guest.level == 3)
        #expect(guest[.rsp] == GuestLayout.userStack)
        #expect(guest[.ds] == Segment())
        #expect(guest[.es].selector == GuestSelector.userData32)
    }

    @Test func `a gate refuses callers below its DPL, and names itself or its target`() throws {
        let gate = UInt64(GuestSelector.scratch)
        let cases: [(UInt8, UInt8, UInt16, UInt16, Int, UInt64)] = [
            (3, 0x8C, GuestSelector.code32, GuestSelector.scratch, 13, gate),
            (0, 0x8C, GuestSelector.code32, GuestSelector.scratch | 3, 13, gate),
            (0, 0x6C, GuestSelector.code32, GuestSelector.scratch, 11, gate),
            (0, 0xEC, 0, GuestSelector.scratch, 13, 0),
            (0, 0xEC, GuestSelector.data32, GuestSelector.scratch, 13, UInt64(GuestSelector.data32)),
            (0, 0xEC, GuestSelector.beyond, GuestSelector.scratch, 13, UInt64(GuestSelector.beyond)),
            (0, 0xEC, GuestSelector.absentCode, GuestSelector.scratch, 11, UInt64(GuestSelector.absentCode)),
            (0, 0xEC, GuestSelector.userCode32, GuestSelector.scratch, 13, UInt64(GuestSelector.userCode32 & ~3)),
        ]
        for (level, access, target, selector, vector, code) in cases {
            let guest = try protectedGuest(level: level)
            try setCallGate(guest, to: target, access: access)
            try guest.run(call(selector))
            guest.expectFault(vector, code)
        }
    }

    @Test func `JMP through a gate never changes the level`() throws {
        let guest = try protectedGuest(level: 3)
        try setCallGate(guest, to: GuestSelector.code32)
        try guest.run(jump(GuestSelector.scratch))
        guest.expectFault(13, UInt64(GuestSelector.code32))
    }

    @Test func `RET to an inner level is #GP with the selector`() throws {
        let guest = try protectedGuest(level: 3)
        guest.change { $0[.rsp] = GuestLayout.userStack - 8 }
        try guest.write32(0x8100, at: GuestLayout.userStack - 8)
        try guest.write32(UInt32(GuestSelector.code32), at: GuestLayout.userStack - 4)
        try guest.run([0xCB])
        guest.expectFault(13, UInt64(GuestSelector.code32))
    }

    @Test func `a 64-bit call gate takes RSP from the TSS and a null SS`() throws {
        let guest = try longGuest(level: 3)
        try setCallGate(guest, to: GuestSelector.code64)
        try guest.write64(GuestLayout.data, at: GuestLayout.data + 0x100)
        try guest.write([0xF4], at: 0x8100)
        // call far [0xe000]
        try guest.write(pointer(GuestSelector.scratch, 0), at: GuestLayout.data)
        try guest.run([0xFF, 0x1C, 0x25, 0x00, 0xE0, 0x00, 0x00])
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.rsp] == GuestLayout.innerStack - 32)
        #expect(guest[.ss].selector == 0)
        let slots = (0..<4).map { guest.stackSlot(UInt64($0), byteCount: 8) }
        #expect(
            slots == [
                GuestLayout.code + 7, UInt64(GuestSelector.userCode64), GuestLayout.userStack,
                UInt64(GuestSelector.userData32),
            ])
    }

    @Test func `a 64-bit call gate to 32-bit code, and its second half with a type, are #GP`() throws {
        let guest = try longGuest()
        try setCallGate(guest, to: GuestSelector.code32)
        try guest.write(pointer(GuestSelector.scratch, 0), at: GuestLayout.data)
        try guest.run([0xFF, 0x1C, 0x25, 0x00, 0xE0, 0x00, 0x00])
        guest.expectFault(13, UInt64(GuestSelector.code32), slotBytes: 8)

        let other = try longGuest()
        try setCallGate(other, to: GuestSelector.code64)
        try other.setDescriptor(GuestSelector.scratch + 8, 1 << 40)
        try other.write(pointer(GuestSelector.scratch, 0), at: GuestLayout.data)
        try other.run([0xFF, 0x1C, 0x25, 0x00, 0xE0, 0x00, 0x00])
        other.expectFault(13, UInt64(GuestSelector.scratch), slotBytes: 8)
    }

    @Test func `RETF in 64-bit mode enters compatibility mode`() throws {
        let guest = try longGuest()
        guest.change { $0[.rsp] = GuestLayout.stack - 8 }
        try guest.write32(0x8100, at: GuestLayout.stack - 8)
        try guest.write32(UInt32(GuestSelector.code32), at: GuestLayout.stack - 4)
        try guest.write([0x40, 0xF4], at: 0x8100)  // inc eax; hlt
        try guest.run([0xCB])
        #expect(guest[.rip] == 0x8102)
        #expect(guest[.rax] == 1)
        #expect(guest[.cs].selector == GuestSelector.code32)
    }

    @Test func `far transfers to task state segments are #GP in long mode`() throws {
        let guest = try longGuest()
        try guest.write(pointer(GuestSelector.otherTask, 0), at: GuestLayout.data)
        try guest.run([0xFF, 0x2C, 0x25, 0x00, 0xE0, 0x00, 0x00])  // jmp far [0xe000]
        guest.expectFault(13, UInt64(GuestSelector.otherTask), slotBytes: 8)
    }
}
