// Checks a whole trace: every checksum, every column, every figure that is there twice.

import NVMM
public import SystemPackage

/// What a verification found.
public struct VerifyReport: Equatable, Sendable {
    /// Index and trailer stand. A trace without them may be sound, but its writer did not finish it.
    public var isComplete = false
    public var frameCount = 0
    public var byteCount: UInt64 = 0
    public var stepCount: UInt64 = 0
    /// Journals beside the file that hold steps which the file has not.
    public var journalsMerged = 0
    /// In the order in which they were met.
    public var problems: [TraceError] = []

    public var isIntact: Bool { problems.isEmpty }
    public init() {}
}

/// Reads all of a trace and compares everything that can be compared.
///
/// - Throws: ``TraceError/io(call:errno:)``, ``TraceError/notATrace``, ``TraceError/unsupportedFeature(bit:name:)``,
///   ``TraceError/unknownCriticalFrame(type:offset:)`` and exceeded limits: what hinders checking. A file that is
///   shorter than the magic number is no trace either (``TraceError/tooShort(byteCount:)``). Damage is in the report.
public func verifyTrace(path: FilePath, limits: ReaderLimits = .default) throws(TraceError) -> VerifyReport {
    try verifyTrace(path: path, limits: limits, stopsAtFirstProblem: false)
}

/// - Parameter stopsAtFirstProblem: leaves out the passes after the first one that found something: enough to know
///   whether there is damage, and sooner.
func verifyTrace(
    path: FilePath, limits: ReaderLimits = .default, stopsAtFirstProblem: Bool
) throws(TraceError) -> VerifyReport {
    var report = VerifyReport()
    let reader: TraceReader
    do throws(TraceError) {
        reader = try TraceReader(path: path, limits: limits, trustingIndex: false)
    } catch {
        switch error {
        case .io, .notATrace, .unsupportedFeature, .unknownCriticalFrame, .limitExceeded: throw error
        // Without its whole magic number nothing says that this was ever a trace.
        case .tooShort(let byteCount) where byteCount < UInt64(Preamble.magic.count): throw error
        default:
            report.problems.append(error)
            return report
        }
    }
    report.isComplete = reader.isComplete
    report.journalsMerged = reader.journalsMerged
    report.byteCount = reader.source.fileBytes
    let entries = try reader.loadIndex()
    report.frameCount = entries.count
    report.problems += reader.damage

    if let trailer = reader.trailer {
        do throws(TraceError) {
            if try reader.indexed(by: trailer) != entries {
                report.problems.append(.malformed(.inconsistent, TracePlace(frame: reader.trailerOffset)))
            }
        } catch {
            if case .io = error { throw error }
            report.problems.append(error)
        }
        // What the trailer sums up, against the frames themselves; the trailer does not count its own bytes.
        var counted = reader.countedTotals
        counted.bytes.index &-= reader.source.fileBytes - reader.trailerOffset
        if reader.damage.isEmpty, counted != trailer.totals {
            report.problems.append(.malformed(.inconsistent, TracePlace(frame: reader.trailerOffset)))
        }
    }
    if stopsAtFirstProblem && !report.isIntact { return report }
    try verifyPages(reader, entries, &report)
    if stopsAtFirstProblem && !report.isIntact { return report }
    try verifySummaries(reader, entries, &report)
    if stopsAtFirstProblem && !report.isIntact { return report }
    try verifyEvents(reader, &report)
    return report
}

/// Every event, in order, with all merging; damage that opening has told already is not told again.
private func verifyEvents(_ reader: TraceReader, _ report: inout VerifyReport) throws(TraceError) {
    let cursor = try reader.cursor()
    while true {
        do throws(TraceError) {
            guard let event = try cursor.next() else { return }
            if case .step = event { report.stepCount += 1 }
        } catch {
            if case .io = error { throw error }
            if !report.problems.contains(error) { report.problems.append(error) }
        }
    }
}

/// Each block's summary against its steps.
private func verifySummaries(
    _ reader: TraceReader, _ entries: [IndexEntry], _ report: inout VerifyReport
) throws(TraceError) {
    for entry in entries where entry.type == FrameType.steps.rawValue {
        do throws(TraceError) {
            let columns = try reader.columns(entry)
            let decoder = try BlockDecoder(
                columns, vcpu: entry.vcpu, firstStep: entry.firstStep, limits: reader.limits)
            var summary = BlockSummary()
            summary.storedWriteBytes = columns.storedBytes(of: .memoryBytes)
            var lastIndex = decoder.nextIndex
            if let lastIndex, lastIndex != entry.firstStep {
                throw .malformed(.inconsistent, TracePlace(frame: entry.offset))
            }
            while let event = try decoder.next() {
                summary.count(event, index: lastIndex ?? 0)
                lastIndex = decoder.nextIndex ?? lastIndex
            }
            while let event = try decoder.nextTrailing() { summary.count(event, index: 0) }
            if summary != columns.summary {
                throw .malformed(.inconsistent, TracePlace(frame: entry.offset))
            }
        } catch {
            if case .io = error { throw error }
            report.problems.append(error)
        }
    }
}

extension BlockSummary {
    /// Counts one event as the encoder does.
    fileprivate mutating func count(_ event: TraceEvent, index: UInt64) {
        switch event {
        case .step(let step):
            if stepCount == 0 { firstClock = step.clock }
            stepCount += 1
            lastStep = index
            retired &+= step.retired ?? 0
            if step.event != nil { injectedEvents += 1 }
            if step.kind == .returnedEarly { earlyReturns += 1 }
            count(exit: ExitWords(step.exit.reason).number, time: step.time?.guestNanoseconds ?? 0)
        case .call(let call): calls[Int(call.kind.rawValue) * 2 + Int(call.cost.rawValue)] += 1
        case .memoryWrite(let write):
            memoryWrites += 1
            memoryWriteBytes += UInt64(write.bytes.count)
        case .machine: machineEvents += 1
        case .loss(let loss): lostEvents &+= loss.eventCount
        case .guestWrite, .keyframe: break
        }
    }
}

/// Every page against its name; a page whose hash collided is named by another number, if the hash was taken.
private func verifyPages(
    _ reader: TraceReader, _ entries: [IndexEntry], _ report: inout VerifyReport
) throws(TraceError) {
    var names: Set<PageHash> = [.zeroPage]
    for entry in entries {
        do throws(TraceError) {
            if entry.type == FrameType.sharedPages.rawValue {
                // The store holds each against its name.
                let names = try PageBatch(namesIn: try reader.payload(entry), place: TracePlace(frame: entry.offset))
                    .names
                for name in names { _ = try reader.sharedPage(name) }
            }
            guard entry.type == FrameType.pages.rawValue else { continue }
            let batch = try PageBatch(try reader.payload(entry), place: TracePlace(frame: entry.offset))
            for (slot, name) in batch.names.enumerated() {
                let content = Array(batch.content[slot * pageBytes..<(slot + 1) * pageBytes])
                let hash = unsafe PageHash(content: content.span.bytes)
                if hash != name && !names.contains(hash) {
                    throw .malformed(.inconsistent, TracePlace(frame: entry.offset, position: slot))
                }
                if names.count < reader.limits.pages { names.insert(name) }
            }
        } catch {
            if case .io = error { throw error }
            report.problems.append(error)
        }
    }
}
