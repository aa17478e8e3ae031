// Memory of an instruction that is emulated outside of a machine: whatever it reads and writes goes to somebody else.

public import NVMM

/// What an emulated instruction reads and writes. Accesses are those of the instruction, split at pages.
public protocol EmulatedMemory: AnyObject {
    /// - Parameter byteCount: 1...8.
    func load(_ gpa: GPA, byteCount: Int) -> UInt64
    /// The same of what is plain memory; nil elsewhere, without any effect. Paging structures are read so.
    func loadPlain(_ gpa: GPA, byteCount: Int) -> UInt64?
    /// Stores come once the instruction has completed, in its order.
    ///
    /// - Parameter byteCount: 1...8.
    func store(_ gpa: GPA, _ value: UInt64, byteCount: Int)
}

/// The accesses of one instruction, between the interpreter and an ``EmulatedMemory``.
///
/// The interpreter wants host addresses. It gets places of its own for each access: what is read is put there before,
/// what is written is taken from there when the instruction has completed, so that one that faults writes nothing.
///
/// SAFETY: three allocations that are freed with the object; a place is handed out for at most ``placeBytes`` bytes and
/// stays until the next ``begin(_:at:in:)``. The code has two pages, and an address in it is masked to its page.
@safe final class Emulation {
    static let placeBytes = 8
    /// A switch of tasks makes the most accesses: below 100, some of them across pages.
    private static let placeCount = 512

    private struct Store {
        var gpa: UInt64
        var byteCount: Int
        var place: Int
    }

    private let places: UnsafeMutableRawPointer
    private let code: UnsafeMutableRawPointer
    private let record: UnsafeMutablePointer<PageRecord>
    private var usedPlaces = 0
    private var stores: [Store] = []
    private var memory: (any EmulatedMemory)?
    /// Linear address of the code's first page.
    private var codePage: UInt64 = 0
    /// Nothing is to have an effect: what is not plain memory reads as zero.
    var isRehearsal = false

    init() {
        unsafe places = .allocate(byteCount: Self.placeCount * Self.placeBytes, alignment: 16)
        unsafe code = .allocate(byteCount: 2 * pageBytes, alignment: pageBytes)
        unsafe code.initializeMemory(as: UInt8.self, repeating: Self.hlt, count: 2 * pageBytes)
        unsafe record = .allocate(capacity: 1)
        unsafe record.initialize(to: PageRecord())
        stores.reserveCapacity(16)
    }

    deinit {
        unsafe places.deallocate()
        unsafe code.deallocate()
        unsafe record.deallocate()
    }

    /// It ends a block: nothing behind the instruction is decoded.
    private static let hlt: UInt8 = 0xF4

    func begin(_ instruction: InstructionBytes, at linear: UInt64, in memory: any EmulatedMemory) {
        self.memory = memory
        usedPlaces = 0
        stores.removeAll(keepingCapacity: true)
        codePage = linear & ~0xFFF
        let start = Int(linear & 0xFFF)
        for (index, byte) in instruction.bytes.enumerated() {
            unsafe code.storeBytes(of: byte, toByteOffset: start + index, as: UInt8.self)
        }
        for index in Int(instruction.count)...15 {
            unsafe code.storeBytes(of: Self.hlt, toByteOffset: start + index, as: UInt8.self)
        }
    }

    /// Forgets what was written: for a rehearsal's end.
    func discard() {
        usedPlaces = 0
        stores.removeAll(keepingCapacity: true)
    }

    /// Writes what the instruction wrote.
    func complete() {
        for store in stores {
            let value = unsafe places.load(fromByteOffset: store.place, as: UInt64.self)
            memory?.store(GPA(store.gpa), value & Self.mask(store.byteCount), byteCount: store.byteCount)
        }
        memory = nil
    }

    func abandon() { memory = nil }

    private static func mask(_ byteCount: Int) -> UInt64 { byteCount >= 8 ? .max : 1 << UInt64(byteCount * 8) - 1 }

    // MARK: - What the interpreter asks

    /// Where the byte of code at a linear address stands; pages other than the first count as the second.
    func codeAddress(_ linear: UInt64) -> HostAddress {
        let page: UInt64 = linear & ~0xFFF == codePage ? 0 : 0x1000
        return unsafe HostAddress(UInt64(UInt(bitPattern: code)) &+ page &+ linear & 0xFFF)
    }

    /// The page that blocks of this code belong to. Nobody stores to it: its bytes are compared before each use.
    var codePageRecord: PhysicalPage {
        unsafe PhysicalPage(host: UInt64(UInt(bitPattern: code)), record: record, protection: [.read, .execute])
    }

    /// - Returns: nil where the instruction makes more accesses than any does.
    private func takePlace(_ value: UInt64) -> Int? {
        guard usedPlaces < Self.placeCount else { return nil }
        let place = usedPlaces * Self.placeBytes
        usedPlaces += 1
        unsafe places.storeBytes(of: value, toByteOffset: place, as: UInt64.self)
        return place
    }

    private func address(_ place: Int) -> HostAddress {
        unsafe HostAddress(UInt64(UInt(bitPattern: places)) &+ UInt64(place))
    }

    func read(_ gpa: UInt64, byteCount: UInt64) -> HostAddress? {
        let count = Int(byteCount)
        guard count <= Self.placeBytes else { return nil }
        let value =
            isRehearsal
            ? memory?.loadPlain(GPA(gpa), byteCount: count) ?? 0 : memory?.load(GPA(gpa), byteCount: count) ?? 0
        return takePlace(overlaid(value, gpa, count)).map(address)
    }

    func write(_ gpa: UInt64, byteCount: UInt64) -> HostAddress? {
        guard Int(byteCount) <= Self.placeBytes, let place = takePlace(0) else { return nil }
        stores.append(Store(gpa: gpa, byteCount: Int(byteCount), place: place))
        return address(place)
    }

    /// Reads a paging structure; nil where there is no plain memory.
    func loadTable(_ gpa: UInt64, byteCount: UInt64) -> UInt64? {
        memory?.loadPlain(GPA(gpa), byteCount: Int(byteCount)).map { overlaid($0, gpa, Int(byteCount)) }
    }

    /// What the instruction itself has written stands nowhere else yet.
    private func overlaid(_ value: UInt64, _ gpa: UInt64, _ byteCount: Int) -> UInt64 {
        var value = value
        for store in stores where store.gpa < gpa &+ UInt64(byteCount) && gpa < store.gpa &+ UInt64(store.byteCount) {
            let written = unsafe places.load(fromByteOffset: store.place, as: UInt64.self)
            for index in 0..<byteCount {
                let offset = gpa &+ UInt64(index) &- store.gpa
                guard offset < UInt64(store.byteCount) else { continue }
                let shift = UInt64(index * 8)
                value = value & ~(0xFF << shift) | (written >> (offset * 8) & 0xFF) << shift
            }
        }
        return value
    }
}
