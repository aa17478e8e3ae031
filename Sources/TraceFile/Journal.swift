// The memory into which events are logged before they are encoded, shared with a file beside the trace so that it
// outlives its writer: Docs/trace-format.md, "Journals". All stores into mapped memory stand in this file.

import CXXHash
import Glibc
import NVMM
import Synchronization

/// One of the two journals of a writer.
///
/// ```
///    0  magic       "VMTJRNL1"
///    8  trace       checksum of the trace's preamble and header frame: which trace this belongs to
///   16  capacity    bytes of records that there is room for
///   24  epoch       number of the epoch in it, 0 while it is free
///   32  firstStep   machine-wide number of the first step in it
///   40  committed   bytes of records that are complete
/// 4096  records
/// ```
/// A record counts once `committed` covers it; that word is stored last, with release order.
@safe final class Journal: @unchecked Sendable {
    static let headerBytes = 4096
    static let magic: UInt64 = 0x314C_4E52_4A54_4D56

    let capacity: Int
    var used: Int { end.value.used }
    private(set) var firstStep: UInt64 = 0
    private let base: UnsafeMutableRawPointer
    private let epochWord: UnsafeMutablePointer<Atomic<UInt64>>
    private let committedWord: UnsafeMutablePointer<Atomic<UInt64>>
    @safe private struct End {
        /// Bytes of records.
        var used = 0
        /// Start of the record that is being built.
        var next: UnsafeMutablePointer<UInt64>
    }
    private let end: Untracked<End>

    /// - Parameter descriptor: a file to map, made large enough here; nil for memory alone.
    init(capacity: Int, descriptor: Int32?, trace: UInt64) throws(TraceWriteError) {
        self.capacity = capacity
        let length = Self.headerBytes + capacity
        if let descriptor {
            // Allocated now, since a full disk under a mapping would be a SIGBUS later.
            let code = posix_fallocate(descriptor, 0, off_t(length))
            guard code == 0 else { throw .io(call: "posix_fallocate", errno: code) }
        }
        let flags = descriptor == nil ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED
        guard
            let address = unsafe mmap(nil, length, PROT_READ | PROT_WRITE, flags, descriptor ?? -1, 0),
            unsafe address != MAP_FAILED
        else { throw .io(call: "mmap", errno: errno) }
        // SAFETY: a private or shared mapping of `length` bytes, unmapped in deinit only; the atomics are bound to
        // two aligned words of the first page, which nothing else in this process touches.
        unsafe base = address
        unsafe epochWord = (address + 24).bindMemory(to: Atomic<UInt64>.self, capacity: 1)
        unsafe committedWord = (address + 40).bindMemory(to: Atomic<UInt64>.self, capacity: 1)
        end = unsafe Untracked(
            End(next: (address + Self.headerBytes).bindMemory(to: UInt64.self, capacity: capacity / 8)))
        unsafe epochWord.pointee.store(0, ordering: .releasing)
        unsafe address.storeBytes(of: Self.magic, as: UInt64.self)
        unsafe address.storeBytes(of: trace, toByteOffset: 8, as: UInt64.self)
        unsafe address.storeBytes(of: UInt64(capacity), toByteOffset: 16, as: UInt64.self)
    }

    deinit { unsafe munmap(base, Self.headerBytes + capacity) }

    /// Takes the journal into use, empty.
    func open(epoch: UInt32, firstStep: UInt64) {
        end.value.used = 0
        self.firstStep = firstStep
        unsafe end.value.next = (base + Self.headerBytes).assumingMemoryBound(to: UInt64.self)
        unsafe committedWord.pointee.store(0, ordering: .releasing)
        unsafe base.storeBytes(of: firstStep, toByteOffset: 32, as: UInt64.self)
        unsafe epochWord.pointee.store(UInt64(epoch), ordering: .releasing)
    }

    /// Gives it back: its records stand in the trace.
    func close() { unsafe epochWord.pointee.store(0, ordering: .releasing) }

    /// The records, copied.
    func records() -> [UInt8] {
        unsafe [UInt8](UnsafeRawBufferPointer(start: base + Self.headerBytes, count: used))
    }

    /// As ``records()``, in place.
    func withRecords(_ body: (RawSpan) -> Void) {
        // SAFETY: `used` bytes of the mapping, which outlives the call.
        let buffer = unsafe UnsafeRawBufferPointer(start: base + Self.headerBytes, count: used)
        body(unsafe RawSpan(_unsafeBytes: buffer))
    }

    // MARK: - Appending

    func hasRoom(_ byteCount: Int) -> Bool { used + byteCount <= capacity }

    /// Closes the record of `words` words that was built at `next`.
    @inline(__always) private func commit(words: Int) {
        let bytes = words &* 8
        // SAFETY: the callers asked `hasRoom` for the largest record of the kind before building it.
        unsafe end.value.next[0] =
            UInt64(bytes) | UInt64(UInt32(truncatingIfNeeded: XXH3_64bits(end.value.next + 1, bytes &- 8))) &<< 32
        unsafe end.value.next += words
        end.value.used &+= bytes
        // release: publishes the record before its length; JournalReader loads it first.
        unsafe committedWord.pointee.store(UInt64(used), ordering: .releasing)
    }

    /// Largest step record: 19 words of fields, two masks, all words twice.
    static let stepBytesMax = (20 + 4 + 2 * VCPUState.wordCount) * 8

    /// - Parameter previous: the VCPU's state after its last step in this journal, or zeros; updated.
    func append(_ step: borrowing Step, previous: UnsafeMutablePointer<UInt64>) {
        let exit = ExitWords(step.exit.reason)
        let record = unsafe end.value.next
        var flags: UInt64 = 0
        if step.kind == .returnedEarly { flags |= RowFlags.early }
        if step.failed { flags |= RowFlags.failed }
        unsafe record[2] = step.commit.rawValue
        unsafe record[3] = step.cached.rawValue
        unsafe record[4] = step.coverage.rawValue
        unsafe record[5] = step.clock
        unsafe record[6] = exit.a
        unsafe record[7] = exit.b
        unsafe record[8] = exit.c
        unsafe record[9] = exit.d
        unsafe record[10] = step.exit.state.rflags
        unsafe record[11] = step.exit.state.cr8
        unsafe record[12] = step.exit.state.interrupt.rawValue
        var place = 13
        if let budget = step.budget {
            flags |= RowFlags.budget
            unsafe record[place] = budget
            place &+= 1
        }
        if let event = step.event {
            flags |= RowFlags.event
            unsafe record[place] = UInt64(event.kind.rawValue) | UInt64(event.vector) &<< 32
            unsafe record[place + 1] = event.errorCode
            place &+= 2
        }
        if let retired = step.retired {
            flags |= RowFlags.retired
            unsafe record[place] = retired
            place &+= 1
        }
        if let time = step.time {
            flags |= RowFlags.time
            unsafe record[place] = time.guestNanoseconds
            unsafe record[place + 1] = time.vmmNanoseconds
            place &+= 2
        }
        unsafe record[1] =
            UInt64(RecordType.step.rawValue) | UInt64(exit.number) &<< 8 | flags &<< 16 | UInt64(step.vcpu) &<< 32
        if !step.commit.isEmpty {
            unsafe place = appendDifference(
                step.committed, parts: step.commit, previous: previous, update: false, record: record, place: place)
        }
        unsafe place = appendDifference(
            step.state, parts: step.coverage, previous: previous, update: true, record: record, place: place)
        commit(words: place)
    }

    /// Masks, then the words of `parts` that differ from `previous`. Returns the record's new length in words.
    @inline(__always) private func appendDifference(
        _ state: borrowing VCPUState, parts: StateFlags, previous: UnsafeMutablePointer<UInt64>, update: Bool,
        record: UnsafeMutablePointer<UInt64>, place start: Int
    ) -> Int {
        unsafe withUnsafeBytes(of: state) { bytes in
            // SAFETY: the state is 126 words without padding (VCPUStateTests); `previous` has as many.
            guard let words = unsafe bytes.baseAddress?.assumingMemoryBound(to: UInt64.self) else { return start }
            var low: UInt64 = 0
            var high: UInt64 = 0
            var place = start &+ 2
            let raw = parts.rawValue
            for part in 0..<7 where raw &>> UInt64(part) & 1 != 0 {
                let first = Int(truncatingIfNeeded: partBounds &>> UInt64(part &* 8) & 0xFF)
                let last = Int(truncatingIfNeeded: partBounds &>> UInt64(part &* 8 &+ 8) & 0xFF)
                // The FPU state seldom changes and is half of everything.
                if part == 6, unsafe memcmp(words + first, previous + first, 512) == 0 { continue }
                var word = first
                while word < last {
                    // Few words change in a step: four at a time are looked at together.
                    if word &+ 4 <= last, unsafe areEqual(words + word, previous + word) {
                        word &+= 4
                        continue
                    }
                    let value = unsafe words[word]
                    if unsafe value != previous[word] {
                        unsafe record[place] = value
                        place &+= 1
                        if word < 64 { low |= 1 &<< UInt64(word) } else { high |= 1 &<< UInt64(word &- 64) }
                        if update { unsafe previous[word] = value }
                    }
                    word &+= 1
                }
            }
            unsafe record[start] = low
            unsafe record[start + 1] = high
            return place
        }
    }

    @inline(__always) private func areEqual(_ left: UnsafePointer<UInt64>, _ right: UnsafePointer<UInt64>) -> Bool {
        // SAFETY: the caller asked for four words that both have.
        let low = unsafe (left[0] ^ right[0]) | (left[1] ^ right[1])
        let high = unsafe (left[2] ^ right[2]) | (left[3] ^ right[3])
        return low | high == 0
    }

    static let callBytes = 32

    func append(_ call: CallRecord) {
        unsafe end.value.next[1] =
            UInt64(RecordType.call.rawValue) | UInt64(call.kind.rawValue) &<< 8 | UInt64(call.cost.rawValue) &<< 16
            | UInt64(call.vcpu) &<< 32
        unsafe end.value.next[2] = call.flags.rawValue
        commit(words: 3)
    }

    /// - Parameter bytes: few enough that `hasRoom(writeBytes(bytes.byteCount))`.
    func appendWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {
        unsafe end.value.next[1] =
            UInt64(RecordType.memoryWrite.rawValue) | (isRawStore ? 1 : 0) &<< 8 | UInt64(object) &<< 32
        unsafe end.value.next[2] = UInt64(bitPattern: Int64(offset))
        appendBytes(bytes)
    }

    /// - Parameter bytes: as for ``appendWrite(object:offset:bytes:isRawStore:)``.
    func appendGuestWrite(object: UInt32, offset: Int, bytes: RawSpan) {
        unsafe end.value.next[1] = UInt64(RecordType.guestWrite.rawValue) | UInt64(object) &<< 32
        unsafe end.value.next[2] = UInt64(bitPattern: Int64(offset))
        appendBytes(bytes)
    }

    func append(type: RecordType, bytes: RawSpan) {
        unsafe end.value.next[1] = UInt64(type.rawValue)
        unsafe end.value.next[2] = 0
        appendBytes(bytes)
    }

    private func appendBytes(_ bytes: RawSpan) {
        unsafe end.value.next[3] = UInt64(bytes.byteCount)
        let words = (bytes.byteCount &+ 7) / 8
        if words > 0 {
            unsafe end.value.next[3 + words] = 0  // the padding
            unsafe bytes.withUnsafeBytes { source in
                guard let address = source.baseAddress else { return }
                unsafe UnsafeMutableRawPointer(end.value.next + 4).copyMemory(from: address, byteCount: source.count)
            }
        }
        commit(words: 4 &+ words)
    }

    static func writeBytes(_ byteCount: Int) -> Int { 40 + (byteCount + 7) / 8 * 8 }

    static let advanceBytes = 32

    func appendAdvance(ticks: UInt64) {
        unsafe end.value.next[1] = UInt64(RecordType.advance.rawValue)
        unsafe end.value.next[2] = ticks
        commit(words: 3)
    }
}

/// First words of the seven parts of a state and the end, a byte each: 0, 20, 38, 44, 50, 61, 62, 126.
private let partBounds: UInt64 = 0x7E3E_3D32_2C26_1400

enum RecordType: UInt8 {
    case step = 1
    case call = 2
    case memoryWrite = 3
    case advance = 4
    case machine = 5
    case loss = 6
    case guestWrite = 7
}

enum RowFlags {
    static let early: UInt64 = 1
    static let failed: UInt64 = 2
    static let budget: UInt64 = 4
    static let event: UInt64 = 8
    static let retired: UInt64 = 16
    static let time: UInt64 = 32
}
