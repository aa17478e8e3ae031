// Segment registers as `struct nvmm_x64_state_seg` holds them (16 bytes each).

/// Places of the segment registers in ``VCPUState/segments``: `NVMM_X64_SEG_*`.
public enum SegmentRegister: Int, CaseIterable, Sendable {
    case es, cs, ss, ds, fs, gs
    /// Only base and limit have a meaning.
    case gdt, idt
    case ldt, tr
}

/// One segment register with its hidden part.
public struct Segment: Hashable, Sendable {
    public var selector: UInt16
    public var attributes: SegmentAttributes
    /// Highest offset, in bytes: granularity is already applied.
    public var limit: UInt32
    public var base: UInt64

    public init(selector: UInt16 = 0, attributes: SegmentAttributes = [], limit: UInt32 = 0, base: UInt64 = 0) {
        self.selector = selector
        self.attributes = attributes
        self.limit = limit
        self.base = base
    }
}

/// Attribute word of a segment, in the layout of the AMD VMCB (APM vol. 2, appendix B):
/// type in bits 3:0, then S, DPL, P, AVL, L, D/B, G.
public struct SegmentAttributes: OptionSet, Hashable, Sendable {
    public var rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let nonSystem = SegmentAttributes(rawValue: 1 << 4)
    public static let present = SegmentAttributes(rawValue: 1 << 7)
    public static let available = SegmentAttributes(rawValue: 1 << 8)
    public static let long = SegmentAttributes(rawValue: 1 << 9)
    /// D for code, B for stacks: 32-bit operands and addresses by default.
    public static let defaultBig = SegmentAttributes(rawValue: 1 << 10)
    public static let granularity = SegmentAttributes(rawValue: 1 << 11)

    /// Type field, 0...15 (SDM vol. 3, tables 3-1 and 3-2).
    public var type: UInt8 {
        get { UInt8(truncatingIfNeeded: rawValue & 0xF) }
        set { rawValue = rawValue & ~0xF | UInt16(newValue & 0xF) }
    }
    /// Descriptor privilege level, 0...3.
    public var dpl: UInt8 {
        get { UInt8(truncatingIfNeeded: rawValue >> 5 & 3) }
        set { rawValue = rawValue & ~0x60 | UInt16(newValue & 3) << 5 }
    }
}
