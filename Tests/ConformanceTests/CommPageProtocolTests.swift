// The order of things in a run, as NVMM's kernel side has it: nothing consumed on an early return, commit before
// event, the cache forgotten, parts provided by exit reason.

import NVMM
import Testing

/// A machine with one page of RAM at 0x1000, where the code is, and a VCPU in real mode at its start.
private func realModeGuest(
    _ backend: BackendUnderTest, _ code: [UInt8]
) throws -> (machine: any Machine, vcpu: any VCPU, ram: MemoryObject) {
    let machine = try backend.make().createMachine()
    let ram = try machine.hvaMap(byteCount: 0x10000)
    try machine.gpaMap(ram, offset: 0, gpa: GPA(0), byteCount: 0x10000, protection: [.read, .write, .execute])
    try machine.write(ram, at: 0x1000, code)
    let vcpu = try machine.createVCPU(id: 0)
    vcpu.commPage.state[.cs].base = 0
    vcpu.commPage.state[.cs].selector = 0
    vcpu.commPage.state[.rip] = 0x1000
    vcpu.setState([.segments, .gprs])
    return (machine, vcpu, ram)
}

@Suite struct CommPageProtocolTests {
    @Test(arguments: BackendUnderTest.available)
    func `a new VCPU has the RESET state, all cached`(backend: BackendUnderTest) throws {
        let machine = try backend.make().createMachine()
        let vcpu = try machine.createVCPU(id: 0)
        #expect(vcpu.commPage.stateCached == .all)
        #expect(vcpu.commPage.state == VCPUState.reset)
        // A counter that runs on is not the guest's yet.
        var state = vcpu.saveState()
        state[.tsc] = 0
        #expect(state == VCPUState.reset)
    }

    @Test(arguments: BackendUnderTest.available)
    func `OUT exits with its port, its byte and the next RIP`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(
            backend,
            [
                0xB0, 0x2A,  // mov al, 0x2a
                0xE6, 0x19,  // out 0x19, al
            ])
        let result = try guest.vcpu.run(budget: backend.ample)
        #expect(
            result.exit.reason
                == .io(IOExit(isInput: false, port: 0x19, addressBytes: 2, operandBytes: 1, npc: 0x1004)))
        #expect(result.retired == (backend == .soft ? 1 : nil))
        #expect(result.kind == .entered)
        #expect(guest.vcpu.commPage.stateCached.isSuperset(of: [.gprs, .segments, .crs]))
        #expect(guest.vcpu.commPage.state[.rax] & 0xFF == 0x2A)
        #expect(guest.vcpu.commPage.state[.rip] == 0x1002)
    }

    @Test(arguments: BackendUnderTest.available)
    func `stop before a run consumes nothing`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(backend, [0xEB, 0xFE])  // jmp $
        guest.vcpu.commPage.event = VCPUEvent(kind: .interrupt, vector: 0x20)
        guest.vcpu.inject()
        guest.vcpu.stop()
        let cached = guest.vcpu.commPage.stateCached
        let result = try guest.vcpu.run(budget: 10)
        #expect(result.exit.reason == .stopped)
        #expect(result.kind == .returnedEarly)
        #expect(guest.vcpu.commPage.stateCommit == [.segments, .gprs])
        #expect(guest.vcpu.commPage.stateCached == cached)
        #expect(guest.vcpu.commPage.eventCommit)
        #expect(!guest.vcpu.commPage.stop)
    }

    @Test(arguments: BackendUnderTest.available)
    func `a run forgets what was cached, committed parts included`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(backend, [0xEB, 0xFE])
        let result = try guest.vcpu.run(budget: 10)
        #expect(result.exit.reason == .none)
        #expect(result.retired == (backend == .soft ? 10 : nil))
        #expect(guest.vcpu.commPage.stateCached == [])
        #expect(guest.vcpu.commPage.stateCommit == [])
    }

    @Test(arguments: BackendUnderTest.available)
    func `getstate costs a system call only for what is not cached`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(backend, [0xEB, 0xFE])
        _ = try guest.vcpu.run(budget: 1)
        #expect(try guest.vcpu.getState(.gprs) == .systemCall)
        #expect(try guest.vcpu.getState(.gprs) == .commPage)
        #expect(try guest.vcpu.getState([.gprs, .fpu]) == .systemCall)
        #expect(guest.vcpu.commPage.stateCached == [.gprs, .fpu])
        #expect(guest.vcpu.commPage.stateWanted == [])
    }

    @Test(arguments: BackendUnderTest.available)
    func `a bad event fails the run after the commit, and is consumed`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(backend, [0xEB, 0xFE])
        let bad = VCPUEvent(kind: .exception, vector: 3)
        guest.vcpu.commPage.event = bad
        guest.vcpu.inject()
        #expect(throws: VCPUError.badEvent(bad)) { try guest.vcpu.run(budget: 10) }
        #expect(!guest.vcpu.commPage.eventCommit)
        #expect(guest.vcpu.commPage.stateCached == [])
        #expect(guest.vcpu.commPage.stateCommit == [])
        #expect(guest.vcpu.saveState()[.rip] == 0x1000)
    }

    @Test(arguments: BackendUnderTest.available)
    func `state edited after setstate is committed as it stands at the run`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(backend, [0xE6, 0x19])  // out 0x19, al
        guest.vcpu.setState(.gprs)
        guest.vcpu.commPage.state[.rax] = 0x77
        _ = try guest.vcpu.run(budget: backend.ample)
        #expect(guest.vcpu.saveState()[.rax] == 0x77)
    }

    @Test(arguments: BackendUnderTest.available)
    func `a store to unmapped memory exits with the byte's GPA and the instruction`(backend: BackendUnderTest) throws {
        let guest = try realModeGuest(
            backend,
            [
                0xB8, 0x00, 0xF0,  // mov ax, 0xf000
                0x8E, 0xD8,  // mov ds, ax
                0xA2, 0x34, 0x12,  // mov [0x1234], al
            ])
        guest.vcpu.commPage.state[.ds].base = 0xF0000
        guest.vcpu.commPage.state[.rip] = 0x1005
        let result = try guest.vcpu.run(budget: backend.ample)
        #expect(
            result.exit.reason
                == .memory(
                    MemoryExit(access: .write, gpa: GPA(0xF1234), instruction: InstructionBytes([0xA2, 0x34, 0x12]))))
        #expect(result.retired == (backend == .soft ? 0 : nil))
    }
}
