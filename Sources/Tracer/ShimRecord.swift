// One record of a preloaded shim, copied out of the ring or a file: Sources/CRing, ring.h and ring_records.h.

internal import CRing

/// A record as the shim wrote it; kind and payload are not yet looked at.
struct ShimRecord {
    var kind: UInt32
    var sequence: UInt64
    var machine: UInt32
    var vcpu: UInt32
    var payload: [UInt8]

    /// The payload as a C structure and what follows it; nil where it is too short.
    func split<Value: BitwiseCopyable>(_: Value.Type) -> (head: Value, rest: ArraySlice<UInt8>)? {
        let size = MemoryLayout<Value>.size
        guard payload.count >= size else { return nil }
        // SAFETY: `size` bytes are there, and any bytes are a value of such a structure of plain integers.
        let head = unsafe payload.span.bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: Value.self)
        return (head, payload[size...])
    }
}

/// Puts records into the order of their numbers.
struct RecordOrder {
    /// Number of the record that comes next.
    var expected: UInt64 = 0
    /// Numbers that never came.
    private(set) var missing: UInt64 = 0
    private var waiting: [UInt64: ShimRecord] = [:]
    private(set) var waitingBytes = 0
    /// More than this is not kept waiting for a number that may never come.
    static let waitingBytesMax = 64 << 20

    var isFull: Bool { waitingBytes >= Self.waitingBytesMax }
    var isEmpty: Bool { waiting.isEmpty }

    /// - Throws: ``ImportError/damagedRecord(sequence:)`` for a number that was there before.
    mutating func hold(_ record: ShimRecord) throws(ImportError) {
        guard record.sequence >= expected, waiting[record.sequence] == nil else {
            throw .damagedRecord(sequence: record.sequence)
        }
        waitingBytes += record.payload.count + 128
        waiting[record.sequence] = record
    }

    /// The record whose turn it is.
    mutating func next() -> ShimRecord? {
        guard !waiting.isEmpty, let record = waiting.removeValue(forKey: expected) else { return nil }
        waitingBytes -= record.payload.count + 128
        expected &+= 1
        return record
    }

    /// Gives up what is missing before the next record that waits.
    ///
    /// - Returns: how many there are; 0 where nothing waits.
    mutating func skip() -> UInt64 {
        guard let first = waiting.keys.min() else { return 0 }
        let gap = first - expected
        missing &+= gap
        expected = first
        return gap
    }
}
