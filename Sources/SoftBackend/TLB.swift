// The translation look-aside buffer: linear page to host page, for reads, writes and fetches of user and supervisor.
// Invisible to the guest: it only ever holds what a page walk would find again (CPU+Paging.swift).

/// One translation. `tag` is the linear address of the page, or ``TLB/emptyTag``.
struct TLBEntry {
    var tag: UInt64
    /// Host address minus linear address.
    var addend: UInt64
}

enum AccessKind: Int {
    case read, write, fetch
}

/// Six direct-mapped tables of ``entryCount`` entries. The three of the current privilege are selected beforehand.
///
/// SAFETY: `storage` is one allocation, freed with the TLB; indices are masked to its size.
@safe struct TLB: ~Copyable {
    static let entryCount = 1024
    /// No page's address: its low bits are not zero.
    static let emptyTag: UInt64 = 1

    private let storage: UnsafeMutablePointer<TLBEntry>
    private var selected: UnsafeMutablePointer<TLBEntry>

    init() {
        unsafe storage = .allocate(capacity: 6 * Self.entryCount)
        unsafe storage.initialize(repeating: TLBEntry(tag: Self.emptyTag, addend: 0), count: 6 * Self.entryCount)
        unsafe selected = storage
    }

    deinit { unsafe storage.deallocate() }

    mutating func select(user: Bool) { unsafe selected = storage + (user ? 3 * Self.entryCount : 0) }

    @inline(__always) private func entry(_ linear: UInt64, _ kind: AccessKind) -> UnsafeMutablePointer<TLBEntry> {
        unsafe selected + (kind.rawValue &* Self.entryCount &+ Int(linear >> 12 & UInt64(Self.entryCount - 1)))
    }

    /// The host address of `linear` where its page is present, and the `byteCount` bytes from it lie in one page.
    @inline(__always) func look(_ linear: UInt64, byteCount: UInt64, _ kind: AccessKind) -> HostAddress? {
        let found = unsafe entry(linear, kind).pointee
        // An access that leaves its page makes the two sides differ, as an absent page does.
        guard found.tag == (linear &+ (byteCount &- 1)) & ~0xFFF && found.tag == linear & ~0xFFF else { return nil }
        return HostAddress(linear &+ found.addend)
    }

    /// Of the table that serves this kind of access at the current privilege.
    @inline(__always) func address(_ kind: AccessKind) -> UInt64 {
        unsafe UInt64(UInt(bitPattern: selected + kind.rawValue &* Self.entryCount))
    }

    func insert(linear: UInt64, host: UInt64, _ kind: AccessKind) {
        unsafe entry(linear, kind).pointee = TLBEntry(
            tag: linear & ~0xFFF, addend: (host & ~0xFFF) &- (linear & ~0xFFF))
    }

    func removeAll() {
        for index in 0..<6 * Self.entryCount { unsafe storage[index].tag = Self.emptyTag }
    }

    /// Removes the translations of one page.
    func remove(linear: UInt64) {
        let slot = Int(linear >> 12 & UInt64(Self.entryCount - 1))
        for table in 0..<6 where unsafe storage[table * Self.entryCount + slot].tag == linear & ~0xFFF {
            unsafe storage[table * Self.entryCount + slot].tag = Self.emptyTag
        }
    }

    /// Removes every translation for writing: pages became clean or now hold code.
    func removeWrites() {
        for index in Self.entryCount..<2 * Self.entryCount {
            unsafe storage[index].tag = Self.emptyTag
            unsafe storage[index + 3 * Self.entryCount].tag = Self.emptyTag
        }
    }
}
