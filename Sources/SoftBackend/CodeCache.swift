// Decoded code of one machine: blocks of instructions, found by the host address of their first byte.
// Invisible to the guest: a block is used only while the bytes that it was decoded from are unchanged.

import NVMM

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Straight-line code within one page. An instruction that reaches into the next page is decoded each time instead.
struct Block {
    /// Host address of the first byte, with the mode in the upper bits; 0 where the block is no longer valid.
    var key: UInt64 = 0
    var first = InstructionPointer()
    var instructionCount: Int32 = 0
    var byteCount: Int32 = 0
    /// Next block of the same page, or -1.
    var nextInPage: Int32 = -1
    /// The run in which the bytes were last compared with ``CodeCache/sourceBytes``.
    var verifiedRun: UInt64 = 0
    /// Place of the source bytes.
    var source: Int32 = 0
    /// Times that it was found, while it is not translated.
    var heat: UInt32 = 0
    /// Where its translation begins, or 0, and the RIP that this is for.
    var translation: UInt64 = 0
    var translationRIP: UInt64 = 0
}

/// Storage for blocks and their instructions. When it is full everything is thrown away and decoded again.
///
/// SAFETY: three allocations of fixed size, freed in deinit; indices come from the counters below, which stay below the
/// capacities. Instructions never move, so an ``InstructionPointer`` stays valid until ``removeAll()``, which is called
/// only between blocks.
@safe final class CodeCache {
    static let instructionCapacity = 1 << 17
    static let blockCapacity = 1 << 15
    static let sourceCapacity = 1 << 20
    static let bucketCount = 1 << 15
    /// Instructions of a block at most.
    static let blockInstructionsMax = 32

    private let instructions: UnsafeMutablePointer<InstructionRecord>
    private let blocks: UnsafeMutablePointer<Block>
    private let sources: UnsafeMutablePointer<UInt8>
    /// First block of each bucket.
    private let buckets: UnsafeMutablePointer<Int32>
    private let bucketNext: UnsafeMutablePointer<Int32>
    private var instructionCount = 0
    private var blockCount = 0
    private var sourceCount = 0
    /// Pages whose records point into this cache; each has the code map of the same number.
    private var pages: [UnsafeMutablePointer<PageRecord>] = unsafe []
    private var codeMaps: [UnsafeMutablePointer<UInt64>] = unsafe []
    /// Counts runs: bytes are compared again in each, since a client may have changed memory between.
    private let runs = SharedCount(1)
    @inline(__always) var run: UInt64 { runs.value }
    /// Changes whenever blocks are dropped: positions kept elsewhere are stale then.
    @inline(__always) var epoch: UInt64 { epochs.value }
    private let epochs = SharedCount(1)

    init() {
        // A record fills a cache line, so it starts one.
        let byteCount = (Self.instructionCapacity + 1) * MemoryLayout<InstructionRecord>.stride
        unsafe instructions = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
            .bindMemory(to: InstructionRecord.self, capacity: Self.instructionCapacity + 1)
        unsafe blocks = .allocate(capacity: Self.blockCapacity)
        unsafe blocks.initialize(repeating: Block(), count: Self.blockCapacity)
        unsafe sources = .allocate(capacity: Self.sourceCapacity)
        unsafe buckets = .allocate(capacity: Self.bucketCount)
        unsafe buckets.initialize(repeating: -1, count: Self.bucketCount)
        unsafe bucketNext = .allocate(capacity: Self.blockCapacity)
        unsafe bucketNext.initialize(repeating: -1, count: Self.blockCapacity)
    }

    deinit {
        unsafe instructions.deallocate()
        unsafe blocks.deallocate()
        unsafe sources.deallocate()
        unsafe buckets.deallocate()
        unsafe bucketNext.deallocate()
        unsafe codeMaps.forEach { unsafe $0.deallocate() }
    }

    /// Made when the first block is translated.
    private(set) lazy var translated = TranslatedCode()

    /// Held by whoever finds, makes or drops blocks where several VCPUs run at the same time.
    let sharing = NestingLock()

    func beginRun() { runs.increment() }

    @inline(__always) private static func bucket(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 49)
    }

    /// The valid block of this key, by number.
    func find(_ key: UInt64) -> Int32? {
        var number = unsafe buckets[Self.bucket(key)]
        while number >= 0 {
            if unsafe blocks[Int(number)].key == key { return number }
            number = unsafe bucketNext[Int(number)]
        }
        return nil
    }

    @inline(__always) func block(_ number: Int32) -> Block { unsafe blocks[Int(number)] }

    /// Whether the bytes at `host` are those that the block was decoded from.
    @inline(__always) func isUnchanged(_ block: Block, host: UInt64) -> Bool {
        unsafe memcmp(HostAddress(host).bytes, sources + Int(block.source), Int(block.byteCount)) == 0
    }

    /// Whether the block's bytes are still those at `host`; if not, the block is dropped.
    func verify(_ number: Int32, host: UInt64) -> Bool {
        let block = unsafe blocks[Int(number)]
        guard isUnchanged(block, host: host) else {
            drop(number)
            return false
        }
        unsafe blocks[Int(number)].verifiedRun = run
        return true
    }

    /// Counts an execution of a block that is not translated.
    ///
    /// - Returns: how many there were.
    @inline(__always) func warm(_ number: Int32) -> UInt32 {
        unsafe blocks[Int(number)].heat &+= 1
        return unsafe blocks[Int(number)].heat
    }

    func setTranslation(_ number: Int32, _ address: UInt64, rip: UInt64) {
        unsafe blocks[Int(number)].translation = address
        unsafe blocks[Int(number)].translationRIP = rip
    }

    func drop(_ number: Int32) {
        unsafe blocks[Int(number)].key = 0
        epochs.increment()
    }

    /// Drops the blocks that overlap the bytes being written.
    ///
    /// - Parameters:
    ///   - record: the page's; its list of blocks is walked.
    ///   - host: address of the first byte written.
    /// - Returns: whether any was dropped.
    func invalidate(_ record: UnsafeMutablePointer<PageRecord>, host: UInt64, byteCount: UInt64) -> Bool {
        guard let map = unsafe record.pointee.code, map.intersects(host: host, byteCount: byteCount) else {
            return false
        }
        var found = false
        var previous: Int32 = -1
        var number = unsafe record.pointee.firstBlock
        map.clear()
        while number >= 0 {
            let block = unsafe blocks[Int(number)]
            let start = block.key & 0x00FF_FFFF_FFFF_FFFF
            let dead = block.key == 0 || host < start &+ UInt64(block.byteCount) && start < host &+ byteCount
            if dead {
                if block.key != 0 {
                    drop(number)
                    found = true
                }
                // Unlink, so that the list stays as short as the live code.
                if previous < 0 {
                    unsafe record.pointee.firstBlock = block.nextInPage
                } else {
                    unsafe blocks[Int(previous)].nextInPage = block.nextInPage
                }
            } else {
                previous = number
                map.insert(host: start, byteCount: UInt64(block.byteCount))
            }
            number = block.nextInPage
        }
        return found
    }

    func removeAll() {
        translated?.removeAll()
        unsafe pages.forEach { record in
            unsafe record.pointee.firstBlock = -1
            unsafe record.pointee.code = nil
        }
        unsafe pages.removeAll(keepingCapacity: true)
        for index in 0..<blockCount { unsafe blocks[index].key = 0 }
        unsafe buckets.update(repeating: -1, count: Self.bucketCount)
        instructionCount = 0
        blockCount = 0
        sourceCount = 0
        epochs.increment()
    }
}

// MARK: - Building a block

extension CodeCache {
    /// Whether a block of the largest size still fits.
    var hasRoom: Bool {
        instructionCount + Self.blockInstructionsMax <= Self.instructionCapacity && blockCount < Self.blockCapacity
            && sourceCount + Self.blockInstructionsMax * 16 <= Self.sourceCapacity
    }

    /// Place of the next instruction; ``append(_:)`` fills it. Call only while ``hasRoom``.
    var nextInstruction: InstructionPointer { unsafe InstructionPointer(instructions + instructionCount) }

    func append(_ instruction: consuming InstructionRecord) {
        precondition(instructionCount < Self.instructionCapacity, "room was checked before the block")
        unsafe (instructions + instructionCount).initialize(to: instruction)
        instructionCount += 1
    }

    /// Puts an instruction that crosses a page into the one place kept for such: the next one replaces it.
    func holdCrossing(_ instruction: consuming InstructionRecord) -> InstructionPointer {
        unsafe (instructions + Self.instructionCapacity).initialize(to: instruction)
        return unsafe InstructionPointer(instructions + Self.instructionCapacity)
    }

    /// Closes the block whose instructions were just appended.
    ///
    /// - Parameters:
    ///   - bytes: what was decoded.
    ///   - record: the page of the first byte.
    func close(
        key: UInt64, first: InstructionPointer, instructionCount count: Int, bytes: Span<UInt8>,
        record: UnsafeMutablePointer<PageRecord>
    ) -> Int32 {
        precondition(blockCount < Self.blockCapacity && sourceCount + bytes.count <= Self.sourceCapacity)
        let number = Int32(blockCount)
        for index in bytes.indices { unsafe sources[sourceCount + index] = bytes[index] }
        let map = unsafe codeMap(of: record)
        unsafe blocks[blockCount] = Block(
            key: key, first: first, instructionCount: Int32(count), byteCount: Int32(bytes.count),
            nextInPage: record.pointee.firstBlock, verifiedRun: run, source: Int32(sourceCount))
        unsafe record.pointee.firstBlock = number
        let start = key & 0x00FF_FFFF_FFFF_FFFF
        map.insert(host: start, byteCount: UInt64(bytes.count))
        let bucket = Self.bucket(key)
        unsafe bucketNext[blockCount] = buckets[bucket]
        unsafe buckets[bucket] = number
        blockCount += 1
        sourceCount += bytes.count
        return number
    }

    private func codeMap(of record: UnsafeMutablePointer<PageRecord>) -> CodeMap {
        if let map = unsafe record.pointee.code { return map }
        unsafe pages.append(record)
        if unsafe codeMaps.count < pages.count { unsafe codeMaps.append(.allocate(capacity: CodeMap.wordCount)) }
        let map = unsafe CodeMap(codeMaps[pages.count - 1])
        map.clear()
        unsafe record.pointee.code = map
        return map
    }
}

// MARK: - Short cut from RIP to block

/// Where control went last time from a linear address: saves the translation and the look-up.
///
/// SAFETY: one allocation of ``entryCount`` entries, indices masked.
@safe struct JumpCache: ~Copyable {
    static let entryCount = 8192

    struct Entry {
        /// Linear RIP and mode.
        var tag: UInt64 = .max
        /// ``CPU/translations`` and ``CodeCache/epoch`` that the entry agrees with.
        var translations: UInt64 = 0
        var epoch: UInt64 = 0
        /// ``CodeCache/run`` in which the bytes at `host` were last compared with the block's.
        var run: UInt64 = 0
        var host: UInt64 = 0
        var first = InstructionPointer()
        var block: Int32 = -1
        var instructionCount: UInt16 = 0
        var byteCount: UInt16 = 0
        /// Where the block's translation begins, or 0.
        var translation: UInt64 = 0
    }

    private let entries: UnsafeMutablePointer<Entry>

    init() {
        unsafe entries = .allocate(capacity: Self.entryCount)
        unsafe entries.initialize(repeating: Entry(), count: Self.entryCount)
    }

    deinit { unsafe entries.deallocate() }

    @inline(__always) private func index(_ linear: UInt64) -> Int {
        Int(truncatingIfNeeded: (linear ^ linear >> 12) & UInt64(Self.entryCount - 1))
    }
    @inline(__always) subscript(linear: UInt64) -> Entry {
        get { unsafe entries[index(linear)] }
        nonmutating _modify { yield unsafe &entries[index(linear)] }
    }
}
