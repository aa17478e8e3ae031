// zstd contexts: one frame (RFC 8878) for each call, single-threaded, content size always in the frame.

import CZstd

/// Compresses; reused from column to column, since making a context costs more than a small column.
@safe final class Compressor {
    private let context: OpaquePointer
    let level: Int

    init(level: Int) throws(TraceWriteError) {
        guard let context = unsafe ZSTD_createCCtx() else { throw .compression(code: -1) }
        unsafe self.context = unsafe context
        self.level = level
    }

    deinit { _ = unsafe ZSTD_freeCCtx(context) }

    /// - Returns: a zstd frame, or at level 0 the bytes themselves, which callers then store as they are.
    func compress(_ bytes: [UInt8]) throws(TraceWriteError) -> [UInt8] {
        if level == 0 { return bytes }
        var result = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
        // SAFETY: both buffers live through the call; zstd writes at most `target.count` bytes.
        let size = unsafe result.withUnsafeMutableBytes { target in
            unsafe bytes.withUnsafeBytes { source in
                unsafe ZSTD_compressCCtx(
                    context, target.baseAddress, target.count, source.baseAddress, source.count, Int32(level))
            }
        }
        guard ZSTD_isError(size) == 0 else { throw .compression(code: size) }
        result.removeLast(result.count - size)
        return result
    }
}

/// Decompresses untrusted frames into buffers whose size the caller has checked.
@safe final class Decompressor {
    private let context: OpaquePointer?

    init() { unsafe context = ZSTD_createDCtx() }

    deinit { _ = unsafe ZSTD_freeDCtx(context) }

    /// - Parameter byteCount: what must come out, exactly; already held against the reader's limits.
    func decompress(
        _ bytes: ArraySlice<UInt8>, byteCount: Int, place: TracePlace
    ) throws(TraceError) -> [UInt8] {
        guard unsafe context != nil else { throw .io(call: "ZSTD_createDCtx", errno: 12) }
        let promised = unsafe bytes.withUnsafeBytes { unsafe ZSTD_getFrameContentSize($0.baseAddress, $0.count) }
        guard promised == UInt64(byteCount) else { throw .malformed(.zstd, place) }
        var result = [UInt8](repeating: 0, count: byteCount)
        // SAFETY: as in `compress`.
        let size = unsafe result.withUnsafeMutableBytes { target in
            unsafe bytes.withUnsafeBytes { source in
                unsafe ZSTD_decompressDCtx(
                    context, target.baseAddress, target.count, source.baseAddress, source.count)
            }
        }
        guard ZSTD_isError(size) == 0, size == byteCount else { throw .malformed(.zstd, place) }
        return result
    }
}
