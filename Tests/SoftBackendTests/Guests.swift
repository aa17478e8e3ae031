// Guests in the three modes, and what faults leave behind: shared by the tests of this room.

import NVMM
import SoftBackend
import TestSupport
import Testing

/// Runs each test a second time on a VCPU that is saved and created anew after every instruction: whatever a guest sees
/// must follow from the saved state.
struct AlsoRestarting: SuiteTrait, TestTrait, TestScoping {
    @TaskLocal static var isOn = false
    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        try await function()
        if testCase != nil { try await Self.$isOn.withValue(true) { try await function() } }
    }
}

extension Trait where Self == AlsoRestarting {
    static var alsoRestarting: Self { AlsoRestarting() }
}

private func backend() -> any Backend { AlsoRestarting.isOn ? RestartingBackend(SoftBackend()) : SoftBackend() }

func realGuest() throws -> GuestMachine {
    let guest = try GuestMachine(backend())
    try guest.enterReal()
    return guest
}

func protectedGuest(level: UInt8 = 0, flags: UInt64 = 2) throws -> GuestMachine {
    let guest = try GuestMachine(backend())
    try guest.enterProtected(level: level, flags: flags)
    return guest
}

func longGuest(level: UInt8 = 0, compatibility: Bool = false, flags: UInt64 = 2) throws -> GuestMachine {
    let guest = try GuestMachine(backend())
    try guest.enterLong(level: level, compatibility: compatibility, flags: flags)
    return guest
}

extension GuestMachine {
    static func handler(_ vector: Int) -> UInt64 { GuestLayout.handlers + UInt64(vector) * 16 }

    /// Expects the VCPU halted in the handler of `vector`, with this error code and return address on the stack.
    func expectFault(
        _ vector: Int, _ errorCode: UInt64?, at rip: UInt64 = GuestLayout.code, slotBytes: Int = 4,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(haltedVector == vector, sourceLocation: sourceLocation)
        if let errorCode { #expect(stackSlot(0, byteCount: slotBytes) == errorCode, sourceLocation: sourceLocation) }
        #expect(stackSlot(errorCode == nil ? 0 : 1, byteCount: slotBytes) == rip, sourceLocation: sourceLocation)
    }

    /// Lets the handler of `vector` run at any level, on the interrupted stack: a conforming segment, an endless loop.
    func stayOnStack(in vector: Int) throws {
        try setGate(vector, selector: GuestSelector.conforming32, access: 0x8E)
        try write([0xEB, 0xFE], at: Self.handler(vector))  // jmp $
    }

    /// Expects the VCPU in the endless loop of ``stayOnStack(in:)`` with this error code on the stack.
    func expectLoop(in vector: Int, _ errorCode: UInt64, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(self[.rip] == Self.handler(vector), sourceLocation: sourceLocation)
        #expect(stackSlot(0, byteCount: 4) == errorCode, sourceLocation: sourceLocation)
    }
}
