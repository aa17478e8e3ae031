// The hardware task switch: SDM vol. 3, chapter 7.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct TaskSwitchTests {
    /// jmp 0x88:0, call 0x88:0; both seven bytes
    private let jump: [UInt8] = [0xEA, 0, 0, 0, 0, 0x88, 0x00]
    private let call: [UInt8] = [0x9A, 0, 0, 0, 0, 0x88, 0x00]

    /// A guest with a second 32-bit task that halts at 0x8100.
    private func guest(level: UInt8 = 0, flags: UInt64 = 2) throws -> GuestMachine {
        let guest = try protectedGuest(level: level, flags: flags)
        let task = GuestLayout.otherTask
        try guest.write32(0x8100, at: task + 32)
        try guest.write32(0x203, at: task + 36)
        for register in 0..<UInt32(8) { try guest.write32(0x1000 + register, at: task + 40 + UInt64(register) * 4) }
        try guest.write32(0xC800, at: task + 56)  // ESP
        let selectors = [
            GuestSelector.data32, GuestSelector.code32, GuestSelector.data32, GuestSelector.data32, 0,
            GuestSelector.data16,
        ]
        for (place, selector) in selectors.enumerated() {
            try guest.write16(selector, at: task + 72 + UInt64(place) * 4)
        }
        try guest.write([0xF4], at: 0x8100)
        return guest
    }

    @Test func `JMP to a TSS saves the old task and loads the new one`() throws {
        let guest = try guest()
        guest.change {
            $0[.rax] = 0xAAAA
            $0[.rdi] = 0xDDDD
            $0[.dr7] = 0x455
        }
        try guest.write([0xFA], at: 0x9000)
        try guest.run(jump)
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.rax] == 0x1000)
        #expect(guest[.rdi] == 0x1007)
        #expect(guest[.rsp] == 0xC800)
        #expect(guest[.rflags] == 0x203)
        #expect(guest[.fs] == Segment())
        #expect(guest[.gs].limit == 0xFFFF)
        #expect(guest[.tr].selector == GuestSelector.otherTask)
        #expect(guest[.tr].attributes.type == 11)
        #expect(guest[.cr0] & 8 != 0)  // TS
        #expect(guest[.dr7] == 0x400)  // the local breakpoints are off
        // What was saved, and the busy bits.
        #expect(guest.read32(GuestLayout.task + 32) == UInt32(GuestLayout.code + 7))
        #expect(guest.read32(GuestLayout.task + 40) == 0xAAAA)
        #expect(guest.read32(GuestLayout.task + 56) == UInt32(GuestLayout.stack))
        #expect(guest.read32(GuestLayout.task + 68) == 0xDDDD)
        #expect(guest.read16(GuestLayout.task + 76) == GuestSelector.code32)
        #expect(guest.descriptor(GuestSelector.task) >> 40 & 0xFF == 0x89)
        #expect(guest.descriptor(GuestSelector.otherTask) >> 40 & 0xFF == 0x8B)
    }

    @Test func `CALL to a TSS nests, and IRET goes back`() throws {
        let guest = try guest()
        try guest.write([0xCF, 0xF4], at: 0x8100)  // iret; hlt
        try guest.run(call + [0xF4], budget: 1)
        #expect(guest[.rflags] == 0x4203)  // NT
        #expect(guest.read16(GuestLayout.otherTask) == GuestSelector.task)
        #expect(guest.descriptor(GuestSelector.task) >> 40 & 0xFF == 0x8B)
        try guest.run()
        #expect(guest[.rip] == GuestLayout.code + 8)
        #expect(guest[.tr].selector == GuestSelector.task)
        #expect(guest[.rflags] == 2)
        #expect(guest[.rsp] == GuestLayout.stack)
        #expect(guest.descriptor(GuestSelector.otherTask) >> 40 & 0xFF == 0x89)
        #expect(guest.descriptor(GuestSelector.task) >> 40 & 0xFF == 0x8B)
        // IRET saved its task with NT clear, to start after the IRET.
        #expect(guest.read32(GuestLayout.otherTask + 36) & 0x4000 == 0)
        #expect(guest.read32(GuestLayout.otherTask + 32) == 0x8101)
    }

    @Test func `a task gate in the GDT and one in the IDT switch tasks`() throws {
        let viaGDT = try guest()
        try viaGDT.setDescriptor(
            GuestSelector.scratch, GuestDescriptor.gate(selector: GuestSelector.otherTask, offset: 0, access: 0x85))
        try viaGDT.run([0xEA, 0, 0, 0, 0, 0x78, 0x00])
        #expect(viaGDT[.rip] == 0x8101)

        let viaIDT = try guest(level: 3)
        try viaIDT.setGate(0x40, selector: GuestSelector.otherTask, access: 0xE5)
        try viaIDT.run([0xCD, 0x40])
        #expect(viaIDT[.rip] == 0x8101)
        #expect(viaIDT.level == 0)
        #expect(viaIDT[.rflags] == 0x4203)
        #expect(viaIDT.read32(GuestLayout.task + 32) == UInt32(GuestLayout.code + 2))
    }

    @Test func `an exception through a task gate pushes its error code on the new stack and saves RF`() throws {
        let guest = try guest()
        try guest.setGate(13, selector: GuestSelector.otherTask, access: 0x85)
        try guest.run([0x66, 0xB8, 0x10, 0x00, 0x0F, 0x00, 0xD0])  // mov ax, 0x10; lldt ax
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.rsp] == 0xC7FC)
        #expect(guest.stackSlot(0, byteCount: 4) == UInt64(GuestSelector.data32))
        #expect(guest.read32(GuestLayout.task + 32) == UInt32(GuestLayout.code + 4))
        #expect(guest.read32(GuestLayout.task + 36) == 0x1_0002)
    }

    @Test func `a 16-bit TSS holds words`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rbx] = 0xFFFF_FFFF }
        try guest.setDescriptor(
            GuestSelector.otherTask,
            GuestDescriptor.segment(base: UInt32(GuestLayout.otherTask), limit: 0x2B, access: 0x81, flags: 0))
        let task = GuestLayout.otherTask
        let fields: [(UInt64, UInt16)] = [
            (14, 0x8100), (16, 0x202), (18, 1), (20, 2), (22, 3), (24, 4), (26, 0xC800), (28, 6), (30, 7), (32, 8),
            (34, GuestSelector.data32), (36, GuestSelector.code32), (38, GuestSelector.data32),
            (40, GuestSelector.data16),
        ]
        for (place, value) in fields { try guest.write16(value, at: task + place) }
        try guest.write([0xF4], at: 0x8100)
        try guest.run(jump)
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.rax] & 0xFFFF == 1)
        #expect(guest[.rbx] & 0xFFFF == 4)
        #expect(guest[.ds].selector == GuestSelector.data16)
        #expect(guest[.fs].selector == 0)
        #expect(guest[.tr].attributes.type == 3)
    }

    @Test func `the T bit of a TSS traps after the switch with BT`() throws {
        let guest = try guest()
        try guest.write16(1, at: GuestLayout.otherTask + 100)
        try guest.run(jump)
        guest.expectFault(1, nil, at: 0x8100)
        #expect(guest[.dr6] & 0x8000 != 0)
    }

    @Test func `a task switch loads CR3 and the LDT`() throws {
        let guest = try guest()
        // 32-bit paging: one 4 MiB page in each of two directories, the second with another page at 4 MiB.
        try guest.write32(0x83, at: GuestLayout.pageTables)
        try guest.write32(0x83, at: GuestLayout.pageTables + 0x1000)
        try guest.write32(0x83, at: GuestLayout.pageTables + 0x1004)
        guest.change {
            $0[.cr3] = GuestLayout.pageTables
            $0[.cr4] = 0x10
            $0[.cr0] = 0x8000_0011
            $0[.ldt] = Segment()
        }
        try guest.write32(UInt32(GuestLayout.pageTables + 0x1000), at: GuestLayout.otherTask + 28)
        try guest.write16(GuestSelector.ldt, at: GuestLayout.otherTask + 96)
        try guest.write([0x5A], at: GuestLayout.data)
        // mov al, [0x40e000]; hlt
        try guest.write([0xA0, 0x00, 0xE0, 0x40, 0x00, 0xF4], at: 0x8100)
        try guest.run(jump)
        #expect(guest[.rax] == 0x105A)
        #expect(guest[.cr3] == GuestLayout.pageTables + 0x1000)
        #expect(guest[.ldt].base == GuestLayout.ldt)
    }

    @Test func `a TSS that is short, busy, absent or private is refused before the switch`() throws {
        let base = UInt32(GuestLayout.otherTask)
        let code = UInt64(GuestSelector.otherTask)
        let cases: [(UInt8, UInt64, Int)] = [
            (0, GuestDescriptor.segment(base: base, limit: 0x66, access: 0x89, flags: 0), 10),
            (0, GuestDescriptor.segment(base: base, limit: 0x67, access: 0x8B, flags: 0), 13),
            (0, GuestDescriptor.segment(base: base, limit: 0x67, access: 0x09, flags: 0), 11),
            (3, GuestDescriptor.segment(base: base, limit: 0x67, access: 0x89, flags: 0), 13),
        ]
        for (level, descriptor, vector) in cases {
            let guest = try guest(level: level)
            try guest.setDescriptor(GuestSelector.otherTask, descriptor)
            try guest.run(jump)
            guest.expectFault(vector, code)
            #expect(guest[.tr].selector == GuestSelector.task)
        }
    }

    @Test func `bad segments of the new task fault in the new task`() throws {
        // Place of the selector in the TSS, its value, vector, error code.
        let cases: [(UInt64, UInt16, Int, UInt64)] = [
            (72, GuestSelector.executeOnly, 10, UInt64(GuestSelector.executeOnly)),
            (84, GuestSelector.absentData, 11, UInt64(GuestSelector.absentData)),
            (88, GuestSelector.beyond, 10, UInt64(GuestSelector.beyond)),
        ]
        for (place, selector, vector, code) in cases {
            let guest = try guest()
            try guest.write16(selector, at: GuestLayout.otherTask + place)
            try guest.stayOnStack(in: vector)
            try guest.run(jump, budget: 5)
            #expect(guest[.rip] == GuestMachine.handler(vector))
            #expect(guest[.tr].selector == GuestSelector.otherTask)
            guest.expectLoop(in: vector, code)
            #expect(guest.stackSlot(1, byteCount: 4) == 0x8100)
        }
    }

    @Test func `a bad LDT of the new task is #TS, which only a third task can handle`() throws {
        let guest = try guest()
        try guest.write16(GuestSelector.data32, at: GuestLayout.otherTask + 96)
        let handler: UInt64 = 0x3400
        try guest.setDescriptor(
            GuestSelector.scratch, GuestDescriptor.segment(base: UInt32(handler), limit: 0x67, access: 0x89, flags: 0))
        try guest.write32(0x8200, at: handler + 32)
        try guest.write32(0xC400, at: handler + 56)
        try guest.write16(GuestSelector.code32, at: handler + 76)
        try guest.write16(GuestSelector.data32, at: handler + 80)
        try guest.write([0xF4], at: 0x8200)
        try guest.setGate(10, selector: GuestSelector.scratch, access: 0x85)
        try guest.run(jump)
        #expect(guest[.rip] == 0x8201)
        #expect(guest.stackSlot(0, byteCount: 4) == UInt64(GuestSelector.data32))
        #expect(guest.read16(handler) == GuestSelector.otherTask)
        #expect(guest.read32(GuestLayout.otherTask + 32) == 0x8100)
    }

    @Test func `IRET with NT to a task that is not busy is #TS with the link`() throws {
        let guest = try guest(flags: 0x4002)
        try guest.write16(GuestSelector.otherTask, at: GuestLayout.task)
        try guest.run([0xCF])
        guest.expectFault(10, UInt64(GuestSelector.otherTask))
    }

    @Test func `a task in virtual-8086 mode starts there`() throws {
        let guest = try guest()
        try guest.write32(0x2_0202, at: GuestLayout.otherTask + 36)
        try guest.write32(0x100, at: GuestLayout.otherTask + 32)
        for place in 0..<UInt64(6) { try guest.write16(0x800, at: GuestLayout.otherTask + 72 + place * 4) }
        try guest.write([0xEB, 0xFE], at: 0x8100)
        try guest.run(jump, budget: 5)
        #expect(guest[.rip] == 0x100)
        #expect(guest[.rflags] == 0x2_0202)
        #expect(guest[.cs].base == 0x8000)
        #expect(guest.level == 3)
    }
}
