// XXH3 over byte spans: checksums of frames and names of pages. The C library is libxxhash 0.8.

import CXXHash

/// XXH3-64 with seed 0.
func checksum(_ bytes: RawSpan) -> UInt64 {
    // SAFETY: the buffer is used within the call only.
    unsafe bytes.withUnsafeBytes { unsafe XXH3_64bits($0.baseAddress, $0.count) }
}

func checksum(_ bytes: [UInt8]) -> UInt64 { unsafe checksum(bytes.span.bytes) }

func checksum(_ bytes: [UInt8], _ range: Range<Int>) -> UInt64 {
    unsafe checksum(bytes.span.bytes.extracting(range))
}

extension PageHash {
    /// XXH3-128 with seed 0.
    public init(content: RawSpan) {
        let hash = unsafe content.withUnsafeBytes { unsafe XXH3_128bits($0.baseAddress, $0.count) }
        self.init(high: hash.high64, low: hash.low64)
    }

    /// The page of zeros, which is never stored.
    public static let zeroPage = unsafe PageHash(content: [UInt8](repeating: 0, count: 4096).span.bytes)
}
