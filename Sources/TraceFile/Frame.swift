// Frames, of which a trace consists after its preamble: Docs/trace-format.md, "Frames".

/// Kinds of frame.
enum FrameType: UInt16, CaseIterable, Sendable {
    case header = 1
    case steps = 2
    case keyframe = 3
    case pages = 4
    case index = 5
    case trailer = 6
    case sharedPages = 7

    /// Whether its index entry says which pages.
    var listsPages: Bool { self == .pages || self == .sharedPages }
}

/// The 48 bytes before each payload.
struct FrameHeader: Equatable, Sendable {
    static let byteCount = 48
    static let magic: UInt32 = 0x46_54_4D_56  // "VMTF"
    static let noVCPU = UInt32.max

    var type: UInt16
    var flags: Flags
    var storedBytes: UInt32
    var rawBytes: UInt32
    /// Number of the first step in the frame, or of the next step to come.
    var firstStep: UInt64
    var vcpu: UInt32
    /// Number of the group of frames that was closed together; 0 outside groups.
    var epoch: UInt32
    var payloadChecksum: UInt64

    struct Flags: OptionSet, Hashable, Sendable {
        var rawValue: UInt16
        /// A reader that does not know the type must refuse the trace.
        static let critical = Flags(rawValue: 1)
        /// The last frame of its epoch.
        static let epochEnd = Flags(rawValue: 2)
        /// The payload is one zstd frame.
        static let compressed = Flags(rawValue: 4)
        static let known: Flags = [.critical, .epochEnd, .compressed]
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.fixed(Self.magic)
        writer.fixed(type)
        writer.fixed(flags.rawValue)
        writer.fixed(storedBytes)
        writer.fixed(rawBytes)
        writer.fixed(firstStep)
        writer.fixed(vcpu)
        writer.fixed(epoch)
        writer.fixed(payloadChecksum)
        writer.fixed(checksum(writer.bytes))
        return writer.bytes
    }

    /// The header in the first 48 of `bytes` from `position`; nil unless magic and checksum are right.
    init?(_ bytes: [UInt8], at position: Int = 0) {
        guard position >= 0, bytes.count - position >= Self.byteCount else { return nil }
        var reader = ByteReader(bytes, range: position..<position + Self.byteCount, place: TracePlace(frame: 0))
        do throws(TraceError) {
            guard try reader.fixed(UInt32.self) == Self.magic else { return nil }
            type = try reader.fixed(UInt16.self)
            flags = Flags(rawValue: try reader.fixed(UInt16.self))
            storedBytes = try reader.fixed(UInt32.self)
            rawBytes = try reader.fixed(UInt32.self)
            firstStep = try reader.fixed(UInt64.self)
            vcpu = try reader.fixed(UInt32.self)
            epoch = try reader.fixed(UInt32.self)
            payloadChecksum = try reader.fixed(UInt64.self)
            let sum = try reader.fixed(UInt64.self)
            guard sum == checksum(bytes, position..<position + 40) else { return nil }
        } catch { return nil }
    }

    init(
        type: FrameType, flags: Flags, storedBytes: Int, rawBytes: Int, firstStep: UInt64,
        vcpu: UInt32 = Self.noVCPU, epoch: UInt32 = 0, payloadChecksum: UInt64
    ) {
        self.type = type.rawValue
        self.flags = flags
        self.storedBytes = UInt32(storedBytes)
        self.rawBytes = UInt32(rawBytes)
        self.firstStep = firstStep
        self.vcpu = vcpu
        self.epoch = epoch
        self.payloadChecksum = payloadChecksum
    }
}

/// The 40 bytes at the start of a trace.
struct Preamble: Equatable {
    static let byteCount = 40
    static let magic: [UInt8] = [0x89, 0x56, 0x4D, 0x54, 0x0D, 0x0A, 0x1A, 0x0A]
    static let currentVersion: UInt16 = 1

    var version: UInt16 = currentVersion
    /// Features without which the trace cannot be understood.
    var required: UInt64 = 0
    /// What older recorders did otherwise: Docs/trace-format.md, "Quirks".
    var quirks: UInt64 = 0

    /// Bits of `required` that this reader knows.
    static let knownFeatures: UInt64 = 0

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.bytes = Self.magic
        writer.fixed(version)
        writer.fixed(UInt16(Self.byteCount))
        writer.fixed(UInt32(0))
        writer.fixed(required)
        writer.fixed(quirks)
        writer.fixed(checksum(writer.bytes))
        return writer.bytes
    }

    init() {}

    init(_ bytes: [UInt8]) throws(TraceError) {
        guard bytes.count >= Self.magic.count else {
            guard bytes.elementsEqual(Self.magic.prefix(bytes.count)) else { throw .notATrace }
            throw .tooShort(byteCount: UInt64(bytes.count))
        }
        guard bytes.starts(with: Self.magic) else { throw .notATrace }
        guard bytes.count >= Self.byteCount else { throw .tooShort(byteCount: UInt64(bytes.count)) }
        var reader = ByteReader(bytes, range: 8..<Self.byteCount, place: TracePlace(frame: 0))
        version = try reader.fixed(UInt16.self)
        let byteCount = try reader.fixed(UInt16.self)
        let zero = try reader.fixed(UInt32.self)
        required = try reader.fixed(UInt64.self)
        quirks = try reader.fixed(UInt64.self)
        let sum = try reader.fixed(UInt64.self)
        guard sum == checksum(bytes, 0..<32) else { throw .damagedPreamble }
        guard byteCount == UInt16(Self.byteCount), zero == 0 else {
            throw .malformed(.unknownValue, TracePlace(frame: 0, position: 10))
        }
    }
}
