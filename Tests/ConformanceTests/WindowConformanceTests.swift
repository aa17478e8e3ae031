// Injection, interrupt windows, shadows and NMI blocking on every backend: SDM vol. 3, 6.7 and 6.8.

import NVMM
import TestSupport
import Testing

@Suite struct WindowConformanceTests {
    private static let code = GuestLayout.code

    private func arm(_ guest: GuestMachine, _ interrupt: InterruptState) {
        guest.change { $0.interrupt = interrupt }
    }

    @Test(arguments: BackendUnderTest.openingWindows)
    func `an interrupt window opens once IF is set and the shadow of STI is over`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        arm(guest, .interruptWindowExiting)
        let exit = try backend.run(guest, [0x90, 0xFB, 0x90, 0x90, 0xF4])  // nop; sti; nop; nop; hlt
        #expect(exit.reason == .interruptReady)
        #expect(guest[.rip] == Self.code + 3)
        #expect(!exit.state.interrupt.contains(.interruptWindowExiting))
        #expect(try backend.run(guest).reason == .halted)
    }

    @Test(arguments: BackendUnderTest.available)
    func `a window that is open at the entry exits before any instruction`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        guest.change {
            $0.interrupt = .interruptWindowExiting
            $0[.rflags] = 0x202
        }
        let result = try {
            try guest.write([0x90, 0xF4], at: Self.code); return try guest.vcpu.run(budget: 10)
        }()
        #expect(result.exit.reason == .interruptReady)
        #expect(result.retired ?? 0 == 0)
    }

    @Test(arguments: BackendUnderTest.available)
    func `HLT with an armed window and IF set reports HALTED alone, and disarms`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        arm(guest, .interruptWindowExiting)
        let exit = try backend.run(guest, [0xFB, 0xF4, 0x90])  // sti; hlt: the shadow covers HLT
        #expect(exit.reason == .halted)
        #expect(!exit.state.interrupt.contains(.interruptWindowExiting))
        #expect(guest[.rip] == Self.code + 2)
    }

    @Test(arguments: BackendUnderTest.available)
    func `committing the interrupt part rewrites both windows and the shadow`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        arm(guest, [.interruptWindowExiting, .shadow])
        #expect(try guest.run([0x90, 0x90], budget: 0).state.interrupt == [.interruptWindowExiting, .shadow])
        arm(guest, [])
        #expect(try guest.run(budget: 0).state.interrupt == [])
        // A pending event cannot be made by committing its bit.
        arm(guest, .eventPending)
        #expect(try guest.run(budget: 0).state.interrupt == [])
    }

    @Test(arguments: BackendUnderTest.available)
    func `injecting an NMI arms its window, which opens at the IRET`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        try guest.write([0x90, 0xCF], at: GuestLayout.handlers + 2 * 16)  // nop; iret
        try guest.write([0x90, 0xF4], at: Self.code)
        guest.inject(VCPUEvent(kind: .interrupt, vector: 2))
        let entered = try guest.run(budget: 0)
        #expect(entered.state.interrupt.contains(.nmiWindowExiting))
        let exit = try backend.run(guest)
        #expect(exit.reason == .nmiReady)
        #expect(!exit.state.interrupt.contains(.nmiWindowExiting))
        #expect(guest[.rip] == Self.code)
        #expect(try backend.run(guest).reason == .halted)
        #expect(guest[.rip] == Self.code + 2)
    }

    @Test(arguments: BackendUnderTest.available)
    func `an NMI window that is armed outside an NMI handler opens at once`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        arm(guest, .nmiWindowExiting)
        #expect(try backend.run(guest, [0x90, 0xF4]).reason == .nmiReady)
        #expect(guest[.rip] == Self.code)
    }

    @Test(arguments: BackendUnderTest.available)
    func `injection asks neither IF nor the shadow nor TPR`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        guest.change {
            $0[.rflags] = 2
            $0[.cr8] = 15
            $0.interrupt = .shadow
        }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x20))
        try backend.run(guest, [0x90])
        #expect(guest.haltedVector == 0x20)
    }

    @Test(arguments: BackendUnderTest.available)
    func `an injected event enters after the committed registers`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        guest.change {
            $0[.rip] = 0x8123
            $0[.rsp] = 0x9F00
        }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x21))
        try backend.run(guest)
        #expect(guest.haltedVector == 0x21)
        #expect(guest[.rsp] == 0x9F00 - 12)
        #expect(guest.stackSlot(0, byteCount: 4) == 0x8123)
    }

    @Test(arguments: BackendUnderTest.available)
    func `the error code is pushed for the vectors that have one, and ignored for others`(backend: BackendUnderTest)
        throws
    {
        for vector: UInt8 in [6, 8, 10, 11, 12, 13, 14, 16, 17, 19] {
            let guest = try backend.protectedGuest()
            guest.inject(VCPUEvent(kind: .exception, vector: vector, errorCode: 0x5A8))
            try backend.run(guest, [0x90])
            #expect(guest.haltedVector == Int(vector))
            let hasCode = [8, 10, 11, 12, 13, 14, 17].contains(vector)
            #expect(guest.stackSlot(0, byteCount: 4) == (hasCode ? 0x5A8 : Self.code), "\(vector)")
        }
    }

    @Test(arguments: BackendUnderTest.available)
    func `an injected exception pushes RF but for traps and aborts`(backend: BackendUnderTest) throws {
        for (vector, hasRF) in [(UInt8(1), false), (4, false), (6, true), (13, true), (14, true), (8, false)] {
            let guest = try backend.protectedGuest()
            guest.inject(VCPUEvent(kind: .exception, vector: vector))
            try backend.run(guest, [0x90])
            let slot: UInt64 = [8, 13, 14].contains(vector) ? 3 : 2
            #expect(guest.stackSlot(slot, byteCount: 4) & 0x1_0000 == (hasRF ? 0x1_0000 : 0), "\(vector)")
        }
    }

    @Test(arguments: BackendUnderTest.available)
    func `a later inject replaces the event`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x23))
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x24))
        try backend.run(guest, [0x90])
        #expect(guest.haltedVector == 0x24)
    }
}
