// Descriptors and gates for guests of the tests: SDM vol. 3, sections 3.4.5, 5.8.3 and 6.11.

/// Eight bytes of a descriptor table.
public enum GuestDescriptor {
    /// A segment.
    ///
    /// - Parameters:
    ///   - access: bits 47 to 40: P, DPL, S, type.
    ///   - flags: bits 55 to 52: G, D/B, L, AVL.
    ///   - limit: 20 bits, before granularity.
    public static func segment(base: UInt32 = 0, limit: UInt32 = 0xF_FFFF, access: UInt8, flags: UInt8 = 0xC) -> UInt64
    {
        let low = UInt64(limit & 0xFFFF) | UInt64(base & 0xFF_FFFF) << 16 | UInt64(access) << 40
        return low | UInt64(limit >> 16 & 0xF) << 48 | UInt64(flags & 0xF) << 52 | UInt64(base >> 24) << 56
    }

    /// A gate of 8 bytes, or the first half of one of 16.
    ///
    /// - Parameter count: parameters of a call gate, interrupt stack of a 64-bit gate.
    public static func gate(selector: UInt16, offset: UInt32, access: UInt8, count: UInt8 = 0) -> UInt64 {
        let low = UInt64(offset & 0xFFFF) | UInt64(selector) << 16 | UInt64(count) << 32
        return low | UInt64(access) << 40 | UInt64(offset >> 16) << 48
    }
}

/// Selectors of the GDT that ``GuestMachine`` installs.
public enum GuestSelector {
    public static let code32: UInt16 = 0x08
    public static let data32: UInt16 = 0x10
    public static let userCode32: UInt16 = 0x1B
    public static let userData32: UInt16 = 0x23
    public static let code64: UInt16 = 0x28
    public static let userCode64: UInt16 = 0x33
    /// 32-bit TSS (protected mode) or 64-bit TSS, two entries.
    public static let task: UInt16 = 0x38
    public static let ldt: UInt16 = 0x48
    public static let code16: UInt16 = 0x50
    public static let data16: UInt16 = 0x58
    public static let conforming32: UInt16 = 0x60
    public static let code32Level1: UInt16 = 0x69
    public static let data32Level1: UInt16 = 0x71
    /// Two entries for a test's own.
    public static let scratch: UInt16 = 0x78
    /// A second TSS.
    public static let otherTask: UInt16 = 0x88
    public static let absentData: UInt16 = 0x90
    public static let readOnlyData: UInt16 = 0x98
    public static let executeOnly: UInt16 = 0xA0
    public static let absentCode: UInt16 = 0xA8
    /// The first selector beyond the table.
    public static let beyond: UInt16 = 0xB0
}
