// Where frames go: to a file, a pipe, or memory, with the index that grows behind them.

import Glibc
import NVMM

/// A place for bytes.
protocol ByteSink: AnyObject {
    func write(_ bytes: [UInt8]) throws(TraceWriteError)
    /// Takes back a write that failed half-way, where that can be done.
    func truncate(to byteCount: UInt64)
}

/// Numbers frames' offsets, keeps index and totals, writes index frames and the trailer.
final class FrameSink {
    /// Frames that one index frame tells of.
    static let framesPerIndex = 64

    private let output: any ByteSink
    let compressor: Compressor
    private(set) var offset: UInt64 = 0
    private(set) var trailer = Trailer()
    private var pending = IndexBlock()
    private(set) var stepCount: UInt64 = 0

    init(_ output: any ByteSink, compressor: Compressor) {
        self.output = output
        self.compressor = compressor
    }

    /// Preamble and header frame, in one write.
    func start(_ bytes: [UInt8]) throws(TraceWriteError) {
        try put(bytes)
        trailer.bytes.header = UInt64(bytes.count)
    }

    func write(_ frame: EncodedFrame, clock: UInt64 = 0, pages: PageBatch? = nil) throws(TraceWriteError) {
        var entry = IndexEntry(frame.header, offset: offset)
        let size = UInt64(frame.byteCount)
        try put(frame.header.encoded() + frame.payload)
        switch FrameType(rawValue: frame.header.type) {
        case .steps:
            if let summary = frame.summary {
                entry.summary = summary
                trailer.summary.add(summary)
                // Repair hands in summaries that anybody wrote.
                let stored = min(summary.storedWriteBytes, size)
                trailer.bytes.steps += size - stored
                trailer.bytes.ioPayload += stored
                stepCount += UInt64(summary.stepCount)
            }
        case .keyframe:
            entry.clock = clock
            trailer.keyframeCount += 1
            trailer.bytes.keyframes += size
        case .pages, .sharedPages:
            entry.firstPage = pages?.firstPage ?? 0
            entry.pageCount = pages?.names.count ?? 0
            trailer.pageCount += UInt64(entry.pageCount)
            trailer.bytes.pages += size
        default: break
        }
        pending.entries.append(entry)
        // An epoch is never torn apart by an index frame, so that its frames stand together.
        if pending.entries.count >= Self.framesPerIndex,
            frame.header.flags.contains(.epochEnd) || FrameType(rawValue: frame.header.type)?.listsPages == true
        {
            try writeIndex()
        }
    }

    private func writeIndex() throws(TraceWriteError) {
        if pending.entries.isEmpty { return }
        let frame = try EncodedFrame(
            compressing: pending.encoded(), with: compressor, type: .index, flags: [], firstStep: stepCount)
        let start = offset
        try put(frame.header.encoded() + frame.payload)
        trailer.bytes.index += UInt64(frame.byteCount)
        trailer.indexFrames.append(start)
        pending = IndexBlock()
        pending.previous = start
    }

    /// Writes what is left of the index, and the trailer.
    func finish() throws(TraceWriteError) {
        try writeIndex()
        let payload = trailer.encoded(offset: offset)
        let frame = EncodedFrame(
            type: .trailer, flags: [], payload: payload, rawBytes: payload.count, firstStep: stepCount)
        try put(frame.header.encoded() + frame.payload)
        trailer.bytes.index += UInt64(frame.byteCount)
    }

    var totals: TraceTotals { trailer.totals }

    private func put(_ bytes: [UInt8]) throws(TraceWriteError) {
        do throws(TraceWriteError) { try output.write(bytes) } catch {
            output.truncate(to: offset)
            throw error
        }
        offset += UInt64(bytes.count)
    }
}

extension Trailer {
    var totals: TraceTotals {
        var totals = TraceTotals(summary)
        totals.keyframeCount = keyframeCount
        totals.pageCount = pageCount
        totals.bytes = bytes
        return totals
    }
}

/// Frames in memory: what a reader makes of journals.
final class MemorySink: ByteSink {
    private(set) var bytes: [UInt8] = []
    func write(_ bytes: [UInt8]) { self.bytes.append(contentsOf: bytes) }
    func truncate(to byteCount: UInt64) {}
}

/// An open file descriptor.
final class DescriptorSink: ByteSink {
    let descriptor: Int32
    /// A regular file, which can be read back and cut off.
    let isRegular: Bool

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var status = stat()
        isRegular = unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    func write(_ bytes: [UInt8]) throws(TraceWriteError) {
        var done = 0
        while done < bytes.count {
            // SAFETY: the array lives through the call.
            let count = unsafe bytes.withUnsafeBytes { buffer in
                guard let base = buffer.baseAddress else { return 0 }
                return unsafe Glibc.write(descriptor, base + done, buffer.count - done)
            }
            if count > 0 {
                done += count
            } else if count < 0 {
                let code = errno
                if code == EINTR { continue }
                if code == EAGAIN {
                    var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = unsafe Glibc.poll(&poll, 1, -1)
                    continue
                }
                throw .io(call: "write", errno: code)
            } else {
                throw .io(call: "write", errno: EIO)
            }
        }
    }

    func truncate(to byteCount: UInt64) {
        guard isRegular else { return }
        _ = ftruncate(descriptor, off_t(byteCount))
        _ = lseek(descriptor, off_t(byteCount), SEEK_SET)
    }
}
