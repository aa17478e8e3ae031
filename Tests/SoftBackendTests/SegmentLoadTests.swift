// MOV to segment registers and its relatives, LLDT, LTR, LAR, LSL, VERR, VERW, ARPL: SDM vol. 2 and vol. 3, section 5.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct SegmentLoadTests {
    /// mov ax, selector; then MOV to the segment register with this number.
    private func load(_ register: UInt8, _ selector: UInt16) -> [UInt8] {
        [0x66, 0xB8, UInt8(selector & 0xFF), UInt8(selector >> 8), 0x8E, 0xC0 | register << 3, 0xF4]
    }
    private let place = GuestLayout.code + 4

    @Test func `a load of DS takes base, limit and rights and sets the accessed bit`() throws {
        let guest = try protectedGuest()
        try guest.setDescriptor(
            GuestSelector.scratch, GuestDescriptor.segment(base: 0x12345, limit: 0x77, access: 0xF2))
        try guest.run(load(3, GuestSelector.scratch | 3))
        #expect(
            guest[.ds]
                == Segment(
                    selector: GuestSelector.scratch | 3, attributes: SegmentAttributes(rawValue: 0xCF3),
                    limit: 0x7_7FFF,
                    base: 0x12345))
        #expect(
            guest.descriptor(GuestSelector.scratch) == GuestDescriptor.segment(base: 0x12345, limit: 0x77, access: 0xF3)
        )
    }

    @Test func `a null selector makes data segments unusable, and their use #GP`() throws {
        let guest = try protectedGuest()
        // mov al, [0xe000] follows the load
        try guest.run(Array(load(3, 3).dropLast()) + [0xA0, 0x00, 0xE0, 0x00, 0x00])
        guest.expectFault(13, 0, at: GuestLayout.code + 6)
        #expect(guest[.ds] == Segment(selector: 3))
    }

    @Test func `a bad data segment faults with its selector`() throws {
        let cases: [(UInt8, UInt16, Int, UInt64)] = [
            (0, GuestSelector.beyond, 13, UInt64(GuestSelector.beyond)),
            (0, GuestSelector.executeOnly, 13, UInt64(GuestSelector.executeOnly)),
            (0, GuestSelector.task, 13, UInt64(GuestSelector.task)),
            (0, GuestSelector.absentData, 11, UInt64(GuestSelector.absentData)),
            (0, GuestSelector.data32 | 3, 13, UInt64(GuestSelector.data32)),  // RPL above DPL
            (3, GuestSelector.data32, 13, UInt64(GuestSelector.data32)),  // CPL above DPL
            (0, 0x44, 13, 0x44),  // beyond the LDT
        ]
        for (level, selector, vector, code) in cases {
            let guest = try protectedGuest(level: level)
            try guest.run(load(3, selector))
            guest.expectFault(vector, code, at: place)
        }
    }

    @Test func `readable code and conforming code may be read through DS`() throws {
        for selector in [GuestSelector.code32, GuestSelector.conforming32] {
            let guest = try protectedGuest()
            try guest.run(load(3, selector))
            #expect(guest[.ds].selector == selector)
        }
        let user = try protectedGuest(level: 3)
        try user.run(Array(load(3, GuestSelector.conforming32).dropLast()) + [0xEB, 0xFE], budget: 5)
        #expect(user[.ds].selector == GuestSelector.conforming32)
    }

    @Test func `SS takes writable data of exactly the current level`() throws {
        let cases: [(UInt16, Int, UInt64)] = [
            (0, 13, 0),
            (GuestSelector.code32, 13, UInt64(GuestSelector.code32)),
            (GuestSelector.readOnlyData, 13, UInt64(GuestSelector.readOnlyData)),
            (GuestSelector.userData32, 13, UInt64(GuestSelector.userData32 & ~3)),
            (GuestSelector.data32 | 3, 13, UInt64(GuestSelector.data32)),
            (GuestSelector.absentData, 12, UInt64(GuestSelector.absentData)),
        ]
        for (selector, vector, code) in cases {
            let guest = try protectedGuest()
            try guest.run(load(2, selector))
            guest.expectFault(vector, code, at: place)
        }
        let guest = try protectedGuest()
        try guest.run(load(2, GuestSelector.data16))
        #expect(guest[.ss].selector == GuestSelector.data16)
    }

    @Test func `SS may be null in 64-bit mode below CPL 3`() throws {
        let guest = try longGuest()
        try guest.run(load(2, 0))
        #expect(guest[.ss].selector == 0)
        let user = try longGuest(level: 3)
        try user.run(load(2, 3))
        user.expectFault(13, 0, at: place, slotBytes: 8)
    }

    @Test func `MOV to CS does not exist`() throws {
        let guest = try protectedGuest()
        try guest.run([0x8E, 0xC8])  // mov cs, eax
        guest.expectFault(6, nil)
    }

    @Test func `PUSH and POP move segment registers with the operand size`() throws {
        let guest = try protectedGuest()
        // push cs; pop ds; o16 push ss; o16 pop es; hlt
        try guest.run([0x0E, 0x1F, 0x66, 0x16, 0x66, 0x07, 0xF4])
        #expect(guest[.ds].selector == GuestSelector.code32)
        #expect(guest[.es].selector == GuestSelector.data32)
        #expect(guest[.rsp] == GuestLayout.stack)
    }

    @Test func `a POP of a bad selector leaves the stack pointer`() throws {
        let guest = try protectedGuest()
        try guest.run([0x6A, 0x13, 0x1F])  // push 0x13; pop ds
        guest.expectFault(13, UInt64(GuestSelector.data32), at: GuestLayout.code + 2)
        #expect(guest[.rsp] == GuestLayout.stack - 4 - 16)
    }

    @Test func `LES, LDS, LSS, LFS and LGS load a pointer`() throws {
        let codes: [([UInt8], SegmentRegister)] = [
            ([0xC4, 0x05], .es), ([0xC5, 0x05], .ds), ([0x0F, 0xB2, 0x05], .ss), ([0x0F, 0xB4, 0x05], .fs),
            ([0x0F, 0xB5, 0x05], .gs),
        ]
        for (code, register) in codes {
            let guest = try protectedGuest()
            try guest.write([0x78, 0x56, 0x34, 0x12, 0x58, 0x00], at: GuestLayout.data)
            try guest.run(code + [0x00, 0xE0, 0x00, 0x00, 0xF4])  // lxs eax, [0xe000]
            #expect(guest[.rax] == 0x1234_5678)
            #expect(guest[register].selector == GuestSelector.data16)
        }
    }

    @Test func `a pointer load that faults leaves the register`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rax] = 7 }
        try guest.write([0x78, 0x56, 0x34, 0x12, 0x38, 0x00], at: GuestLayout.data)
        try guest.run([0xC4, 0x05, 0x00, 0xE0, 0x00, 0x00])
        guest.expectFault(13, UInt64(GuestSelector.task))
        #expect(guest[.rax] == 7)
    }

    @Test func `data segments have limits, also those that expand down`() throws {
        // mov al, [ebx] with DS.limit 0x8fff, in both directions
        for (access, offset, faults) in [
            (UInt8(0x93), UInt64(0x8FFF), false), (0x93, 0x9000, true), (0x97, 0x8FFF, true), (0x97, 0x9000, false),
        ] {
            let guest = try protectedGuest()
            try guest.setDescriptor(
                GuestSelector.scratch, GuestDescriptor.segment(limit: 0x8FFF, access: access, flags: 4))
            guest.change { $0[.rbx] = offset }
            try guest.run(Array(load(3, GuestSelector.scratch).dropLast()) + [0x8A, 0x03, 0xF4])
            #expect(guest.haltedVector == (faults ? 13 : nil))
        }
    }

    @Test func `writes to read-only data and to code are #GP, reads of execute-only code too`() throws {
        for (selector, code) in [
            (GuestSelector.readOnlyData, [0x88, 0x05] as [UInt8]), (GuestSelector.code32, [0x88, 0x05]),
        ] {
            let guest = try protectedGuest()
            try guest.run(Array(load(3, selector).dropLast()) + code + [0x00, 0xE0, 0x00, 0x00])  // mov [0xe000], al
            guest.expectFault(13, 0, at: GuestLayout.code + 6)
        }
        let guest = try protectedGuest()
        try guest.write([0x2E, 0xA0, 0x00, 0xE0, 0x00, 0x00], at: 0x8100)  // mov al, cs:[0xe000]
        try guest.run([0xEA, 0x00, 0x81, 0x00, 0x00, 0xA0, 0x00])
        guest.expectFault(13, 0, at: 0x8100)
    }

    // MARK: LDTR and TR

    @Test func `LLDT loads a table that selectors then use`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.ldt] = Segment() }
        try guest.setDescriptor(0x0C, GuestDescriptor.segment(base: 0x77, access: 0x92))
        // mov ax, 0x48; lldt ax; mov ax, 0x0c; mov ds, ax; sldt ebx; hlt
        try guest.run([
            0x66, 0xB8, 0x48, 0x00, 0x0F, 0x00, 0xD0, 0x66, 0xB8, 0x0C, 0x00, 0x8E, 0xD8, 0x0F, 0x00, 0xC3, 0xF4,
        ])
        #expect(guest[.ds].base == 0x77)
        #expect(guest[.rbx] == UInt64(GuestSelector.ldt))
        #expect(guest.descriptor(0x0C) == GuestDescriptor.segment(base: 0x77, access: 0x93))
    }

    @Test func `LLDT and LTR refuse other descriptors`() throws {
        let absentLDT = GuestDescriptor.segment(base: 0, limit: 0x3F, access: 0x02, flags: 0)
        // 0f 00 d0: lldt ax, 0f 00 d8: ltr ax
        let cases: [(UInt8, UInt16, Int, UInt64)] = [
            (0xD0, GuestSelector.data32, 13, UInt64(GuestSelector.data32)), (0xD0, 0x0C, 13, 0x0C),
            (0xD0, GuestSelector.beyond, 13, UInt64(GuestSelector.beyond)), (0xD0, GuestSelector.scratch, 11, 0x78),
            (0xD8, 0, 13, 0), (0xD8, GuestSelector.task, 13, UInt64(GuestSelector.task)),  // busy
            (0xD8, GuestSelector.ldt, 13, UInt64(GuestSelector.ldt)),
        ]
        for (operation, selector, vector, code) in cases {
            let guest = try protectedGuest()
            try guest.setDescriptor(GuestSelector.scratch, absentLDT)
            try guest.run([0x66, 0xB8, UInt8(selector & 0xFF), 0x00, 0x0F, 0x00, operation])
            guest.expectFault(vector, code, at: GuestLayout.code + 4)
        }
        let user = try protectedGuest(level: 3)
        try user.run([0x0F, 0x00, 0xD0])
        user.expectFault(13, 0)
    }

    @Test func `LTR marks the TSS busy, and STR names it`() throws {
        let guest = try protectedGuest()
        // mov ax, 0x88; ltr ax; str ebx; hlt
        try guest.run([0x66, 0xB8, 0x88, 0x00, 0x0F, 0x00, 0xD8, 0x0F, 0x00, 0xCB, 0xF4])
        #expect(guest[.tr].attributes.type == 11)
        #expect(guest[.tr].base == GuestLayout.otherTask)
        #expect(guest.descriptor(GuestSelector.otherTask) >> 40 & 0xFF == 0x8B)
        #expect(guest[.rbx] == UInt64(GuestSelector.otherTask))
    }

    @Test func `LTR in long mode reads a base of 64 bits`() throws {
        let guest = try longGuest()
        try guest.setDescriptor(
            GuestSelector.scratch, GuestDescriptor.segment(base: 0x3200, limit: 0x67, access: 0x89, flags: 0))
        try guest.setDescriptor(GuestSelector.scratch + 8, 0xFFFF_8000)
        try guest.run([0x66, 0xB8, 0x78, 0x00, 0x0F, 0x00, 0xD8, 0xF4])
        #expect(guest[.tr].base == 0xFFFF_8000_0000_3200)
    }

    @Test func `system segment instructions do not exist in real mode`() throws {
        // lldt, ltr, sldt, str, verr, verw, lar, lsl, arpl
        let codes: [[UInt8]] = [
            [0x0F, 0x00, 0xD0], [0x0F, 0x00, 0xD8], [0x0F, 0x00, 0xC0], [0x0F, 0x00, 0xC8], [0x0F, 0x00, 0xE0],
            [0x0F, 0x00, 0xE8], [0x0F, 0x02, 0xC0], [0x0F, 0x03, 0xC0], [0x63, 0xC0],
        ]
        for code in codes {
            let guest = try realGuest()
            try guest.run(code)
            guest.expectFault(6, nil, slotBytes: 2)
        }
    }

    // MARK: LAR, LSL, VERR, VERW, ARPL

    private func examine(_ code: [UInt8], _ selector: UInt16, level: UInt8 = 0) throws -> (zero: Bool, value: UInt64) {
        let guest = try protectedGuest(level: level)
        guest.change {
            $0[.rax] = UInt64(selector)
            $0[.rbx] = 0x55AA
        }
        try guest.run(code + [0xEB, 0xFE], budget: 5)
        return (guest[.rflags] & 0x40 != 0, guest[.rbx])
    }

    @Test func `LAR gives the rights of what the program may see`() throws {
        let lar: [UInt8] = [0x0F, 0x02, 0xD8]  // lar ebx, eax
        #expect(try examine(lar, GuestSelector.code32) == (true, 0xC0_9B00))
        #expect(try examine(lar, GuestSelector.task) == (true, 0x8B00))
        #expect(try examine(lar, 0) == (false, 0x55AA))
        #expect(try examine(lar, GuestSelector.beyond) == (false, 0x55AA))
        #expect(try examine(lar, GuestSelector.code32, level: 3) == (false, 0x55AA))
        #expect(try examine(lar, GuestSelector.conforming32, level: 3) == (true, 0xC0_9F00))
        #expect(try examine(lar, GuestSelector.absentData) == (true, 0xC0_1300))
    }

    @Test func `LSL gives the limit in bytes, of segments, TSS and LDT`() throws {
        let lsl: [UInt8] = [0x0F, 0x03, 0xD8]  // lsl ebx, eax
        #expect(try examine(lsl, GuestSelector.code32) == (true, 0xFFFF_FFFF))
        #expect(try examine(lsl, GuestSelector.code16) == (true, 0xFFFF))
        #expect(try examine(lsl, GuestSelector.ldt) == (true, 0x3F))
        #expect(try examine(lsl, GuestSelector.data32 | 3) == (false, 0x55AA))
    }

    @Test func `VERR and VERW say whether a segment may be read and written`() throws {
        let verr: [UInt8] = [0x0F, 0x00, 0xE0], verw: [UInt8] = [0x0F, 0x00, 0xE8]
        for (selector, readable, writable) in [
            (GuestSelector.data32, true, true), (GuestSelector.readOnlyData, true, false),
            (GuestSelector.code32, true, false), (GuestSelector.executeOnly, false, false),
            (GuestSelector.task, false, false), (0, false, false),
        ] {
            #expect(try examine(verr, selector).zero == readable)
            #expect(try examine(verw, selector).zero == writable)
        }
        #expect(try examine(verr, GuestSelector.data32, level: 3).zero == false)
    }

    @Test func `ARPL raises the RPL of a register or of memory`() throws {
        let guest = try protectedGuest()
        guest.change {
            $0[.rax] = 0x10
            $0[.rcx] = 0x1B
        }
        try guest.write16(0x0021, at: GuestLayout.data)
        // arpl ax, cx; arpl [0xe000], cx; hlt
        try guest.run([0x63, 0xC8, 0x63, 0x0D, 0x00, 0xE0, 0x00, 0x00, 0xF4])
        #expect(guest[.rax] == 0x13)
        #expect(guest.read16(GuestLayout.data) == 0x23)
        #expect(guest[.rflags] & 0x40 != 0)
        let same = try protectedGuest()
        same.change {
            $0[.rax] = 0x13
            $0[.rflags] = 0x42
        }
        try same.run([0x63, 0xC8, 0xF4])
        #expect(same[.rax] == 0x13)
        #expect(same[.rflags] & 0x40 == 0)
    }
}
