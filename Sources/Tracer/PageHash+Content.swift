// The content address of a page: XXH3-128, as the page store of a trace uses it.

internal import CXXHash
internal import NVMM
internal import TraceFile

extension PageHash {
    /// - Parameter content: one page.
    init(content: RawSpan) {
        // SAFETY: the library reads the given count of bytes and keeps no pointer.
        let hash = unsafe content.withUnsafeBytes { unsafe XXH3_128bits($0.baseAddress, $0.count) }
        self.init(high: hash.high64, low: hash.low64)
    }

    /// Of a page that holds only zeros.
    static let zeroPage: PageHash = {
        let zeros = [UInt64](repeating: 0, count: pageBytes / 8)
        // SAFETY: the span views initialised integers and ends with the expression.
        return PageHash(content: unsafe zeros.span.bytes)
    }()
}
