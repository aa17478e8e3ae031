// Index frames and the trailer: Docs/trace-format.md, "Index frame" and "Trailer".

import NVMM

/// What an index says of one frame.
struct IndexEntry: Equatable, Sendable {
    var offset: UInt64
    var type: UInt16
    var flags: FrameHeader.Flags
    var storedBytes: UInt32
    var rawBytes: UInt32
    var firstStep: UInt64
    var vcpu: UInt32
    var epoch: UInt32
    /// Of a steps frame.
    var summary: BlockSummary?
    /// Of a keyframe: the machine's clock.
    var clock: UInt64 = 0
    /// Of a page frame: ordinal of its first page, and how many.
    var firstPage: UInt64 = 0
    var pageCount: Int = 0

    init(_ header: FrameHeader, offset: UInt64) {
        self.offset = offset
        type = header.type
        flags = header.flags
        storedBytes = header.storedBytes
        rawBytes = header.rawBytes
        firstStep = header.firstStep
        vcpu = header.vcpu
        epoch = header.epoch
    }

    var end: UInt64 { offset &+ UInt64(FrameHeader.byteCount) &+ UInt64(storedBytes) }

    /// Whether two entries tell of the same frame: what an index adds to the frame's own header is checked elsewhere.
    func agrees(with header: FrameHeader) -> Bool {
        type == header.type && storedBytes == header.storedBytes && rawBytes == header.rawBytes
            && firstStep == header.firstStep && vcpu == header.vcpu && epoch == header.epoch && flags == header.flags
    }
}

/// Payload of an index frame.
struct IndexBlock {
    /// Offset of the index frame before, 0 for none.
    var previous: UInt64 = 0
    var entries: [IndexEntry] = []

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(previous)
        writer.varint(entries.count)
        var end: UInt64 = 0
        var step: UInt64 = 0
        for entry in entries {
            writer.varint(entry.offset &- end)
            writer.varint(UInt64(entry.type))
            writer.varint(UInt64(entry.flags.rawValue))
            writer.varint(entry.storedBytes)
            writer.varint(entry.rawBytes)
            writer.difference(entry.firstStep &- step)
            writer.varint(UInt64(entry.vcpu &+ 1))
            writer.varint(entry.epoch)
            switch FrameType(rawValue: entry.type) {
            case .steps: (entry.summary ?? BlockSummary()).encode(into: &writer)
            case .keyframe: writer.varint(entry.clock)
            case .pages, .sharedPages:
                writer.varint(entry.firstPage)
                writer.varint(entry.pageCount)
            default: break
            }
            end = entry.end
            step = entry.firstStep
        }
        return writer.bytes
    }

    init() {}

    init(_ bytes: [UInt8], place: TracePlace, room: Int, limits: ReaderLimits) throws(TraceError) {
        var reader = ByteReader(bytes, place: place)
        previous = try reader.varint()
        let count = try reader.count(max: reader.remaining)
        guard count <= room else {
            throw .limitExceeded(
                .indexEntries, value: UInt64(count), maximum: UInt64(limits.indexEntries), offset: place.frame)
        }
        var end: UInt64 = 0
        var step: UInt64 = 0
        for _ in 0..<count {
            let offset = end &+ (try reader.varint())
            guard let type = UInt16(exactly: try reader.varint()), let flags = UInt16(exactly: try reader.varint())
            else { throw reader.failure(.unknownValue) }
            let stored = try reader.varint32()
            let raw = try reader.varint32()
            step &+= try reader.difference()
            let vcpu = try reader.varint32() &- 1
            let epoch = try reader.varint32()
            var entry = IndexEntry(
                FrameHeader(
                    type: .header, flags: FrameHeader.Flags(rawValue: flags), storedBytes: Int(stored),
                    rawBytes: Int(raw), firstStep: step, vcpu: vcpu, epoch: epoch, payloadChecksum: 0),
                offset: offset)
            entry.type = type
            switch FrameType(rawValue: type) {
            case .steps: entry.summary = try BlockSummary(from: &reader)
            case .keyframe: entry.clock = try reader.varint()
            case .pages, .sharedPages:
                entry.firstPage = try reader.varint()
                entry.pageCount = try reader.count(max: PageBatch.pagesMax)
            default: break
            }
            guard entry.end > offset, offset >= end else { throw reader.failure(.disorder) }
            end = entry.end
            entries.append(entry)
        }
        try reader.expectEnd()
    }
}

/// Payload of the trailer.
struct Trailer: Equatable {
    static let endMagic: [UInt8] = [0x56, 0x4D, 0x54, 0x45, 0x4E, 0x44, 0x0D, 0x0A]  // "VMTEND\r\n"
    /// Offset of the trailer frame, then the end magic.
    static let tailBytes = 16

    var summary = BlockSummary()
    var keyframeCount: UInt64 = 0
    var pageCount: UInt64 = 0
    /// Without the trailer's own.
    var bytes = TraceTotals.FrameBytes()
    /// Offsets of all index frames, ascending.
    var indexFrames: [UInt64] = []

    /// - Parameter offset: where the trailer frame will stand.
    func encoded(offset: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        summary.encode(into: &writer)
        writer.varint(keyframeCount)
        writer.varint(pageCount)
        writer.varint(bytes.header)
        writer.varint(bytes.steps)
        writer.varint(bytes.ioPayload)
        writer.varint(bytes.keyframes)
        writer.varint(bytes.pages)
        writer.varint(bytes.index)
        writer.varint(indexFrames.count)
        var previous: UInt64 = 0
        for frame in indexFrames {
            writer.varint(frame &- previous)
            previous = frame
        }
        writer.fixed(offset)
        writer.bytes.append(contentsOf: Self.endMagic)
        return writer.bytes
    }

    init() {}

    init(_ bytes: [UInt8], offset: UInt64, limits: ReaderLimits) throws(TraceError) {
        var reader = ByteReader(bytes, place: TracePlace(frame: offset))
        summary = try BlockSummary(from: &reader)
        keyframeCount = try reader.varint()
        pageCount = try reader.varint()
        self.bytes.header = try reader.varint()
        self.bytes.steps = try reader.varint()
        self.bytes.ioPayload = try reader.varint()
        self.bytes.keyframes = try reader.varint()
        self.bytes.pages = try reader.varint()
        self.bytes.index = try reader.varint()
        let count = try reader.count(max: reader.remaining)
        guard count <= limits.indexEntries else {
            throw .limitExceeded(
                .indexEntries, value: UInt64(count), maximum: UInt64(limits.indexEntries), offset: offset)
        }
        var previous: UInt64 = 0
        for _ in 0..<count {
            let distance = try reader.varint()
            guard distance > 0, previous < offset, distance < offset &- previous else {
                throw reader.failure(.disorder)
            }
            previous &+= distance
            indexFrames.append(previous)
        }
        guard try reader.fixed(UInt64.self) == offset, Array(try reader.slice(8)) == Self.endMagic else {
            throw reader.failure(.inconsistent)
        }
        try reader.expectEnd()
    }
}
