// Makes a complete trace of what a killed writer, a full disk or a bad medium left: Docs/trace-format.md, "Recovery".

import Glibc
import NVMM
public import SystemPackage

/// Failures of ``repairTrace(path:output:limits:)``.
public enum RepairError: Error, Equatable, Sendable {
    case read(TraceError)
    case write(TraceWriteError)
    /// Output and input are one file.
    case sameFile
}

/// What a repair did, and exactly what is lost.
public struct RepairReport: Equatable, Sendable {
    /// Index and trailer stood already.
    public var wasComplete = false
    /// Journals beside the file whose steps went into the output.
    public var journalsMerged = 0
    /// Steps in the output.
    public var stepsRecovered: UInt64 = 0
    /// Steps that are not: machine-wide numbers. They keep their numbers in the output.
    public var stepsLost: [Range<UInt64>] = []
    /// Bytes of the file that were no good frame: damaged, cut off, or never finished.
    public var bytesLost: [Range<UInt64>] = []
    /// Steps after the last recovered one may have been lost: the end of the file is damaged, and no trailer says how
    /// many there were. After SIGKILL that is the record in flight, which `bytesLost` does not count.
    public var endIsUncertain = false
    /// Keyframes that could not be put together any more.
    public var keyframesLost = 0
    /// What was found wrong.
    public var damage: [TraceError] = []
    /// Of the output.
    public var totals = TraceTotals()

    public var isLossless: Bool {
        stepsLost.isEmpty && bytesLost.isEmpty && keyframesLost == 0 && damage.isEmpty
    }
    public init() {}
}

/// Writes to `output` a complete trace of everything that is good in `path` and the journals beside it, which stay
/// as they are.
public func repairTrace(
    path: FilePath, output: FilePath, limits: ReaderLimits = .default
) throws(RepairError) -> RepairReport {
    try repairTrace(path: path, to: .file(output), limits: limits)
}

/// As ``repairTrace(path:output:limits:)``, to a pipe as well. What a pipe got before an error stays with its reader.
///
/// - Parameter appended: events that came after the last one of a trace that was not closed, and are known from
///   elsewhere; no keyframes, and writes of ``EventEncoder/writeBytesMax`` at most.
public func repairTrace(
    path: FilePath, to destination: TraceDestination, appending appended: [TraceEvent] = [],
    limits: ReaderLimits = .default
) throws(RepairError) -> RepairReport {
    let reader = try reading { () throws(TraceError) in
        try TraceReader(path: path, limits: limits, trustingIndex: false, appended: appended)
    }
    if case .file(let output) = destination, isSameFile(path, output) { throw .sameFile }
    var report = RepairReport()
    report.wasComplete = reader.isComplete
    report.journalsMerged = reader.journalsMerged
    report.damage = reader.damage
    for problem in reader.damage {
        switch problem {
        case .damagedHeader(let offset, let resume): report.bytesLost.append(offset..<resume)
        case .truncated(let offset, _): report.bytesLost.append(offset..<reader.source.fileBytes)
        default: break
        }
    }
    let files: TraceFiles
    do throws(TraceWriteError) { files = try TraceFiles(destination, journalCount: 0) } catch { throw .write(error) }
    do throws(RepairError) {
        try copyFrames(from: reader, to: DescriptorSink(files.descriptor), &report)
    } catch {
        // The source is still there; half a copy helps nobody. A device or a pipe is not ours to remove.
        files.discard()
        if let output = files.path { unsafe unlink(output) }
        throw error
    }
    files.discard()
    return report
}

private func reading<Result>(_ body: () throws(TraceError) -> Result) throws(RepairError) -> Result {
    do throws(TraceError) { return try body() } catch { throw .read(error) }
}

private func writing<Result>(_ body: () throws(TraceWriteError) -> Result) throws(RepairError) -> Result {
    do throws(TraceWriteError) { return try withoutSignals(body) } catch { throw .write(error) }
}

private func copyFrames(
    from reader: TraceReader, to output: DescriptorSink, _ report: inout RepairReport
) throws(RepairError) {
    let start = try reading { () throws(TraceError) in try reader.source.read(0, Int(reader.startBytes)) }
    let sink = try writing { () throws(TraceWriteError) in
        let sink = FrameSink(output, compressor: try Compressor(level: 3))
        try sink.start(start)
        return sink
    }
    var resolver = KeyframeResolver()
    var kept: Set<UInt32> = []
    for entry in try reading({ () throws(TraceError) in try reader.loadIndex() }) {
        switch FrameType(rawValue: entry.type) {
        case .keyframe:
            guard let frame = try keyframe(entry, reader, &resolver, kept: kept, sink.compressor) else {
                report.keyframesLost += 1
                continue
            }
            kept.insert(entry.epoch)
            try writing { () throws(TraceWriteError) in try sink.write(frame, clock: entry.clock) }
        case .steps, .pages, .sharedPages, nil:
            let frame = try reading { () throws(TraceError) in try reader.encodedFrame(entry) }
            try writing { () throws(TraceWriteError) in try sink.write(frame, pages: PageBatch(counting: entry)) }
        default: break
        }
    }
    try writing { () throws(TraceWriteError) in try sink.finish() }
    report.totals = sink.totals
    try findLostSteps(reader, &report)
}

/// The keyframe's frame as it is to stand in the output; nil where it cannot be used any more.
private func keyframe(
    _ entry: IndexEntry, _ reader: TraceReader, _ resolver: inout KeyframeResolver, kept: Set<UInt32>,
    _ compressor: Compressor
) throws(RepairError) -> EncodedFrame? {
    let raw: RawKeyframe
    let pages: [ObjectPages]
    do throws(TraceError) {
        (raw, pages) = try resolver.resolve(entry, reader: reader)
        for object in pages {
            for slot in object.pages where try reader.pageName(slot: slot.slot) == nil { return nil }
        }
        if raw.baseEpoch == 0 || kept.contains(raw.baseEpoch) {
            return try reader.encodedFrame(entry)
        }
    } catch {
        if case .io = error { throw .read(error) }
        if case .limitExceeded = error { throw .read(error) }
        return nil
    }
    // What it built on is gone from the output: all its pages are listed.
    let image = Keyframe(
        stepCount: raw.stepCount, clock: raw.clock, machinePrivateState: raw.machinePrivateState, vcpus: raw.vcpus,
        objects: [], gpaRanges: raw.gpaRanges)
    var writer = ByteWriter()
    writer.keyframe(image, objects: pages, base: nil, baseEpoch: 0)
    return try writing { () throws(TraceWriteError) in
        try EncodedFrame(
            compressing: writer.bytes, with: compressor, type: .keyframe, flags: .epochEnd,
            firstStep: raw.stepCount, epoch: entry.epoch)
    }
}

/// Gaps in the numbers of the steps.
private func findLostSteps(_ reader: TraceReader, _ report: inout RepairReport) throws(RepairError) {
    let cursor = try reading { () throws(TraceError) in try reader.cursor() }
    var end: UInt64 = 0
    walking: while true {
        do throws(TraceError) {
            guard let event = try cursor.next() else { break walking }
            if case .step = event {
                report.stepsRecovered += 1
                end = cursor.nextStepIndex
            }
        } catch {
            switch error {
            case .io: throw .read(error)
            case .missingSteps(let first, let next): report.stepsLost.append(first..<next)
            case .unusableKeyframe, .damagedPayload, .damagedHeader: break
            default: report.damage.append(error)
            }
        }
    }
    if let trailer = reader.trailer {
        let last = trailer.summary.lastStep
        if trailer.summary.stepCount > 0, last >= end, last < UInt64.max { report.stepsLost.append(end..<last + 1) }
    } else {
        let isCut = reader.damage.last.map { problem in
            switch problem {
            case .truncated, .damagedJournal: true
            case .damagedHeader(_, let resume): resume == reader.source.fileBytes
            default: false
            }
        }
        report.endIsUncertain = isCut ?? (reader.journalsMerged == 0)
    }
}
