// The backend-private bytes of a keyframe: a version byte, then 64-bit little-endian words.

struct PrivateStateWriter {
    private(set) var bytes: [UInt8]
    init(version: UInt8) { bytes = [version] }
    mutating func append(_ word: UInt64) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    mutating func append(_ flag: Bool) { append(flag ? 1 : 0) }
}

struct PrivateStateReader {
    private let bytes: [UInt8]
    private var place = 1
    /// nil where the version is another.
    init?(_ bytes: [UInt8], version: UInt8) {
        guard bytes.first == version else { return nil }
        self.bytes = bytes
    }
    mutating func next() -> UInt64? {
        guard place + 8 <= bytes.count else { return nil }
        var word: UInt64 = 0
        for index in 0..<8 { word |= UInt64(bytes[place + index]) << (UInt64(index) * 8) }
        place += 8
        return word
    }
    var isAtEnd: Bool { place == bytes.count }
}
