// The two ways to a trace of a preloaded client: draining the ring while it runs, and reading a file of records.

internal import CRing
internal import NVMM
public import SystemPackage
public import TraceFile

/// Drains the ring of a running client into a trace.
///
/// ```swift
/// let ring = try RecordRing(creating: "run.vmtrace.open.ring", level: .replay)
/// let drain = RingDrain(ring, to: .file("run.vmtrace"))
/// // start the client with VMTRACE_RING and LD_PRELOAD, then, while it runs:
/// try drain.step()
/// let result = try drain.finish()
/// ```
public final class RingDrain {
    private let ring: RecordRing
    private let importer: RecordImporter
    /// Polls since the last record.
    private var idlePolls = 0

    public init(_ ring: RecordRing, to destination: TraceDestination, options: TraceWriterOptions = .init()) {
        self.ring = ring
        importer = RecordImporter { header throws(TraceWriteError) in
            try TraceWriter(destination, header: header, options: options)
        }
    }

    /// Drains it into a sink of the caller's, made once the trace's header is known.
    public init(_ ring: RecordRing, into makeSink: @escaping (TraceHeader) throws(TraceWriteError) -> any TraceSink) {
        self.ring = ring
        importer = RecordImporter(makeSink: makeSink)
    }

    public var stepCount: UInt64 { importer.stepCount }
    /// Whether a client has begun to record.
    public var hasTrace: Bool { importer.sink != nil }
    public var grade: TraceGrade { importer.grade }

    /// Takes over what is there, and tells the client that somebody does.
    ///
    /// - Returns: false where there was nothing: wait a moment.
    /// - Throws: the trace then ends where it is; ``RecordRing/turnOff()`` lets the client go on.
    public func step() throws(ImportError) -> Bool {
        ring.beat()
        var count = 0
        // Until the trace has a header it is in nobody's hands but ours, which a kill empties.
        ring.keep(importer.sink == nil)
        while importer.sink == nil, try drain(atMost: 1) > 0 { count += 1 }
        if importer.sink != nil {
            ring.keep(false)
            count += try drain(atMost: 4096)
        }
        idlePolls = count == 0 ? idlePolls + 1 : 0
        return count > 0
    }

    private func drain(atMost count: Int) throws(ImportError) -> Int {
        try ring.drain(
            atMost: count, isBlocked: idlePolls > 20, eventCount: { importer.eventCount }, importer.take)
    }

    /// Takes over the rest once the client has ended, and closes the trace.
    public func finish() throws(ImportError) -> ImportResult {
        try ring.drainRest(
            eventCount: { importer.eventCount },
            missing: { (count) throws(ImportError) in
                try importer.noteLoss(count, "the client died in the middle of writing them")
            }, importer.take)
        // The last ones: no record came after them that would have said so.
        let lost = ring.lostCount
        if lost > importer.lostCount { try importer.noteLoss(lost - importer.lostCount, "the ring was full") }
        return try importer.finish()
    }

    /// Closes the trace with what it holds: after an error, records that follow make no sense.
    public func finishEarly() throws(ImportError) -> ImportResult { try importer.finish() }
}

/// What ``importRecords(path:to:options:)`` did.
public struct ImportReport: Equatable, Sendable {
    public var result: ImportResult
    /// Bytes of a last record that was cut off: its writer was killed.
    public var cutOffBytes: UInt64
    /// Why reading ended before the end of the file; the trace holds what precedes it.
    public var damage: ImportError?
}

/// Makes a trace of a file of records.
///
/// - Throws: where nothing was recorded that a trace could be made of, or it could not be written; what is damaged
///   further on ends the trace, and stands in the report.
public func importRecords(
    path: FilePath, to destination: TraceDestination, options: TraceWriterOptions = .init()
) throws(ImportError) -> ImportReport {
    try importRecords(
        path: path,
        with: RecordImporter { header throws(TraceWriteError) in
            try TraceWriter(destination, header: header, options: options)
        })
}

func importRecords(path: FilePath, with importer: RecordImporter) throws(ImportError) -> ImportReport {
    let records = try RawRecords(path: path.string)
    var damage: ImportError?
    do throws(ImportError) {
        while let (record, missing) = try records.next() {
            try importer.noteLoss(missing, "the client died in the middle of writing them")
            try importer.take(record)
        }
    } catch {
        if case .write = error { throw error }
        if case .io = error { throw error }
        guard importer.sink != nil else { throw error }
        damage = error
    }
    let result = try importer.finish()
    return ImportReport(result: result, cutOffBytes: records.cutOffBytes, damage: damage)
}
