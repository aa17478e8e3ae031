// The newest part of a recording, kept in memory until somebody wants it as a trace.

public import NVMM
public import TraceFile

/// A sink that forgets. What it keeps begins at a keyframe, so that it can be replayed by itself; at level `exits`,
/// which has none, anywhere.
///
/// ```swift
/// let flight = try FlightRecorder(Recorder.header(of: backend, options: options), byteCount: 64 << 20)
/// let recorder = Recorder(flight, of: backend, options: options)
/// // ... and once something has gone wrong:
/// try flight.write(to: .file("crash.vmtrace"))
/// ```
///
/// Not to be called from two threads at once.
public final class FlightRecorder: TraceSink {
    /// A stretch of the recording that can be read without what precedes it.
    private struct Segment {
        /// What it begins with; nil at the start of the recording, and where there are none.
        var keyframe: Keyframe?
        /// Events as journals have them, one after the other.
        var records: [UInt8] = []
        var eventCount: UInt64 = 0
        /// Steps of the recording before it.
        var firstStep: UInt64
    }

    private let header: TraceHeader
    private let byteCount: Int
    /// Whether keyframes come by and by; of a client of /dev/kvm there is one, at its end.
    private let hasKeyframes: Bool
    private let encoder: EventEncoder
    private var segments: [Segment]
    /// Contents that keyframes which are kept list, or that the next one will.
    private var pages: [PageHash: [UInt8]] = [:]
    /// What the last keyframe lists: pages that stay as they are are not stored again for the next.
    private var lastPages: Set<PageHash> = []
    /// Stored since then.
    private var newPages: Set<PageHash> = []
    private var recordBytes = 0
    private var droppedEvents: UInt64 = 0
    /// The bound was met without a keyframe: nothing is kept until the next.
    private var isWaiting = false
    private var endsAtNextStep = false
    private var isEnded = false

    public private(set) var stepCount: UInt64 = 0
    /// Steps that ended otherwise than with the exit `NONE`, which is the host's: a guest that hangs has no others.
    public private(set) var guestExitCount: UInt64 = 0
    /// The exit after which nothing more was kept, once there was one.
    public private(set) var ending: ExitReason?
    /// Says of each exit whether the recording ends with it.
    public var endsAfter: (ExitReason) -> Bool = { _ in false }

    /// Bytes of events that a segment without a keyframe holds, as a part of the whole.
    private static let segmentShare = 8
    /// The least that is of use: some keyframes' worth of a small guest.
    public static let byteCountMin = 1 << 20

    /// - Parameters:
    ///   - header: the trace's, but for what says which part of the recording it is.
    ///   - byteCount: what events and earlier contents of pages may take, at least ``byteCountMin``; guest memory as
    ///     of the last keyframe comes on top. A trace of them is smaller.
    public init(_ header: TraceHeader, byteCount: Int) throws(TraceWriteError) {
        self.header = header
        hasKeyframes = header.level != .exits && !header.finishesInstructions
        self.byteCount = max(byteCount, Self.byteCountMin)
        encoder = try EventEncoder()
        segments = [Segment(firstStep: 0)]
    }

    /// Bytes of events and earlier contents of pages that are kept.
    public var keptBytes: Int { recordBytes + (pages.count - lastPages.count) * 4096 }

    /// Keeps nothing further: what there is is to be written.
    public func end() { isEnded = true }

    // MARK: - Events

    public func append(_ event: TraceEvent) throws(TraceWriteError) {
        switch event {
        case .step(let step): try appendStep(step)
        case .call(let call): appendCall(call)
        case .memoryWrite(let write):
            unsafe appendMemoryWrite(
                object: write.object, offset: write.offset, bytes: write.bytes.span.bytes, isRawStore: write.isRawStore)
        case .guestWrite(let write):
            unsafe EventEncoder.inPieces(write.bytes.span.bytes) { place, bytes in
                encoder.encodeGuestWrite(object: write.object, offset: write.offset + place, bytes: bytes, keep)
            }
        case .machine(let event): encoder.encode(event, keep)
        case .loss(let loss): encoder.encode(loss, keep)
        case .keyframe(let keyframe): begin(with: keyframe)
        }
    }

    public func appendStep(_ step: borrowing Step) throws(TraceWriteError) {
        if endsAtNextStep { isEnded = true }
        guard !isEnded else { return }
        if !hasKeyframes, let last = segments.last, last.records.count > byteCount / Self.segmentShare {
            begin(with: nil)
        }
        try encoder.encode(step, keep)
        stepCount &+= 1
        guard step.exit.reason != .none else { return }
        guestExitCount &+= 1
        guard endsAfter(step.exit.reason) else { return }
        ending = step.exit.reason
        // What the VMM does until it runs the guest again belongs to it.
        endsAtNextStep = true
    }

    public func appendCall(_ call: CallRecord) { encoder.encode(call, keep) }

    public func appendMemoryWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {
        EventEncoder.inPieces(bytes) { place, bytes in
            encoder.encodeWrite(object: object, offset: offset + place, bytes: bytes, isRawStore: isRawStore, keep)
        }
    }

    public func storePage(_ content: RawSpan, object: UInt32, page: Int) -> PageHash {
        let name = PageHash(content: content)
        guard !isEnded, name != .zeroPage else { return name }
        newPages.insert(name)
        if pages[name] == nil { pages[name] = unsafe content.withUnsafeBytes { unsafe Array($0) } }
        return name
    }

    public func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {}

    /// Ends the recording. The figures are those of ``write(to:options:)``.
    public func finish() -> TraceTotals {
        isEnded = true
        return TraceTotals()
    }

    // MARK: - What is kept

    private func keep(_ record: RawSpan) {
        guard !isEnded else { return }
        guard !isWaiting else {
            droppedEvents &+= 1
            return
        }
        let last = segments.count - 1
        unsafe record.withUnsafeBytes { unsafe segments[last].records.append(contentsOf: $0) }
        segments[last].eventCount &+= 1
        recordBytes += record.byteCount
        if keptBytes > byteCount { drop() }
    }

    private func begin(with keyframe: Keyframe?) {
        guard !isEnded else { return }
        newPages.removeAll(keepingCapacity: true)
        if let keyframe { lastPages = Self.contents(keyframe) }
        encoder.restart()
        let segment = Segment(keyframe: keyframe, firstStep: stepCount)
        if isWaiting { segments = [segment] } else { segments.append(segment) }
        isWaiting = false
        // What the keyframe before listed may have made it too much.
        if keptBytes > byteCount { drop() }
    }

    private static func contents(_ keyframe: Keyframe) -> Set<PageHash> {
        Set(keyframe.objects.flatMap { $0.pages.map(\.content) })
    }

    /// Forgets the oldest segments until the bound holds. The last one must hold it alone: it would be no use without
    /// its beginning.
    private func drop() {
        while keptBytes > byteCount, segments.count > 1 {
            let oldest = segments.removeFirst()
            droppedEvents &+= oldest.eventCount
            recordBytes -= oldest.records.count
            forgetPages()
        }
        guard keptBytes > byteCount, let only = segments.first, !only.records.isEmpty else { return }
        droppedEvents &+= only.eventCount
        recordBytes = 0
        segments = [Segment(firstStep: stepCount)]
        encoder.restart()
        isWaiting = hasKeyframes
        forgetPages()
    }

    private func forgetPages() {
        var listed = newPages.union(lastPages)
        for segment in segments { if let keyframe = segment.keyframe { listed.formUnion(Self.contents(keyframe)) } }
        pages = pages.filter { listed.contains($0.key) }
    }

    // MARK: - The trace

    /// Whether what is kept would replay, had it not lost its beginning.
    public var lacksBeginning: Bool { header.level != .exits && !hasKeyframes && firstStep > 0 }

    /// Number of the first step that is kept.
    public var firstStep: UInt64 { segments.first?.firstStep ?? 0 }

    /// Writes what is kept. Steps are counted from 0 in it; the header's parameter `first-step` says which one of the
    /// recording that was. Can be called again.
    ///
    /// - Throws: what ``TraceWriter`` throws.
    public func write(
        to destination: TraceDestination, options: TraceWriterOptions = TraceWriterOptions()
    ) throws(TraceWriteError) -> TraceTotals {
        var header = header
        header.parameters.append(.init(key: TraceHeader.Parameter.firstStep, value: "\(firstStep)"))
        header.parameters.sort { $0.key < $1.key }
        let writer = try TraceWriter(destination, header: header, options: options)
        if droppedEvents > 0 {
            let reason = "the flight recorder kept what came after step \(firstStep)"
            try writer.append(.loss(Loss(eventCount: droppedEvents, reason: reason)))
        }
        for segment in segments {
            if var keyframe = segment.keyframe {
                for object in keyframe.objects {
                    for reference in object.pages {
                        guard let content = pages[reference.content] else { continue }
                        _ = try unsafe writer.storePage(content.span.bytes)
                    }
                }
                keyframe.stepCount = writer.stepCount
                try writer.append(.keyframe(keyframe))
            }
            var decoder = EventDecoder()
            try decoder.forEach(in: segment.records) { (event) throws(TraceWriteError) in try writer.append(event) }
        }
        return try writer.finish()
    }
}
