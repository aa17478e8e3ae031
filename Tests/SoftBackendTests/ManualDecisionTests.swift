// Where TCG or a host processor disagrees with the manual, or cannot be asked: the manual's word, tested directly.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct ManualDecisionTests {
    private static let code = GuestLayout.code

    // SDM vol. 3, 4.7: RSVD is reported with P.
    @Test func `a reserved bit in a page table gives error code 9`() throws {
        let guest = try longGuest()
        try guest.write64(GuestLayout.data | 7 | 1 << 51, at: guest.pageEntry(GuestLayout.data))
        try guest.run([0x48, 0xA1] + [0x00, 0xE0, 0, 0, 0, 0, 0, 0])
        guest.expectFault(14, 9, slotBytes: 8)
        #expect(guest[.cr2] == GuestLayout.data)
    }

    // SDM vol. 2, MOV: #SS(0) for a non-canonical address through the stack segment.
    @Test func `a non-canonical address through RBP is #SS`() throws {
        let guest = try longGuest()
        guest.change { $0[.rbp] = 0x8000_0000_0000_0000 }
        try guest.run([0x48, 0x8B, 0x45, 0x00])
        guest.expectFault(12, 0, slotBytes: 8)
    }

    @Test func `a non-canonical base in WRMSR is #GP`() throws {
        let guest = try longGuest()
        guest.change {
            $0[.rcx] = 0xC000_0101
            $0[.rdx] = 0x8000_0000
        }
        try guest.run([0x0F, 0x30])
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `clearing CR4.PAE in long mode is #GP`() throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 0 }
        try guest.run([0x0F, 0x22, 0xE0])  // mov cr4, rax
        guest.expectFault(13, 0, slotBytes: 8)
    }

    @Test func `CR0 with PG and without PE is #GP, as is NW without CD`() throws {
        for value: UInt64 in [0x8000_0010, 0x2000_0011] {
            let guest = try protectedGuest()
            guest.change { $0[.rax] = value }
            try guest.run([0x0F, 0x22, 0xC0])  // mov cr0, eax
            guest.expectFault(13, 0)
        }
    }

    @Test func `changing EFER.LME while paging is on is #GP`() throws {
        let guest = try longGuest()
        guest.change {
            $0[.rcx] = 0xC000_0080
            $0[.rax] = 0x801
            $0[.rdx] = 0
        }
        try guest.run([0x0F, 0x30])
        guest.expectFault(13, 0, slotBytes: 8)
    }

    // SDM vol. 2, IRET: VM is loaded at CPL 0 alone.
    @Test func `IRET at CPL 3 leaves VM alone`() throws {
        let guest = try protectedGuest(level: 3)
        try guest.write32(UInt32(Self.code) + 0x10, at: GuestLayout.userStack - 12)
        try guest.write32(UInt32(GuestSelector.userCode32), at: GuestLayout.userStack - 8)
        try guest.write32(0x2_0002, at: GuestLayout.userStack - 4)
        guest.change { $0[.rsp] = GuestLayout.userStack - 12 }
        try guest.run([0xCF], budget: 1)
        #expect(guest[.rip] == Self.code + 0x10)
        #expect(guest[.rflags] & 0x2_0000 == 0)
    }

    // SDM vol. 3, 6.8.3: faults push RF, so that an instruction breakpoint is not met again.
    @Test func `a fault pushes RF, a trap does not`() throws {
        let fault = try protectedGuest()
        try fault.run([0x0F, 0x0B])
        #expect(fault.stackSlot(2, byteCount: 4) & 0x1_0000 != 0)
        let trap = try protectedGuest()
        try trap.run([0xCC])
        #expect(trap.stackSlot(2, byteCount: 4) & 0x1_0000 == 0)
    }

    // SDM vol. 2, CALL: the target is checked before the return address is pushed; an AMD processor pushes first.
    @Test func `a near CALL beyond the limit is #GP, also where the push would fault`() throws {
        let guest = try protectedGuest(level: 3)
        guest.change {
            $0[.cs].limit = 0xFFFF
            $0[.ss].limit = 0x5FFF
            $0[.rsp] = 0x6004
            $0[.rax] = 0x1_0000
        }
        try guest.run([0xFF, 0xD0])  // call eax
        guest.expectFault(13, 0)
    }

    // SDM vol. 2, CALL: room for both words is checked before the target, and that before the first is pushed.
    @Test func `a far CALL with room for one word is #SS, whatever its target, and pushes nothing`() throws {
        for limit: UInt32 in [0xFFFF, 0xFFF] {
            let guest = try protectedGuest(level: 3)
            try guest.setDescriptor(
                GuestSelector.scratch, GuestDescriptor.segment(limit: limit, access: 0xFA, flags: 4))
            try guest.write32(0x1234, at: 0)
            guest.change {
                $0[.ss].limit = 0xFFFF
                $0[.rsp] = 4
            }
            let selector = GuestSelector.scratch | 3
            try guest.run([0x9A, 0x00, 0x81, 0, 0, UInt8(selector & 0xFF), UInt8(selector >> 8)])
            guest.expectFault(12, 0)
            #expect(guest.read32(0) == 0x1234)
        }
    }

    // SDM vol. 2, CALL, has #GP(0) for such a target and leaves open when; the order is that of a limit.
    @Test func `a CALL to a target that is not canonical pushes nothing`() throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 0x8000_0000_0000_0000 }
        try guest.write64(0x1234, at: GuestLayout.stack - 8)
        try guest.setGate(13, selector: GuestSelector.code64, access: 0x8E, count: 1)
        try guest.run([0xFF, 0xD0])
        #expect(guest.haltedVector == 13)
        #expect(guest.read64(GuestLayout.stack - 8) == 0x1234)
    }

    // SDM vol. 3, 6.15: #AC with CR0.AM, EFLAGS.AC and CPL 3; error code 0.
    @Test func `a misaligned access at CPL 3 is #AC with 0, at CPL 0 it is none`() throws {
        for level: UInt8 in [0, 3] {
            let guest = try protectedGuest(level: level, flags: 0x4_0002)
            guest.change { $0[.cr0] |= 0x4_0000 }
            try guest.run([0xA1, 0x01, 0xE0, 0, 0, 0xF4], budget: 20)  // mov eax, [E001]; hlt
            if level == 3 { guest.expectFault(17, 0) } else { #expect(guest.haltedVector == nil) }
        }
    }
}
