// The processor of the toy backend.

public import NVMM

/// Executes: MOV r32,imm32 · MOV moffs32,EAX · MOV EAX,moffs32 · ADD EAX,ECX · ADD EAX,imm32 · XOR EAX,imm32 ·
/// INC/DEC r32 · JNZ/JMP rel8 · IN/OUT imm8 · NOP · RET · HLT · RDMSR · WRMSR · CPUID. Anything else is a triple fault.
public final class ToyVCPU: VCPU {
    public let id: UInt32
    public let commPage = CommPage()
    private let machine: ToyMachine
    private var state = VCPUState.reset
    private var exitingLeaves: Set<UInt32> = []
    private var windowIsArmed: Bool { state.interrupt.contains(.interruptWindowExiting) }
    var isDestroyed = false

    private static let carry: UInt64 = 1
    private static let zero: UInt64 = 1 << 6
    private static let interruptFlag: UInt64 = 1 << 9

    init(id: UInt32, machine: ToyMachine) {
        self.id = id
        self.machine = machine
        commPage.state = state
        commPage.stateCached = .all
    }

    public func configure(_ configuration: VCPUConfiguration) throws(VCPUError) {
        switch configuration {
        case .cpuid(let leaf, .exit): exitingLeaves.insert(leaf)
        case .cpuid(let leaf, _): exitingLeaves.remove(leaf)
        case .tpr: throw .unsupportedConfiguration
        }
    }

    public func fetchWantedState() throws(VCPUError) {
        guard !isDestroyed else { throw .destroyed }
        commPage.state.copy(commPage.stateWanted, from: state)
        commPage.stateCached.formUnion(commPage.stateWanted)
        commPage.stateWanted = []
    }

    public func counters() -> [Counter] { [] }
    public func saveState() -> VCPUState { state }

    public func savePrivateState() -> [UInt8] {
        var bytes: [UInt8] = [1] + exitingLeaves.sorted().map { UInt8(truncatingIfNeeded: $0) }
        if case .privateState(let from) = machine.backend.fault, machine.clock >= from { bytes[0] |= 0x80 }
        return bytes
    }

    public func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
        guard let version = privateState.first, version & 0x7F == 1 else { throw .privateStateRefused("no version 1") }
        self.state = state
        exitingLeaves = Set(privateState.dropFirst().map { UInt32($0) })
        commPage.state = state
        commPage.stateCached = .all
        commPage.stateCommit = []
        commPage.eventCommit = false
    }

    // MARK: - Run

    public func run(budget: UInt64?) throws(VCPUError) -> RunResult {
        guard !isDestroyed else { throw .destroyed }
        if commPage.stop {
            commPage.stop = false
            return RunResult(exit: VCPUExit(reason: .stopped), kind: .returnedEarly, retired: counted(0))
        }
        machine.backend.beginRun()
        state.copy(commPage.stateCommit, from: commPage.state)
        commPage.stateCommit = []
        commPage.stateCached = []
        var consumed: VCPUEvent?
        if commPage.takeEventCommit() {
            let event = commPage.event
            guard event.isValid else { throw .badEvent(event) }
            consumed = event
            deliver(event)
        }
        var retired: UInt64 = 0
        var reason = ExitReason.none
        while retired < budget ?? .max {
            if windowIsArmed && state[.rflags] & Self.interruptFlag != 0 {
                state.interrupt.remove(.interruptWindowExiting)
                reason = .interruptReady
                break
            }
            let result = step()
            if result.retired {
                retired += 1
                machine.clock &+= 1
                state[.tsc] &+= 1
            }
            if let exit = result.exit {
                reason = exit
                break
            }
        }
        commPage.state.copy(reason.providedState, from: state)
        commPage.stateCached = reason.providedState
        let exitState = ExitState(rflags: state[.rflags], cr8: state[.cr8], interrupt: state.interrupt)
        return RunResult(exit: VCPUExit(reason: reason, state: exitState), retired: counted(retired), event: consumed)
    }

    private func counted(_ retired: UInt64) -> UInt64? { machine.backend.capability.countsInstructions ? retired : nil }

    private func isFaulty(_ from: UInt64) -> Bool { machine.clock >= from }

    private func deliver(_ event: VCPUEvent) {
        var vector = UInt64(event.vector)
        if case .vector(let from) = machine.backend.fault, isFaulty(from) { vector += 1 }
        state[.rsp] = (state[.rsp] &- 4) & 0xFFFF_FFFF
        _ = machine.store(state[.rip], state[.rsp], byteCount: 4)
        state[.rip] = machine.load(state[.idt].base + vector * 4, byteCount: 4, .read) ?? 0
        state[.rflags] &= ~Self.interruptFlag
    }

    private func step() -> (retired: Bool, exit: ExitReason?) {
        let rip = state[.rip]
        guard let opcode = machine.load(rip, byteCount: 1, .execute) else {
            return (false, .memory(MemoryExit(access: .execute, gpa: GPA(rip))))
        }
        func immediate(_ offset: UInt64, _ byteCount: Int) -> UInt64 {
            machine.load(rip &+ offset, byteCount: byteCount, .execute) ?? 0
        }
        func next(_ byteCount: UInt64) -> (Bool, ExitReason?) {
            state[.rip] = (rip &+ byteCount) & 0xFFFF_FFFF
            return (true, nil)
        }
        switch opcode {
        case 0xB8...0xBF:
            state.gprs[Int(opcode & 7)] = immediate(1, 4)
            return next(5)
        case 0xA3: return store(to: immediate(1, 4), rip)
        case 0xA1:
            let address = immediate(1, 4)
            guard let value = machine.load(address, byteCount: 4, .read) else {
                return (false, .memory(MemoryExit(access: .read, gpa: GPA(address), instruction: bytes(rip, 5))))
            }
            state[.rax] = value
            return next(5)
        case 0x01 where immediate(1, 1) == 0xC8:
            add(state[.rcx])
            return next(2)
        case 0x05:
            add(immediate(1, 4))
            return next(5)
        case 0x35:
            state[.rax] ^= immediate(1, 4)
            setZero(state[.rax])
            state[.rflags] &= ~Self.carry
            return next(5)
        case 0x40...0x4F:
            let register = Int(opcode & 7)
            state.gprs[register] = (state.gprs[register] &+ (opcode < 0x48 ? 1 : ~0)) & 0xFFFF_FFFF
            setZero(state.gprs[register])
            return next(1)
        case 0x75, 0xEB:
            let isTaken = opcode == 0xEB || state[.rflags] & Self.zero == 0
            let distance = UInt64(bitPattern: Int64(Int8(truncatingIfNeeded: immediate(1, 1))))
            return next(isTaken ? 2 &+ distance : 2)
        case 0xE4, 0xE6: return io(opcode, port: UInt16(immediate(1, 1)), rip)
        case 0x90:
            if case .extraExit(let from) = machine.backend.fault, isFaulty(from) {
                state[.rip] = rip &+ 1
                return (true, .halted)
            }
            return next(1)
        case 0xC3:
            state[.rip] = machine.load(state[.rsp], byteCount: 4, .read) ?? 0
            state[.rsp] = (state[.rsp] &+ 4) & 0xFFFF_FFFF
            state[.rflags] |= Self.interruptFlag
            return (true, nil)
        case 0xF4:
            state[.rip] = rip &+ 1
            return (true, .halted)
        case 0x0F:
            let msr = UInt32(truncatingIfNeeded: state[.rcx])
            switch immediate(1, 1) {
            case 0x30:
                let value = state[.rdx] << 32 | state[.rax] & 0xFFFF_FFFF
                return (false, .writeMSR(MSRWriteExit(msr: msr, value: value, npc: rip &+ 2)))
            case 0x32: return (false, .readMSR(MSRReadExit(msr: msr, npc: rip &+ 2)))
            case 0xA2:
                let leaf = UInt32(truncatingIfNeeded: state[.rax])
                (state[.rax], state[.rbx], state[.rcx], state[.rdx]) = (1, 0, 0, 0)
                return exitingLeaves.contains(leaf) ? (false, .cpuid(npc: rip &+ 2)) : next(2)
            default: return (false, .shutdown)
            }
        default: return (false, .shutdown)
        }
    }

    private func store(to address: UInt64, _ rip: UInt64) -> (Bool, ExitReason?) {
        var target = address
        if case .storeAddress(let from) = machine.backend.fault, isFaulty(from) { target += 4 }
        guard machine.store(state[.rax], target, byteCount: 4) else {
            return (false, .memory(MemoryExit(access: .write, gpa: GPA(target), instruction: bytes(rip, 5))))
        }
        state[.rip] = rip &+ 5
        return (true, nil)
    }

    private func io(_ opcode: UInt64, port: UInt16, _ rip: UInt64) -> (Bool, ExitReason?) {
        var exit = IOExit(isInput: opcode == 0xE4, port: port, addressBytes: 4, operandBytes: 1, npc: rip &+ 2)
        switch machine.backend.fault {
        case .port(let from) where isFaulty(from): exit.port += 1
        case .missingExit(let from) where isFaulty(from):
            state[.rip] = rip &+ 2
            return (true, nil)
        default: break
        }
        return (false, .io(exit))
    }

    private func add(_ value: UInt64) {
        let sum = (state[.rax] & 0xFFFF_FFFF) + (value & 0xFFFF_FFFF)
        state[.rax] = sum & 0xFFFF_FFFF
        setZero(state[.rax])
        state[.rflags] = state[.rflags] & ~Self.carry | sum >> 32
        if case .carryFlag(let from) = machine.backend.fault, isFaulty(from) { state[.rflags] ^= Self.carry }
    }

    private func setZero(_ value: UInt64) {
        state[.rflags] = value == 0 ? state[.rflags] | Self.zero : state[.rflags] & ~Self.zero
    }

    private func bytes(_ rip: UInt64, _ count: UInt64) -> InstructionBytes {
        InstructionBytes(
            (0..<count).map { UInt8(truncatingIfNeeded: machine.load(rip &+ $0, byteCount: 1, .execute) ?? 0) })
    }
}
