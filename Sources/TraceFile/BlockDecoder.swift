// Turns a steps frame back into events: the inverse of BlockBuilder, on untrusted bytes.

import NVMM

/// Goes through the events of one steps frame.
final class BlockDecoder {
    let vcpu: UInt32
    let columns: BlockColumns
    private let firstStep: UInt64
    private let templates: [StepTemplate]
    private let stepTemplates: [UInt32]
    private let exits: [ExitWords]
    private let inputs: [InputTuple]
    private var patternReader: ByteReader
    private let patternRanges: [Range<Int>]
    private let trailingPattern: Int
    private let shapes: [WordMask]

    private var known: [UInt64]
    private var position = 0
    private var lastClock: UInt64 = 0
    private var lastNPC: UInt64?
    private var lastBudget: UInt64 = 0
    private var gapAdvances: UInt64 = 0
    private var memoryEnd: UInt64 = 0
    /// The rest of the pattern that is being gone through; nil between.
    private var gap: ByteReader?
    private var isTrailing = false

    private var gpa: ValueStream
    private var msrValue: ValueStream
    private var retired: ValueStream
    private var clock: ValueStream
    private var stepIndex: ValueStream
    private var budget: ValueStream
    private var exitRFLAGS: ValueStream
    private var exitCR8: ValueStream
    private var exitInterrupt: ValueStream
    private var guestTime: ValueStream
    private var vmmTime: ValueStream
    private var memoryObject: ValueStream
    private var memoryOffset: ValueStream
    private var memoryLength: ValueStream
    private var memoryBytes: ByteReader
    private var advance: ValueStream
    private var machine: ByteReader
    private var stateValues: [ValueStream] = []
    private var committedValues: [ValueStream] = []

    /// Number of the step to come; nil after the last.
    private(set) var nextIndex: UInt64?

    init(_ columns: BlockColumns, vcpu: UInt32, firstStep: UInt64, limits: ReaderLimits) throws(TraceError) {
        self.vcpu = vcpu
        self.columns = columns
        self.firstStep = firstStep
        let steps = try columns.templates()
        stepTemplates = steps.steps
        exits = steps.count > 0 ? try columns.exits() : []
        inputs = steps.count > 0 ? try Self.inputs(columns) : []
        shapes = try Self.shapes(columns)
        let table = try Self.patterns(columns)
        patternReader = table.reader
        patternRanges = table.ranges
        trailingPattern = table.trailing

        let exit = try columns.values(.templateExit, count: steps.count)
        let input = try columns.values(.templateInput, count: steps.count)
        let pattern = try columns.values(.templatePattern, count: steps.count)
        let shape = try columns.values(.templateShape, count: steps.count)
        let commitShape = try columns.values(.templateCommitShape, count: steps.count)
        let rip = try columns.values(.templateRIP, count: steps.count)
        var templates: [StepTemplate] = []
        templates.reserveCapacity(steps.count)
        for index in 0..<steps.count {
            func place(_ id: ColumnID) -> TraceError {
                .malformed(.indexOutOfRange, TracePlace(frame: columns.offset, column: id, position: index))
            }
            guard exit[index] < UInt64(exits.count) else { throw place(.templateExit) }
            guard input[index] < UInt64(inputs.count) else { throw place(.templateInput) }
            guard pattern[index] < UInt64(patternRanges.count) else { throw place(.templatePattern) }
            guard shape[index] < UInt64(shapes.count) else { throw place(.templateShape) }
            guard commitShape[index] < UInt64(shapes.count) else { throw place(.templateCommitShape) }
            let template = StepTemplate(
                exit: Int(exit[index]), input: Int(input[index]), pattern: Int(pattern[index]),
                shape: Int(shape[index]), commitShape: Int(commitShape[index]), rip: rip[index])
            // Else a shape could name words that no value column exists for.
            let tuple = inputs[template.input]
            guard
                shapes[template.shape].isSubset(of: WordMask(parts: StateFlags(rawValue: tuple.coverage))),
                shapes[template.commitShape].isSubset(of: WordMask(parts: StateFlags(rawValue: tuple.commit)))
            else { throw place(.templateShape) }
            templates.append(template)
        }
        self.templates = templates

        known = try columns.values(.key, count: steps.count > 0 ? VCPUState.wordCount : 0)
        gpa = try columns.stream(.gpa)
        msrValue = try columns.stream(.msrValue)
        retired = try columns.stream(.retired)
        clock = try columns.stream(.clock)
        stepIndex = try columns.stream(.stepIndex)
        budget = try columns.stream(.budget)
        exitRFLAGS = try columns.stream(.exitRFLAGS)
        exitCR8 = try columns.stream(.exitCR8)
        exitInterrupt = try columns.stream(.exitInterrupt)
        guestTime = try columns.stream(.guestTime)
        vmmTime = try columns.stream(.vmmTime)
        memoryObject = try columns.stream(.memoryObject)
        memoryOffset = try columns.stream(.memoryOffset)
        memoryLength = try columns.stream(.memoryLength)
        memoryBytes = try columns.column(.memoryBytes) ?? Self.empty(columns, .memoryBytes)
        advance = try columns.stream(.advance)
        machine = try columns.column(.machine) ?? Self.empty(columns, .machine)
        let none = ValueStream(values: nil, place: TracePlace(frame: columns.offset))
        stateValues = Array(repeating: none, count: VCPUState.wordCount)
        committedValues = stateValues
        // Most words have no column; those that have are few enough to be worth asking first.
        for id in try columns.ids() {
            if let word = id.stateWord { stateValues[word] = try columns.stream(id) }
            if let word = id.committedWord { committedValues[word] = try columns.stream(id) }
        }

        var events = 0
        for step in stepTemplates {
            events &+= patternRanges[templates[Int(step)].pattern].count
            guard events <= limits.eventsPerBlock else { break }
        }
        guard events <= limits.eventsPerBlock else {
            throw .limitExceeded(
                .eventsPerBlock, value: UInt64(events), maximum: UInt64(limits.eventsPerBlock),
                offset: columns.offset)
        }
        if !stepTemplates.isEmpty { nextIndex = firstStep &+ (try stepIndex.next()) }
    }

    private static func empty(_ columns: BlockColumns, _ id: ColumnID) -> ByteReader {
        ByteReader([], place: TracePlace(frame: columns.offset, column: id))
    }

    // MARK: - Tables

    static func inputs(_ columns: BlockColumns) throws(TraceError) -> [InputTuple] {
        guard var reader = try columns.column(.inputs) else {
            throw .malformed(.missingColumn, TracePlace(frame: columns.offset, column: .inputs))
        }
        var result: [InputTuple] = []
        for _ in 0..<(try reader.count(max: min(reader.remaining / 4, columns.summary.stepCount))) {
            var tuple = InputTuple()
            tuple.flags = try reader.varint()
            guard tuple.flags & ~InputFlags.known == 0 else { throw reader.failure(.unknownValue) }
            tuple.commit = try reader.varint()
            tuple.cached = try reader.varint()
            tuple.coverage = try reader.varint()
            if tuple.flags & InputFlags.event != 0 {
                tuple.eventKind = UInt64(try reader.varint32())
                tuple.eventVector = UInt64(try reader.count(max: 255))
                tuple.eventError = try reader.varint()
            }
            result.append(tuple)
        }
        try reader.expectEnd()
        return result
    }

    private static func shapes(_ columns: BlockColumns) throws(TraceError) -> [WordMask] {
        var result = [WordMask()]
        guard var reader = try columns.column(.shapes) else { return result }
        for _ in 0..<(try reader.count(max: reader.remaining / 2)) {
            let mask = WordMask(low: try reader.varint(), high: try reader.varint())
            guard mask.isValid else { throw reader.failure(.unknownValue) }
            result.append(mask)
        }
        try reader.expectEnd()
        return result
    }

    static func patterns(
        _ columns: BlockColumns
    ) throws(TraceError) -> (reader: ByteReader, ranges: [Range<Int>], trailing: Int) {
        guard var reader = try columns.column(.patterns) else { return (empty(columns, .patterns), [0..<0], 0) }
        let trailing = try reader.nonNegative()
        var ranges = [0..<0]
        for _ in 0..<(try reader.count(max: reader.remaining)) {
            let count = try reader.count(max: reader.remaining)
            ranges.append(reader.position..<reader.position + count)
            _ = try reader.slice(count)
        }
        guard trailing < ranges.count else { throw reader.failure(.indexOutOfRange) }
        try reader.expectEnd()
        return (reader, ranges, trailing)
    }

    // MARK: - Events

    /// The next event up to and including the step `nextIndex`. To be called while that is not nil.
    func next() throws(TraceError) -> TraceEvent? {
        guard position < stepTemplates.count else { return nil }
        let template = templates[Int(stepTemplates[position])]
        if let event = try nextGapEvent(of: template.pattern) { return event }
        return .step(try step(template))
    }

    /// The next event after the last step; nil at the end.
    func nextTrailing() throws(TraceError) -> TraceEvent? {
        isTrailing = true
        return try nextGapEvent(of: trailingPattern)
    }

    private func nextGapEvent(of pattern: Int) throws(TraceError) -> TraceEvent? {
        if gap == nil {
            let range = patternRanges[pattern]
            if range.isEmpty { return nil }
            gap = ByteReader(patternReader.bytes, range: range, place: patternReader.place)
        }
        guard var reader = gap else { return nil }
        // The end is looked for before each item, and `gap` kept until the step itself is made, so that a pattern
        // is not begun again; `step` and the end of the trailing events forget it.
        guard !reader.isAtEnd else { return nil }
        let op = try reader.varint()
        let event: TraceEvent
        switch op & 7 {
        case PatternOp.call:
            event = .call(try reader.call(op: op, vcpu: vcpu))
        case PatternOp.memoryWrite: event = try memoryWrite(op)
        case PatternOp.advance:
            let ticks = try advance.next()
            gapAdvances &+= ticks
            event = .machine(.advanceClock(ticks: ticks))
        case PatternOp.machine: event = .machine(try machine.machineEvent())
        case PatternOp.loss: event = .loss(try machine.loss())
        default: throw reader.failure(.unknownValue)
        }
        gap = reader
        return event
    }

    private func memoryWrite(_ op: UInt64) throws(TraceError) -> TraceEvent {
        let object = try memoryObject.next()
        let offset = memoryEnd &+ (try memoryOffset.next())
        let length = try memoryLength.next()
        guard object <= UInt64(UInt32.max), offset <= UInt64(Int.max), length <= UInt64(memoryBytes.remaining) else {
            throw memoryBytes.failure(.inconsistent)
        }
        memoryEnd = offset &+ length
        let write = MemoryWrite(
            object: UInt32(object), offset: Int(offset), bytes: Array(try memoryBytes.slice(Int(length))),
            isRawStore: op & PatternOp.rawStore != 0)
        return op & PatternOp.byGuest != 0 ? .guestWrite(write) : .memoryWrite(write)
    }

    private func step(_ template: StepTemplate) throws(TraceError) -> Step {
        let input = inputs[template.input]
        let commit = StateFlags(rawValue: input.commit)
        let coverage = StateFlags(rawValue: input.coverage)
        let retiredCount = input.flags & InputFlags.retired != 0 ? try retired.next() : 0
        let residual = try clock.next()
        if position == 0 {
            lastClock = columns.summary.firstClock &- retiredCount &- gapAdvances
        }
        let now = lastClock &+ retiredCount &+ gapAdvances &+ residual
        let ticks = now &- lastClock
        lastClock = now

        // Predictions, as in BlockBuilder.add.
        known[WordMask.tsc] &+= ticks &- retiredCount
        var committed = VCPUState()
        if !commit.isEmpty {
            if let lastNPC, commit.contains(.gprs) { known[WordMask.rip] = lastNPC }
            try shapes[template.commitShape].forEachThrowing { (word) throws(TraceError) in
                known[word] = try committedValues[word].next()
            }
            copyKnown(commit, to: &committed)
        }
        known[WordMask.tsc] &+= retiredCount
        try shapes[template.shape].forEachThrowing { (word) throws(TraceError) in
            known[word] = try stateValues[word].next()
        }
        if coverage.contains(.gprs) { known[WordMask.rip] = template.rip }
        var state = VCPUState()
        copyKnown(coverage, to: &state)

        var exit = exits[template.exit]
        lastNPC = nil
        if exit.carriesNPC {
            exit.d &+= known[WordMask.rip]
            lastNPC = exit.d
        }
        if exit.carriesGPA { exit.b = try gpa.next() }
        if exit.carriesValue { exit.b = try msrValue.next() }
        let rflags = input.flags & InputFlags.ownRFLAGS != 0 ? try exitRFLAGS.next() : known[WordMask.rflags]
        let cr8 = input.flags & InputFlags.ownCR8 != 0 ? try exitCR8.next() : known[WordMask.cr8]
        let interrupt =
            input.flags & InputFlags.ownInterrupt != 0 ? try exitInterrupt.next() : known[WordMask.interrupt]

        var stepBudget: UInt64?
        if input.flags & InputFlags.budget != 0 {
            let value = lastBudget &+ (try budget.next())
            stepBudget = value
            lastBudget = value &- retiredCount
        }
        var event: VCPUEvent?
        if input.flags & InputFlags.event != 0 {
            event = input.event
        }
        var time: StepTime?
        if input.flags & InputFlags.time != 0 {
            time = StepTime(guestNanoseconds: try guestTime.next(), vmmNanoseconds: try vmmTime.next())
        }
        gapAdvances = 0
        gap = nil
        position += 1
        if position < stepTemplates.count {
            // Ascending, so that a merge of VCPUs is one.
            let (next, overflow) = (nextIndex ?? 0).addingReportingOverflow(try stepIndex.next())
            guard !overflow, next < UInt64.max else {
                throw .malformed(.disorder, TracePlace(frame: columns.offset, column: .stepIndex, position: position))
            }
            nextIndex = next + 1
        } else {
            nextIndex = nil
        }
        return Step(
            vcpu: vcpu, kind: input.flags & InputFlags.early != 0 ? .returnedEarly : .entered, budget: stepBudget,
            commit: commit, committed: committed, event: event, failed: input.flags & InputFlags.failed != 0,
            exit: VCPUExit(
                reason: exit.reason ?? .none,
                state: ExitState(rflags: rflags, cr8: cr8, interrupt: InterruptState(rawValue: interrupt))),
            cached: StateFlags(rawValue: input.cached),
            retired: input.flags & InputFlags.retired != 0 ? retiredCount : nil, clock: now, coverage: coverage,
            state: state, time: time)
    }

    private func copyKnown(_ parts: StateFlags, to state: inout VCPUState) {
        state.withMutableWords { words in
            WordMask(parts: parts).forEach { words[$0] = known[$0] }
        }
    }

    /// Whether everything in the frame was used; to be asked when all events have been taken.
    func checkEnd() throws(TraceError) {
        for stream in [
            gpa, msrValue, retired, clock, stepIndex, budget, exitRFLAGS, exitCR8, exitInterrupt, guestTime, vmmTime,
            memoryObject, memoryOffset, memoryLength, advance,
        ] { try stream.expectEnd() }
        for stream in stateValues { try stream.expectEnd() }
        for stream in committedValues { try stream.expectEnd() }
        try memoryBytes.expectEnd()
        try machine.expectEnd()
    }
}
