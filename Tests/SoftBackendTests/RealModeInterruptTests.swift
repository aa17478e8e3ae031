// Interrupts in real mode: SDM vol. 3, section 20.1.4.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct RealModeInterruptTests {
    @Test func `INT in real mode pushes FLAGS, CS and IP and clears IF, TF and AC`() throws {
        let guest = try realGuest()
        guest.change { $0[.rflags] = 0x4_0202 }
        let exit = try guest.run([0xCD, 0x40])  // int 0x40
        #expect(exit.reason == .halted)
        #expect(guest.haltedVector == 0x40)
        #expect(guest[.rsp] == GuestLayout.stack - 6)
        #expect(guest.stackSlot(0, byteCount: 2) == GuestLayout.code + 2)
        #expect(guest.stackSlot(1, byteCount: 2) == 0)
        #expect(guest.stackSlot(2, byteCount: 2) == 0x202)
        #expect(guest[.rflags] == 2)
    }

    @Test func `IRET in real mode goes back and restores the flags`() throws {
        let guest = try realGuest()
        guest.change { $0[.rflags] = 0x203 }
        try guest.write([0xF8, 0xFA, 0xCF], at: GuestMachine.handler(0x40))  // clc; cli; iret
        try guest.run([0xCD, 0x40, 0xF4])  // int 0x40; hlt
        #expect(guest[.rip] == GuestLayout.code + 3)
        #expect(guest[.rflags] == 0x203)
        #expect(guest[.rsp] == GuestLayout.stack)
    }

    @Test func `IRETD in real mode loads all of EFLAGS but VM, VIF and VIP`() throws {
        let guest = try realGuest()
        guest.change { $0[.rsp] = GuestLayout.stack - 12 }
        try guest.write32(0x8100, at: GuestLayout.stack - 12)
        try guest.write32(0, at: GuestLayout.stack - 8)
        try guest.write32(0x003E_7202, at: GuestLayout.stack - 4)
        try guest.write([0xF4], at: 0x8100)
        try guest.run([0x66, 0xCF])  // iretd
        #expect(guest[.rip] == 0x8101)
        #expect(guest[.rflags] == 0x24_7202)
    }

    @Test func `a vector beyond the limit of IDTR is #GP, without an error code, at the instruction`() throws {
        let guest = try realGuest()
        guest.change { $0[.idt].limit = 13 * 4 + 3 }
        try guest.run([0xCD, 0x40])
        guest.expectFault(13, nil, slotBytes: 2)
        #expect(guest[.rsp] == GuestLayout.stack - 6)
    }

    @Test func `IDTR without room for #GP but for #DF gives a double fault`() throws {
        let guest = try realGuest()
        guest.change { $0[.idt].limit = 8 * 4 + 3 }
        // int 0x40: its #GP cannot be delivered, nor the second #GP: contributory after contributory.
        try guest.run([0xCD, 0x40])
        #expect(guest.haltedVector == 8)
    }

    @Test func `IDTR without room for anything shuts down`() throws {
        let guest = try realGuest()
        guest.change { $0[.idt].limit = 3 }
        #expect(try guest.run([0xCD, 0x40]).reason == .shutdown)
        #expect(guest[.rip] == GuestLayout.code)
    }

    @Test func `INTO interrupts only with OF`() throws {
        for overflow in [false, true] {
            let guest = try realGuest()
            guest.change { $0[.rflags] = overflow ? 0x802 : 2 }
            try guest.run([0xCE, 0xF4])  // into; hlt
            #expect(guest.haltedVector == (overflow ? 4 : nil))
            if overflow {
                #expect(guest.stackSlot(0, byteCount: 2) == GuestLayout.code + 1)
            } else {
                #expect(guest[.rip] == GuestLayout.code + 2)
            }
        }
    }

    @Test func `INT3 and INT1 are traps through vectors 3 and 1`() throws {
        for (opcode, vector) in [(UInt8(0xCC), 3), (0xF1, 1)] {
            let guest = try realGuest()
            try guest.run([opcode])
            guest.expectFault(vector, nil, at: GuestLayout.code + 1, slotBytes: 2)
        }
    }

    @Test func `an exception in real mode pushes no error code and names the instruction`() throws {
        let guest = try realGuest()
        // mov al, [0xffff] is fine, mov ax, [0xffff] leaves the segment
        try guest.run([0xA0, 0xFF, 0xFF, 0xA1, 0xFF, 0xFF])
        guest.expectFault(13, nil, at: GuestLayout.code + 3, slotBytes: 2)
    }

    @Test func `an access beyond the stack segment in real mode is #SS`() throws {
        let guest = try realGuest()
        guest.change { $0[.rbp] = 0xFFFF }
        try guest.run([0x8B, 0x46, 0x00])  // mov ax, [bp]
        guest.expectFault(12, nil, slotBytes: 2)
    }

    @Test func `far CALL and RET in real mode change CS by paragraphs`() throws {
        let guest = try realGuest()
        try guest.write([0xCB], at: 0x8230)  // retf
        // call 0x0800:0x0230; hlt
        try guest.run([0x9A, 0x30, 0x02, 0x00, 0x08, 0xF4])
        #expect(guest[.rip] == GuestLayout.code + 6)
        #expect(guest[.cs].selector == 0)
        #expect(guest[.rsp] == GuestLayout.stack)
        #expect(guest.read16(GuestLayout.stack - 2) == 0)
        #expect(guest.read16(GuestLayout.stack - 4) == 0x8005)
    }

    @Test func `a segment load in real mode keeps the limit that protected mode left`() throws {
        let guest = try realGuest()
        guest.change { $0[.ds].limit = 0xFFFF_FFFF }
        // mov ax, 0x10; mov ds, ax; a32 mov al, [0x1_8000]; hlt
        try guest.write([0x5A], at: 0x1_8100)
        try guest.run([0xB8, 0x10, 0x00, 0x8E, 0xD8, 0x67, 0xA0, 0x00, 0x80, 0x01, 0x00, 0xF4])
        #expect(guest[.rax] & 0xFF == 0x5A)
        #expect(
            guest[.ds]
                == Segment(
                    selector: 0x10, attributes: SegmentAttributes(rawValue: 0x93), limit: 0xFFFF_FFFF, base: 0x100))
    }
}
