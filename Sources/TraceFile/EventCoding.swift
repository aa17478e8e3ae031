// Single events as bytes, in the form that journals have: for the way from a process that is recorded to the one that
// writes its trace. Of one build, like journals, not for keeping: Docs/trace-format.md, "Journals".

public import NVMM

/// Turns events into bytes, each step relative to its VCPU's step before.
///
/// Not to be called from two threads at once.
@safe public final class EventEncoder {
    /// Bytes that a memory write may have here.
    public static let writeBytesMax = 128 << 10

    private let scratch: Journal
    /// Each VCPU's state after its last step: 126 words.
    private var previous: UnsafeMutablePointer<UInt64>
    private var previousCount = 0

    public init() throws(TraceWriteError) {
        scratch = try Journal(capacity: Self.writeBytesMax + 4096, descriptor: nil, trace: 0)
        unsafe previous = .allocate(capacity: VCPUState.wordCount)
    }

    deinit { unsafe previous.deallocate() }

    /// The next step of each VCPU is relative to zeros again: ``EventDecoder/restart()`` is the other side.
    public func restart() { unsafe previous.update(repeating: 0, count: previousCount * VCPUState.wordCount) }

    /// - Parameter body: gets the bytes, valid as long as it runs.
    public func encode(_ step: borrowing Step, _ body: (RawSpan) -> Void) throws(TraceWriteError) {
        let vcpu = Int(step.vcpu)
        if vcpu >= previousCount { try grow(to: step.vcpu) }
        scratch.open(epoch: 1, firstStep: 0)
        // SAFETY: `grow` made room for this VCPU's words.
        unsafe scratch.append(step, previous: previous + vcpu &* VCPUState.wordCount)
        scratch.withRecords(body)
    }

    public func encode(_ call: CallRecord, _ body: (RawSpan) -> Void) {
        scratch.open(epoch: 1, firstStep: 0)
        scratch.append(call)
        scratch.withRecords(body)
    }

    /// Calls `body` with where a piece of a write begins and its bytes, no more than one record holds.
    public static func inPieces(_ bytes: RawSpan, _ body: (Int, RawSpan) -> Void) {
        var done = 0
        repeat {
            let count = min(writeBytesMax, bytes.byteCount - done)
            body(done, bytes.extracting(done..<done + count))
            done += count
        } while done < bytes.byteCount
    }

    /// - Parameter bytes: at most ``writeBytesMax``; traps otherwise.
    public func encodeWrite(
        object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool, _ body: (RawSpan) -> Void
    ) {
        precondition(bytes.byteCount <= Self.writeBytesMax, "a write that long is encoded as several")
        scratch.open(epoch: 1, firstStep: 0)
        scratch.appendWrite(object: object, offset: offset, bytes: bytes, isRawStore: isRawStore)
        scratch.withRecords(body)
    }

    /// What the guest wrote, likewise.
    public func encodeGuestWrite(object: UInt32, offset: Int, bytes: RawSpan, _ body: (RawSpan) -> Void) {
        precondition(bytes.byteCount <= Self.writeBytesMax, "a write that long is encoded as several")
        scratch.open(epoch: 1, firstStep: 0)
        scratch.appendGuestWrite(object: object, offset: offset, bytes: bytes)
        scratch.withRecords(body)
    }

    public func encode(_ event: MachineEvent, _ body: (RawSpan) -> Void) {
        scratch.open(epoch: 1, firstStep: 0)
        if case .advanceClock(let ticks) = event {
            scratch.appendAdvance(ticks: ticks)
        } else {
            var writer = ByteWriter()
            writer.machineEvent(event)
            unsafe scratch.append(type: .machine, bytes: writer.bytes.span.bytes)
        }
        scratch.withRecords(body)
    }

    public func encode(_ loss: Loss, _ body: (RawSpan) -> Void) {
        scratch.open(epoch: 1, firstStep: 0)
        var writer = ByteWriter()
        writer.loss(Loss(eventCount: loss.eventCount, reason: String(loss.reason.prefix(1024))))
        unsafe scratch.append(type: .loss, bytes: writer.bytes.span.bytes)
        scratch.withRecords(body)
    }

    private func grow(to id: UInt32) throws(TraceWriteError) {
        guard id < TraceWriter.vcpusMax else { throw .invalidVCPU(id: id) }
        let count = Int(id) + 1
        let grown = UnsafeMutablePointer<UInt64>.allocate(capacity: count * VCPUState.wordCount)
        unsafe grown.update(repeating: 0, count: count * VCPUState.wordCount)
        unsafe grown.update(from: previous, count: previousCount * VCPUState.wordCount)
        unsafe previous.deallocate()
        unsafe previous = grown
        previousCount = count
    }
}

/// What ``EventDecoder/decode(_:from:)`` found.
public enum DecodedEvent {
    /// It stands in ``EventDecoder/step``, in place: two whole states are not passed around.
    case step
    case call(CallRecord)
    /// Boxed: an event is as large as a step, and calls, which come between all steps, must not be.
    indirect case other(TraceEvent)
}

/// The other side of ``EventEncoder``. Its input is untrusted.
public struct EventDecoder {
    /// The last step.
    public private(set) var step: Step
    /// Each VCPU's state after its last step, by number; grown as numbers come, which are below
    /// ``TraceWriter/vcpusMax``.
    private var known: [VCPUState] = []

    public init() {
        step = Step(
            vcpu: 0, kind: .entered, exit: VCPUExit(), cached: [], retired: nil, clock: 0, state: VCPUState())
    }

    public mutating func restart() { known = [] }

    /// Takes up in the middle: `state` is the VCPU's after the last step that was decoded.
    public mutating func resume(vcpu: UInt32, state: VCPUState) {
        guard vcpu < TraceWriter.vcpusMax else { return }
        grow(to: Int(vcpu))
        known[Int(vcpu)] = state
    }

    private mutating func grow(to vcpu: Int) {
        while known.count <= vcpu { known.append(.zero) }
    }

    /// - Parameter position: where in `bytes` the record begins, as the encoder's body got it; it ends with them.
    /// - Throws: ``TraceError/damagedJournal(number:position:)`` and ``TraceError/malformed(_:_:)``.
    public mutating func decode(_ bytes: [UInt8], from position: Int = 0) throws(TraceError) -> DecodedEvent {
        var reader = JournalReader(bytes, from: position, isTrusted: false)
        guard position >= 0, let record = try reader.next(), reader.position == bytes.count else {
            throw .damagedJournal(number: 0, position: reader.position)
        }
        return try event(of: record, in: bytes, reader)
    }

    /// Decodes records that stand one after the other.
    ///
    /// - Throws: what `body` throws, and ``TraceWriteError/journal(_:)``.
    public mutating func forEach(
        in bytes: [UInt8], _ body: (TraceEvent) throws(TraceWriteError) -> Void
    ) throws(TraceWriteError) {
        var reader = JournalReader(bytes, from: 0, isTrusted: false)
        while true {
            let decoded: DecodedEvent
            do throws(TraceError) {
                guard let record = try reader.next() else { break }
                decoded = try event(of: record, in: bytes, reader)
            } catch {
                throw .journal(error)
            }
            switch decoded {
            case .step: try body(.step(step))
            case .call(let call): try body(.call(call))
            case .other(let event): try body(event)
            }
        }
        guard reader.position == bytes.count else {
            throw .journal(.damagedJournal(number: 0, position: reader.position))
        }
    }

    private mutating func event(
        of record: JournalRecord, in bytes: [UInt8], _ reader: JournalReader
    ) throws(TraceError) -> DecodedEvent {
        switch record {
        case .step(let row):
            try take(row, reader)
            return .step
        case .call(let call): return .call(call)
        case .memoryWrite(let object, let offset, let range, let isRawStore):
            guard offset >= 0 else { throw .damagedJournal(number: 0, position: 0) }
            return .other(
                .memoryWrite(
                    MemoryWrite(object: object, offset: offset, bytes: Array(bytes[range]), isRawStore: isRawStore)))
        case .guestWrite(let object, let offset, let range):
            guard offset >= 0 else { throw .damagedJournal(number: 0, position: 0) }
            return .other(.guestWrite(MemoryWrite(object: object, offset: offset, bytes: Array(bytes[range]))))
        case .advance(let ticks): return .other(.machine(.advanceClock(ticks: ticks)))
        case .machine(let range):
            var fields = ByteReader(bytes, range: range, place: TracePlace(frame: 0))
            let event = try fields.machineEvent()
            try fields.expectEnd()
            return .other(.machine(event))
        case .loss(let range):
            var fields = ByteReader(bytes, range: range, place: TracePlace(frame: 0))
            let loss = try fields.loss()
            try fields.expectEnd()
            return .other(.loss(loss))
        }
    }

    private mutating func take(_ row: StepRow, _ reader: JournalReader) throws(TraceError) {
        guard let reason = row.exit.reason, row.vcpu < TraceWriter.vcpusMax else {
            throw .damagedJournal(number: 0, position: 0)
        }
        let vcpu = Int(row.vcpu)
        grow(to: vcpu)
        if !row.commit.isEmpty {
            step.committed.copy(row.commit, from: known[vcpu])
            Self.apply(row.commitMask, at: row.commitValues, of: reader, to: &step.committed)
        }
        Self.apply(row.stateMask, at: row.stateValues, of: reader, to: &known[vcpu])
        step.state = known[vcpu]
        step.vcpu = row.vcpu
        step.kind = row.flags & RowFlags.early != 0 ? .returnedEarly : .entered
        step.commit = row.commit
        step.failed = row.flags & RowFlags.failed != 0
        step.exit = VCPUExit(
            reason: reason,
            state: ExitState(
                rflags: row.exitRFLAGS, cr8: row.exitCR8, interrupt: InterruptState(rawValue: row.exitInterrupt)))
        step.cached = row.cached
        step.clock = row.clock
        step.coverage = row.coverage
        step.budget = row.flags & RowFlags.budget != 0 ? row.budget : nil
        step.retired = row.flags & RowFlags.retired != 0 ? row.retired : nil
        step.event = nil
        if row.flags & RowFlags.event != 0 {
            step.event = VCPUEvent(
                kind: .init(rawValue: UInt32(truncatingIfNeeded: row.eventWord)),
                vector: UInt8(truncatingIfNeeded: row.eventWord >> 32), errorCode: row.eventError)
        }
        step.time = nil
        if row.flags & RowFlags.time != 0 {
            step.time = StepTime(guestNanoseconds: row.guestTime, vmmNanoseconds: row.vmmTime)
        }
    }

    /// The reader has held all of the mask's values against the record's end.
    private static func apply(
        _ mask: WordMask, at start: Int, of reader: JournalReader, to state: inout VCPUState
    ) {
        guard !mask.isEmpty else { return }
        state.withMutableWords { words in
            var place = start
            mask.forEach { word in
                words[word] = reader.word(at: place)
                place += 8
            }
        }
    }
}

extension VCPUState {
    /// All words zero, the FXSAVE image's too.
    fileprivate static var zero: VCPUState {
        var state = VCPUState()
        state.withMutableWords { words in
            for word in 0..<wordCount { words[word] = 0 }
        }
        return state
    }
}

/// Events as a journal holds them. Keyframes have no place there.
func journalRecords(of events: [TraceEvent]) throws(TraceError) -> [UInt8] {
    var bytes: [UInt8] = []
    func append(_ record: RawSpan) { unsafe record.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) } }
    do throws(TraceWriteError) {
        let encoder = try EventEncoder()
        for event in events {
            switch event {
            case .step(let step): try encoder.encode(step, append)
            case .call(let call): encoder.encode(call, append)
            case .memoryWrite(let write) where write.bytes.count <= EventEncoder.writeBytesMax:
                unsafe encoder.encodeWrite(
                    object: write.object, offset: write.offset, bytes: write.bytes.span.bytes,
                    isRawStore: write.isRawStore, append)
            case .guestWrite(let write) where write.bytes.count <= EventEncoder.writeBytesMax:
                unsafe encoder.encodeGuestWrite(
                    object: write.object, offset: write.offset, bytes: write.bytes.span.bytes, append)
            case .machine(let event): encoder.encode(event, append)
            case .loss(let loss): encoder.encode(loss, append)
            case .memoryWrite, .guestWrite, .keyframe: break
            }
        }
    } catch {
        throw .damagedJournal(number: journalsMax, position: bytes.count)
    }
    return bytes
}

// MARK: - What comes once in a while

extension TraceHeader {
    /// The payload of a header frame.
    public var encodedBytes: [UInt8] { encoded() }

    /// - Throws: ``TraceError/malformed(_:_:)``.
    public init(encodedBytes: [UInt8]) throws(TraceError) {
        self = try TraceHeader(encodedBytes, required: 0, place: TracePlace(frame: 0))
    }
}

extension Keyframe {
    /// The payload of a keyframe frame whose objects list no pages.
    public var encodedBytesWithoutPages: [UInt8] {
        var writer = ByteWriter()
        let objects = objects.map { ObjectPages(object: $0.object, byteCount: $0.byteCount, pages: []) }
        writer.keyframe(self, objects: objects, base: nil, baseEpoch: 0)
        return writer.bytes
    }

    /// - Throws: ``TraceError/malformed(_:_:)``, ``TraceError/limitExceeded(_:value:maximum:offset:)``.
    public init(encodedBytesWithoutPages bytes: [UInt8], limits: ReaderLimits = .default) throws(TraceError) {
        let raw = try RawKeyframe(bytes, place: TracePlace(frame: 0), limits: limits)
        self.init(
            stepCount: raw.stepCount, clock: raw.clock, machinePrivateState: raw.machinePrivateState, vcpus: raw.vcpus,
            objects: raw.changes.map { ObjectImage(object: $0.object, byteCount: $0.byteCount, pages: []) },
            gpaRanges: raw.gpaRanges)
    }
}
