// What a killed drainer left in its ring: the end of a trace that stands, or a whole one where it had not come so far.

internal import NVMM
public import SystemPackage
public import TraceFile

/// The events in the ring at `ring` that come after those of the trace at `trace`, as far as they can be told.
///
/// Keyframes are left out: some of their pages were with the drainer. So is all of a client of another project's
/// libnvmm, whose calls make sense from the beginning alone.
///
/// - Throws: ``ImportError``; where the trace cannot be read, ``ImportError/notARecording``: then
///   ``importLeftover(ring:to:)`` is the way.
public func leftoverEvents(ring path: FilePath, of trace: FilePath) throws(ImportError) -> [TraceEvent] {
    let ring = try RecordRing(leftAt: path.string)
    let reader: TraceReader
    var states: [UInt32: VCPUState] = [:]
    var eventCount: UInt64 = 0
    do throws(TraceError) {
        reader = try TraceReader(path: trace)
        if reader.isComplete { return [] }
        let cursor = try reader.cursor()
        while true {
            // Damage is for the repair that follows; the cursor goes on behind it.
            guard let event = try? cursor.next() else { break }
            eventCount &+= 1
            if case .step(let step) = event { states[step.vcpu] = step.state }
        }
    } catch {
        throw .notARecording
    }
    guard let taking = ring.taking else { return [] }
    try ring.resume(at: eventCount > taking.eventsBefore ? taking.sequence + 1 : taking.sequence)
    let collector = EventCollector()
    let importer = RecordImporter(appendingTo: collector, header: reader.header, states: states)
    // What was damaged ends it; what came before is good.
    try? ring.drainRest(
        eventCount: { 0 },
        missing: { (count) throws(ImportError) in
            try importer.noteLoss(count, "the client died in the middle of writing them")
        }, importer.take)
    return collector.events
}

/// Makes a trace of all that stands in the ring at `ring`, where its drainer had not yet begun one.
public func importLeftover(ring path: FilePath, to destination: TraceDestination) throws(ImportError) -> ImportResult {
    let drain = RingDrain(try RecordRing(leftAt: path.string), to: destination)
    return try drain.finish()
}

/// Keeps events in memory.
private final class EventCollector: TraceSink {
    private(set) var events: [TraceEvent] = []
    private(set) var stepCount: UInt64 = 0

    func append(_ event: TraceEvent) {
        if case .step = event { stepCount &+= 1 }
        events.append(event)
    }
    func appendStep(_ step: borrowing Step) { append(.step(copy step)) }
    func appendCall(_ call: CallRecord) { append(.call(call)) }
    func appendMemoryWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {
        let copied = unsafe bytes.withUnsafeBytes { unsafe Array($0) }
        append(.memoryWrite(MemoryWrite(object: object, offset: offset, bytes: copied, isRawStore: isRawStore)))
    }
    func storePage(_ content: RawSpan, object: UInt32, page: Int) -> PageHash { PageHash(content: content) }
    func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {}
    func finish() -> TraceTotals { TraceTotals() }
}
