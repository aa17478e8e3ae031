// One instruction on the interpreter, its memory somebody else's: what the assists of libnvmm do for any backend.

public import NVMM

/// Why an instruction could not be emulated. The state is unchanged and nothing was written; loads may have had their
/// effects, as those of a processor's instruction that faults in its middle may.
public enum EmulationError: Error, Equatable, Sendable {
    /// What a processor would raise. `address` is CR2 of a page fault.
    case exception(vector: UInt8, errorCode: UInt32?, address: UInt64?)
    /// Not an instruction, or none that the processor model offers.
    case invalidOpcode
    /// An instruction that is more than registers and memory.
    case unsupported
    /// INS or OUTS (or IN and OUT): the port's turn, then the memory's.
    case port(IOExit)
    /// A paging structure lies outside plain memory.
    case pageTable(GPA)
}

/// A processor without a machine.
///
/// Not to be called from two threads at once. One is worth keeping: it remembers what it decoded.
public final class InstructionEmulator {
    /// The parts of a state that are read, and that ``execute(_:on:in:)`` may change.
    public static let parts: StateFlags = [.gprs, .segments, .crs, .msrs]

    private let emulation = Emulation()
    private var cpu: CPU

    public init() {
        cpu = CPU(
            id: 0, memory: GuestMemory(), code: CodeCache(), gate: RunGate(), commPage: CommPage(), model: .base,
            providing: .nvmm, translation: .never)
        cpu.emulation = emulation
    }

    /// Executes the instruction, or one iteration of a repeated one. Breakpoints and single steps are left out.
    ///
    /// - Parameters:
    ///   - instruction: its bytes; more may follow.
    ///   - state: valid in ``parts``.
    /// - Returns: the parts that changed.
    public func execute(
        _ instruction: InstructionBytes, on state: inout VCPUState, in memory: any EmulatedMemory
    ) throws(EmulationError) -> StateFlags {
        emulation.begin(instruction, at: linearRIP(state), in: memory)
        defer { emulation.abandon() }
        cpu.install(Self.parts, from: state, clock: 0)
        // As the interpreter has it: bits that its model does not offer are the caller's, and stay.
        var before = state
        cpu.extract(Self.parts, into: &before, clock: 0)
        do {
            if try cpu.findEmulated().readsBeforeItsWriteIsChecked {
                // A device's register must not be read for an instruction that then faults on its other operand.
                emulation.isRehearsal = true
                defer { emulation.isRehearsal = false }
                try cpu.executeFound()
                emulation.discard()
                cpu.install(.gprs, from: state, clock: 0)
                _ = try cpu.findEmulated()
            }
            try cpu.executeFound()
        } catch {
            throw describe(error)
        }
        var after = before
        cpu.extract(Self.parts, into: &after, clock: 0)
        emulation.complete()
        return Self.move(from: before, to: after, in: &state)
    }

    private func linearRIP(_ state: borrowing VCPUState) -> UInt64 {
        let code = state[.cs]
        let isWide = state[.efer] & EFER.lma != 0 && code.attributes.contains(.long)
        return isWide ? state[.rip] : (code.base &+ state[.rip]) & 0xFFFF_FFFF
    }

    /// Changes in `state` what differs between the two others.
    ///
    /// - Returns: the parts that do.
    private static func move(from before: VCPUState, to after: VCPUState, in state: inout VCPUState) -> StateFlags {
        var changed: StateFlags = []
        before.withWords { before in
            after.withWords { after in
                state.withMutableWords { state in
                    for part in [StateFlags.gprs, .segments, .crs, .msrs] {
                        for word in VCPUState.wordRange(of: part) where before[word] != after[word] {
                            state[word] = after[word]
                            changed.formUnion(part)
                        }
                    }
                }
            }
        }
        return changed
    }

    private func describe(_ interruption: Interruption) -> EmulationError {
        switch interruption {
        case .exception(.invalidOpcode): .invalidOpcode
        case .exception(let exception):
            .exception(
                vector: exception.vector, errorCode: exception.errorCode,
                address: exception.vector == 14 ? cpu.cr2 : nil)
        case .exit:
            switch cpu.pendingExit {
            case .memory(let exit): .pageTable(exit.gpa)
            case .io(let exit): .port(exit)
            default: .unsupported
            }
        }
    }
}

extension Operation {
    /// Not of registers and memory alone, or of registers that an emulator is not given.
    fileprivate var isMoreThanMemory: Bool {
        switch self {
        case .int, .int1, .int3, .into, .syscall, .sysret, .sysenter, .sysexit, .movToCR, .movFromCR, .movToDR,
            .movFromDR, .invd, .wbinvd, .invlpg, .invpcid, .hlt, .cpuid, .rdtsc, .rdmsr, .wrmsr, .monitor, .mwait,
            .xgetbv, .xsetbv, .fxsave, .fxrstor, .xsave, .xrstor, .fninit, .fnstcw, .fldcw, .fnstsw, .fnclex, .fwait,
            .ldmxcsr, .stmxcsr:
            true
        default: false
        }
    }

    /// The handler loads one memory operand before it knows that it may write the other.
    fileprivate var readsBeforeItsWriteIsChecked: Bool {
        switch self {
        case .push, .pop, .call, .movs: true
        default: false
        }
    }
}

extension CPU {
    /// Finds the instruction at RIP, which ``executeFound()`` then executes.
    fileprivate mutating func findEmulated() throws(Interruption) -> Operation {
        code.beginRun()
        retired = 0
        try enterBlockAlone()
        let operation = blockStart.instruction.operation
        guard !operation.isMoreThanMemory else {
            pendingExit = .none
            throw .exit
        }
        return operation
    }

    fileprivate mutating func executeFound() throws(Interruption) {
        extraRetired = 0
        remaining = 1
        let start = rip
        pendingExit = .none
        blockEnd = blockStart.advanced(by: 1)
        cursor = blockStart
        try executeBlock()
        // SDM vol. 3, section 17.3.1.1: cleared by every instruction that completes, unless it loaded the flag.
        if rip != start, blockStart.instruction.operation != .iret { systemFlags &= ~RFLAGS.rf }
    }
}
