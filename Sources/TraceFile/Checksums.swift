// XXH3 over byte spans: checksums of frames and names of pages. The C library is libxxhash 0.8.

import CXXHash
public import SystemPackage

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

extension PageHash {
    /// 32 hexadecimal digits, high half first.
    public var hexadecimal: String {
        [high, low].map { half in
            let digits = String(half, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

/// XXH3-128 of a whole file, with seed 0, as `xxhsum -H2` prints it.
///
/// - Throws: ``TraceError/io(call:errno:)``.
public func fileDigest(path: FilePath) throws(TraceError) -> PageHash {
    let source = try TraceSource(path: path.string)
    guard let state = unsafe XXH3_createState() else { throw .io(call: "XXH3_createState", errno: 12) }
    defer { _ = unsafe XXH3_freeState(state) }
    _ = unsafe XXH3_128bits_reset(state)
    let pieceBytes = 1 << 20
    var offset: UInt64 = 0
    while offset < source.fileBytes {
        let piece = try source.read(offset, pieceBytes)
        // The file became shorter.
        if piece.isEmpty { throw .truncated(offset: offset, missing: source.fileBytes - offset) }
        // SAFETY: state and bytes live for the call.
        _ = unsafe piece.withUnsafeBytes { unsafe XXH3_128bits_update(state, $0.baseAddress, $0.count) }
        offset += UInt64(piece.count)
    }
    let digest = unsafe XXH3_128bits_digest(state)
    return PageHash(high: digest.high64, low: digest.low64)
}
