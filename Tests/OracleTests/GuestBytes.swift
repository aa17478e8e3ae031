// Guest memory as arrays of bytes, and those as numbers: the only place of these tests that turns one into the other.

import NVMM

extension Machine {
    /// ``Machine/write(_:at:_:)`` for an array.
    func write(_ object: MemoryObject, at offset: Int, bytes: some Collection<UInt8>) throws(MachineError) {
        let array = Array(bytes)
        // SAFETY: the span lives as long as `array`, which outlives the call.
        try unsafe write(object, at: offset, array.span.bytes)
    }
}

extension MemoryObject {
    /// Copies a range of bytes out; traps outside the object.
    func bytes(_ range: Range<Int>) -> [UInt8] {
        withBytes(range) { span in span.byteOffsets.map { index in span.load(at: index) } }
    }
}

extension Sequence<UInt8> {
    /// The number that the bytes are, at most eight, the lowest first.
    var littleEndian: UInt64 { reversed().reduce(0) { $0 << 8 | UInt64($1) } }
}

extension UInt64 {
    /// The `count` lowest bytes, the lowest first.
    func littleEndianBytes(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: self >> UInt64($0 * 8)) }
    }
}

extension RawSpan {
    /// The `index`-th value of a trivial type; traps outside the span.
    func load<Value: BitwiseCopyable>(at index: Int) -> Value {
        precondition(index >= 0 && (index + 1) * MemoryLayout<Value>.stride <= byteCount)
        // SAFETY: the range was just checked; any bytes are a valid value of the integers that this is used for.
        return unsafe unsafeLoadUnaligned(fromByteOffset: index * MemoryLayout<Value>.stride, as: Value.self)
    }
}
