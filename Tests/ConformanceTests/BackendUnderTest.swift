// The backends that one body of tests is run on.

import KVMBackend
import NVMM
import SoftBackend
import TestSupport
import Testing

enum BackendUnderTest: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case soft, kvm

    static let kvmNeed = Requirement.device(KVMBackend.devicePath)
    /// Those that this host offers. ``KVMTests`` skips by name where /dev/kvm is missing.
    static let available = allCases.filter { $0 == .soft || kvmNeed.isMet }

    /// Those whose interrupt windows end a run in its middle.
    static let openingWindows = available.filter { $0 == .soft || kvmOpensWindows }
    static let kvmOpensWindows = (try? KVMBackend(cpuidTable: SoftBackend().cpuidTable))?.opensInterruptWindows ?? false

    var testDescription: String { rawValue }

    func make() throws -> any Backend {
        switch self {
        case .soft: SoftBackend()
        case .kvm: try KVMBackend(cpuidTable: SoftBackend().cpuidTable)
        }
    }

    /// More than any guest of these tests needs: instructions, or nanoseconds.
    var ample: UInt64 { self == .soft ? 100_000 : 2_000_000_000 }

    func realGuest() throws -> GuestMachine {
        let guest = try GuestMachine(make())
        try guest.enterReal()
        return guest
    }

    func protectedGuest() throws -> GuestMachine {
        let guest = try GuestMachine(make())
        try guest.enterProtected()
        return guest
    }

    func longGuest() throws -> GuestMachine {
        let guest = try GuestMachine(make())
        try guest.enterLong()
        return guest
    }

    @discardableResult func run(_ guest: GuestMachine, _ code: [UInt8] = []) throws -> VCPUExit {
        if !code.isEmpty { try guest.write(code, at: GuestLayout.code) }
        return try guest.run(budget: ample)
    }
}

@Suite struct KVMTests {
    @Test(.requires(BackendUnderTest.kvmNeed)) func `the conformance tests run on KVM too`() throws {
        #expect(BackendUnderTest.available.contains(.kvm))
        #expect(try BackendUnderTest.kvm.make().name == "kvm")
    }

    @Test(
        .requires(BackendUnderTest.kvmNeed),
        .enabled(if: BackendUnderTest.kvmOpensWindows, "this host's KVM opens no interrupt window inside a run"))
    func `the tests of interrupt windows inside a run run on KVM too`() {
        #expect(BackendUnderTest.openingWindows.contains(.kvm))
    }
}
