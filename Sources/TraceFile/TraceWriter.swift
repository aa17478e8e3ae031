// Writes a trace while the machine runs: Docs/trace-format.md; the way of one event is told at ``TraceWriter``.

import Glibc
import NVMM
public import SystemPackage

/// Where a trace goes.
public enum TraceDestination: Sendable {
    /// A regular file gets mode 0600, and journals beside it while it is open. Replaces what was there, but for a
    /// trace whose own journals still stand beside it.
    case file(FilePath)
    /// A pipe, which the caller closes. Journals are then in memory: SIGKILL costs what no frame holds yet.
    case descriptor(FileDescriptor)
}

/// How to write. Equal options and events give equal bytes.
public struct TraceWriterOptions: Hashable, Sendable {
    /// Steps of one VCPU in a block, 1...65,536.
    public var stepsPerBlock = 4096
    /// Bytes of logged events after which blocks are closed in any case, 64 KiB...256 MiB.
    public var bytesPerBlock = 4 << 20
    /// zstd's, 1...19; 0 stores everything uncompressed.
    public var compressionLevel = 3
    /// Whether a trace in a file is brought to stable storage, journals included, once a second and at the end.
    public var durable = false
    /// Every how many keyframes one lists all pages, not the changed ones only; at least 1.
    public var keyframesPerFullKeyframe = 16

    public init() {}

    var isValid: Bool {
        1...65536 ~= stepsPerBlock && 65536...(256 << 20) ~= bytesPerBlock && 0...19 ~= compressionLevel
            && keyframesPerFullKeyframe >= 1
    }
}

/// Writes one trace.
///
/// An event is copied into a journal on the caller's thread: no allocation, formatting or compression there. When a
/// journal holds enough steps or bytes (never: when enough time has passed) it is sealed, and a second thread turns
/// it into columnar frames while the next one fills. Only where that thread falls behind does an append wait.
///
/// Not to be called from two threads at once.
@safe public final class TraceWriter: @unchecked Sendable {
    /// VCPU numbers are below this.
    public static let vcpusMax: UInt32 = 4096
    /// Longer memory writes are recorded as several.
    public static let writeBytesMax = 256 << 10

    /// Steps appended so far.
    public var stepCount: UInt64 { place.value.stepCount }

    private let options: TraceWriterOptions
    private let output: DescriptorSink
    private let storage: StableStorage
    private let sink: FrameSink
    private let encoder: EncoderThread
    private let journals: [Journal]
    private let journalFiles: [(path: String, descriptor: Int32)]
    private let ownsDescriptor: Bool

    private var epoch: UInt32 = 0
    private var ordinal = 0
    private var isFinished = false

    /// What every event changes.
    @safe private struct Place {
        var stepCount: UInt64 = 0
        var current: Journal?
        /// Steps of each VCPU in the open journal, and its state after the last of them.
        var stepsInEpoch: [Int] = []
        var previous: UnsafeMutablePointer<UInt64>
        var previousCount = 0
    }
    private let place: Untracked<Place>

    private var pages: PageStore
    private var batch: PageBatch
    private var keyframeBase: [ObjectPages]?
    private var keyframeBaseEpoch: UInt32 = 0
    private var keyframesSinceFull = 0

    /// Creates the trace with its header, in one write.
    ///
    /// - Throws: ``TraceWriteError/io(call:errno:)``; nothing is then left behind but perhaps an empty file.
    ///   ``TraceWriteError/unrepaired(trace:journal:)``; everything is then as it was.
    public convenience init(
        _ destination: TraceDestination, header: TraceHeader, options: TraceWriterOptions = .init()
    ) throws(TraceWriteError) {
        try self.init(destination, header: header, options: options, storage: StableStorage())
    }

    /// - Parameters:
    ///   - pageHash: replaced by tests of collisions.
    ///   - storage: replaced by tests of ``TraceWriterOptions/durable``.
    init(
        _ destination: TraceDestination, header: TraceHeader, options: TraceWriterOptions,
        pageHash: @escaping (RawSpan) -> PageHash = PageHash.init(content:), storage: StableStorage = StableStorage()
    ) throws(TraceWriteError) {
        guard options.isValid else { throw .invalidOptions }
        let compressor = try Compressor(level: options.compressionLevel)
        let start = try traceStart(header, compressor: compressor)
        let identity = checksum(start)
        let files = try TraceFiles(destination, journalCount: journalsMax)
        self.options = options
        self.storage = storage
        output = DescriptorSink(files.descriptor)
        sink = FrameSink(output, compressor: compressor)
        ownsDescriptor = files.ownsDescriptor
        journalFiles = files.journals
        let capacity = options.bytesPerBlock + Self.writeBytesMax + 4096
        var journals: [Journal] = []
        do throws(TraceWriteError) {
            for number in 0..<journalsMax {
                journals.append(
                    try Journal(
                        capacity: capacity,
                        descriptor: number < files.journals.count ? files.journals[number].descriptor : nil,
                        trace: identity))
            }
            try sink.start(start)
            // A pipe has no storage of its own.
            let durableFiles =
                options.durable && output.isRegular ? [files.descriptor] + files.journals.map(\.descriptor) : []
            encoder = try EncoderThread(sink: sink, schedule: SyncSchedule(durableFiles, storage: storage))
        } catch {
            files.discard()
            throw error
        }
        self.journals = journals
        place = Untracked(unsafe Place(previous: .allocate(capacity: VCPUState.wordCount)))
        pages = PageStore(spool: PageSpool(directory: output.isRegular ? files.directory : nil), hash: pageHash)
        batch = PageBatch(firstPage: 0)
    }

    /// A writer that was not finished leaves its trace as a killed one would: incomplete, with journals.
    deinit {
        encoder.stop()
        unsafe place.value.previous.deallocate()
        closeFiles()
    }

    // MARK: - Events

    /// Appends any event. The page list of a keyframe is complete; its pages have been stored by ``storePage(_:)``.
    public func append(_ event: TraceEvent) throws(TraceWriteError) {
        switch event {
        case .step(let step): try appendStep(step)
        case .call(let call): try appendCall(call)
        case .memoryWrite(let write):
            try unsafe appendMemoryWrite(
                object: write.object, offset: write.offset, bytes: write.bytes.span.bytes, isRawStore: write.isRawStore)
        case .guestWrite(let write):
            try unsafe appendGuestWrite(object: write.object, offset: write.offset, bytes: write.bytes.span.bytes)
        case .machine(.advanceClock(let ticks)):
            try room(Journal.advanceBytes).appendAdvance(ticks: ticks)
        case .machine(let machineEvent):
            var writer = ByteWriter()
            writer.machineEvent(machineEvent)
            try appendSmall(.machine, writer.bytes)
        case .loss(let loss):
            var writer = ByteWriter()
            // A reason is a phrase; longer ones would not fit a journal.
            writer.loss(Loss(eventCount: loss.eventCount, reason: String(loss.reason.prefix(1024))))
            try appendSmall(.loss, writer.bytes)
        case .keyframe(let keyframe): try appendKeyframe(keyframe)
        }
    }

    private func appendSmall(_ type: RecordType, _ bytes: [UInt8]) throws(TraceWriteError) {
        try unsafe room(Journal.writeBytes(bytes.count)).append(type: type, bytes: bytes.span.bytes)
    }

    /// Appends a step. Parts of its states that are neither committed nor covered are not recorded.
    public func appendStep(_ step: borrowing Step) throws(TraceWriteError) {
        let vcpu = Int(step.vcpu)
        if vcpu >= place.value.previousCount { try growVCPUs(to: step.vcpu) }
        let journal = try room(Journal.stepBytesMax)
        // SAFETY: `growVCPUs` made room for this VCPU's words.
        unsafe journal.append(step, previous: place.value.previous + vcpu &* VCPUState.wordCount)
        place.value.stepCount &+= 1
        place.value.stepsInEpoch[vcpu] &+= 1
        if place.value.stepsInEpoch[vcpu] >= options.stepsPerBlock { try seal() }
    }

    /// Appends bytes that the VMM put into guest memory.
    public func appendMemoryWrite(
        object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool
    ) throws(TraceWriteError) {
        var done = 0
        repeat {
            let count = min(Self.writeBytesMax, bytes.byteCount - done)
            try room(Journal.writeBytes(count)).appendWrite(
                object: object, offset: offset &+ done, bytes: bytes.extracting(done..<done + count),
                isRawStore: isRawStore)
            done += count
        } while done < bytes.byteCount
    }

    /// Appends bytes that the guest wrote in the step that was appended last.
    public func appendGuestWrite(object: UInt32, offset: Int, bytes: RawSpan) throws(TraceWriteError) {
        var done = 0
        repeat {
            let count = min(Self.writeBytesMax, bytes.byteCount - done)
            try room(Journal.writeBytes(count)).appendGuestWrite(
                object: object, offset: offset &+ done, bytes: bytes.extracting(done..<done + count))
            done += count
        } while done < bytes.byteCount
    }

    /// Appends a call of the VMM.
    public func appendCall(_ call: CallRecord) throws(TraceWriteError) {
        try room(Journal.callBytes).append(call)
    }

    /// An open journal with room for `byteCount` more bytes.
    @inline(__always) private func room(_ byteCount: Int) throws(TraceWriteError) -> Journal {
        if let current = place.value.current, current.used < options.bytesPerBlock, current.hasRoom(byteCount) {
            return current
        }
        return try nextJournal()
    }

    private func nextJournal() throws(TraceWriteError) -> Journal {
        if isFinished { throw .finished }
        if place.value.current != nil { try seal() }
        // The other journal may still be in hand; that is the only wait.
        try encoder.wait(untilInHand: journals.count - 1)
        let journal = journals[ordinal % journals.count]
        ordinal += 1
        epoch += 1
        journal.open(epoch: epoch, firstStep: place.value.stepCount)
        for index in place.value.stepsInEpoch.indices { place.value.stepsInEpoch[index] = 0 }
        unsafe place.value.previous.update(repeating: 0, count: place.value.previousCount * VCPUState.wordCount)
        place.value.current = journal
        return journal
    }

    private func seal() throws(TraceWriteError) {
        guard let journal = place.value.current else { return }
        place.value.current = nil
        encoder.submit(SealedJournal(journal: journal, epoch: epoch, firstStep: journal.firstStep))
    }

    private func growVCPUs(to id: UInt32) throws(TraceWriteError) {
        guard id < Self.vcpusMax else { throw .invalidVCPU(id: id) }
        let count = max(Int(id) + 1, 4)
        let grown = UnsafeMutablePointer<UInt64>.allocate(capacity: count * VCPUState.wordCount)
        unsafe grown.update(repeating: 0, count: count * VCPUState.wordCount)
        unsafe grown.update(from: place.value.previous, count: place.value.previousCount * VCPUState.wordCount)
        unsafe place.value.previous.deallocate()
        unsafe place.value.previous = grown
        place.value.previousCount = count
        while place.value.stepsInEpoch.count < count { place.value.stepsInEpoch.append(0) }
    }

    // MARK: - Keyframes

    /// Puts a page of guest memory into the trace, unless it is there already or all zero.
    ///
    /// - Parameter content: 4,096 bytes.
    /// - Returns: the name by which a keyframe refers to it: its hash, but for pages whose hashes collide.
    public func storePage(_ content: RawSpan) throws(TraceWriteError) -> PageHash {
        guard content.byteCount == pageBytes else { throw .invalidPage(byteCount: content.byteCount) }
        if isFinished { throw .finished }
        let (name, new) = pages.store(content)
        if new != nil {
            batch.names.append(name)
            unsafe content.withUnsafeBytes { unsafe batch.content.append(contentsOf: $0) }
            if batch.isFull {
                try encoder.waitUntilIdle()
                try flushPages()
            }
        }
        return name
    }

    private func flushPages() throws(TraceWriteError) {
        if batch.names.isEmpty { return }
        let frame = try EncodedFrame(
            compressing: batch.encoded(), with: sink.compressor, type: .pages, flags: [], firstStep: sink.stepCount)
        try sink.write(frame, pages: batch)
        batch = PageBatch(firstPage: batch.firstPage + UInt64(batch.names.count))
    }

    private func appendKeyframe(_ keyframe: Keyframe) throws(TraceWriteError) {
        if isFinished { throw .finished }
        var objects: [ObjectPages] = []
        for object in keyframe.objects {
            var slots: [PageSlot] = []
            slots.reserveCapacity(object.pages.count)
            for reference in object.pages {
                guard let slot = pages.slot(reference.content) else { throw .unknownPage(reference.content) }
                if slot != 0 { slots.append(PageSlot(page: reference.page, slot: slot)) }
            }
            objects.append(ObjectPages(object: object.object, byteCount: object.byteCount, pages: slots))
        }
        try seal()
        try encoder.waitUntilIdle()
        try flushPages()
        let isFull = keyframeBase == nil || keyframesSinceFull + 1 >= options.keyframesPerFullKeyframe
        var writer = ByteWriter()
        writer.keyframe(
            keyframe, objects: objects, base: isFull ? nil : keyframeBase, baseEpoch: keyframeBaseEpoch)
        epoch += 1
        let frame = try EncodedFrame(
            compressing: writer.bytes, with: sink.compressor, type: .keyframe, flags: .epochEnd,
            firstStep: keyframe.stepCount, epoch: epoch)
        try sink.write(frame, clock: keyframe.clock)
        keyframesSinceFull = isFull ? 0 : keyframesSinceFull + 1
        keyframeBase = objects
        keyframeBaseEpoch = epoch
    }

    // MARK: - The end

    /// Closes the trace with its index and trailer.
    ///
    /// - Throws: after an error the trace stays as it is, journals beside it; ``repairTrace(path:output:limits:)``
    ///   makes a complete one of them.
    public func finish() throws(TraceWriteError) -> TraceTotals {
        if isFinished { throw .finished }
        try seal()
        try encoder.waitUntilIdle()
        isFinished = true
        encoder.stop()
        try withoutSignals { () throws(TraceWriteError) in
            try flushPages()
            try sink.finish()
        }
        if options.durable, output.isRegular, storage.syncAll(output.descriptor) != 0 {
            throw .io(call: "fsync", errno: errno)
        }
        for file in journalFiles { unsafe unlink(file.path) }
        closeFiles()
        return sink.totals
    }

    private var filesAreClosed = false
    private func closeFiles() {
        if filesAreClosed { return }
        filesAreClosed = true
        for file in journalFiles { close(file.descriptor) }
        if ownsDescriptor { close(output.descriptor) }
    }
}
