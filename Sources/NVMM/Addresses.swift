// The address kinds of a guest, kept apart by type: a GPA is never mistaken for a GVA.

/// Guest physical address, in bytes.
public struct GPA: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: GPA, right: GPA) -> Bool { left.rawValue < right.rawValue }
}

/// Guest virtual (in the processor manuals: linear) address, in bytes.
public struct GVA: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: GVA, right: GVA) -> Bool { left.rawValue < right.rawValue }
}

/// What an access may do: `NVMM_PROT_*` of `<nvmm.h>`; the first three have the values of `mmap`'s `PROT_*`.
public struct Protection: OptionSet, Hashable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let read = Protection(rawValue: 0x1)
    public static let write = Protection(rawValue: 0x2)
    public static let execute = Protection(rawValue: 0x4)
    /// Only ever the result of a page walk: the page is open to user mode.
    public static let user = Protection(rawValue: 0x8)
    public static let all: Protection = [.read, .write, .execute, .user]
}

/// Bytes of a page: the unit of mapping, dirty tracking and content addressing.
public let pageBytes = 4096
