// Goes through a file frame by frame, past damage to the next good header: Docs/trace-format.md, "Recovery".

/// Finds all frames without an index.
struct FrameScan {
    private let source: TraceSource
    private let decompressor: Decompressor
    private let limits: ReaderLimits
    private var offset: UInt64
    private(set) var entries: [IndexEntry] = []
    private(set) var problems: [TraceError] = []
    /// Bytes of index frames and trailer.
    private(set) var indexBytes: UInt64 = 0

    init(reader: TraceReader) {
        source = reader.source
        decompressor = reader.decompressor
        limits = reader.limits
        offset = reader.startBytes
    }

    /// - Throws: ``TraceError/io(call:errno:)``, a limit, and frames that must not be skipped; damage goes to
    ///   `problems`.
    mutating func run() throws(TraceError) {
        let end = source.fileBytes
        while offset < end {
            guard let frame = FrameHeader(try source.read(offset, FrameHeader.byteCount)) else {
                let resume = try nextHeader(after: offset)
                problems.append(
                    resume == end && end - offset < UInt64(FrameHeader.byteCount)
                        ? .truncated(offset: offset, missing: UInt64(FrameHeader.byteCount) - (end - offset))
                        : .damagedHeader(offset: offset, resume: resume))
                offset = resume
                continue
            }
            let payloadEnd = offset + UInt64(FrameHeader.byteCount) + UInt64(frame.storedBytes)
            guard payloadEnd <= end else {
                problems.append(.truncated(offset: offset, missing: payloadEnd - end))
                // A good header whose payload is cut: only a cut file or a hole in the middle can be the cause.
                offset = try nextHeader(after: offset)
                continue
            }
            try take(frame)
            offset = payloadEnd
        }
    }

    private mutating func take(_ frame: FrameHeader) throws(TraceError) {
        let payload: [UInt8]
        do throws(TraceError) {
            payload = try TraceReader.payload(frame, offset: offset, source, decompressor, limits)
        } catch {
            if case .damagedPayload = error {
                problems.append(error)
                return
            }
            throw error
        }
        var entry = IndexEntry(frame, offset: offset)
        do throws(TraceError) {
            switch FrameType(rawValue: frame.type) {
            case .steps:
                var reader = ByteReader(payload, place: TracePlace(frame: offset))
                let count = try reader.count(max: reader.remaining)
                var summary = ByteReader(
                    payload, range: reader.position..<reader.position + count, place: TracePlace(frame: offset))
                entry.summary = try BlockSummary(from: &summary)
            case .keyframe:
                entry.clock = try RawKeyframe(payload, place: TracePlace(frame: offset), limits: limits).clock
            case .pages, .sharedPages:
                let place = TracePlace(frame: offset)
                let isShared = frame.type == FrameType.sharedPages.rawValue
                let batch =
                    isShared ? try PageBatch(namesIn: payload, place: place) : try PageBatch(payload, place: place)
                entry.firstPage = batch.firstPage
                entry.pageCount = batch.names.count
            case .index, .trailer:
                indexBytes += entry.end - entry.offset
                return
            case .header:
                throw .malformed(.disorder, TracePlace(frame: offset))
            case nil:
                if frame.flags.contains(.critical) {
                    throw .unknownCriticalFrame(type: frame.type, offset: offset)
                }
            }
        } catch {
            if case .malformed = error {
                problems.append(error)
                return
            }
            throw error
        }
        guard entries.count < limits.indexEntries else {
            throw .limitExceeded(
                .indexEntries, value: UInt64(entries.count) + 1, maximum: UInt64(limits.indexEntries), offset: offset)
        }
        entries.append(entry)
    }

    /// Offset of the next good frame header after `start`, or the end of the file.
    private func nextHeader(after start: UInt64) throws(TraceError) -> UInt64 {
        let chunk = 1 << 16
        var base = start + 1
        let first = UInt8(truncatingIfNeeded: FrameHeader.magic)
        while base < source.fileBytes {
            let bytes = try source.read(base, chunk + FrameHeader.byteCount)
            if bytes.isEmpty { break }
            let last = min(chunk, bytes.count)
            for index in 0..<last where bytes[index] == first {
                if FrameHeader(bytes, at: index) != nil { return base + UInt64(index) }
            }
            base += UInt64(last)
        }
        return source.fileBytes
    }
}
