// A tracer that was preloaded into this process: the library tells it what happens, in the place of a trace of its own.
// What it is told stands in <nvmm_publication.h> and <ring_records.h>.

import CNVMM
import Glibc
import NVMM
import TraceFile
import Tracer

/// The sink of a recording whose events another process writes. Told under the recorder's lock, so in order.
///
/// SAFETY: the function is the tracer's exported one, of the type that <nvmm_publication.h> gives it, and stays where it
/// is: a preloaded library is never unloaded.
@safe final class PreloadedTracer: TraceSink {
    private typealias Tell = @convention(c) (
        UInt32, UInt32, UInt32, UnsafeRawPointer?, Int, UnsafeRawPointer?, Int
    ) -> Int32

    let level: RecordLevel
    private let tellFunction: Tell
    private let encoder: EventEncoder
    private(set) var stepCount: UInt64 = 0
    /// The next record says that what came before it is missing.
    private var mustRestart = false

    /// The tracer that records in this process; nil where none does.
    static func find() -> PreloadedTracer? {
        guard let levelSymbol = unsafe dlsym(nil, NVMM_TRACER_LEVEL_SYMBOL),
            let tellSymbol = unsafe dlsym(nil, NVMM_TRACER_TELL_SYMBOL)
        else { return nil }
        let level = unsafe unsafeBitCast(levelSymbol, to: (@convention(c) () -> Int32).self)()
        guard level > 0, let encoder = try? EventEncoder() else { return nil }
        return unsafe PreloadedTracer(
            level: level == 1 ? .exits : .replay, tell: unsafeBitCast(tellSymbol, to: Tell.self), encoder)
    }

    private init(level: RecordLevel, tell: Tell, _ encoder: EventEncoder) {
        self.level = level
        unsafe tellFunction = unsafe tell
        self.encoder = encoder
    }

    /// Begins the trace.
    ///
    /// - Returns: false where the tracer does not take it: then it makes the trace from the calls that it sees.
    func begin(_ header: TraceHeader) -> Bool {
        unsafe tell(UInt32(NVMM_TELL_HEADER), header.encodedBytes.span.bytes)
    }

    // MARK: - Telling

    @discardableResult private func tell(_ kind: UInt32, head: RawSpan? = nil, _ body: RawSpan) -> Bool {
        unsafe body.withUnsafeBytes { bytes in
            guard let head else {
                return unsafe tellFunction(kind, .max, .max, nil, 0, bytes.baseAddress, bytes.count) != 0
            }
            return unsafe head.withUnsafeBytes { front in
                unsafe tellFunction(
                    kind, .max, .max, front.baseAddress, front.count, bytes.baseAddress, bytes.count) != 0
            }
        }
    }

    /// `struct ring_told_event`, then the event.
    private func tellEvent(_ record: RawSpan) {
        var head: InlineArray<2, UInt32> = [1, mustRestart ? 1 : 0]
        let isTaken = unsafe withUnsafeBytes(of: &head) { unsafe tell(UInt32(NVMM_TELL_EVENT), head: $0.bytes, record) }
        if isTaken {
            mustRestart = false
        } else {
            encoder.restart()
            mustRestart = true
        }
    }

    func append(_ event: TraceEvent) throws(TraceWriteError) {
        switch event {
        case .step(let step): try appendStep(step)
        case .call(let call): appendCall(call)
        case .memoryWrite(let write):
            unsafe appendMemoryWrite(
                object: write.object, offset: write.offset, bytes: write.bytes.span.bytes, isRawStore: write.isRawStore)
        case .machine(let event): encoder.encode(event) { tellEvent($0) }
        case .loss(let loss): encoder.encode(loss) { tellEvent($0) }
        case .keyframe(let keyframe):
            unsafe tell(UInt32(NVMM_TELL_KEYFRAME), keyframe.encodedBytesWithoutPages.span.bytes)
        }
    }

    func appendStep(_ step: borrowing Step) throws(TraceWriteError) {
        try encoder.encode(step) { tellEvent($0) }
        stepCount &+= 1
    }

    func appendCall(_ call: CallRecord) { encoder.encode(call) { tellEvent($0) } }

    func appendMemoryWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {
        var done = 0
        repeat {
            let count = min(EventEncoder.writeBytesMax, bytes.byteCount - done)
            encoder.encodeWrite(
                object: object, offset: offset + done, bytes: bytes.extracting(done..<done + count),
                isRawStore: isRawStore
            ) { tellEvent($0) }
            done += count
        } while done < bytes.byteCount
    }

    /// `struct ring_told_page`, then the content. The tracer keeps the list of pages.
    func storePage(_ content: RawSpan, object: UInt32, page: Int) -> PageHash {
        var head: InlineArray<2, UInt64> = [UInt64(object), UInt64(page)]
        unsafe withUnsafeBytes(of: &head) { unsafe _ = tell(UInt32(NVMM_TELL_PAGE), head: $0.bytes, content) }
        return PageHash(content: content)
    }

    /// `struct ring_told_grade`.
    func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {
        let fields = reason.toldFields
        let words: [UInt64] = [
            UInt64(level.toldNumber) | UInt64(fields.number) << 32, fields.object, fields.page, fields.step,
        ]
        unsafe tell(UInt32(NVMM_TELL_GRADE), words.span.bytes)
    }

    /// The tracer's process counts.
    func finish() -> TraceTotals {
        let nothing: [UInt8] = []
        unsafe tell(UInt32(NVMM_TELL_END), nothing.span.bytes)
        return TraceTotals()
    }
}
