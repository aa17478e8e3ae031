// An XMM register as lanes of each width.

/// 128 bits, the lowest first: the views are the same bits.
struct Vector128: BitwiseCopyable, Equatable {
    var words: SIMD2<UInt64>

    @inline(__always) init(_ words: SIMD2<UInt64>) { self.words = words }
    @inline(__always) init(low: UInt64, high: UInt64 = 0) { words = SIMD2(low, high) }
    @inline(__always) init(_ lanes: SIMD16<UInt8>) { words = unsafe unsafeBitCast(lanes, to: SIMD2<UInt64>.self) }
    @inline(__always) init(_ lanes: SIMD8<UInt16>) { words = unsafe unsafeBitCast(lanes, to: SIMD2<UInt64>.self) }
    @inline(__always) init(_ lanes: SIMD4<UInt32>) { words = unsafe unsafeBitCast(lanes, to: SIMD2<UInt64>.self) }
    @inline(__always) init(_ lanes: SIMD16<Int8>) { words = unsafe unsafeBitCast(lanes, to: SIMD2<UInt64>.self) }
    @inline(__always) init(_ lanes: SIMD8<Int16>) { words = unsafe unsafeBitCast(lanes, to: SIMD2<UInt64>.self) }
    @inline(__always) init(_ lanes: SIMD4<Int32>) { words = unsafe unsafeBitCast(lanes, to: SIMD2<UInt64>.self) }

    // SAFETY: of all of these: types of 16 bytes in which every pattern of bits is a value.
    @inline(__always) var bytes: SIMD16<UInt8> {
        get { unsafe unsafeBitCast(words, to: SIMD16<UInt8>.self) }
        set { self = Vector128(newValue) }
    }
    @inline(__always) var halves: SIMD8<UInt16> {
        get { unsafe unsafeBitCast(words, to: SIMD8<UInt16>.self) }
        set { self = Vector128(newValue) }
    }
    @inline(__always) var doubles: SIMD4<UInt32> {
        get { unsafe unsafeBitCast(words, to: SIMD4<UInt32>.self) }
        set { self = Vector128(newValue) }
    }
    @inline(__always) var signedBytes: SIMD16<Int8> { unsafe unsafeBitCast(words, to: SIMD16<Int8>.self) }
    @inline(__always) var signedHalves: SIMD8<Int16> { unsafe unsafeBitCast(words, to: SIMD8<Int16>.self) }
    @inline(__always) var signedDoubles: SIMD4<Int32> { unsafe unsafeBitCast(words, to: SIMD4<Int32>.self) }
    @inline(__always) var low: UInt64 {
        get { words[0] }
        set { words[0] = newValue }
    }
    @inline(__always) var high: UInt64 {
        get { words[1] }
        set { words[1] = newValue }
    }
}
