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
    /// With the steps that are to be compared with what it left; and whether it gave a device what depends on a time
    /// that the guest read, where another one was recorded.
    case done(claims: [(step: Step, position: UInt64)], rip: UInt64, gaveTime: Bool)
    /// Its next access; the step that comes ended with it.
    case asks(isWrite: Bool, gpa: GPA)
    /// It accessed or wrote something else than was recorded, or could not be carried out.
    case differs(ComparedField)
}

extension Finish {
    var isDone: Bool { if case .done = self { true } else { false } }
}

extension ReplayMachine {
    func take(_ completion: Completion) {
        unfinished[completion.vcpu]?.answers.append(completion)
    }

    /// Carries out the instruction at which a VCPU stands, as far as its answers go. Registers that change are marked
    /// for the next run; where an answer is missing nothing has changed.
    ///
    /// - Parameter givesTime: whether it is known to give a device what depends on a time.
    func finish(_ id: UInt32, givesTime: Bool = false) throws(ReplayError) -> Finish {
        try shadows?.join(self, vcpu: id)
        var result = try finishAlone(id)
        var (givesTime, dependsOnTime) = (givesTime, false)
        shadows?.follow { (shadow) throws(ReplayError) in
            switch (result, try shadow.finishAlone(id)) {
            case (.differs(let field), .differs(let shadowField)):
                if field.actual != shadowField.actual { givesTime = true }
                return true
            case (.asks(let isWrite, let gpa), .asks(let shadowWrites, let shadowGPA)):
                return isWrite == shadowWrites && gpa == shadowGPA
            // It gave by chance what was recorded.
            case (.differs, .done):
                givesTime = true
                return true
            // Or the replay did.
            case (.done, .differs):
                dependsOnTime = true
                return try shadow.finishAlone(id, comparesValues: false).isDone
            case (.done, .done): return true
            default: return false
            }
        }
        outputDependsOnTime = givesTime || dependsOnTime
        if givesTime, !result.isDone {
            result = try finishAlone(id, comparesValues: false)
            shadows?.follow { (shadow) throws(ReplayError) in
                if shadow.unfinished[id] == nil { return true }
                return try shadow.finishAlone(id, comparesValues: false).isDone
            }
        }
        return result
    }

    private func finishAlone(_ id: UInt32, comparesValues: Bool = true) throws(ReplayError) -> Finish {
        guard let instruction = unfinished[id] else { return .done(claims: [], rip: 0, gaveTime: false) }
        let vcpu = try vcpu(id)
        let answers = RecordedAnswers(instruction.answers, comparesValues: comparesValues)
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
        return .done(claims: instruction.claims, rip: instruction.rip, gaveTime: !comparesValues)
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
