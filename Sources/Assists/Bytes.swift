// Little-endian numbers in raw bytes.

/// The number that at most eight bytes hold; those past the eighth are ignored.
func loadLittleEndian(_ bytes: RawSpan) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<min(bytes.byteCount, 8) {
        // SAFETY: index is inside the span, and any byte is a valid UInt8.
        value |= UInt64(unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)) << UInt64(index * 8)
    }
    return value
}

/// Calls `body` with the low `byteCount` (at most 8) bytes of a number.
func withLittleEndian<Failure: Error>(
    _ value: UInt64, byteCount: Int, _ body: (RawSpan) throws(Failure) -> Void
) throws(Failure) {
    let word: InlineArray<1, UInt64> = [value.littleEndian]
    // SAFETY: the word outlives the call of body.
    try unsafe body(word.span.bytes.extracting(first: byteCount))
}

/// All ones in the low `byteCount` (1 to 8) bytes.
func lowMask(_ byteCount: Int) -> UInt64 { byteCount >= 8 ? .max : (1 as UInt64) << UInt64(byteCount * 8) - 1 }
