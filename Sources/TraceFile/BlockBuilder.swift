// Turns the steps of one VCPU in one epoch into the columns of a steps frame: Docs/trace-format.md, "Steps frame".

import NVMM

/// What stands between two steps, in order.
enum GapItem {
    case call(CallRecord)
    case memoryWrite(object: UInt32, offset: Int, bytes: Range<Int>, isRawStore: Bool)
    case guestWrite(object: UInt32, offset: Int, bytes: Range<Int>)
    case advance(ticks: UInt64)
    case machine(Range<Int>)
    case loss(Range<Int>)
}

/// First number of an item of a pattern.
enum PatternOp {
    static let call: UInt64 = 0
    static let memoryWrite: UInt64 = 1
    static let advance: UInt64 = 2
    static let machine: UInt64 = 3
    static let loss: UInt64 = 4
    /// For a call: bits 3 and 4 its kind, bit 5 its cost, bit 6 that another VCPU's number follows.
    static let otherVCPU: UInt64 = 64
    /// For a memory write: bit 3, found by comparing pages.
    static let rawStore: UInt64 = 8
    /// For a memory write: bit 4, by the guest, in the step before.
    static let byGuest: UInt64 = 16
}

/// Flags of an input tuple.
enum InputFlags {
    static let early: UInt64 = 1
    static let failed: UInt64 = 2
    static let budget: UInt64 = 4
    static let event: UInt64 = 8
    static let retired: UInt64 = 16
    static let time: UInt64 = 32
    /// The exit state is not the state's; the value stands in a column.
    static let ownRFLAGS: UInt64 = 64
    static let ownCR8: UInt64 = 128
    static let ownInterrupt: UInt64 = 256
    static let known: UInt64 = 511
}

/// Everything about a step's input and kind that recurs.
struct InputTuple: Hashable {
    var flags: UInt64 = 0
    var commit: UInt64 = 0
    var cached: UInt64 = 0
    var coverage: UInt64 = 0
    var eventKind: UInt64 = 0
    var eventVector: UInt64 = 0
    var eventError: UInt64 = 0
}

extension InputTuple: Internable {
    var mixed: UInt64 { flags &+ commit &* 31 &+ cached &* 131 &+ coverage &* 1031 &+ eventVector &* 8191 }
}

/// What a step is made of, by number in the block's tables.
struct StepTemplate: Hashable {
    var exit = 0
    var input = 0
    var pattern = 0
    var shape = 0
    var commitShape = 0
    var rip: UInt64 = 0
}

extension StepTemplate: Internable {
    var mixed: UInt64 {
        rip &+ UInt64(truncatingIfNeeded: exit &* 31 &+ input &* 131 &+ pattern &* 1031 &+ shape &* 8191 &+ commitShape)
    }
}

/// Columns of one VCPU's steps, growing. A value, changed in place: every step touches a dozen of its arrays, and in a
/// class each of these accesses would be tracked.
struct BlockBuilder {
    let vcpu: UInt32
    private(set) var summary = BlockSummary()
    private(set) var firstStep: UInt64 = 0

    /// State after the last step as logged; uncovered words as last known.
    private var logged = [UInt64](repeating: 0, count: VCPUState.wordCount)
    /// What a reader knows before the step.
    private var known = [UInt64](repeating: 0, count: VCPUState.wordCount)
    /// Words that may differ between ``logged`` and ``known`` since no state covered them.
    private var stale = WordMask()
    private var committed = [UInt64](repeating: 0, count: VCPUState.wordCount)
    private var key: [UInt64] = []
    private var lastClock: UInt64 = 0
    private var lastNPC: UInt64?
    private var lastBudget: UInt64 = 0
    private var lastIndex: UInt64 = 0

    private var templates = Interned<StepTemplate>()
    private var exits = Interned<ExitWords>()
    private var inputs = Interned<InputTuple>()
    private var patterns = Interned<[UInt8]>()
    private var shapes = Interned<WordMask>()
    private var stepTemplates: [Int] = []
    private var trailingPattern = 0

    private var gpa: [UInt64] = []
    private var msrValue: [UInt64] = []
    private var retired: [UInt64] = []
    private var clock: [UInt64] = []
    private var stepIndex: [UInt64] = []
    private var budget: [UInt64] = []
    private var exitRFLAGS: [UInt64] = []
    private var exitCR8: [UInt64] = []
    private var exitInterrupt: [UInt64] = []
    private var guestTime: [UInt64] = []
    private var vmmTime: [UInt64] = []
    private var memoryObject: [UInt64] = []
    private var memoryOffset: [UInt64] = []
    private var memoryLength: [UInt64] = []
    private var memoryBytes: [UInt8] = []
    private var advance: [UInt64] = []
    private var machine = ByteWriter()
    private var stateValues = [[UInt64]](repeating: [], count: VCPUState.wordCount)
    private var committedValues = [[UInt64]](repeating: [], count: VCPUState.wordCount)
    private var gapAdvances: UInt64 = 0
    private var memoryEnd: UInt64 = 0

    init(vcpu: UInt32, firstStep: UInt64) {
        self.vcpu = vcpu
        self.firstStep = firstStep
        _ = patterns.place(of: [])
        _ = shapes.place(of: WordMask())
    }

    // MARK: - Between steps

    /// Appends the events of a gap and returns their pattern.
    private mutating func pattern(of gap: [GapItem], journal: JournalReader) -> Int {
        gapAdvances = 0
        if gap.isEmpty { return 0 }
        var items = ByteWriter()
        for item in gap {
            switch item {
            case .call(let call):
                var op = PatternOp.call | UInt64(call.kind.rawValue) << 3 | UInt64(call.cost.rawValue) << 5
                if call.vcpu != vcpu { op |= PatternOp.otherVCPU }
                items.varint(op)
                if call.vcpu != vcpu { items.varint(call.vcpu) }
                items.varint(call.flags.rawValue)
                summary.calls[Int(call.kind.rawValue) * 2 + Int(call.cost.rawValue)] += 1
            case .memoryWrite(let object, let offset, let bytes, let isRawStore):
                items.varint(PatternOp.memoryWrite | (isRawStore ? PatternOp.rawStore : 0))
                addWrite(object: object, offset: offset, bytes: journal.bytes[bytes])
                summary.memoryWrites += 1
                summary.memoryWriteBytes += UInt64(bytes.count)
            case .guestWrite(let object, let offset, let bytes):
                items.varint(PatternOp.memoryWrite | PatternOp.byGuest)
                addWrite(object: object, offset: offset, bytes: journal.bytes[bytes])
            case .advance(let ticks):
                items.varint(PatternOp.advance)
                advance.append(ticks)
                gapAdvances &+= ticks
                summary.machineEvents += 1
            case .machine(let bytes):
                items.varint(PatternOp.machine)
                machine.bytes.append(contentsOf: journal.bytes[bytes])
                summary.machineEvents += 1
            case .loss(let bytes):
                items.varint(PatternOp.loss)
                machine.bytes.append(contentsOf: journal.bytes[bytes])
                var reader = ByteReader(journal.bytes, range: bytes, place: TracePlace(frame: 0))
                summary.lostEvents &+= (try? reader.loss().eventCount) ?? 0
            }
        }
        return patterns.place(of: items.bytes)
    }

    private mutating func addWrite(object: UInt32, offset: Int, bytes: ArraySlice<UInt8>) {
        memoryObject.append(UInt64(object))
        memoryOffset.append(UInt64(bitPattern: Int64(offset)) &- memoryEnd)
        memoryEnd = UInt64(bitPattern: Int64(offset)) &+ UInt64(bytes.count)
        memoryLength.append(UInt64(bytes.count))
        memoryBytes.append(contentsOf: bytes)
    }

    /// Events after the last step of the epoch.
    mutating func trail(_ gap: [GapItem], journal: JournalReader) {
        trailingPattern = pattern(of: gap, journal: journal)
    }

    // MARK: - Steps

    mutating func add(_ row: StepRow, index: UInt64, gap: [GapItem], journal: JournalReader) {
        let isFirst = summary.stepCount == 0
        var template = StepTemplate()
        template.pattern = pattern(of: gap, journal: journal)

        // What was committed: the logged values are relative to the state before.
        let commitParts = WordMask(parts: row.commit)
        var place = row.commitValues
        commitParts.forEach { committed[$0] = logged[$0] }
        row.commitMask.forEach {
            committed[$0] = journal.word(at: place)
            place += 8
        }
        place = row.stateValues
        row.stateMask.forEach {
            logged[$0] = journal.word(at: place)
            place += 8
        }
        if isFirst {
            firstStep = index
            key = logged
            known = logged
            stale = WordMask()
            summary.firstClock = row.clock
            lastClock = row.clock &- row.retired &- gapAdvances
            lastIndex = index &- 1
        }
        clock.append(row.clock &- lastClock &- row.retired &- gapAdvances)
        stepIndex.append(index &- lastIndex &- 1)
        let ticks = row.clock &- lastClock
        lastClock = row.clock
        lastIndex = index

        // Predictions: Docs/trace-format.md, "Prediction of states".
        // Only words that were logged, committed or predicted can differ from what is known: no other is looked at.
        var touched = stale
        touched.formUnion(row.stateMask)
        touched.insert(WordMask.rip)
        touched.insert(WordMask.tsc)
        known[WordMask.tsc] &+= ticks &- row.retired
        if !row.commit.isEmpty {
            if let lastNPC { known[WordMask.rip] = row.commit.contains(.gprs) ? lastNPC : known[WordMask.rip] }
            var shape = WordMask()
            commitParts.forEach { word in
                if committed[word] != known[word] {
                    shape.insert(word)
                    committedValues[word].append(committed[word])
                    known[word] = committed[word]
                }
            }
            touched.formUnion(shape)
            template.commitShape = shapes.place(of: shape)
        }
        known[WordMask.tsc] &+= row.retired
        let stateParts = WordMask(parts: row.coverage)
        var shape = WordMask()
        touched.intersection(stateParts).forEach { word in
            if logged[word] != known[word] && word != WordMask.rip {
                shape.insert(word)
                stateValues[word].append(logged[word])
            }
            known[word] = logged[word]
        }
        stale = touched.subtracting(stateParts)
        template.shape = shapes.place(of: shape)
        // Where RIP is not covered, the reader's idea of it stays what it is.
        template.rip = known[WordMask.rip]

        addExit(row, template: &template)
        addInput(row, template: &template)
        if row.flags & RowFlags.retired != 0 { retired.append(row.retired) }
        if row.flags & RowFlags.time != 0 {
            guestTime.append(row.guestTime)
            vmmTime.append(row.vmmTime)
        }
        stepTemplates.append(templates.place(of: template))
        summary.stepCount += 1
        summary.lastStep = index
        summary.retired &+= row.retired
        summary.count(exit: row.exit.number, time: row.guestTime)
    }

    private mutating func addExit(_ row: StepRow, template: inout StepTemplate) {
        var exit = row.exit
        lastNPC = nil
        if exit.carriesNPC {
            lastNPC = exit.d
            exit.d = exit.d &- template.rip
        }
        if exit.carriesGPA {
            gpa.append(exit.b)
            exit.b = 0
        }
        if exit.carriesValue {
            msrValue.append(exit.b)
            exit.b = 0
        }
        template.exit = exits.place(of: exit)
    }

    private mutating func addInput(_ row: StepRow, template: inout StepTemplate) {
        var input = InputTuple()
        input.flags = row.flags & 63
        input.commit = row.commit.rawValue
        input.cached = row.cached.rawValue
        input.coverage = row.coverage.rawValue
        if row.flags & RowFlags.event != 0 {
            input.eventKind = row.eventWord & 0xFFFF_FFFF
            input.eventVector = row.eventWord >> 32 & 0xFF
            input.eventError = row.eventError
            summary.injectedEvents += 1
        }
        if row.flags & RowFlags.early != 0 { summary.earlyReturns += 1 }
        if row.flags & RowFlags.budget != 0 {
            budget.append(row.budget &- lastBudget)
            lastBudget = row.budget &- row.retired
        }
        if row.exitRFLAGS != known[WordMask.rflags] {
            input.flags |= InputFlags.ownRFLAGS
            exitRFLAGS.append(row.exitRFLAGS)
        }
        if row.exitCR8 != known[WordMask.cr8] {
            input.flags |= InputFlags.ownCR8
            exitCR8.append(row.exitCR8)
        }
        if row.exitInterrupt != known[WordMask.interrupt] {
            input.flags |= InputFlags.ownInterrupt
            exitInterrupt.append(row.exitInterrupt)
        }
        template.input = inputs.place(of: input)
    }

    // MARK: - Columns

    /// The payload of the frame.
    mutating func payload(_ compressor: Compressor) throws(TraceWriteError) -> (bytes: [UInt8], rawBytes: Int) {
        var columns = ColumnSet(compressor: compressor)
        if !stepTemplates.isEmpty {
            var writer = ByteWriter()
            writer.varint(templates.elements.count)
            if templates.elements.count > 1 {
                writer.indexPlanes(stepTemplates, tableCount: templates.elements.count)
            }
            try columns.addAlone(.template, writer.bytes)
            try columns.addAlone(.templateExit, values: templates.elements.map { UInt64($0.exit) })
            try columns.addAlone(.exits, exitTable())
        }
        try columns.addAlone(.gpa, values: gpa)
        try columns.addAlone(.memoryBytes, memoryBytes)
        summary.storedWriteBytes = UInt64(columns.storedBytes(of: .memoryBytes))

        try columns.add(.templateInput, values: templates.elements.map { UInt64($0.input) })
        try columns.add(.templatePattern, values: templates.elements.map { UInt64($0.pattern) })
        try columns.add(.templateShape, values: templates.elements.map { UInt64($0.shape) })
        try columns.add(.templateCommitShape, values: templates.elements.map { UInt64($0.commitShape) })
        try columns.add(.templateRIP, values: templates.elements.map(\.rip))
        columns.add(.inputs, inputTable())
        columns.add(.patterns, patternTable())
        columns.add(.shapes, shapeTable())
        if !key.isEmpty { try columns.add(.key, values: key) }
        try columns.add(.msrValue, values: msrValue)
        try columns.add(.retired, values: retired)
        try columns.add(.clock, values: clock)
        try columns.add(.stepIndex, values: stepIndex)
        try columns.add(.budget, values: budget)
        try columns.add(.exitRFLAGS, values: exitRFLAGS)
        try columns.add(.exitCR8, values: exitCR8)
        try columns.add(.exitInterrupt, values: exitInterrupt)
        try columns.add(.guestTime, values: guestTime)
        try columns.add(.vmmTime, values: vmmTime)
        try columns.add(.memoryObject, values: memoryObject)
        try columns.add(.memoryOffset, values: memoryOffset)
        try columns.add(.memoryLength, values: memoryLength)
        try columns.add(.advance, values: advance)
        columns.add(.machine, machine.bytes)
        for word in 0..<VCPUState.wordCount { try columns.add(.state(word), values: stateValues[word]) }
        for word in 0..<VCPUState.wordCount { try columns.add(.committed(word), values: committedValues[word]) }
        return try columns.payload(summary: summary)
    }

    private func exitTable() -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(exits.elements.count)
        for exit in exits.elements {
            writer.byte(exit.number)
            writer.varint(exit.a)
            writer.varint(exit.c)
            if exit.carriesNPC { writer.difference(exit.d) } else { writer.varint(exit.d) }
        }
        return writer.bytes
    }

    private func inputTable() -> [UInt8] {
        if inputs.elements.isEmpty { return [] }
        var writer = ByteWriter()
        writer.varint(inputs.elements.count)
        for input in inputs.elements {
            writer.varint(input.flags)
            writer.varint(input.commit)
            writer.varint(input.cached)
            writer.varint(input.coverage)
            if input.flags & InputFlags.event != 0 {
                writer.varint(input.eventKind)
                writer.varint(input.eventVector)
                writer.varint(input.eventError)
            }
        }
        return writer.bytes
    }

    /// Number of the trailing pattern, count, then each pattern as byte count and items. Pattern 0 is empty.
    private func patternTable() -> [UInt8] {
        if patterns.elements.count == 1 { return [] }
        var writer = ByteWriter()
        writer.varint(trailingPattern)
        writer.varint(patterns.elements.count - 1)
        for pattern in patterns.elements.dropFirst() { writer.blob(pattern) }
        return writer.bytes
    }

    /// Count, then each shape but the empty number 0 as its two masks.
    private func shapeTable() -> [UInt8] {
        if shapes.elements.count == 1 { return [] }
        var writer = ByteWriter()
        writer.varint(shapes.elements.count - 1)
        for shape in shapes.elements.dropFirst() {
            writer.varint(shape.low)
            writer.varint(shape.high)
        }
        return writer.bytes
    }
}
