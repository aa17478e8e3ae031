// Little-endian integers and LEB128 in byte arrays: Docs/trace-format.md, "Integers".

/// Builds a byte string.
struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func byte(_ value: UInt8) { bytes.append(value) }

    mutating func fixed<Value: FixedWidthInteger>(_ value: Value) {
        var rest = value
        for _ in 0..<MemoryLayout<Value>.size {
            bytes.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    /// Unsigned LEB128.
    mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    mutating func varint(_ value: Int) { varint(UInt64(value)) }
    mutating func varint(_ value: UInt32) { varint(UInt64(value)) }

    /// A difference modulo 2^64, small in either direction: zigzag, then LEB128.
    mutating func difference(_ value: UInt64) { varint(zigzag(value)) }

    mutating func string(_ text: String) {
        varint(text.utf8.count)
        bytes.append(contentsOf: text.utf8)
    }

    mutating func blob(_ data: [UInt8]) {
        varint(data.count)
        bytes.append(contentsOf: data)
    }
}

/// 0, -1, 1, -2 … as 0, 1, 2, 3 …, modulo 2^64.
@inline(__always) func zigzag(_ value: UInt64) -> UInt64 {
    (value &<< 1) ^ UInt64(bitPattern: Int64(bitPattern: value) &>> 63)
}

@inline(__always) func unzigzag(_ value: UInt64) -> UInt64 { (value &>> 1) ^ (0 &- (value & 1)) }

/// Takes an untrusted byte string apart; every read is checked.
struct ByteReader {
    let bytes: [UInt8]
    private(set) var position: Int
    let end: Int
    var place: TracePlace

    init(_ bytes: [UInt8], place: TracePlace) {
        self.bytes = bytes
        position = 0
        end = bytes.count
        self.place = place
    }

    /// Reads `range` of `bytes` only, which must lie within.
    init(_ bytes: [UInt8], range: Range<Int>, place: TracePlace) {
        self.bytes = bytes
        position = range.lowerBound
        end = range.upperBound
        self.place = place
    }

    var remaining: Int { end - position }
    var isAtEnd: Bool { position == end }

    func failure(_ what: Malformation) -> TraceError {
        var place = place
        place.position = position
        return .malformed(what, place)
    }

    mutating func byte() throws(TraceError) -> UInt8 {
        guard position < end else { throw failure(.shortOfBytes) }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func fixed<Value: FixedWidthInteger & UnsignedInteger>(_: Value.Type) throws(TraceError) -> Value {
        guard remaining >= MemoryLayout<Value>.size else { throw failure(.shortOfBytes) }
        var value: Value = 0
        for index in 0..<MemoryLayout<Value>.size {
            value |= Value(truncatingIfNeeded: bytes[position + index]) << (8 * index)
        }
        position += MemoryLayout<Value>.size
        return value
    }

    mutating func varint() throws(TraceError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard position < end else { throw failure(.shortOfBytes) }
            let next = bytes[position]
            position += 1
            if shift == 63 && next > 1 { throw failure(.overlongVarint) }
            value |= UInt64(next & 0x7F) &<< shift
            if next < 0x80 { return value }
            shift += 7
        }
    }

    /// A varint that must not exceed `maximum`.
    mutating func count(max maximum: Int) throws(TraceError) -> Int {
        let value = try varint()
        guard value <= UInt64(maximum) else { throw failure(.inconsistent) }
        return Int(value)
    }

    mutating func varint32() throws(TraceError) -> UInt32 {
        let value = try varint()
        guard value <= UInt64(UInt32.max) else { throw failure(.unknownValue) }
        return UInt32(value)
    }

    mutating func nonNegative() throws(TraceError) -> Int { try count(max: Int.max) }

    mutating func difference() throws(TraceError) -> UInt64 { unzigzag(try varint()) }

    mutating func slice(_ count: Int) throws(TraceError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= remaining else { throw failure(.shortOfBytes) }
        defer { position += count }
        return bytes[position..<position + count]
    }

    // Not inlined, for the reason given at TraceReader.page.
    @inline(never)
    mutating func blob() throws(TraceError) -> [UInt8] { Array(try slice(try count(max: remaining))) }

    mutating func string() throws(TraceError) -> String {
        let data = try slice(try count(max: remaining))
        guard let text = String(validating: data, as: UTF8.self) else { throw failure(.notUTF8) }
        return text
    }

    func expectEnd() throws(TraceError) {
        guard isAtEnd else { throw failure(.leftover) }
    }
}
