// Injection, interrupt windows, shadows and NMI blocking: nvmm-facts sections 3 and 4, SDM vol. 3, 6.7 and 6.8.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct WindowAndInjectionTests {
    private static let code = GuestLayout.code

    private func arm(_ guest: GuestMachine, _ interrupt: InterruptState) {
        guest.change { $0.interrupt = interrupt }
    }

    @Test func `STI and MOV SS cast a shadow over one instruction`() throws {
        for code: [UInt8] in [[0xFB, 0x90, 0x90], [0x8E, 0xD0, 0x90, 0x90], [0x17, 0x90, 0x90]] {
            let guest = try realGuest()
            #expect(try guest.run(code, budget: 1).state.interrupt == .shadow, "\(code)")
            #expect(try guest.run(budget: 1).state.interrupt == [], "\(code)")
        }
        // STI where IF was set already casts none.
        let guest = try realGuest()
        guest.change { $0[.rflags] = 0x202 }
        #expect(try guest.run([0xFB, 0x90], budget: 1).state.interrupt == [])
    }

    @Test func `an event whose delivery meets unmapped memory stays pending and comes again by itself`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rsp] = 0x40_0800 }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x22))
        let exit = try guest.run([0x90])
        guard case .memory(let memory) = exit.reason else {
            Issue.record("no MEMORY exit: \(exit.reason)")
            return
        }
        #expect(memory.access == .write)
        #expect(exit.state.interrupt.contains(.eventPending))
        #expect(guest[.rip] == Self.code)
        let stack = try guest.machine.hvaMap(byteCount: pageBytes)
        try guest.machine.gpaMap(
            stack, offset: 0, gpa: GPA(0x40_0000), byteCount: pageBytes, protection: [.read, .write])
        let after = try guest.run()
        #expect(guest.haltedVector == 0x22)
        #expect(after.state.interrupt == [])
    }

}
