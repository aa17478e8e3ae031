// Exceptions while delivering exceptions: SDM vol. 3, section 6.15, interrupt 8, table 6-5.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct DoubleFaultTests {
    /// Makes the gate of `vector` absent.
    private func remove(_ vector: Int, _ guest: GuestMachine) throws {
        try guest.setGate(vector, selector: GuestSelector.code64, access: 0x0E)
    }

    @Test func `a contributory exception after a contributory one is #DF with 0`() throws {
        let guest = try longGuest()
        try remove(13, guest)
        // #GP (load of a bad selector), its gate is absent: #NP, contributory.
        try guest.run([0x66, 0xB8, 0x38, 0, 0x8E, 0xD8])
        guest.expectFault(8, 0, at: GuestLayout.code + 4, slotBytes: 8)
        #expect(guest.stackSlot(3, byteCount: 8) == 2)  // RF is not set for aborts
    }

    @Test func `a contributory exception after a benign one is delivered`() throws {
        let guest = try longGuest()
        try remove(6, guest)
        try guest.run([0x0F, 0x0B])  // ud2
        guest.expectFault(11, 6 * 8 + 3, slotBytes: 8)
    }

    @Test func `a page fault after a contributory exception is delivered`() throws {
        let guest = try longGuest()
        try guest.setGate(13, selector: GuestSelector.code64, access: 0x8E, count: 2)
        try guest.write64(0x7000_0000, at: GuestLayout.task + 44)  // IST2: not mapped
        try guest.run([0x66, 0xB8, 0x38, 0, 0x8E, 0xD8])
        guest.expectFault(14, 2, at: GuestLayout.code + 4, slotBytes: 8)
        #expect(guest[.cr2] == 0x7000_0000 - 8)
    }

    @Test func `a contributory exception after a page fault is #DF`() throws {
        let guest = try longGuest()
        try remove(14, guest)
        try guest.run([0xA0, 0, 0, 0, 0x70, 0, 0, 0, 0])  // mov al, [0x70000000]
        guest.expectFault(8, 0, slotBytes: 8)
        #expect(guest[.cr2] == 0x7000_0000)
    }

    @Test func `a page fault after a page fault is #DF`() throws {
        let guest = try longGuest()
        try guest.setGate(14, selector: GuestSelector.code64, access: 0x8E, count: 2)
        try guest.write64(0x7100_0000, at: GuestLayout.task + 44)
        try guest.run([0xA0, 0, 0, 0, 0x70, 0, 0, 0, 0])
        guest.expectFault(8, 0, slotBytes: 8)
        #expect(guest[.cr2] == 0x7100_0000 - 8)
    }

    @Test func `an interrupt counts as benign`() throws {
        let guest = try longGuest()
        try remove(13, guest)
        guest.inject(VCPUEvent(kind: .interrupt, vector: 13))
        try guest.run([0x90])
        guest.expectFault(11, 13 * 8 + 3, slotBytes: 8)
    }

    @Test func `a fault while delivering #DF shuts down at the instruction`() throws {
        let guest = try longGuest()
        try remove(13, guest)
        try remove(8, guest)
        try guest.write([0x66, 0xB8, 0x38, 0, 0x8E, 0xD8], at: GuestLayout.code)
        let result = try guest.vcpu.run(budget: 100)
        #expect(result.exit.reason == .shutdown)
        #expect(result.retired == 1)
        #expect(guest[.rip] == GuestLayout.code + 4)
    }

    @Test func `an empty IDT shuts down`() throws {
        let guest = try longGuest()
        guest.change { $0[.idt].limit = 0 }
        #expect(try guest.run([0x0F, 0x0B]).reason == .shutdown)
        #expect(guest[.rip] == GuestLayout.code)
        #expect(guest[.rsp] == GuestLayout.stack)
    }
}
