// The first difference between a trace and its replay, as data: architecture.md, promise 3.

/// A divergence in full. Numbers in fields are text, as they are to be shown.
public struct Divergence: Hashable, Encodable, Sendable {
    public enum Kind: String, CaseIterable, Encodable, Sendable {
        /// The same exit with other registers, exit state or counts.
        case registers
        /// The same reason with another payload, or another reason at the same place.
        case exitPayload
        /// The recorded exit did not happen where it was recorded.
        case missingExit
        /// An exit happened that is not in the trace.
        case extraExit
        /// The event of this step was accepted or delivered otherwise.
        case injection
        /// Guest memory at a keyframe, while all exits before it were equal.
        case memory
        /// State at a keyframe that only the backend sees, or the memory map.
        case privateState
    }

    public var kind: Kind
    /// The divergent step, or for what a keyframe found the number of steps before it.
    public var step: UInt64
    /// Nil for memory.
    public var vcpu: UInt32?
    /// Recorded (expected) and replayed (actual) side by side: the exit and the registers first, then whatever differs.
    public var fields: [ComparedField]
    /// The event that entered the guest with this step, as text.
    public var injected: String?
    /// The instruction at the recorded exit's RIP, and at the replayed one where that is another.
    public var instructionAtExit: InstructionPlace?
    public var instructionAtActualExit: InstructionPlace?
    /// The last instructions executed before the wrong one or, where that is not known, before the exit.
    public var instructionsBefore: [InstructionPlace]
    /// The instruction that the backend executed otherwise than the reference backend; nil without a reference.
    public var wrongInstruction: WrongInstruction?
    /// The reference backend does as the replay did: the trace says otherwise, or both share a fault.
    public var referenceAgreesWithReplay: Bool
    /// The last events of the trace before and with the divergent step.
    public var lastEvents: [RecentEvent]
    /// Ranges of guest memory that differ, at most ``memoryRangesMax``; expected is the trace, or the reference.
    public var memory: [MemoryDifference]
    public var memoryWasCompared: Bool
    /// Memory and private state were equal after this many steps; nil: never compared.
    public var memoryEqualAtStep: UInt64?

    public static let memoryRangesMax = 16

    /// The fields that differ.
    public var differingFields: [ComparedField] { fields.filter(\.differs) }
}

/// One value on both sides. `-` stands where a side has none.
public struct ComparedField: Hashable, Codable, Sendable {
    public var name: String
    public var expected: String
    public var actual: String
    public var differs: Bool { expected != actual }
    public init(name: String, expected: String, actual: String) {
        self.name = name
        self.expected = expected
        self.actual = actual
    }
}

/// An instruction in the guest. Text and bytes are empty where the code could not be read.
public struct InstructionPlace: Hashable, Encodable, Sendable {
    public var step: UInt64
    @Hexadecimal public var rip: UInt64
    public var bytes: [UInt8]
    public var mnemonic: String
    /// As ``KnownDifference/instruction`` names it.
    public var form: String
    public var text: String
}

/// The first instruction after which two backends differ.
public struct WrongInstruction: Hashable, Encodable, Sendable {
    public var place: InstructionPlace
    /// Instructions of the step that retired before it.
    public var index: UInt64
    /// Not the instruction but the delivery of the step's event, before it, went wrong.
    public var isEventDelivery: Bool
    /// What differs; expected is the reference backend.
    public var fields: [ComparedField]
    public var memory: [MemoryDifference]
}

/// A range of guest memory with other content.
public struct MemoryDifference: Hashable, Encodable, Sendable {
    public var object: UInt32
    public var offset: Int
    public var byteCount: Int
    /// Where the guest sees it first; nil where it is not mapped.
    public var gpa: UInt64?
    /// The first bytes of the range, at most 16.
    public var expected: [UInt8]
    public var actual: [UInt8]

    private enum CodingKeys: String, CodingKey { case object, offset, byteCount, gpa, expected, actual }

    /// Written out for `gpa`, which is an address and may be absent.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(object, forKey: .object)
        try container.encode(offset, forKey: .offset)
        try container.encode(byteCount, forKey: .byteCount)
        try container.encodeIfPresent(gpa.map { Hexadecimal(wrappedValue: $0) }, forKey: .gpa)
        try container.encode(expected, forKey: .expected)
        try container.encode(actual, forKey: .actual)
    }
}

/// An event shortly before a divergence.
public struct RecentEvent: Hashable, Codable, Sendable {
    /// Steps before it.
    public var step: UInt64
    public var text: String
}
