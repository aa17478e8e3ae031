// The result of a replay: verdicts as in Docs/determinism.md.

/// Verdict of one step.
public enum StepVerdict: String, CaseIterable, Encodable, Sendable {
    case identical
    /// Different, or not reproducible, because of a named input that the trace does not hold.
    case explained
    /// A real difference.
    case divergent
    /// Data is missing, so that nothing can be said.
    case unverifiable
}

/// What a replay found.
public struct ReplayReport: Encodable, Sendable {
    /// The step at whose keyframe (or 0) the replay started, and the one before which it ended.
    public var firstStep: UInt64 = 0
    public var endStep: UInt64 = 0
    public var totals = Totals()
    /// The first one, in full.
    public var divergence: Divergence?
    /// Reasons of explained and unverifiable steps, with their counts, in the order of appearance.
    public var reasons: [Reason] = []
    /// Instructions that explained steps are laid to, at most ``explainedInstructionsMax``, in the order of appearance.
    public var explainedInstructions: [ExplainedInstruction] = []
    /// What each rule of ``ReplayOptions/known`` swallowed, in their order.
    public var knownDifferences: [KnownDifferenceUse] = []
    /// Steps before the last place where all memory and private state was compared and equal; nil: nowhere.
    public var memoryEqualAtStep: UInt64?
    /// The trace was ended properly. Otherwise what its writer had in flight is missing.
    public var traceIsComplete = true
    /// Stores that the recorder found by comparing pages: when they happened is known only roughly.
    public var rawStoreCount: UInt64 = 0

    public struct Totals: Hashable, Encodable, Sendable {
        public var identical: UInt64 = 0
        public var explained: UInt64 = 0
        public var divergent: UInt64 = 0
        public var unverifiable: UInt64 = 0
        /// All that were compared, or should have been.
        public var stepCount: UInt64 { identical &+ explained &+ divergent &+ unverifiable }
        /// Steps that ended without an exit, at places that a backend without a count of instructions cannot find: the
        /// next one was begun there.
        public var notRun: UInt64 = 0
        /// Retired in the steps that were executed.
        public var instructions: UInt64 = 0
        public var keyframesEqual: UInt64 = 0
        public var keyframesDifferent: UInt64 = 0
        public var pagesCompared: UInt64 = 0
        /// Bytes of memory at keyframes that differ because a time is in them that the guest read and no trace holds.
        public var timedBytes: UInt64 = 0
    }

    public struct Reason: Hashable, Encodable, Sendable {
        public var verdict: StepVerdict
        public var text: String
        public var stepCount: UInt64
    }

    /// An instruction after which the recording and the replay may differ, and do.
    public struct ExplainedInstruction: Hashable, Encodable, Sendable {
        /// With the first step that is explained by it.
        public var place: InstructionPlace
        /// As in ``Reason/text``.
        public var reason: String
        public var stepCount: UInt64
    }

    public static let explainedInstructionsMax = 1000

    /// Counts a step that `place` explains.
    mutating func count(explainedBy place: InstructionPlace, because text: String) {
        count(.explained, because: text)
        let known = explainedInstructions.firstIndex {
            $0.place.rip == place.rip && $0.place.bytes == place.bytes && $0.reason == text
        }
        if let known {
            explainedInstructions[known].stepCount += 1
        } else if explainedInstructions.count < Self.explainedInstructionsMax {
            explainedInstructions.append(ExplainedInstruction(place: place, reason: text, stepCount: 1))
        }
    }

    /// Of a step that was counted as identical: what it gave to a device came out later.
    mutating func recountAsExplained(by place: InstructionPlace, because text: String) {
        if totals.identical > 0 { totals.identical -= 1 }
        count(explainedBy: place, because: text)
    }

    /// Whether nothing is divergent or unverifiable.
    public var isClean: Bool { totals.divergent == 0 && totals.unverifiable == 0 && totals.keyframesDifferent == 0 }
    /// As diff(1): 0 the same, 1 a difference.
    public var exitStatus: Int32 { isClean ? 0 : 1 }

    /// The report of both, where `next` began where this one ended.
    func followed(by next: ReplayReport) -> ReplayReport {
        var both = self
        both.endStep = next.endStep
        both.totals.add(next.totals)
        both.divergence = divergence ?? next.divergence
        for reason in next.reasons { both.add(reason) }
        for (index, use) in next.knownDifferences.enumerated() {
            both.knownDifferences[index].stepCount += use.stepCount
            both.knownDifferences[index].firstStep = both.knownDifferences[index].firstStep ?? use.firstStep
        }
        both.memoryEqualAtStep = next.memoryEqualAtStep ?? memoryEqualAtStep
        both.rawStoreCount += next.rawStoreCount
        return both
    }

    mutating func count(_ verdict: StepVerdict, because text: String? = nil) {
        switch verdict {
        case .identical: totals.identical += 1
        case .explained: totals.explained += 1
        case .divergent: totals.divergent += 1
        case .unverifiable: totals.unverifiable += 1
        }
        if let text { add(Reason(verdict: verdict, text: text, stepCount: 1)) }
    }

    private mutating func add(_ reason: Reason) {
        if let index = reasons.firstIndex(where: { $0.verdict == reason.verdict && $0.text == reason.text }) {
            reasons[index].stepCount += reason.stepCount
        } else {
            reasons.append(reason)
        }
    }
}

extension ReplayReport.Totals {
    mutating func add(_ other: Self) {
        identical += other.identical
        explained += other.explained
        divergent += other.divergent
        unverifiable += other.unverifiable
        notRun += other.notRun
        instructions &+= other.instructions
        keyframesEqual += other.keyframesEqual
        keyframesDifferent += other.keyframesDifferent
        pagesCompared += other.pagesCompared
        timedBytes += other.timedBytes
    }
}
