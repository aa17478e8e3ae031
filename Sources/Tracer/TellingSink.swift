// Tells a preloaded shim what is recorded, in the place of a trace of its own: the records RING_KIND_TOLD_* of
// Sources/CRing/include/ring_records.h. RecordImporter is the other side.

internal import CRing
internal import NVMM
public import TraceFile

/// A sink whose events another process writes into a trace. Told under the recorder's lock, so in order.
public final class TellingSink: TraceSink {
    /// Hands a record of this kind on, `head` and `body` one after the other.
    ///
    /// - Returns: false where it was lost.
    public typealias Tell = (_ kind: UInt32, _ head: RawSpan?, _ body: RawSpan) -> Bool

    private let tellFunction: Tell
    private let encoder: EventEncoder
    public private(set) var stepCount: UInt64 = 0
    /// The next record says that what came before it is missing.
    private var mustRestart = false

    /// Begins the trace.
    ///
    /// - Returns: nil where the shim does not take it: then it makes the trace of the calls that it sees.
    public init?(_ header: TraceHeader, tell: @escaping Tell) {
        guard let encoder = try? EventEncoder() else { return nil }
        self.encoder = encoder
        tellFunction = tell
        guard unsafe tell(UInt32(RING_KIND_TOLD_HEADER), nil, header.encodedBytes.span.bytes) else { return nil }
    }

    @discardableResult private func tell(_ kind: Int32, head: RawSpan? = nil, _ body: RawSpan) -> Bool {
        tellFunction(UInt32(kind), head, body)
    }

    /// `struct ring_told_event`, then the event.
    private func tellEvent(_ record: RawSpan) {
        var head: InlineArray<2, UInt32> = [
            UInt32(RING_TOLD_VERSION), mustRestart ? UInt32(RING_TOLD_RESTART) : 0,
        ]
        let isTaken = unsafe withUnsafeBytes(of: &head) { unsafe tell(RING_KIND_TOLD_EVENT, head: $0.bytes, record) }
        if isTaken {
            mustRestart = false
        } else {
            encoder.restart()
            mustRestart = true
        }
    }

    public func append(_ event: TraceEvent) throws(TraceWriteError) {
        switch event {
        case .step(let step): try appendStep(step)
        case .call(let call): appendCall(call)
        case .memoryWrite(let write):
            unsafe appendMemoryWrite(
                object: write.object, offset: write.offset, bytes: write.bytes.span.bytes, isRawStore: write.isRawStore)
        case .guestWrite(let write):
            unsafe EventEncoder.inPieces(write.bytes.span.bytes) { place, bytes in
                encoder.encodeGuestWrite(object: write.object, offset: write.offset + place, bytes: bytes) {
                    tellEvent($0)
                }
            }
        case .machine(let event): encoder.encode(event) { tellEvent($0) }
        case .loss(let loss): encoder.encode(loss) { tellEvent($0) }
        case .keyframe(let keyframe):
            unsafe tell(RING_KIND_TOLD_KEYFRAME, keyframe.encodedBytesWithoutPages.span.bytes)
        }
    }

    public func appendStep(_ step: borrowing Step) throws(TraceWriteError) {
        try encoder.encode(step) { tellEvent($0) }
        stepCount &+= 1
    }

    public func appendCall(_ call: CallRecord) { encoder.encode(call) { tellEvent($0) } }

    public func appendMemoryWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {
        EventEncoder.inPieces(bytes) { place, bytes in
            encoder.encodeWrite(object: object, offset: offset + place, bytes: bytes, isRawStore: isRawStore) {
                tellEvent($0)
            }
        }
    }

    /// `struct ring_told_page`, then the content. The tracer keeps the list of pages.
    public func storePage(_ content: RawSpan, object: UInt32, page: Int) -> PageHash {
        var head: InlineArray<2, UInt64> = [UInt64(object), UInt64(page)]
        unsafe withUnsafeBytes(of: &head) { unsafe _ = tell(RING_KIND_TOLD_PAGE, head: $0.bytes, content) }
        return PageHash(content: content)
    }

    /// `struct ring_told_grade`.
    public func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {
        let fields = reason.toldFields
        let words: [UInt64] = [
            UInt64(level.toldNumber) | UInt64(fields.number) << 32, fields.object, fields.page, fields.step,
        ]
        unsafe tell(RING_KIND_TOLD_GRADE, words.span.bytes)
    }

    /// The tracer's process counts.
    public func finish() -> TraceTotals {
        let nothing: [UInt8] = []
        unsafe tell(RING_KIND_TOLD_END, nothing.span.bytes)
        return TraceTotals()
    }
}
