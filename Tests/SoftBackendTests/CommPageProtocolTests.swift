// The order of things in a run, as NVMM's kernel side has it: nothing consumed on an early return, commit before
// event, the cache forgotten, parts provided by exit reason.

import NVMM
import SoftBackend
import Testing

/// A machine with one page of RAM at 0x1000, where the code is, and a VCPU in real mode at its start.
private func realModeGuest(_ code: [UInt8]) throws -> (machine: any Machine, vcpu: any VCPU, ram: MemoryObject) {
    let machine = try SoftBackend().createMachine()
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
    @Test func `a new VCPU has the RESET state, all cached`() throws {
        let machine = try SoftBackend().createMachine()
        let vcpu = try machine.createVCPU(id: 0)
        #expect(vcpu.commPage.stateCached == .all)
        #expect(vcpu.commPage.state == VCPUState.reset)
        #expect(vcpu.saveState() == VCPUState.reset)
    }

    @Test func `OUT exits with its port, its byte and the next RIP`() throws {
        let guest = try realModeGuest([
            0xB0, 0x2A,  // mov al, 0x2a
            0xE6, 0x19,  // out 0x19, al
        ])
        let result = try guest.vcpu.run(budget: 100)
        #expect(
            result.exit.reason
                == .io(IOExit(isInput: false, port: 0x19, addressBytes: 2, operandBytes: 1, npc: 0x1004)))
        #expect(result.retired == 1)
        #expect(result.kind == .entered)
        #expect(guest.vcpu.commPage.stateCached == [.gprs, .segments, .crs, .msrs])
        #expect(guest.vcpu.commPage.state[.rax] & 0xFF == 0x2A)
        #expect(guest.vcpu.commPage.state[.rip] == 0x1002)
        #expect(guest.machine.clock == 1)
    }

    @Test func `stop before a run consumes nothing`() throws {
        let guest = try realModeGuest([0xEB, 0xFE])  // jmp $
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

    @Test func `a run forgets what was cached, committed parts included`() throws {
        let guest = try realModeGuest([0xEB, 0xFE])
        let result = try guest.vcpu.run(budget: 10)
        #expect(result.exit.reason == .none)
        #expect(result.retired == 10)
        #expect(guest.vcpu.commPage.stateCached == [])
        #expect(guest.vcpu.commPage.stateCommit == [])
    }

    @Test func `getstate costs a system call only for what is not cached`() throws {
        let guest = try realModeGuest([0xEB, 0xFE])
        _ = try guest.vcpu.run(budget: 1)
        #expect(try guest.vcpu.getState(.gprs) == .systemCall)
        #expect(try guest.vcpu.getState(.gprs) == .commPage)
        #expect(try guest.vcpu.getState([.gprs, .fpu]) == .systemCall)
        #expect(guest.vcpu.commPage.stateCached == [.gprs, .fpu])
        #expect(guest.vcpu.commPage.stateWanted == [])
    }

    @Test func `a bad event fails the run after the commit, and is consumed`() throws {
        let guest = try realModeGuest([0xEB, 0xFE])
        let bad = VCPUEvent(kind: .exception, vector: 3)
        guest.vcpu.commPage.event = bad
        guest.vcpu.inject()
        #expect(throws: VCPUError.badEvent(bad)) { try guest.vcpu.run(budget: 10) }
        #expect(!guest.vcpu.commPage.eventCommit)
        #expect(guest.vcpu.commPage.stateCached == [])
        #expect(guest.vcpu.commPage.stateCommit == [])
        #expect(guest.vcpu.saveState()[.rip] == 0x1000)
    }

    @Test func `state edited after setstate is committed as it stands at the run`() throws {
        let guest = try realModeGuest([0xE6, 0x19])  // out 0x19, al
        guest.vcpu.setState(.gprs)
        guest.vcpu.commPage.state[.rax] = 0x77
        _ = try guest.vcpu.run(budget: 10)
        #expect(guest.vcpu.saveState()[.rax] == 0x77)
    }

    @Test func `a store to unmapped memory exits with the byte's GPA and the instruction`() throws {
        let guest = try realModeGuest([
            0xB8, 0x00, 0xF0,  // mov ax, 0xf000
            0x8E, 0xD8,  // mov ds, ax
            0xA2, 0x34, 0x12,  // mov [0x1234], al
        ])
        guest.vcpu.commPage.state[.ds].base = 0xF0000
        guest.vcpu.commPage.state[.rip] = 0x1005
        let result = try guest.vcpu.run(budget: 10)
        #expect(
            result.exit.reason
                == .memory(
                    MemoryExit(access: .write, gpa: GPA(0xF1234), instruction: InstructionBytes([0xA2, 0x34, 0x12]))))
        #expect(result.retired == 0)
    }
}
