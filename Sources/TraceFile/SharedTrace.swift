// Copies of a trace that leave its pages in a shared store, and back: Docs/trace-format.md, "Shared pages frame".

import NVMM
public import SystemPackage

/// Failures of ``shareTrace(path:output:pages:)`` and ``wholeTrace(path:output:)``.
public enum ShareError: Error, Equatable, Sendable {
    case read(TraceError)
    case write(TraceWriteError)
    case pages(SharedPagesError)
    /// Only a trace that was ended properly is shared: ``repairTrace(path:output:limits:)`` makes one.
    case incomplete
}

/// What became of a trace's pages.
public struct ShareReport: Equatable, Sendable {
    /// Pages that the store has got with this trace.
    public var pagesAdded = 0
    /// Pages that it had.
    public var pagesKnown = 0
    /// Pages that stay in the trace, since the store has another content under the name of one in their frame.
    public var pagesKept = 0
    public init() {}
}

/// Writes a copy of a trace whose pages are in `pages`. What is there of the copy after an error is the caller's to
/// remove; the pages of a trace that could not be copied are not in the store.
public func shareTrace(
    path: FilePath, output: FilePath, pages: SharedPages
) throws(ShareError) -> ShareReport {
    var report = ShareReport()
    try pages.transaction(wrapping: { .pages($0) }) { () throws(ShareError) in
        try copyFrames(path: path, output: output) { (entry, reader, compressor) throws(ShareError) in
            guard let batch = try contents(of: entry, in: reader) else { return nil }
            guard try store(batch, in: pages, &report) else {
                guard entry.type == FrameType.pages.rawValue else { throw .pages(.wrongPage(batch.names[0])) }
                report.pagesKept += batch.names.count
                return nil
            }
            do throws(TraceWriteError) {
                let frame = try EncodedFrame(
                    compressing: batch.encodedNames(), with: compressor, type: .sharedPages, flags: .critical,
                    firstStep: entry.firstStep)
                return (frame, batch)
            } catch { throw .write(error) }
        }
    }
    return report
}

/// - Returns: names and contents, wherever they are; nil for other frames.
private func contents(of entry: IndexEntry, in reader: TraceReader) throws(ShareError) -> PageBatch? {
    let place = TracePlace(frame: entry.offset)
    do throws(TraceError) {
        switch FrameType(rawValue: entry.type) {
        case .pages: return try PageBatch(try reader.payload(entry), place: place)
        case .sharedPages:
            var batch = try PageBatch(namesIn: try reader.payload(entry), place: place)
            for name in batch.names { batch.content += try reader.sharedPage(name) }
            return batch
        default: return nil
        }
    } catch { throw .read(error) }
}

/// - Returns: whether the store has all pages of the batch under their names.
private func store(
    _ batch: PageBatch, in pages: SharedPages, _ report: inout ShareReport
) throws(ShareError) -> Bool {
    var (added, known) = (0, 0)
    for (slot, name) in batch.names.enumerated() {
        let content = batch.content[slot * pageBytes..<(slot + 1) * pageBytes]
        guard unsafe PageHash(content: Array(content).span.bytes) == name else { return false }
        do throws(SharedPagesError) {
            switch try pages.insert(content, name: name) {
            case .new: added += 1
            case .known: known += 1
            case .collides: return false
            }
        } catch { throw .pages(error) }
    }
    report.pagesAdded += added
    report.pagesKnown += known
    return true
}

/// Writes a copy of a trace that has all its pages in itself.
public func wholeTrace(path: FilePath, output: FilePath) throws(ShareError) {
    try copyFrames(path: path, output: output) { (entry, reader, compressor) throws(ShareError) in
        guard entry.type == FrameType.sharedPages.rawValue, let batch = try contents(of: entry, in: reader) else {
            return nil
        }
        do throws(TraceWriteError) {
            let frame = try EncodedFrame(
                compressing: batch.encoded(), with: compressor, type: .pages, flags: [], firstStep: entry.firstStep)
            return (frame, batch)
        } catch { throw .write(error) }
    }
}

/// Copies a complete trace frame by frame.
///
/// - Parameter replacing: another frame in the place of one; nil for the same.
private func copyFrames(
    path: FilePath, output: FilePath,
    replacing: (IndexEntry, TraceReader, Compressor) throws(ShareError) -> (EncodedFrame, PageBatch)?
) throws(ShareError) {
    func reading<Result>(_ body: () throws(TraceError) -> Result) throws(ShareError) -> Result {
        do throws(TraceError) { return try body() } catch { throw .read(error) }
    }
    func writing<Result>(_ body: () throws(TraceWriteError) -> Result) throws(ShareError) -> Result {
        do throws(TraceWriteError) { return try withoutSignals(body) } catch { throw .write(error) }
    }
    let reader = try reading { () throws(TraceError) in try TraceReader(path: path) }
    let entries = try reading { () throws(TraceError) in try reader.loadIndex() }
    if let damage = reader.damage.first { throw .read(damage) }
    guard reader.isComplete else { throw .incomplete }
    let start = try reading { () throws(TraceError) in try reader.source.read(0, Int(reader.startBytes)) }
    let files = try writing { () throws(TraceWriteError) in try TraceFiles(.file(output), journalCount: 0) }
    defer { files.discard() }
    let sink = try writing { () throws(TraceWriteError) in
        let sink = FrameSink(DescriptorSink(files.descriptor), compressor: try Compressor(level: 3))
        try sink.start(start)
        return sink
    }
    for entry in entries {
        if let (frame, batch) = try replacing(entry, reader, sink.compressor) {
            try writing { () throws(TraceWriteError) in try sink.write(frame, pages: batch) }
            continue
        }
        let frame = try reading { () throws(TraceError) in try reader.encodedFrame(entry) }
        try writing { () throws(TraceWriteError) in
            try sink.write(frame, clock: entry.clock, pages: PageBatch(counting: entry))
        }
    }
    try writing { () throws(TraceWriteError) in try sink.finish() }
}

extension TraceReader {
    /// A frame as it stands, its payload verified.
    func encodedFrame(_ entry: IndexEntry) throws(TraceError) -> EncodedFrame {
        let size = FrameHeader.byteCount + Int(entry.storedBytes)
        let raw = try source.read(entry.offset, size)
        guard let header = FrameHeader(raw), entry.agrees(with: header), raw.count == size else {
            throw .damagedHeader(offset: entry.offset, resume: entry.end)
        }
        let payload = Array(raw[FrameHeader.byteCount...])
        guard checksum(payload) == header.payloadChecksum else {
            throw .damagedPayload(
                offset: entry.offset, type: header.type, firstStep: header.firstStep, vcpu: header.vcpu)
        }
        return EncodedFrame(header: header, payload: payload, summary: entry.summary)
    }

    /// Names of the pages that this trace has in a shared store.
    public func sharedPageNames() throws(TraceError) -> Set<PageHash> {
        var names: Set<PageHash> = []
        for entry in try loadIndex() where entry.type == FrameType.sharedPages.rawValue {
            names.formUnion(
                try PageBatch(namesIn: try payload(entry), place: TracePlace(frame: entry.offset)).names)
        }
        return names
    }
}
