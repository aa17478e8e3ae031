// Counting without decoding steps: how `stats` reads a trace. A block's templates are counted, then their parts are
// looked up; only the columns that are asked for are decompressed.

public import NVMM

/// What a scan is to give beside the exits.
public struct ScanColumns: OptionSet, Sendable {
    public var rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
    /// ``ExitBlock/injections``.
    public static let injections = ScanColumns(rawValue: 1)
    /// ``ExitBlock/calls``.
    public static let calls = ScanColumns(rawValue: 2)
    /// ``ExitBlock/gpas``.
    public static let gpas = ScanColumns(rawValue: 4)
    /// ``ExitBlock/stepExits``.
    public static let steps = ScanColumns(rawValue: 8)
    /// ``ExitBlock/retired``.
    public static let retired = ScanColumns(rawValue: 16)
    /// ``ExitBlock/guestNanoseconds``.
    public static let time = ScanColumns(rawValue: 32)
}

/// The exits of one block: steps of one VCPU, some thousands of them.
public struct ExitBlock: Sendable {
    /// A kind of exit that occurred, with its count.
    public struct Exit: Sendable {
        /// With `npc` as a distance from RIP, and GPA and MSR value 0: those have columns of their own.
        public var reason: ExitReason
        public var count: Int
    }
    public var vcpu: UInt32
    /// Machine-wide number of the first step. Steps of other VCPUs may stand between those of the block.
    public var firstStep: UInt64
    public var stepCount: Int
    /// No two have equal reasons; in order of first appearance.
    public var exits: [Exit] = []
    public var injections: [(event: VCPUEvent, count: Int)] = []
    /// Calls between the steps, and after the last of them where the epoch ends.
    public var calls: [(call: CallRecord, count: Int)] = []
    /// What the runs consumed, each combination with its count; with ``ScanColumns/injections``.
    public var inputs: [(commit: StateFlags, kind: RunKind, failed: Bool, count: Int)] = []
    /// Advances of the clock, and stores found by comparing pages; with ``ScanColumns/calls``.
    public var clockAdvances = 0
    public var rawStores = 0
    /// Of the MEMORY exits, in order.
    public var gpas: [UInt64] = []
    /// For each step, its place in ``exits``.
    public var stepExits: [UInt32] = []
    /// Of the steps that have a count, in order.
    public var retired: [UInt64] = []
    /// Of the steps that have a time, in order.
    public var guestNanoseconds: [UInt64] = []
}

extension TraceReader {
    /// Hands over all blocks, in the order of the file.
    ///
    /// - Returns: what was damaged and is therefore not counted.
    /// - Throws: ``TraceError/io(call:errno:)`` and limits of the index; what `body` throws is not caught.
    public func scanExits(
        _ columns: ScanColumns = [], _ body: (ExitBlock) -> Void
    ) throws(TraceError) -> [TraceError] {
        var problems: [TraceError] = []
        let entries = try loadIndex()
        problems += damage
        for entry in entries where entry.type == FrameType.steps.rawValue {
            do throws(TraceError) {
                body(try exitBlock(entry, columns))
            } catch {
                if case .io = error { throw error }
                problems.append(error)
            }
        }
        return problems
    }

    private func exitBlock(_ entry: IndexEntry, _ wanted: ScanColumns) throws(TraceError) -> ExitBlock {
        let columns = try self.columns(entry)
        var block = ExitBlock(vcpu: entry.vcpu, firstStep: entry.firstStep, stepCount: columns.summary.stepCount)
        var patternCounts: [Int] = []
        if block.stepCount > 0 {
            let steps = try columns.templates()
            var counts = [Int](repeating: 0, count: steps.count)
            for template in steps.steps { counts[Int(template)] &+= 1 }

            let exits = try columns.exits()
            let templateExits = try columns.values(.templateExit, count: steps.count)
            block.exits = exits.map { ExitBlock.Exit(reason: $0.reason ?? .none, count: 0) }
            try add(counts, templateExits, .templateExit, entry, exits.count) { block.exits[$0].count += $1 }
            if wanted.contains(.steps) {
                block.stepExits = steps.steps.map { UInt32(truncatingIfNeeded: templateExits[Int($0)]) }
            }
            if wanted.contains(.injections) {
                let inputs = try BlockDecoder.inputs(columns)
                let templateInputs = try columns.values(.templateInput, count: steps.count)
                var inputCounts = [Int](repeating: 0, count: inputs.count)
                try add(counts, templateInputs, .templateInput, entry, inputs.count) { inputCounts[$0] += $1 }
                for (input, count) in zip(inputs, inputCounts) {
                    if input.flags & InputFlags.event != 0 { block.injections.append((input.event, count)) }
                    block.inputs.append(
                        (
                            StateFlags(rawValue: input.commit),
                            input.flags & InputFlags.early != 0 ? .returnedEarly : .entered,
                            input.flags & InputFlags.failed != 0, count
                        ))
                }
            }
            if wanted.contains(.calls) {
                let templatePatterns = try columns.values(.templatePattern, count: steps.count)
                guard let last = Int(exactly: templatePatterns.max() ?? 0), last <= steps.count else {
                    throw .malformed(.indexOutOfRange, TracePlace(frame: entry.offset, column: .templatePattern))
                }
                let patternCount = last + 1
                patternCounts = [Int](repeating: 0, count: patternCount)
                try add(counts, templatePatterns, .templatePattern, entry, patternCount) { patternCounts[$0] += $1 }
            }
        }
        if wanted.contains(.calls) {
            let other = try BlockDecoder.calls(columns, vcpu: entry.vcpu, stepCounts: patternCounts)
            block.calls = other.calls
            block.clockAdvances = other.clockAdvances
            block.rawStores = other.rawStores
        }
        if wanted.contains(.gpas) { block.gpas = try columns.values(.gpa) ?? zeros(block, ExitWords.memory) }
        if wanted.contains(.retired) { block.retired = try columns.values(.retired) ?? [] }
        if wanted.contains(.time) { block.guestNanoseconds = try columns.values(.guestTime) ?? [] }
        return block
    }

    /// A GPA column that is left out says that all of them are 0.
    private func zeros(_ block: ExitBlock, _ number: UInt8) -> [UInt64] {
        let count = block.exits.reduce(0) { $0 + (ExitWords($1.reason).number == number ? $1.count : 0) }
        return [UInt64](repeating: 0, count: count)
    }

    /// Adds up steps by the part of their templates that `parts` names.
    private func add(
        _ counts: [Int], _ parts: [UInt64], _ id: ColumnID, _ entry: IndexEntry, _ bound: Int,
        _ body: (Int, Int) -> Void
    ) throws(TraceError) {
        for template in counts.indices {
            guard parts[template] < UInt64(bound) else {
                throw .malformed(.indexOutOfRange, TracePlace(frame: entry.offset, column: id, position: template))
            }
            body(Int(parts[template]), counts[template])
        }
    }
}

extension InputTuple {
    var event: VCPUEvent {
        VCPUEvent(
            kind: .init(rawValue: UInt32(truncatingIfNeeded: eventKind)),
            vector: UInt8(truncatingIfNeeded: eventVector), errorCode: eventError)
    }
}

extension BlockDecoder {
    /// Calls and other events of all patterns, each as often as steps have it (the trailing one once more).
    static func calls(
        _ columns: BlockColumns, vcpu: UInt32, stepCounts: [Int]
    ) throws(TraceError) -> (calls: [(call: CallRecord, count: Int)], clockAdvances: Int, rawStores: Int) {
        let table = try patterns(columns)
        guard stepCounts.count <= table.ranges.count else {
            throw .malformed(.indexOutOfRange, TracePlace(frame: columns.offset, column: .templatePattern))
        }
        var places: [CallRecord: Int] = [:]
        var result: [(call: CallRecord, count: Int)] = []
        var (clockAdvances, rawStores) = (0, 0)
        for (pattern, range) in table.ranges.enumerated() {
            var count = pattern < stepCounts.count ? stepCounts[pattern] : 0
            if pattern == table.trailing && pattern > 0 { count += 1 }
            if count == 0 { continue }
            var reader = ByteReader(table.reader.bytes, range: range, place: table.reader.place)
            while !reader.isAtEnd {
                let op = try reader.varint()
                if op & 7 == PatternOp.advance { clockAdvances += count }
                if op & 7 == PatternOp.memoryWrite, op & PatternOp.rawStore != 0 { rawStores += count }
                guard op & 7 == PatternOp.call else { continue }
                let call = try reader.call(op: op, vcpu: vcpu)
                if let place = places[call] {
                    result[place].count += count
                } else {
                    places[call] = result.count
                    result.append((call, count))
                }
            }
        }
        return (result, clockAdvances, rawStores)
    }
}

extension ByteReader {
    /// The call that begins with `op`, of `vcpu` unless another is named.
    mutating func call(op: UInt64, vcpu: UInt32) throws(TraceError) -> CallRecord {
        guard op < 128, let kind = CallRecord.Kind(rawValue: UInt8(op >> 3 & 3)),
            let cost = CallCost(rawValue: UInt8(op >> 5 & 1))
        else { throw failure(.unknownValue) }
        let who = op & PatternOp.otherVCPU != 0 ? try varint32() : vcpu
        return CallRecord(vcpu: who, kind: kind, flags: StateFlags(rawValue: try varint()), cost: cost)
    }
}
