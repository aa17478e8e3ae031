// What one run of the replay gave, and how it compares with the recorded step.

internal import NVMM
internal import TraceFile

/// Result of a run on the replaying backend: the output half of a ``Step``.
struct RunOutcome {
    var kind: RunKind
    var failed: Bool
    var exit: VCPUExit
    var cached: StateFlags
    var retired: UInt64?
    var clock: UInt64
    var state: VCPUState

    /// Whether everything that `step` covers is equal.
    ///
    /// - Parameter countsInstructions: whether the recorded backend did.
    func matches(_ step: Step, countsInstructions: Bool = true) -> Bool {
        guard step.kind == kind, step.failed == failed, step.cached == cached else { return false }
        // A failed run leaves no exit of its own.
        if !failed && step.exit != exit { return false }
        // Without a count there is no clock either.
        if countsInstructions {
            guard step.clock == clock, failed || step.retired == retired else { return false }
        }
        return StateFields.areEqual(step.state, state, step.coverage)
    }

    /// Both sides: the exit and the general registers always, the rest where it differs.
    func fields(against step: Step) -> [ComparedField] {
        var fields: [ComparedField] = []
        if step.failed || failed {
            fields.append(ComparedField(name: "run", expected: Self.name(step.failed), actual: Self.name(failed)))
        }
        if step.kind != kind {
            fields.append(ComparedField(name: "kind", expected: "\(step.kind)", actual: "\(kind)"))
        }
        fields += ExitFields.compare(step.exit, exit)
        fields += ExitFields.compareState(step.exit.state, exit.state)
        // Where the recorded backend does not count there is nothing to compare.
        if step.retired != nil || step.failed {
            fields.append(
                ComparedField(
                    name: "retired", expected: step.retired.map(String.init) ?? "-",
                    actual: retired.map(String.init) ?? "-"))
            fields.append(ComparedField(name: "clock", expected: "\(step.clock)", actual: "\(clock)"))
        }
        fields.append(ComparedField(name: "cached", expected: step.cached.partNames, actual: cached.partNames))
        if step.coverage.contains(.gprs) { fields += StateFields.general(step.state, state) }
        fields += StateFields.differingSpecial(step.state, state, step.coverage)
        return fields
    }

    /// What differs from `reference`, the same run elsewhere.
    func differences(from reference: RunOutcome) -> [ComparedField] {
        var fields: [ComparedField] = []
        fields.append(ComparedField(name: "run", expected: Self.name(reference.failed), actual: Self.name(failed)))
        fields += ExitFields.compare(reference.exit, exit)
        fields += ExitFields.compareState(reference.exit.state, exit.state)
        fields.append(
            ComparedField(
                name: "retired", expected: reference.retired.map(String.init) ?? "-",
                actual: retired.map(String.init) ?? "-"))
        fields += StateFields.general(reference.state, state)
        fields += StateFields.differingSpecial(reference.state, state, .all)
        return fields.filter(\.differs)
    }

    /// What kind of divergence lies between `step` and this.
    func divergenceKind(against step: Step) -> Divergence.Kind {
        if step.failed != failed { return .injection }
        let (expected, actual) = (step.exit.reason, exit.reason)
        if step.failed || expected == actual { return .registers }
        if actual == .none { return .missingExit }
        if expected == .none { return .extraExit }
        // Another exit, or the same kind of exit, before the recorded one was due.
        if let due = step.retired, let retired, retired < due { return .extraExit }
        return .exitPayload
    }

    private static func name(_ failed: Bool) -> String { failed ? "failed" : "succeeded" }
}
