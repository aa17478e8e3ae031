// Finds the instruction that a backend executes otherwise than a reference backend does: both re-execute from the
// last equal keyframe, first step by step, then the first differing step instruction by instruction.

internal import NVMM
internal import TraceFile

/// Looks for the cause of a divergence by executing again. Machines are made anew for each pass.
struct FaultLocator {
    let reader: TraceReader
    let primary: any Backend
    let reference: (any Backend)?
    let options: ReplayOptions
    /// Keyframe to start at, where trace and replay were equal; nil: the beginning.
    let startKeyframe: Int?
    /// ``ReplayMachine/timedSteps``.
    let timedSteps: [UInt64: TimedStep]

    struct Finding {
        var wrongInstruction: WrongInstruction?
        var before: [InstructionPlace] = []
        var referenceAgrees = false
        /// Nil without a reference to compare with.
        var memory: [MemoryDifference]?
    }

    /// Longest stretch that is single-stepped; longer steps are narrowed down in chunks of this first.
    private static let chunkInstructions: UInt64 = 32_768

    /// - Parameters:
    ///   - end: the step that diverged, or for a keyframe's finding the number of steps before it.
    ///   - includesEnd: whether `end` itself was executed.
    func locate(end: UInt64, includesEnd: Bool) throws(ReplayError) -> Finding {
        guard primary.capability.countsInstructions else { return Finding() }
        let last = includesEnd ? end : end &- 1
        guard reference != nil else {
            return Finding(before: try stepThrough(last, skip: nil).before)
        }
        var finding = Finding()
        var firstDifferent: UInt64?
        let pair = try Pair(self)
        _ = try pair.drive(until: last, inclusive: true) { (step, position) throws(ReplayError) in
            let difference = try pair.runAndCompare(step)
            if firstDifferent == nil && !difference.isEmpty { firstDifferent = position }
        }
        finding.memory = pair.compareAllMemory()
        guard let firstDifferent else {
            finding.referenceAgrees = true
            finding.before = try stepThrough(last, skip: nil).before
            return finding
        }
        let result = try stepThrough(firstDifferent, skip: 0)
        finding.wrongInstruction = result.wrong
        finding.before = result.before
        return finding
    }

    /// The last instructions of a step, executed before its exit; none where they cannot be found.
    func instructions(before step: UInt64) -> [InstructionPlace] {
        (try? stepThrough(step, skip: nil).before) ?? []
    }

    /// Executes step `target` instruction by instruction, on both backends where there are two.
    ///
    /// - Parameter skip: instructions to run in one go first; nil: all but the last few.
    private func stepThrough(
        _ target: UInt64, skip: UInt64?
    ) throws(ReplayError) -> (wrong: WrongInstruction?, before: [InstructionPlace]) {
        let pair = try Pair(self)
        let found = try pair.drive(until: target, inclusive: false) { (step, position) throws(ReplayError) in
            let isNear = target &- position <= UInt64(options.historyCount)
            try pair.run(step, position: position, collects: isNear)
        }
        guard let step = found, step.kind == .entered else { return (nil, []) }
        let length = step.retired ?? (step.kind == .entered && skip == 0 ? .max : 0)
        if let skip, skip == 0, length > 2 * Self.chunkInstructions {
            let start = try pair.narrow(step, chunk: Self.chunkInstructions)
            return try stepThrough(target, skip: max(start, 1))
        }
        let lead = skip ?? (length > UInt64(options.historyCount) ? length - UInt64(options.historyCount) : 0)
        return try pair.singleStep(step, position: target, lead: lead, comparing: skip != nil)
    }
}

// MARK: - Two machines side by side

extension FaultLocator {
    /// What differed after the same input, expected being the reference.
    struct Difference {
        var fields: [ComparedField] = []
        var memory: [MemoryDifference] = []
        var isEmpty: Bool { fields.isEmpty && memory.isEmpty }
    }

    /// A machine on the backend under test and, if there is one, its twin on the reference.
    final class Pair {
        private let locator: FaultLocator
        private let actual: ReplayMachine
        private let expected: ReplayMachine?
        /// The last instructions that were single-stepped.
        private var history: [InstructionPlace] = []
        private var historyCount: Int { locator.options.historyCount }

        init(_ locator: FaultLocator) throws(ReplayError) {
            self.locator = locator
            let limit = locator.options.memoryBytesMax
            let header = locator.reader.header
            actual = try ReplayMachine(on: locator.primary, for: header, memoryBytesMax: limit)
            expected =
                if let reference = locator.reference {
                    try ReplayMachine(on: reference, for: header, memoryBytesMax: limit)
                } else {
                    nil
                }
            actual.timedSteps = locator.timedSteps
            expected?.timedSteps = locator.timedSteps
        }

        /// Longest run of which nobody counted the instructions, before it is given up.
        private static let uncountedInstructionsMax: UInt64 = 1 << 20

        /// Says which step comes.
        private func begin(_ position: UInt64) {
            actual.step = position
            expected?.step = position
        }

        private func enter(_ step: Step) throws(ReplayError) -> Bool {
            let enters = try actual.enter(step)
            return if let expected { try expected.enter(step) && enters } else { enters }
        }

        private func both(_ body: (ReplayMachine) throws(ReplayError) -> Void) throws(ReplayError) {
            try body(actual)
            if let expected { try body(expected) }
        }

        /// Applies events up to step `end`, handing each step to `execute`.
        ///
        /// - Returns: step `end` where `inclusive` is false and the trace has it.
        func drive(
            until end: UInt64, inclusive: Bool, _ execute: (Step, UInt64) throws(ReplayError) -> Void
        ) throws(ReplayError) -> Step? {
            let cursor: TraceCursor
            do { cursor = try locator.reader.cursor(fromKeyframe: locator.startKeyframe) } catch { throw .trace(error) }
            var needsKeyframe = locator.startKeyframe != nil
            var position: UInt64 = 0
            while true {
                let next: TraceEvent?
                do { next = try cursor.next() } catch { throw .trace(error) }
                guard let event = next else { return nil }
                switch event {
                case .machine(let event):
                    if !needsKeyframe { try both { (machine) throws(ReplayError) in try machine.apply(event) } }
                case .memoryWrite(let write):
                    if !needsKeyframe { try both { (machine) throws(ReplayError) in try machine.apply(write) } }
                case .keyframe(let keyframe):
                    guard needsKeyframe else { continue }
                    try both { (machine) throws(ReplayError) in try machine.load(keyframe, from: locator.reader) }
                    position = keyframe.stepCount
                    needsKeyframe = false
                    forgetTouched()
                case .step(let step):
                    guard !needsKeyframe else { throw .keyframeExpected(step: position) }
                    begin(position)
                    if position == end && !inclusive { return step }
                    try execute(step, position)
                    if position == end { return nil }
                    position &+= 1
                case .call, .guestWrite: break
                case .loss: return nil
                }
            }
        }

        /// - Parameter collects: whether the step's last instructions are added to the history. They are stepped on
        ///   the reference: here both still agree, and a fault that counts runs must not see more of them.
        func run(_ step: Step, position: UInt64, collects: Bool) throws(ReplayError) {
            _ = try actual.perform(step)
            if let expected {
                if collects, step.kind == .entered, !step.failed, step.retired != nil,
                    let budget = ReplayMachine.budget(of: step)
                {
                    try collect(step, budget: budget, position: position, on: expected)
                } else {
                    _ = try expected.perform(step)
                }
            }
            forgetTouched()
        }

        private func collect(
            _ step: Step, budget: UInt64, position: UInt64, on machine: ReplayMachine
        ) throws(ReplayError) {
            let vcpu = try machine.vcpu(step.vcpu)
            let code = GuestCode(machine: machine.machine)
            try machine.prepare(step)
            let lead = budget > UInt64(historyCount) ? budget - UInt64(historyCount) : 0
            guard try machine.run(step.vcpu, budget: lead).exit.reason == .none else { return }
            for _ in lead..<budget {
                let place = code.instruction(at: vcpu.saveState(), step: position)
                let outcome = try machine.run(step.vcpu, budget: 1)
                // An instruction that exits is seen again when it completes, if it does.
                if outcome.retired != 0 { remember(place) }
                guard outcome.exit.reason == .none else { return }
            }
        }

        private func remember(_ place: InstructionPlace) {
            if history.count == historyCount { history.removeFirst() }
            history.append(place)
        }

        func runAndCompare(_ step: Step) throws(ReplayError) -> Difference {
            let outcome = try actual.perform(step)
            guard let outcome, let reference = try expected?.perform(step) else { return Difference() }
            return compare(outcome, reference)
        }

        private func runAndCompare(
            _ step: Step, budget: UInt64?
        ) throws(ReplayError) -> (outcome: RunOutcome, difference: Difference) {
            let outcome = try actual.runPiece(step.vcpu, of: step, budget: budget)
            guard let expected else { return (outcome, Difference()) }
            return (outcome, compare(outcome, try expected.runPiece(step.vcpu, of: step, budget: budget)))
        }

        private func compare(_ outcome: RunOutcome, _ reference: RunOutcome) -> Difference {
            var difference = Difference(fields: outcome.differences(from: reference))
            guard let expected else { return difference }
            var memory = MemoryComparison(gpaRanges: actual.gpaRanges)
            for ordinal in actual.objects.keys.sorted() {
                guard let left = expected.objects[ordinal], let right = actual.objects[ordinal] else { continue }
                let pages = actual.takeTouchedPages(of: ordinal).union(expected.takeTouchedPages(of: ordinal))
                memory.compare(object: ordinal, pages: pages.sorted(), expected: left, actual: right)
            }
            difference.memory = memory.differences
            return difference
        }

        func compareAllMemory() -> [MemoryDifference]? {
            guard let expected else { return nil }
            var memory = MemoryComparison(gpaRanges: actual.gpaRanges)
            for ordinal in actual.objects.keys.sorted() {
                guard let left = expected.objects[ordinal], let right = actual.objects[ordinal] else { continue }
                memory.compare(object: ordinal, pages: 0..<left.pageCount, expected: left, actual: right)
            }
            return memory.differences
        }

        /// Runs `step` in chunks.
        ///
        /// - Returns: instructions of the step before the first chunk that differs.
        func narrow(_ step: Step, chunk: UInt64) throws(ReplayError) -> UInt64 {
            guard try enter(step) else { return 0 }
            var done: UInt64 = 0
            while done < step.retired ?? .max {
                let (outcome, difference) = try runAndCompare(step, budget: chunk)
                guard difference.isEmpty, outcome.exit.reason == .none, !outcome.failed else { break }
                done += chunk
            }
            return done
        }

        /// Runs `step` with a budget of one instruction at a time, up to the first difference or its exit.
        func singleStep(
            _ step: Step, position: UInt64, lead: UInt64, comparing: Bool
        ) throws(ReplayError) -> (wrong: WrongInstruction?, before: [InstructionPlace]) {
            let code = GuestCode(machine: actual.machine)
            let vcpu = try actual.vcpu(step.vcpu)
            var interrupted = vcpu.saveState()
            interrupted.copy(step.commit, from: step.committed)
            let interruptedPlace = code.instruction(at: interrupted, step: position)
            guard try enter(step) else { return (nil, history) }
            // A budget of 0 installs state and delivers the event, and executes nothing.
            let entry = try runAndCompare(step, budget: 0)
            if comparing && !entry.difference.isEmpty {
                return (wrong(interruptedPlace, 0, entry.difference, isDelivery: step.event != nil), history)
            }
            guard !entry.outcome.failed, entry.outcome.exit.reason == .none else { return (nil, history) }
            var index: UInt64 = 0
            if lead > 0 {
                let outcome = try runAndCompare(step, budget: lead).outcome
                guard outcome.exit.reason == .none else { return (nil, history) }
                index = lead
            }
            while index <= step.retired ?? Self.uncountedInstructionsMax {
                let place = code.instruction(at: vcpu.saveState(), step: position)
                let (outcome, difference) = try runAndCompare(step, budget: 1)
                if comparing && !difference.isEmpty {
                    return (wrong(place, index, difference, isDelivery: false), history)
                }
                guard outcome.exit.reason == .none else { break }
                remember(place)
                index += 1
            }
            return (nil, history)
        }

        private func wrong(
            _ place: InstructionPlace, _ index: UInt64, _ difference: Difference, isDelivery: Bool
        ) -> WrongInstruction {
            WrongInstruction(
                place: place, index: index, isEventDelivery: isDelivery, fields: difference.fields,
                memory: difference.memory)
        }

        private func forgetTouched() {
            for machine in [actual, expected].compactMap({ $0 }) {
                for ordinal in machine.objects.keys { _ = machine.takeTouchedPages(of: ordinal) }
            }
        }
    }
}
