// Which pages of an anonymous private mapping have memory behind them: Linux's
// Documentation/admin-guide/mm/pagemap.rst.

#if canImport(Glibc)
    import Glibc

    /// Bits of an entry of `/proc/self/pagemap`.
    private enum PagemapBits {
        static let swapped: UInt64 = 1 << 62
        static let present: UInt64 = 1 << 63
    }

    /// - Parameters:
    ///   - start: address of the mapping's first page. It must be private and anonymous: a page of shared memory may
    ///     have content that this process has not mapped in.
    ///   - pageCount: of the mapping, in pages of 4,096 bytes.
    /// - Returns: ranges of page numbers, ascending; nil where the system does not tell.
    func populatedPages(start: UInt, pageCount: Int) -> [Range<Int>]? {
        guard sysconf(Int32(_SC_PAGESIZE)) == 4096 else { return nil }
        let descriptor = unsafe open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let entriesPerRead = 1 << 14
        var ranges: [Range<Int>] = []
        var entries = [UInt64](repeating: 0, count: min(entriesPerRead, pageCount))
        var page = 0
        while page < pageCount {
            let count = min(entriesPerRead, pageCount - page)
            let place = off_t(start >> 12) &+ off_t(page)
            let read = unsafe entries.withUnsafeMutableBytes {
                unsafe pread(descriptor, $0.baseAddress, count * 8, place * 8)
            }
            guard read == count * 8 else { return nil }
            for index in 0..<count where entries[index] & (PagemapBits.present | PagemapBits.swapped) != 0 {
                let found = page + index
                if let last = ranges.last, last.upperBound == found {
                    ranges[ranges.count - 1] = last.lowerBound..<found + 1
                } else {
                    ranges.append(found..<found + 1)
                }
            }
            page += count
        }
        return ranges
    }
#else
    func populatedPages(start: UInt, pageCount: Int) -> [Range<Int>]? { nil }
#endif
