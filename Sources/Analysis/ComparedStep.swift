// What of a step counts when two recordings are compared.

internal import NVMM
internal import Replay
internal import TraceFile

/// A step as a comparison of recordings sees it. A class, so that windows of them are cheap to move.
final class ComparedStep {
    /// Its number in its own trace, from 0.
    let index: UInt64
    let step: Step
    /// Registers after the exit, without the time-stamp counter: it follows the client's waiting.
    private let registers: VCPUState

    init(_ step: Step, index: UInt64) {
        self.index = index
        self.step = step
        var registers = step.state
        registers[.tsc] = 0
        self.registers = registers
    }

    /// The same exit, with the same payload, at the same place.
    func aligns(with other: ComparedStep) -> Bool {
        step.vcpu == other.step.vcpu && step.failed == other.step.failed && step.kind == other.step.kind
            && step.exit.reason == other.step.exit.reason && step.state[.rip] == other.step.state[.rip]
    }

    /// Host interrupts and used-up budgets come where the host pleases: not a difference of what guests did.
    var isAsynchronous: Bool {
        switch step.exit.reason {
        case .none, .stopped: !step.failed
        default: false
        }
    }

    /// Whether aligned steps are also equal in their event and in all registers that both cover.
    func equals(_ other: ComparedStep) -> Bool {
        guard step.event == other.step.event else { return false }
        var left = registers
        left.copy(StateFlags.all.subtracting(coverage(with: other)), from: other.registers)
        return left == other.registers
    }

    func coverage(with other: ComparedStep) -> StateFlags { step.coverage.intersection(other.step.coverage) }

    var summary: TraceComparison.StepSummary {
        TraceComparison.StepSummary(
            step: index, vcpu: step.vcpu, rip: step.state[.rip], exit: EventText.line(step.exit.reason),
            event: step.event.map(EventText.line))
    }

    /// Event and registers that differ from the aligned `other`.
    func differences(from other: ComparedStep) -> [ComparedField] {
        var fields: [ComparedField] = []
        let events = (step.event.map(EventText.line) ?? "-", other.step.event.map(EventText.line) ?? "-")
        fields.append(ComparedField(name: "event", expected: events.0, actual: events.1))
        fields += RegisterFields.differing(registers, other.registers, coverage(with: other))
        return fields.filter(\.differs)
    }
}
