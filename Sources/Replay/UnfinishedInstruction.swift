// Instructions that end a run before they are done: the hypervisor finishes them at the next entry, with the answers
// that the trace holds. Docs/determinism.md, "Traces of KVM".

internal import Assists
internal import NVMM
internal import TraceFile

/// An instruction at which a VCPU of the replay stands, and what is known of its answers.
struct UnfinishedInstruction {
    /// The replay's own exit.
    var exit: ExitReason
    /// Where the instruction begins.
    var rip: UInt64
    var answers: [Completion] = []
    /// The recorded steps that ended with this instruction and whose registers are not those before it: they are
    /// compared with those after it.
    var claims: [(step: Step, position: UInt64)] = []
}

/// What became of an unfinished instruction.
enum Finish {
    /// With the steps that are to be compared with what it left.
    case done(claims: [(step: Step, position: UInt64)], rip: UInt64)
    /// Its next access; the step that comes ended with it.
    case asks(isWrite: Bool, gpa: GPA)
    /// It accessed or wrote something else than was recorded, or could not be carried out.
    case differs(ComparedField)
}

extension ReplayMachine {
    func take(_ completion: Completion) {
        unfinished[completion.vcpu]?.answers.append(completion)
    }

    /// Carries out the instruction at which a VCPU stands, as far as its answers go. Registers that change are marked
    /// for the next run; where an answer is missing nothing has changed.
    func finish(_ id: UInt32) throws(ReplayError) -> Finish {
        guard let instruction = unfinished[id] else { return .done(claims: [], rip: 0) }
        let vcpu = try vcpu(id)
        let answers = RecordedAnswers(instruction.answers)
        do {
            switch instruction.exit {
            case .io(let exit): try finishPort(exit, vcpu, answers)
            case .memory(let exit): try assistMemory(vcpu, machine, exit: exit, callbacks: answers)
            case .readMSR(let exit): finishMSR(instruction.answers, vcpu, npc: exit.npc)
            case .writeMSR(let exit): finishMSR(instruction.answers, vcpu, npc: exit.npc)
            default: break
            }
        } catch {
            if let asked = answers.unanswered { return .asks(isWrite: asked.isWrite, gpa: asked.gpa) }
            if let difference = answers.difference { return .differs(difference) }
            return .differs(ComparedField(name: "instruction", expected: "completed", actual: Self.describe(error)))
        }
        if let asked = answers.unanswered { return .asks(isWrite: asked.isWrite, gpa: asked.gpa) }
        if let field = answers.difference ?? leftOver(answers, of: instruction.exit) { return .differs(field) }
        unfinished[id] = nil
        return .done(claims: instruction.claims, rip: instruction.rip)
    }

    /// The registers once the instruction is finished: what it changed waits for the next run.
    func finishedState(_ id: UInt32) throws(ReplayError) -> VCPUState {
        let vcpu = try vcpu(id)
        var state = vcpu.saveState()
        state.copy(vcpu.commPage.stateCommit, from: vcpu.commPage.state)
        return state
    }

    private func leftOver(_ answers: RecordedAnswers, of exit: ExitReason) -> ComparedField? {
        switch exit {
        case .readMSR, .writeMSR: nil
        default: answers.leftOver
        }
    }

    /// As many elements as the hypervisor asked for at once.
    private func finishPort(
        _ exit: IOExit, _ vcpu: any VCPU, _ answers: RecordedAnswers
    ) throws(AssistError) {
        repeat {
            try assistIO(vcpu, machine, exit: exit, callbacks: answers, elementsMax: max(answers.elementCount, 1))
        } while exit.isString && !answers.lacksAnswer && answers.elementCount > 0
    }

    private func finishMSR(_ answers: [Completion], _ vcpu: any VCPU, npc: UInt64) {
        guard let answer = answers.first else { return }
        if answer.kind == .msrRefused {
            vcpu.commPage.event = VCPUEvent(kind: .exception, vector: 13)
            carriedEvents[vcpu.id] = vcpu.commPage.event
            return
        }
        if answer.kind == .msrRead { vcpu.commPage.state.completeRDMSR(answer.value) }
        vcpu.commPage.state[.rip] = npc
        vcpu.setState(.gprs)
    }

    private static func describe(_ error: AssistError) -> String {
        switch error {
        case .unsupported(_, let mnemonic, _): "\(mnemonic) is not supported"
        case .undecodable(let rip, _): "undecodable at \(shortHex(rip))"
        case .pageFault(let address, _): "#PF at \(shortHex(address.rawValue))"
        default: "\(error)"
        }
    }
}

extension Completion {
    /// The first eight bytes as a number.
    fileprivate var value: UInt64 {
        bytes.prefix(8).enumerated().reduce(0) { $0 | UInt64($1.element) << UInt64($1.offset * 8) }
    }
}
