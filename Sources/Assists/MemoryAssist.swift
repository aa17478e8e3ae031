// Completing a MEMORY exit by emulating the instruction: `nvmm_assist_mem`. The soft backend's interpreter knows the
// instructions; this file gives it the guest's memory and the VMM's devices.

public import NVMM
import SoftBackend
import Synchronization

/// Emulates the instruction that a VCPU exited with for an access to closed memory, its loads and stores going to
/// guest memory or to the VMM's devices. What has changed is handed over at the next run. One iteration of a repeated
/// instruction is done per call.
///
/// A device sees each load once, and each store once the instruction has completed.
///
/// - Parameter exit: the payload of the exit that the VCPU's last run gave.
/// - Throws: ``AssistError``; registers are then unchanged.
/// The corresponding C function is `nvmm_assist_mem`.
public func assistMemory(
    _ vcpu: any VCPU, _ machine: any Machine, exit: MemoryExit, callbacks: any AssistCallbacks
) throws(AssistError) {
    try vcpu.cache(InstructionEmulator.parts)
    let guest = EmulatedGuest(GuestAccess(vcpu, machine, callbacks))
    let rip = vcpu.commPage.state[.rip]
    let bytes = exit.instruction.count > 0 ? exit.instruction : try fetch(guest.access, rip: rip)
    let emulator = EmulatorPool.shared.take()
    defer { EmulatorPool.shared.give(emulator) }
    var state = vcpu.commPage.state
    let changed: StateFlags
    do throws(EmulationError) {
        changed = try emulator.execute(bytes, on: &state, in: guest)
    } catch {
        if case .port(let io) = error { return try assistIO(vcpu, machine, exit: io, callbacks: callbacks) }
        throw describe(error, rip: rip, bytes, guest.access)
    }
    if callbacks.lacksAnswer { throw .unanswered }
    if let failure = guest.failure { throw failure }
    vcpu.commPage.state.copy(changed, from: state)
    vcpu.setState(changed)
}

private func describe(
    _ error: EmulationError, rip: UInt64, _ bytes: InstructionBytes, _ guest: GuestAccess
) -> AssistError {
    switch error {
    case .exception(14, let code, let address):
        return .pageFault(address: GVA(address ?? 0), errorCode: UInt64(code ?? 0))
    case .exception(let vector, let code, _): return .exception(vector: vector, errorCode: code.map { UInt64($0) })
    case .pageTable(let gpa): return .pageTableOutsideMemory(gpa)
    case .invalidOpcode, .unsupported, .port:
        let isBig = guest.vcpu.commPage.state[.cs].attributes.contains(.defaultBig)
        guard let name = mnemonic(of: bytes.bytes, is64Bit: guest.is64Bit, isBig: isBig) else {
            return .undecodable(rip: rip, bytes: bytes)
        }
        return .unsupported(rip: rip, mnemonic: name, bytes: bytes)
    }
}

/// Up to 15 bytes at RIP; fewer where the page after is not there.
private func fetch(_ guest: GuestAccess, rip: UInt64) throws(AssistError) -> InstructionBytes {
    var bytes = InstructionBytes()
    for index in 0..<15 as Range<UInt64> {
        do {
            let address = try guest.linear(.cs, offset: rip &+ index, byteCount: 1)
            bytes.append(UInt8(truncatingIfNeeded: try guest.load(address, byteCount: 1)))
        } catch {
            if bytes.count == 0 { throw error }
            break
        }
    }
    return bytes
}

/// The memory of a guest as an emulated instruction sees it.
private final class EmulatedGuest: EmulatedMemory {
    let access: GuestAccess
    /// The first store that the machine refused.
    private(set) var failure: AssistError?

    init(_ access: GuestAccess) { self.access = access }

    func load(_ gpa: GPA, byteCount: Int) -> UInt64 { access.loadInPage(gpa, byteCount: byteCount) }

    func loadPlain(_ gpa: GPA, byteCount: Int) -> UInt64? { access.loadPlain(gpa, byteCount: byteCount) }

    func store(_ gpa: GPA, _ value: UInt64, byteCount: Int) {
        guard !access.callbacks.lacksAnswer else { return }
        do { try access.storeInPage(value, gpa, byteCount: byteCount) } catch { failure = failure ?? error }
    }
}

/// Emulators that nobody uses at the moment: a callback may come back here, and threads come at the same time.
private final class EmulatorPool: Sendable {
    static let shared = EmulatorPool()

    /// SAFETY: an emulator is in the pool or with the one call that took it.
    private struct Idle: @unchecked Sendable {
        var emulators: [InstructionEmulator] = []
    }
    private let idle = Mutex(Idle())

    func take() -> InstructionEmulator {
        idle.withLock { $0.emulators.popLast() } ?? InstructionEmulator()
    }

    func give(_ emulator: InstructionEmulator) {
        idle.withLock { $0.emulators.append(emulator) }
    }
}
