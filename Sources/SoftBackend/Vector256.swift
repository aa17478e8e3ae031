// A YMM register as two lanes of 128 bits.

/// 256 bits, the lowest first.
struct Vector256: BitwiseCopyable, Equatable {
    var low: Vector128
    var high: Vector128

    init(low: Vector128, high: Vector128 = Vector128(low: 0)) {
        self.low = low
        self.high = high
    }

    /// By number of 32-bit and 64-bit elements: 0 to 7, 0 to 3.
    subscript(double index: Int) -> UInt32 {
        get { index < 4 ? low.doubles[index] : high.doubles[index & 3] }
        set { if index < 4 { low.doubles[index] = newValue } else { high.doubles[index & 3] = newValue } }
    }
    subscript(word index: Int) -> UInt64 {
        get { index < 2 ? low.words[index] : high.words[index & 1] }
        set { if index < 2 { low.words[index] = newValue } else { high.words[index & 1] = newValue } }
    }

    /// An element of four or eight bytes, the latter where `width` is 3.
    func element(_ index: Int, width: UInt8) -> UInt64 {
        width == 3 ? self[word: index] : UInt64(self[double: index])
    }
    mutating func setElement(_ index: Int, width: UInt8, to value: UInt64) {
        if width == 3 { self[word: index] = value } else { self[double: index] = UInt32(truncatingIfNeeded: value) }
    }
    /// Its highest bit.
    func isNegative(_ index: Int, width: UInt8) -> Bool {
        element(index, width: width) >> (width == 3 ? 63 : 31) != 0
    }
}
