// Differences that rules accept: ReplayOptions.known.

internal import NVMM
internal import TraceFile

extension ReplayRun {
    /// Instructions before an exit among which a rule's may be.
    private static let instructionsLookedAt = 256

    /// Counts a step as explained where rules cover all that differs, each of them met by an instruction that was
    /// executed. The replay is to go on from the recorded registers.
    func accepts(_ fields: [ComparedField], of step: Step, at position: UInt64) throws(ReplayError) -> Bool {
        let names = fields.flatMap(\.differingNames)
        let rules = options.known
        guard !names.isEmpty, names.allSatisfy({ name in rules.contains { $0.covers(name) } }) else { return false }
        let code = GuestCode(machine: machine.machine)
        let state = try machine.vcpu(step.vcpu).saveState()
        let places =
            [code.instruction(at: step.state, step: position), code.instruction(at: state, step: position)]
            + instructions(before: position).reversed()
        var met: [(rule: Int, place: InstructionPlace)] = []
        for name in names {
            let rule = rules.indices.first { rules[$0].covers(name) && places.contains(where: rules[$0].isOf) }
            guard let rule, let place = places.first(where: rules[rule].isOf) else { return false }
            if !met.contains(where: { $0.rule == rule }) { met.append((rule, place)) }
        }
        guard let first = met.first else { return false }
        report.count(explainedBy: first.place, because: "a known difference")
        for (rule, _) in met {
            report.knownDifferences[rule].stepCount += 1
            if report.knownDifferences[rule].firstStep == nil { report.knownDifferences[rule].firstStep = position }
        }
        return true
    }

    private func instructions(before position: UInt64) -> [InstructionPlace] {
        var options = options
        options.historyCount = Self.instructionsLookedAt
        // What counts no instructions cannot be stepped.
        let primary = backend.capability.countsInstructions ? backend : reference ?? backend
        return locator(primary, nil, options).instructions(before: position)
    }
}
