// STI and MOV SS shadows, interrupt and NMI windows, NMI blocking, HLT: SDM vol. 3, sections 6.7 and 6.8.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct InterruptShadowTests {
    private func armed(_ state: InterruptState, flags: UInt64 = 2) throws -> GuestMachine {
        let guest = try protectedGuest(flags: flags)
        guest.change { $0.interrupt = state }
        return guest
    }

    @Test func `STI holds the interrupt window back for one instruction`() throws {
        let guest = try armed(.interruptWindowExiting)
        let exit = try guest.run([0x90, 0xFB, 0x90, 0x90, 0xF4])  // nop; sti; nop; nop; hlt
        #expect(exit.reason == .interruptReady)
        #expect(guest[.rip] == GuestLayout.code + 3)
        #expect(exit.state.interrupt == [])  // disarmed
        #expect(exit.state.rflags == 0x202)
    }

    @Test func `STI with IF already set opens no shadow`() throws {
        let guest = try protectedGuest(flags: 0x202)
        let exit = try guest.run([0xFB, 0x90], budget: 1)
        #expect(exit.state.interrupt == [])
        let fresh = try protectedGuest()
        #expect(try fresh.run([0xFB, 0x90], budget: 1).state.interrupt == .shadow)
        #expect(try fresh.run(budget: 1).state.interrupt == [])
    }

    @Test func `STI, then CLI in its shadow: the window stays shut`() throws {
        let guest = try armed(.interruptWindowExiting)
        let exit = try guest.run([0xFB, 0xFA, 0xF4])  // sti; cli; hlt
        #expect(exit.reason == .halted)
        #expect(exit.state.interrupt == .interruptWindowExiting)
    }

    @Test func `MOV SS and POP SS hold the window back, LSS does not`() throws {
        let codes: [([UInt8], UInt64)] = [
            ([0x8E, 0xD0, 0x90, 0x90], 3),  // mov ss, eax
            ([0x17, 0x90, 0x90], 2),  // pop ss
        ]
        for (code, stop) in codes {
            let guest = try protectedGuest(flags: 2)
            guest.change {
                $0[.rax] = UInt64(GuestSelector.data32)
                $0[.rsp] = GuestLayout.stack - 4
            }
            try guest.write32(UInt32(GuestSelector.data32), at: GuestLayout.stack - 4)
            try guest.run(code, budget: 1)
            guest.change {
                $0.interrupt.insert(.interruptWindowExiting)
                $0[.rflags] = 0x202
            }
            #expect(guest.state.interrupt == .shadow)
            #expect(try guest.run().reason == .interruptReady)
            #expect(guest[.rip] == GuestLayout.code + stop)
        }
        let guest = try protectedGuest()
        try guest.write([0, 0, 0, 0, 0x10, 0], at: GuestLayout.data)
        let exit = try guest.run([0x0F, 0xB2, 0x05, 0, 0xE0, 0, 0], budget: 1)  // lss eax, [0xe000]
        #expect(exit.state.interrupt == [])
    }

    @Test func `an exception in the shadow ends it`() throws {
        let guest = try protectedGuest()
        let exit = try guest.run([0xFB, 0x0F, 0x0B])  // sti; ud2
        #expect(guest.haltedVector == 6)
        #expect(exit.state.interrupt == [])
        #expect(guest.stackSlot(2, byteCount: 4) == 0x1_0202)
    }

    @Test func `an open interrupt window exits before the first instruction`() throws {
        let guest = try armed(.interruptWindowExiting, flags: 0x202)
        #expect(try guest.run([0xF4]).reason == .interruptReady)
        #expect(guest[.rip] == GuestLayout.code)
    }

    @Test func `POPF and IRET open the interrupt window`() throws {
        let popf = try armed(.interruptWindowExiting)
        #expect(try popf.run([0x68, 0x02, 0x02, 0, 0, 0x9D, 0xF4]).reason == .interruptReady)  // push 0x202; popf
        #expect(popf[.rip] == GuestLayout.code + 6)
        let iret = try armed(.interruptWindowExiting)
        // push 0x202; push 8; push 0x8100; iret
        #expect(try iret.run([0x68, 2, 2, 0, 0, 0x6A, 8, 0x68, 0, 0x81, 0, 0, 0xCF]).reason == .interruptReady)
        #expect(iret[.rip] == 0x8100)
    }

    @Test func `a committed shadow holds the window back for one instruction`() throws {
        let guest = try armed([.shadow, .interruptWindowExiting], flags: 0x202)
        #expect(try guest.run([0x90, 0x90]).reason == .interruptReady)
        #expect(guest[.rip] == GuestLayout.code + 1)
    }

    @Test func `HLT exits with RIP advanced, and RF and the shadow cleared`() throws {
        let guest = try protectedGuest()
        try guest.write([0xFB, 0xF4], at: GuestLayout.code)  // sti; hlt
        let halted = try guest.vcpu.run(budget: 100)
        #expect(halted.exit.reason == .halted)
        #expect(halted.retired == 2)
        #expect(halted.exit.state.interrupt == [])
        #expect(guest[.rip] == GuestLayout.code + 2)
        let flagged = try protectedGuest(flags: 0x1_0002)
        #expect(try flagged.run([0xF4]).state.rflags == 2)
    }

    @Test func `HLT with an open interrupt window disarms it and reports HALTED`() throws {
        let guest = try armed(.interruptWindowExiting)
        let exit = try guest.run([0xFB, 0xF4])  // sti; hlt: the window opens behind the HLT
        #expect(exit.reason == .halted)
        #expect(exit.state.interrupt == [])
    }

    // MARK: NMI

    @Test func `an NMI blocks further ones until IRET, which opens the NMI window`() throws {
        let guest = try protectedGuest()
        try guest.write([0x90, 0xCF], at: GuestMachine.handler(2))  // nop; iret
        guest.inject(VCPUEvent(kind: .interrupt, vector: 2))
        let inHandler = try guest.run([0x90, 0xF4], budget: 1)
        #expect(inHandler.reason == .none)
        #expect(inHandler.state.interrupt == .nmiWindowExiting)  // armed by the injection
        #expect(guest[.rip] == GuestMachine.handler(2) + 1)
        let exit = try guest.run()
        #expect(exit.reason == .nmiReady)
        #expect(exit.state.interrupt == [])
        #expect(guest[.rip] == GuestLayout.code)
    }

    @Test func `the NMI window is open at once where nothing blocks it, whatever IF`() throws {
        let guest = try armed(.nmiWindowExiting)
        #expect(try guest.run([0xF4]).reason == .nmiReady)
        #expect(guest[.rip] == GuestLayout.code)
    }

    @Test func `an IRET that faults unblocks NMIs too`() throws {
        let guest = try protectedGuest()
        // The handler ruins the frame's CS: mov byte [esp+4], 0; iret
        try guest.write([0xC6, 0x44, 0x24, 0x04, 0x00, 0xCF], at: GuestMachine.handler(2))
        guest.inject(VCPUEvent(kind: .interrupt, vector: 2))
        #expect(try guest.run([0x90, 0xF4]).reason == .nmiReady)
        #expect(guest[.rip] == GuestMachine.handler(13))
    }
}
