// Guest physical memory of one machine: objects, and which of their pages stand at which GPA.

import NVMM
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What is remembered of each page of an object.
struct PageRecord {
    /// The guest wrote the page since the dirty list was last taken.
    var isDirty = false
    /// First block of code decoded from this page, or -1.
    var firstBlock: Int32 = -1
    /// The bytes that its blocks cover, at least: a store elsewhere in the page concerns no code. Data often shares a
    /// page with code, and a cache line too.
    var code: CodeMap?
}

/// A bit for each byte of a page.
///
/// SAFETY: ``wordCount`` words that ``CodeCache`` owns for longer than any page names them; positions are masked to
/// them.
@safe struct CodeMap {
    static let wordCount = 64

    private let words: UnsafeMutablePointer<UInt64>

    init(_ words: UnsafeMutablePointer<UInt64>) { unsafe self.words = words }

    func clear() { unsafe words.update(repeating: 0, count: Self.wordCount) }

    /// The bits of the word at `word` that lie in `first...last`, both within a page.
    @inline(__always) private static func mask(_ word: Int, _ first: Int, _ last: Int) -> UInt64 {
        let low = max(first &- word &* 64, 0)
        let high = min(last &- word &* 64, 63)
        return (UInt64.max &<< UInt64(low)) & (UInt64.max &>> UInt64(63 &- high))
    }

    /// - Parameter byteCount: 1 or more; what lies beyond the page of `host` is left out.
    @inline(__always) private static func bounds(_ host: UInt64, _ byteCount: UInt64) -> (first: Int, last: Int) {
        let first = host & 0xFFF
        return (Int(truncatingIfNeeded: first), Int(truncatingIfNeeded: min(0xFFF, first &+ (byteCount &- 1))))
    }

    @inline(__always) func intersects(host: UInt64, byteCount: UInt64) -> Bool {
        let (first, last) = Self.bounds(host, byteCount)
        var word = first >> 6
        while word <= last >> 6 {
            if unsafe words[word & 63] & Self.mask(word, first, last) != 0 { return true }
            word &+= 1
        }
        return false
    }

    func insert(host: UInt64, byteCount: UInt64) {
        let (first, last) = Self.bounds(host, byteCount)
        for word in first >> 6...last >> 6 { unsafe words[word & 63] |= Self.mask(word, first, last) }
    }
}

/// A memory object as the backend sees it.
///
/// SAFETY: `records` has one element for each page of the object and lives as long as this; `host` is the mapping that
/// the client's ``MemoryObject`` owns, kept alive by `object`.
@safe final class BackedObject {
    let object: MemoryObject
    let host: UInt64
    let records: UnsafeMutablePointer<PageRecord>
    var linkCount = 0
    /// There once a snapshot was taken.
    var preserved: PreservedPages?

    /// - Parameter clientAddress: where the client wants its mapping, or nil: client and backend then share one.
    convenience init(ordinal: UInt32, byteCount: Int, clientAddress: UInt?) throws(MachineError) {
        if let clientAddress {
            try self.init(ordinal: ordinal, byteCount: byteCount, mappedTwiceAt: clientAddress)
        } else {
            try self.init(ordinal: ordinal, byteCount: byteCount)
        }
    }

    private init(ordinal: UInt32, byteCount: Int, mappedTwiceAt clientAddress: UInt) throws(MachineError) {
        guard clientAddress != 0, clientAddress % UInt(pageBytes) == 0 else {
            throw .misaligned(value: UInt64(clientAddress))
        }
        let memory = try SharedMemory(byteCount: byteCount, clientAddress: clientAddress)
        host = UInt64(memory.backendAddress)
        object = unsafe MemoryObject(
            ordinal: ordinal, byteCount: byteCount, clientAddress: memory.clientPointer, isExposed: true,
            clientWrites: memory.clientWrites.take, holdWriters: memory.clientWrites.hold, release: memory.unmap)
        unsafe records = .allocate(capacity: byteCount / pageBytes)
        unsafe records.initialize(repeating: PageRecord(), count: byteCount / pageBytes)
    }

    private init(ordinal: UInt32, byteCount: Int) throws(MachineError) {
        let mapping = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0)
        guard let address = unsafe mapping, unsafe address != MAP_FAILED else {
            throw .outOfMemory(byteCount: byteCount)
        }
        let start = UInt(bitPattern: address)
        host = UInt64(start)
        let pages = byteCount / pageBytes
        unsafe object = MemoryObject(
            ordinal: ordinal, byteCount: byteCount, clientAddress: address,
            touchedPages: { populatedPages(start: start, pageCount: pages) },
            release: { unsafe munmap(UnsafeMutableRawPointer(bitPattern: start), byteCount) })
        unsafe records = .allocate(capacity: pages)
        unsafe records.initialize(repeating: PageRecord(), count: pages)
    }

    deinit { unsafe records.deallocate() }

    /// Those that hold bytes of `range`.
    func pages(of range: Swift.Range<Int>) -> Swift.Range<Int> {
        let first = range.lowerBound / pageBytes
        return range.isEmpty ? first..<first : first..<(range.upperBound - 1) / pageBytes + 1
    }

    /// Whether code was decoded from one of these pages.
    func holdCode(_ pages: Swift.Range<Int>) -> Bool { pages.contains { unsafe records[$0].firstBlock >= 0 } }

    func bytes(ofPage page: Int) -> [UInt8] {
        let start = unsafe HostAddress(host &+ UInt64(page * pageBytes)).bytes
        return unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: pageBytes))
    }

    /// - Parameter bytes: of a whole page.
    func replace(_ page: Int, _ bytes: [UInt8]) {
        precondition(bytes.count == pageBytes && page < object.pageCount)
        let start = unsafe HostAddress(host &+ UInt64(page * pageBytes)).mutableBytes
        unsafe bytes.withUnsafeBytes {
            unsafe start.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: pageBytes)
        }
        unsafe records[page].isDirty = true
    }

    func takeDirtyPages() -> [Int] {
        var dirty: [Int] = []
        for page in 0..<object.pageCount where unsafe records[page].isDirty {
            unsafe records[page].isDirty = false
            dirty.append(page)
        }
        return dirty
    }
}

/// A page of guest physical memory: where its bytes are and what may be done with them.
@safe struct PhysicalPage {
    var host: UInt64
    var record: UnsafeMutablePointer<PageRecord>
    var protection: Protection
}

/// The machine's guest physical address space.
final class GuestMemory {
    /// `max_ram` of the capability: 128 GiB.
    static let addressLimit: UInt64 = 128 << 30

    private(set) var objects: [BackedObject?] = []
    /// Mapped ranges, ascending by GPA, not overlapping.
    private(set) var ranges: [Range] = []
    /// Changes whenever translations that somebody may have cached become stale.
    @inline(__always) var generation: UInt64 { generations.value }
    private let generations = SharedCount(1)
    /// The range that was found last, which any VCPU may have done.
    private let lastFound = Atomic<Int>(0)
    /// Held through a locked access that the host cannot do in one: operands that are not aligned.
    let splitLocks = NestingLock()

    struct Range {
        var gpa: UInt64
        var byteCount: UInt64
        var backing: BackedObject
        var offset: UInt64
        var protection: Protection
    }

    /// Whether a client may write without a call: then all that was decoded is compared again in each run.
    private(set) var mayChangeUnseen = false

    func findUnseenChanges() {
        if !mayChangeUnseen { mayChangeUnseen = objects.contains { $0?.object.isExposed == true } }
    }

    /// Whether pages are to be kept before they change.
    var hasSnapshots = false

    func makeStale() { generations.increment() }

    /// The page that `gpa` lies in, or nil where nothing is mapped.
    func page(at gpa: UInt64) -> PhysicalPage? {
        guard let range = range(containing: gpa) else { return nil }
        let offset = ranges[range].offset &+ ((gpa & ~0xFFF) &- ranges[range].gpa)
        let backing = ranges[range].backing
        return unsafe PhysicalPage(
            host: backing.host &+ offset, record: backing.records + Int(offset >> 12),
            protection: ranges[range].protection)
    }

    /// The object and its page that a host address lies in.
    func place(ofHost host: UInt64) -> (backing: BackedObject, page: Int)? {
        for case let backing? in objects where host &- backing.host < UInt64(backing.object.byteCount) {
            return (backing, Int((host &- backing.host) >> 12))
        }
        return nil
    }

    /// Of the page that a host address lies in.
    func record(_ host: UInt64) -> UnsafeMutablePointer<PageRecord>? {
        guard let (backing, page) = place(ofHost: host) else { return nil }
        return unsafe backing.records + page
    }

    func range(containing gpa: UInt64) -> Int? {
        let last = lastFound.load(ordering: .relaxed)
        if last < ranges.count, gpa &- ranges[last].gpa < ranges[last].byteCount { return last }
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].gpa <= gpa { low = middle + 1 } else { high = middle }
        }
        guard low > 0, gpa &- ranges[low - 1].gpa < ranges[low - 1].byteCount else { return nil }
        lastFound.store(low - 1, ordering: .relaxed)
        return low - 1
    }
}

// MARK: - Mapping

extension GuestMemory {
    func createObject(byteCount: Int, clientAddress: UInt? = nil) throws(MachineError) -> MemoryObject {
        guard byteCount > 0, byteCount % pageBytes == 0 else {
            throw .misaligned(value: UInt64(bitPattern: Int64(byteCount)))
        }
        guard UInt64(byteCount) <= Self.addressLimit else { throw .outOfMemory(byteCount: byteCount) }
        let live = objects.count { $0 != nil }
        guard live < 32 else { throw .tooMany(limit: 32) }  // NVMM's limit of hva mappings
        let backing = try BackedObject(
            ordinal: UInt32(objects.count), byteCount: byteCount, clientAddress: clientAddress)
        objects.append(backing)
        return backing.object
    }

    func destroyObject(_ object: MemoryObject) throws(MachineError) {
        let backing = try self.backing(of: object)
        guard backing.linkCount == 0 else { throw .objectInUse(ordinal: object.ordinal) }
        objects[Int(object.ordinal)] = nil
        makeStale()
    }

    func backing(of object: MemoryObject) throws(MachineError) -> BackedObject {
        guard Int(object.ordinal) < objects.count, let backing = objects[Int(object.ordinal)], backing.object === object
        else { throw .noSuchObject(ordinal: object.ordinal) }
        return backing
    }

    func map(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        let backing = try self.backing(of: object)
        try object.checkMapping(
            offset: offset, gpa: gpa, byteCount: byteCount,
            mapped: ranges.lazy.map { $0.gpa..<$0.gpa + $0.byteCount }, addressLimit: Self.addressLimit)
        let range = Range(
            gpa: gpa.rawValue, byteCount: UInt64(byteCount), backing: backing, offset: UInt64(offset),
            protection: protection.intersection([.read, .write, .execute]))
        let place = ranges.firstIndex { $0.gpa > gpa.rawValue } ?? ranges.count
        ranges.insert(range, at: place)
        backing.linkCount += 1
        makeStale()
    }

    /// Puts back a map of objects that are all there.
    func replaceRanges(_ wanted: [Range]) {
        for range in ranges { range.backing.linkCount -= 1 }
        ranges = wanted
        for range in ranges { range.backing.linkCount += 1 }
    }

    func unmap(gpa: GPA, byteCount: Int) throws(MachineError) {
        guard
            let place = ranges.firstIndex(where: {
                $0.gpa == gpa.rawValue && $0.byteCount == UInt64(bitPattern: Int64(byteCount))
            })
        else { throw .noSuchRange(gpa: gpa, byteCount: byteCount) }
        ranges[place].backing.linkCount -= 1
        ranges.remove(at: place)
        makeStale()
    }
}
