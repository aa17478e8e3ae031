// Opens and reads traces, complete or not, of any origin: Docs/trace-format.md, "Duties of a reader".

import Database
import NVMM
public import SystemPackage

/// What a reader knows of one keyframe without decoding it.
public struct KeyframeEntry: Hashable, Sendable {
    /// Place among the trace's keyframes, from 0.
    public var index: Int
    /// Steps that precede it.
    public var stepCount: UInt64
    /// The machine's clock, ticks.
    public var clock: UInt64
    /// Of its frame.
    public var fileOffset: UInt64
}

/// Reads one trace. A trace whose writer still runs, or was killed, is read as far as it goes, journals included.
///
/// Not to be used from two threads at once; open it twice for that.
public final class TraceReader {
    public let header: TraceHeader
    /// Whether index and trailer stand. Otherwise the frames were found by going through the file.
    public let isComplete: Bool
    /// What was found wrong in opening, in the order of the file. Damage that opening does not meet is thrown by a
    /// cursor when it comes there. A trace that is merely unfinished has none.
    public private(set) var damage: [TraceError] = []
    public let limits: ReaderLimits
    /// Bits of the preamble: Docs/trace-format.md, "Quirks".
    public let quirks: UInt64

    /// As it was opened.
    public let path: String
    let source: TraceSource
    let startBytes: UInt64
    let decompressor = Decompressor()
    private var entriesLoaded: [IndexEntry]?
    /// The trailer's where there is one: damage in the middle does not change what was recorded.
    private var storedTotals: TraceTotals?
    /// Counted from the frames, after ``scanFile(mergingJournals:)``.
    private(set) var countedTotals = TraceTotals()
    private(set) var trailer: Trailer?
    private(set) var trailerOffset: UInt64 = 0
    private(set) var journalsMerged = 0
    private var pageFrameCache: [UInt64: PageBatch] = [:]
    private var pageFrameOrder: [UInt64] = []
    private var pageNames: [PageHash: (frame: Int, slot: Int)] = [:]
    private var hasAllPageNames = false
    private var sharedPages: SharedPages?
    private var frames = FrameTables()
    private var hasFrameTables = false

    /// - Throws: any ``TraceError`` where not even the header can be read, the trace needs a newer reader, or the
    ///   file asks for more than `limits`.
    public convenience init(path: FilePath, limits: ReaderLimits = .default) throws(TraceError) {
        try self.init(path: path, limits: limits, trustingIndex: true)
    }

    /// - Parameters:
    ///   - trustingIndex: whether a good trailer stands for the frames, or they are all gone through.
    ///   - appended: what comes after the last event of an incomplete trace.
    init(
        path: FilePath, limits: ReaderLimits, trustingIndex: Bool, appended: [TraceEvent] = []
    ) throws(TraceError) {
        self.path = path.string
        self.limits = limits
        source = try TraceSource(path: path.string)
        let head = try source.read(0, Preamble.byteCount + FrameHeader.byteCount)
        let preamble = try Preamble(head)
        quirks = preamble.quirks
        let offset = UInt64(Preamble.byteCount)
        guard head.count == Preamble.byteCount + FrameHeader.byteCount else {
            throw .tooShort(byteCount: source.fileBytes)
        }
        guard let frame = FrameHeader(head, at: Preamble.byteCount), frame.type == FrameType.header.rawValue else {
            throw .damagedHeader(offset: offset, resume: offset)
        }
        let payloadStart = offset + UInt64(FrameHeader.byteCount)
        guard UInt64(frame.storedBytes) <= source.fileBytes - payloadStart else {
            throw .tooShort(byteCount: source.fileBytes)
        }
        startBytes = payloadStart + UInt64(frame.storedBytes)
        let payload = try Self.payload(frame, offset: offset, source, decompressor, limits)
        header = try TraceHeader(payload, required: preamble.required, place: TracePlace(frame: offset))
        if let found = try Self.findTrailer(source, decompressor, limits: limits) {
            trailer = found.trailer
            trailerOffset = found.offset
            var totals = found.trailer.totals
            totals.bytes.index &+= source.fileBytes - found.offset
            storedTotals = totals
            isComplete = true
            if !trustingIndex { try scanFile(mergingJournals: false) }
        } else {
            isComplete = false
            try scanFile(mergingJournals: true, appended: appended)
        }
    }

    /// Totals of all steps that can be read: the trailer's, or counted in opening.
    public var totals: TraceTotals { storedTotals ?? TraceTotals() }

    /// Keyframes of the trace, ascending. Empty where the index cannot be read; ``loadIndex()`` says why.
    public var keyframes: [KeyframeEntry] {
        guard let entries = try? loadIndex() else { return [] }
        var result: [KeyframeEntry] = []
        for entry in entries where entry.type == FrameType.keyframe.rawValue {
            result.append(
                KeyframeEntry(
                    index: result.count, stepCount: entry.firstStep, clock: entry.clock, fileOffset: entry.offset))
        }
        return result
    }

    // MARK: - Frames

    static func payload(
        _ frame: FrameHeader, offset: UInt64, _ source: TraceSource, _ decompressor: Decompressor,
        _ limits: ReaderLimits
    ) throws(TraceError) -> [UInt8] {
        for bytes in [frame.storedBytes, frame.rawBytes] where UInt64(bytes) > UInt64(limits.frameBytes) {
            throw .limitExceeded(
                .frameBytes, value: UInt64(bytes), maximum: UInt64(limits.frameBytes), offset: offset)
        }
        let stored = try source.read(offset + UInt64(FrameHeader.byteCount), Int(frame.storedBytes))
        guard stored.count == Int(frame.storedBytes) else {
            throw .truncated(offset: offset, missing: UInt64(Int(frame.storedBytes) - stored.count))
        }
        guard checksum(stored) == frame.payloadChecksum else {
            throw .damagedPayload(
                offset: offset, type: frame.type, firstStep: frame.firstStep, vcpu: frame.vcpu)
        }
        guard frame.flags.contains(.compressed) else { return stored }
        return try decompressor.decompress(
            stored[...], byteCount: Int(frame.rawBytes), place: TracePlace(frame: offset))
    }

    /// Header and payload of the frame that `entry` tells of.
    func payload(_ entry: IndexEntry) throws(TraceError) -> [UInt8] {
        let bytes = try source.read(entry.offset, FrameHeader.byteCount)
        guard let frame = FrameHeader(bytes), entry.agrees(with: frame) else {
            throw .damagedHeader(offset: entry.offset, resume: entry.end)
        }
        return try Self.payload(frame, offset: entry.offset, source, decompressor, limits)
    }

    func columns(_ entry: IndexEntry) throws(TraceError) -> BlockColumns {
        try BlockColumns(try payload(entry), offset: entry.offset, decompressor: decompressor, limits: limits)
    }

    // MARK: - The index

    private static func findTrailer(
        _ source: TraceSource, _ decompressor: Decompressor, limits: ReaderLimits
    ) throws(TraceError) -> (trailer: Trailer, offset: UInt64)? {
        let size = source.fileBytes
        guard size >= UInt64(Trailer.tailBytes) else { return nil }
        let tail = try source.read(size - UInt64(Trailer.tailBytes), Trailer.tailBytes)
        guard tail.count == Trailer.tailBytes, Array(tail[8...]) == Trailer.endMagic else { return nil }
        var reader = ByteReader(tail, place: TracePlace(frame: 0))
        let offset = try reader.fixed(UInt64.self)
        guard offset < size, size - offset > UInt64(FrameHeader.byteCount) else { return nil }
        guard let frame = FrameHeader(try source.read(offset, FrameHeader.byteCount)),
            frame.type == FrameType.trailer.rawValue, !frame.flags.contains(.compressed),
            offset + UInt64(FrameHeader.byteCount) + UInt64(frame.storedBytes) == size
        else { return nil }
        // A trailer that is damaged is as good as none: the frames are found by going through the file.
        guard let payload = try? payload(frame, offset: offset, source, decompressor, limits),
            let trailer = try? Trailer(payload, offset: offset, limits: limits)
        else { return nil }
        return (trailer, offset)
    }

    /// Entries of all frames but index and trailer, in the order of the file.
    ///
    /// - Throws: ``TraceError`` only where the file cannot be read or a limit is exceeded; a damaged index is
    ///   replaced by going through the file.
    @discardableResult func loadIndex() throws(TraceError) -> [IndexEntry] {
        if let entriesLoaded { return entriesLoaded }
        if let trailer {
            do throws(TraceError) {
                let entries = try indexed(by: trailer)
                entriesLoaded = entries
                return entries
            } catch {
                if case .io = error { throw error }
                if case .limitExceeded = error { throw error }
                damage.append(error)
            }
        }
        try scanFile(mergingJournals: false)
        return entriesLoaded ?? []
    }

    func indexed(by trailer: Trailer) throws(TraceError) -> [IndexEntry] {
        var entries: [IndexEntry] = []
        var previous: UInt64 = 0
        var end = startBytes
        for offset in trailer.indexFrames {
            guard let frame = FrameHeader(try source.read(offset, FrameHeader.byteCount)),
                frame.type == FrameType.index.rawValue
            else { throw .damagedHeader(offset: offset, resume: offset) }
            let payload = try Self.payload(frame, offset: offset, source, decompressor, limits)
            let place = TracePlace(frame: offset)
            let block = try IndexBlock(
                payload, place: place, room: limits.indexEntries - entries.count, limits: limits)
            guard block.previous == previous else { throw .malformed(.inconsistent, place) }
            for entry in block.entries {
                guard entry.offset == end else { throw .malformed(.disorder, place) }
                end = entry.end
                entries.append(entry)
            }
            guard offset == end else { throw .malformed(.disorder, place) }
            end = offset + UInt64(FrameHeader.byteCount) + UInt64(frame.storedBytes)
            previous = offset
        }
        guard end == trailerOffset else { throw .malformed(.inconsistent, TracePlace(frame: trailerOffset)) }
        return entries
    }

    /// Finds the frames by going through the file; counts the totals anew.
    private func scanFile(mergingJournals: Bool, appended: [TraceEvent] = []) throws(TraceError) {
        var journals: [JournalFile] = []
        if mergingJournals {
            // Before the frames: a journal that is given back meanwhile has its frames in the file by then.
            let start = try source.read(0, Int(startBytes))
            journals = try JournalFile.all(besides: path, identity: checksum(start), limits: limits)
        }
        var scan = FrameScan(reader: self)
        try scan.run()
        var entries = scan.entries
        var problems = scan.problems
        if !journals.isEmpty {
            let merged = try mergeJournals(journals, into: &entries)
            if merged > 0 {
                // What a killed writer had half written is in a journal, whole.
                if case .truncated? = problems.last { problems.removeLast() }
            }
        }
        if !appended.isEmpty {
            let last = entries.last { ($0.summary?.stepCount ?? 0) > 0 }?.summary?.lastStep
            let journal = JournalFile(
                number: journalsMax, epoch: (entries.map(\.epoch).max() ?? 0) &+ 1,
                firstStep: last.map { $0 &+ 1 } ?? 0, records: try journalRecords(of: appended))
            _ = try mergeJournals([journal], into: &entries)
        }
        damage.append(contentsOf: problems)
        var summary = BlockSummary()
        var bytes = TraceTotals.FrameBytes()
        bytes.header = startBytes
        bytes.index = scan.indexBytes
        var totals = TraceTotals()
        for entry in entries {
            let size = entry.end - entry.offset
            switch FrameType(rawValue: entry.type) {
            case .steps:
                let stored = min(entry.summary?.storedWriteBytes ?? 0, size)
                bytes.steps &+= size - stored
                bytes.ioPayload &+= stored
                if let own = entry.summary { summary.add(own) }
            case .keyframe:
                bytes.keyframes &+= size
                totals.keyframeCount += 1
            case .pages, .sharedPages:
                bytes.pages &+= size
                totals.pageCount += UInt64(entry.pageCount)
            default: break
            }
        }
        let (keyframes, pages) = (totals.keyframeCount, totals.pageCount)
        totals = TraceTotals(summary)
        totals.keyframeCount = keyframes
        totals.pageCount = pages
        totals.bytes = bytes
        storedTotals = storedTotals ?? totals
        countedTotals = totals
        entriesLoaded = entries
    }

    /// Encodes journals whose epochs the file has not in full; returns how many.
    private func mergeJournals(_ journals: [JournalFile], into entries: inout [IndexEntry]) throws(TraceError) -> Int {
        let complete = entries.last { $0.flags.contains(.epochEnd) }?.epoch ?? 0
        var merged = 0
        for journal in journals where journal.epoch > complete && !journal.records.isEmpty {
            entries.removeAll { $0.type == FrameType.steps.rawValue && $0.epoch == journal.epoch }
            let next = entries.last { ($0.summary?.stepCount ?? 0) > 0 }?.summary?.lastStep
            guard journal.firstStep < UInt64.max / 2, next.map({ $0 < journal.firstStep }) ?? true else {
                damage.append(.damagedJournal(number: journal.number, position: 0))
                continue
            }
            let epoch: EncodedEpoch
            do throws(TraceWriteError) {
                epoch = try encodeEpoch(
                    journal: journal.records, isTrusted: false, epoch: journal.epoch, firstStep: journal.firstStep,
                    compressor: try Compressor(level: 3))
            } catch {
                damage.append(.damagedJournal(number: journal.number, position: 0))
                continue
            }
            if case .damagedJournal(_, let position)? = epoch.damage {
                damage.append(.damagedJournal(number: journal.number, position: position))
            }
            for frame in epoch.frames {
                var entry = IndexEntry(frame.header, offset: source.end)
                entry.summary = frame.summary
                source.appendTail(frame.header.encoded() + frame.payload)
                entries.append(entry)
            }
            merged += 1
        }
        journalsMerged += merged
        return merged
    }

    // MARK: - Pages

    /// Content of a page by the name that a keyframe gives.
    ///
    /// - Returns: 4,096 bytes.
    /// - Throws: ``TraceError/noSuchPage(_:)`` where the trace does not hold it, or its frame is damaged.
    // Not inlined: where the caller drops the result, Swift 6.3.1 frees the array before it fills it (found by Fuzz).
    @inline(never)
    public func page(_ hash: PageHash) throws(TraceError) -> [UInt8] {
        if hash == .zeroPage { return [UInt8](repeating: 0, count: pageBytes) }
        // Keyframes made the names of their pages known; what else is asked for needs all page frames.
        if pageNames[hash] == nil { try loadPageNames() }
        guard let place = pageNames[hash], let batch = try pageFrame(frames.pages[place.frame]),
            place.slot < batch.names.count
        else { throw .noSuchPage(hash) }
        if batch.content.isEmpty { return try sharedPage(hash) }
        return Array(batch.content[place.slot * pageBytes..<(place.slot + 1) * pageBytes])
    }

    /// Content of a page that is not in the trace but in the store beside its folder.
    func sharedPage(_ name: PageHash) throws(TraceError) -> [UInt8] {
        do throws(SharedPagesError) {
            if sharedPages == nil { sharedPages = try SharedPages(sharedPagesPath, .reading) }
            guard let content = try sharedPages?.content(name) else { throw SharedPagesError.missingPage(name) }
            return content
        } catch { throw .sharedPages(error) }
    }

    /// `../pages.sqlite`, seen from the trace: nothing in a trace says where to look.
    private var sharedPagesPath: FilePath {
        let folder = FilePath(path).removingLastComponent()
        return (folder.isEmpty ? "." : folder).appending("..").appending(SharedPages.fileName)
    }

    private func loadPageNames() throws(TraceError) {
        if hasAllPageNames { return }
        let count = try frameTables().pages.count
        for index in 0..<count {
            guard let batch = try pageFrame(frames.pages[index]) else { continue }
            for slot in batch.names.indices { try learn(batch.names[slot], frame: index, slot: slot) }
        }
        hasAllPageNames = true
    }

    private func learn(_ name: PageHash, frame: Int, slot: Int) throws(TraceError) {
        guard pageNames.count < limits.pages else {
            throw .limitExceeded(
                .pages, value: UInt64(pageNames.count) + 1, maximum: UInt64(limits.pages),
                offset: frames.pages[frame].offset)
        }
        pageNames[name] = (frame, slot)
    }

    /// nil where the frame is damaged.
    private func pageFrame(_ entry: IndexEntry) throws(TraceError) -> PageBatch? {
        if let batch = pageFrameCache[entry.offset] { return batch }
        let batch: PageBatch
        do throws(TraceError) {
            let (payload, place) = (try payload(entry), TracePlace(frame: entry.offset))
            batch =
                entry.type == FrameType.sharedPages.rawValue
                ? try PageBatch(namesIn: payload, place: place) : try PageBatch(payload, place: place)
        } catch {
            if case .io = error { throw error }
            if case .limitExceeded = error { throw error }
            return nil
        }
        let framesMax = max(1, limits.pageCacheBytes / (PageBatch.pagesMax * pageBytes))
        if pageFrameOrder.count >= framesMax { pageFrameCache[pageFrameOrder.removeFirst()] = nil }
        pageFrameCache[entry.offset] = batch
        pageFrameOrder.append(entry.offset)
        return batch
    }

    /// Name of the page in `slot` (1 + ordinal); nil where its frame is damaged or absent.
    func pageName(slot: UInt64) throws(TraceError) -> PageHash? {
        guard slot > 0 else { return nil }
        let ordinal = slot - 1
        let pages = try frameTables().pages
        // The last frame that begins at or before the page.
        var low = 0
        var high = pages.count
        while low < high {
            let middle = (low + high) / 2
            if pages[middle].firstPage <= ordinal { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let entry = pages[low - 1]
        guard ordinal - entry.firstPage < UInt64(entry.pageCount), let batch = try pageFrame(entry),
            batch.firstPage == entry.firstPage
        else { return nil }
        let index = Int(ordinal - entry.firstPage)
        guard index < batch.names.count else { return nil }
        try learn(batch.names[index], frame: low - 1, slot: index)
        return batch.names[index]
    }

    func keyframeEntry(epoch: UInt32) throws(TraceError) -> IndexEntry? { try frameTables().keyframes[epoch] }

    /// Frames by what they are looked up by.
    private func frameTables() throws(TraceError) -> FrameTables {
        if hasFrameTables { return frames }
        for entry in try loadIndex() {
            switch FrameType(rawValue: entry.type) {
            case .pages, .sharedPages: frames.pages.append(entry)
            case .keyframe: frames.keyframes[entry.epoch] = entry
            default: break
            }
        }
        frames.pages.sort { $0.firstPage < $1.firstPage }
        hasFrameTables = true
        return frames
    }

    private struct FrameTables {
        /// Ascending by first page.
        var pages: [IndexEntry] = []
        var keyframes: [UInt32: IndexEntry] = [:]
    }

    // MARK: - Cursors

    /// A cursor at the beginning, or at a keyframe, which is then the first event that it gives.
    public func cursor(fromKeyframe index: Int? = nil) throws(TraceError) -> TraceCursor {
        let entries = try loadIndex()
        guard let index else { return TraceCursor(self, entries: entries, position: 0, nextStepIndex: 0) }
        var count = 0
        for (position, entry) in entries.enumerated() where entry.type == FrameType.keyframe.rawValue {
            if count == index {
                return TraceCursor(self, entries: entries, position: position, nextStepIndex: entry.firstStep)
            }
            count += 1
        }
        throw .noSuchKeyframe(index: index, count: count)
    }
}
