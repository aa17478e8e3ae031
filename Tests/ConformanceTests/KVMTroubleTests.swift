// A host whose KVM is missing, too old, or refuses a call: a typed error that names it, and nothing lost.

import Foundation
import Glibc
import NVMM
import SoftBackend
import TestSupport
import Testing

@testable import KVMBackend

@Suite struct KVMOpeningTests {
    @Test func `a device that is not there is named with the system's error`() {
        #expect(throws: KVMError.cannotOpen(path: "/dev/no-kvm", errno: ENOENT)) {
            try KVMBackend(cpuidTable: [], path: "/dev/no-kvm")
        }
    }

    @Test func `a device that is no KVM refuses the first call`() {
        #expect(throws: KVMError.refused(call: "KVM_GET_VCPU_MMAP_SIZE", errno: ENOTTY)) {
            try KVMBackend(cpuidTable: [], path: "/dev/null")
        }
    }
}

@Suite(.requires(BackendUnderTest.kvmNeed)) struct KVMTroubleTests {
    private let faults = KVMFaults()

    private func backend() throws -> KVMBackend {
        try KVMBackend(cpuidTable: SoftBackend().cpuidTable, path: KVMBackend.devicePath, faults: faults)
    }

    @Test func `a KVM without a capability is refused by the capability's name`() {
        faults.errors[.checkExtension] = EINVAL
        #expect(throws: KVMError.lacks(capability: "KVM_CAP_USER_MEMORY")) { try backend() }
    }

    @Test func `a refused filter of MSRs is named when the backend is made`() {
        faults.errors[.setMSRFilter] = EINVAL
        #expect(throws: KVMError.refused(call: "KVM_X86_SET_MSR_FILTER", errno: EINVAL)) { try backend() }
    }

    @Test func `a machine that the host has no room for is an error with its number`() throws {
        let backend = try backend()
        faults.errors[.createMachine] = EMFILE
        #expect(throws: MachineError.hostRefused(call: "KVM_CREATE_VM", errno: EMFILE)) { try backend.createMachine() }
        faults.errors = [:]
        _ = try backend.createMachine()
    }

    @Test func `a VCPU that could not be made leaves its number free`() throws {
        let machine = try backend().createMachine()
        faults.errors[.setCPUID] = E2BIG
        #expect(throws: MachineError.hostRefused(call: "KVM_SET_CPUID2", errno: E2BIG)) {
            try machine.createVCPU(id: 3)
        }
        faults.errors = [:]
        #expect(throws: MachineError.noSuchVCPU(id: 3)) { try machine.destroyVCPU(id: 3) }
        _ = try machine.createVCPU(id: 3)
    }

    @Test func `a refused memory slot leaves nothing mapped`() throws {
        let machine = try backend().createMachine()
        let memory = try machine.hvaMap(byteCount: pageBytes)
        faults.errors[.setMemoryRegion] = ENOMEM
        #expect(throws: MachineError.hostRefused(call: "KVM_SET_USER_MEMORY_REGION", errno: ENOMEM)) {
            try machine.gpaMap(memory, offset: 0, gpa: GPA(0), byteCount: pageBytes, protection: [.read, .write])
        }
        #expect(machine.gpaToHVA(GPA(0)) == nil)
        faults.errors = [:]
        try machine.gpaMap(memory, offset: 0, gpa: GPA(0), byteCount: pageBytes, protection: [.read, .write])
        #expect(machine.gpaToHVA(GPA(0)) != nil)
    }

    @Test func `where KVM does not say what the guest wrote, all of it counts as written`() throws {
        let guest = try GuestMachine(backend())
        _ = guest.machine.takeDirtyPages(of: guest.memory)
        faults.errors[.getDirtyLog] = EIO
        #expect(guest.machine.takeDirtyPages(of: guest.memory) == Array(0..<guest.memory.pageCount))
    }

    @Test func `a part of the state that the host refuses is an error of that call alone`() throws {
        let guest = try GuestMachine(backend())
        try guest.enterReal()
        faults.errors[.getMSRs] = EIO
        try guest.write([0xF4], at: GuestLayout.code)
        #expect(try guest.vcpu.run(budget: 1_000_000_000).exit.reason == .halted)
        #expect(throws: VCPUError.hostRefused(call: "KVM_GET_MSRS", errno: EIO)) { try guest.vcpu.getState(.msrs) }
        #expect(try guest.vcpu.getState(.gprs) == .systemCall)
        #expect(guest.vcpu.commPage.state[.rip] == GuestLayout.code + 1)
    }

    @Test func `state that the host refuses fails the run that commits it`() throws {
        let guest = try GuestMachine(backend())
        try guest.enterReal()
        faults.errors[.setXSave] = EINVAL
        #expect(throws: VCPUError.hostRefused(call: "KVM_SET_XSAVE", errno: EINVAL)) {
            try guest.vcpu.run(budget: 1_000_000_000)
        }
        #expect(guest.vcpu.commPage.stateCommit == .all)
        faults.errors = [:]
        try guest.write([0xF4], at: GuestLayout.code)
        #expect(try guest.vcpu.run(budget: 1_000_000_000).exit.reason == .halted)
    }

    @Test func `a VCPU that was destroyed can be made again, in its first state`() throws {
        let guest = try GuestMachine(backend())
        try guest.enterReal()
        try guest.write([0xF4], at: GuestLayout.code)
        #expect(try guest.vcpu.run(budget: 1_000_000_000).exit.reason == .halted)
        try guest.machine.destroyVCPU(id: 0)
        #expect(throws: VCPUError.destroyed) { try guest.vcpu.run(budget: 0) }
        let again = try guest.machine.createVCPU(id: 0)
        #expect(again.saveState()[.rip] == 0xFFF0)
    }

    @Test func `pages that the guest wrote are told once, those of others never`() throws {
        let guest = try GuestMachine(backend())
        try guest.enterReal()
        try guest.write([0xA2, 0x34, 0xE2, 0xF4], at: GuestLayout.code)  // mov [0xe234], al; hlt
        _ = guest.machine.takeDirtyPages(of: guest.memory)
        try guest.write([1], at: 0x5000)
        #expect(try guest.vcpu.run(budget: 1_000_000_000).exit.reason == .halted)
        #expect(guest.machine.takeDirtyPages(of: guest.memory).contains(0xE))
        #expect(!guest.machine.takeDirtyPages(of: guest.memory).contains(0xE))
    }

    @Test func `a stop from another thread ends a run that would not`() throws {
        let guest = try GuestMachine(backend())
        try guest.enterReal()
        try guest.write([0xEB, 0xFE], at: GuestLayout.code)  // jmp $
        let stopper = Stopper(vcpu: guest.vcpu)
        // A thread of its own: a task would wait for the other tests, on as many threads as there are processors, while
        // this one holds one of them.
        Thread.detachNewThread {
            usleep(100_000)
            stopper.vcpu.stop()
        }
        // The run that it ends says nothing of it, the next does.
        var reason = ExitReason.none
        while reason == .none { reason = try guest.vcpu.run(budget: nil).exit.reason }
        #expect(reason == .stopped)
    }
}

/// SAFETY: `stop()` may come from any thread.
private struct Stopper: @unchecked Sendable {
    let vcpu: any VCPU
}
