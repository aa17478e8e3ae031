// What a run accepts and does with an injected event: nvmm-facts, "Injection".

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct InjectionTests {
    private func inject(
        _ kind: VCPUEvent.Kind, _ vector: UInt8, errorCode: UInt64 = 0, flags: UInt64 = 2
    ) throws -> GuestMachine {
        let guest = try protectedGuest(flags: flags)
        guest.inject(VCPUEvent(kind: kind, vector: vector, errorCode: errorCode))
        try guest.run([0x90, 0xF4])
        return guest
    }

    @Test(arguments: [0, 1, 6, 8, 13, 14, 32, 255] as [UInt8])
    func `any vector can be a hardware interrupt, without an error code`(vector: UInt8) throws {
        let guest = try inject(.interrupt, vector)
        guest.expectFault(Int(vector), nil)
        #expect(guest[.rsp] == GuestLayout.stack - 12)
        #expect(guest.stackSlot(2, byteCount: 4) == 2)  // RF is not set
    }

    @Test(arguments: [8, 10, 11, 12, 13, 14, 17, 21, 30] as [UInt8])
    func `these exceptions push their error code`(vector: UInt8) throws {
        let guest = try inject(.exception, vector, errorCode: 0x1234)
        guest.expectFault(Int(vector), 0x1234)
        #expect(guest[.rsp] == GuestLayout.stack - 16)
    }

    @Test(arguments: [1, 4, 5, 6, 7, 9, 15, 16, 18, 19, 20, 31] as [UInt8])
    func `the other exceptions do not`(vector: UInt8) throws {
        let guest = try inject(.exception, vector, errorCode: 0x1234)
        guest.expectFault(Int(vector), nil)
        #expect(guest[.rsp] == GuestLayout.stack - 12)
    }

    @Test func `the pushed RF is set for exceptions but 1, 4, 8 and 18`() throws {
        for vector: UInt8 in [1, 4, 5, 6, 7, 8, 13, 14, 16, 18, 19] {
            let guest = try inject(.exception, vector)
            let place: UInt64 = [8, 13, 14].contains(vector) ? 3 : 2
            let expected: UInt64 = [1, 4, 8, 18].contains(vector) ? 2 : 0x1_0002
            #expect(guest.stackSlot(place, byteCount: 4) == expected)
        }
    }

    @Test func `exceptions 0, 2, 3 and above 31, and other kinds, fail the run and are consumed`() throws {
        for (kind, vector) in [
            (VCPUEvent.Kind.exception, UInt8(0)), (.exception, 2), (.exception, 3), (.exception, 32),
            (.init(rawValue: 7), 6),
        ] {
            let guest = try protectedGuest()
            let event = VCPUEvent(kind: kind, vector: vector)
            guest.inject(event)
            #expect(throws: VCPUError.badEvent(event)) { try guest.run([0xF4]) }
            #expect(try guest.run([0xF4]).reason == .halted)
            #expect(guest[.rip] == GuestLayout.code + 1)
        }
    }

    @Test func `IF, the shadow and NMI blocking hold nothing back`() throws {
        let guest = try protectedGuest()
        guest.change { $0.interrupt = .shadow }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        try guest.run([0x90])
        guest.expectFault(0x40, nil)
        let twice = try protectedGuest()
        for _ in 0..<2 {
            twice.inject(VCPUEvent(kind: .interrupt, vector: 2))
            try twice.run([0x90], budget: 0)
        }
        #expect(twice[.rsp] == GuestLayout.stack - 24)
    }

    @Test func `a budget of 0 delivers and executes nothing`() throws {
        let guest = try protectedGuest()
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        let result = try guest.vcpu.run(budget: 0)
        #expect(result.exit.reason == .none)
        #expect(result.retired == 0)
        #expect(guest[.rip] == GuestMachine.handler(0x40))
    }

    @Test func `a later injection replaces the armed one`() throws {
        let guest = try protectedGuest()
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x41))
        try guest.run([0x90])
        guest.expectFault(0x41, nil)
        #expect(guest[.rsp] == GuestLayout.stack - 12)
    }

    @Test func `the state is committed before the event is delivered`() throws {
        let guest = try protectedGuest()
        guest.change {
            $0[.rsp] = 0x9000
            $0[.rip] = 0x8888
        }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        try guest.run(budget: 10)
        guest.expectFault(0x40, nil, at: 0x8888)
        #expect(guest[.rsp] == 0x9000 - 12)
    }

    @Test func `a delivery that needs unmapped memory exits, stays pending and is done again by itself`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rsp] = 0x40_0000 }
        guest.inject(VCPUEvent(kind: .exception, vector: 13, errorCode: 0x55))
        let exit = try guest.run([0x90])
        #expect(exit.reason == .memory(MemoryExit(access: .write, gpa: GPA(0x3F_FFFC))))
        #expect(exit.state.interrupt == .eventPending)
        #expect(guest[.rip] == GuestLayout.code)
        #expect(guest[.rsp] == 0x40_0000)
        let more = try guest.machine.hvaMap(byteCount: 0x1000)
        try guest.machine.gpaMap(more, offset: 0, gpa: GPA(0x3F_F000), byteCount: 0x1000, protection: [.read, .write])
        let again = try guest.run()
        #expect(again.reason == .halted)
        #expect(again.state.interrupt == [])
        #expect(guest.haltedVector == 13)
        #expect(guest[.rsp] == 0x40_0000 - 16)
        let frame = more.withBytes(0xFF0..<0x1000) { span in (0..<16).map { span.byte(at: $0) } }
        #expect(frame[0] == 0x55)
    }

    @Test func `an injection replaces an event that is still pending`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.rsp] = 0x40_0000 }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x40))
        try guest.run([0x90])
        guest.change { $0[.rsp] = GuestLayout.stack }
        guest.inject(VCPUEvent(kind: .interrupt, vector: 0x41))
        try guest.run()
        guest.expectFault(0x41, nil)
        #expect(guest[.rsp] == GuestLayout.stack - 12)
    }

    @Test func `an injected #DF that cannot be delivered shuts down`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.idt].limit = 0 }
        guest.inject(VCPUEvent(kind: .exception, vector: 8))
        #expect(try guest.run([0x90]).reason == .shutdown)
    }

    @Test func `exits of system instructions leave RIP or advance it as NVMM does`() throws {
        let invalid = try protectedGuest()
        guard case .invalid = try invalid.run([0x0F, 0x08]).reason else {  // invd
            Issue.record("INVD does not exit with INVALID")
            return
        }
        #expect(invalid[.rip] == GuestLayout.code)
        let monitor = try protectedGuest()
        #expect(try monitor.run([0x0F, 0x01, 0xC8]).reason == .monitor(npc: GuestLayout.code + 3))
        #expect(monitor[.rip] == GuestLayout.code)
        let mwait = try protectedGuest()
        #expect(try mwait.run([0x0F, 0x01, 0xC9]).reason == .mwait(npc: GuestLayout.code + 3))
        let tpr = try longGuest()
        try tpr.vcpu.configure(.tpr(exitOnChange: true))
        // mov eax, 3; mov cr8, rax
        let exit = try tpr.run([0xB8, 3, 0, 0, 0, 0x44, 0x0F, 0x22, 0xC0, 0xF4])
        #expect(exit.reason == .tprChanged)
        #expect(exit.state.cr8 == 3)
        #expect(tpr[.rip] == GuestLayout.code + 9)
        try tpr.vcpu.configure(.tpr(exitOnChange: false))
        tpr.change { $0[.rip] = GuestLayout.code }
        #expect(try tpr.run().reason == .halted)
    }
}

extension RawSpan {
    fileprivate func byte(at offset: Int) -> UInt8 {
        // SAFETY: offsets are those of the range that the span was asked for.
        unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }
}
