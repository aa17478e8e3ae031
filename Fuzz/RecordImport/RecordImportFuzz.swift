// libFuzzer entry for everything that reads a preloaded shim's records. Compiled into one module with Sources/Tracer by
// Scripts/fuzz.sh: a trace is begun at every input, and none of it needs to be kept.

import CXXHash
import Glibc
import SystemPackage
import TraceFile

/// An unnamed file that is rewritten for each input.
private let descriptor = unsafe open("/dev/shm", 0o20000000 | O_DIRECTORY | O_RDWR, 0o600)  // O_TMPFILE
private let path = FilePath("/proc/self/fd/\(descriptor)")

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRecordImport(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    var bytes = unsafe Array(UnsafeBufferPointer(start: data, count: count))
    makeJournalSumsRight(&bytes)
    _ = ftruncate(descriptor, 0)
    _ = unsafe bytes.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    _ = try? importRecords(path: path, with: RecordImporter { _ in Nowhere() })
    return 0
}

/// A told event carries a sum, as in journals: the parser behind it is what is tested.
private func makeJournalSumsRight(_ bytes: inout [UInt8]) {
    func number(_ offset: Int, _ count: Int) -> Int {
        (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
    }
    var record = 32
    while bytes.count - record >= 40 {
        let (length, kind) = (number(record, 4), number(record + 4, 2))
        guard length >= 40, length % 8 == 0, length <= bytes.count - record else { return }
        let (event, end) = (record + 48, record + length)
        if kind == 17, end - event >= 16 {
            let size = min(max(number(event, 4), 16), end - event)
            let sum = unsafe bytes[event + 8..<event + size].withUnsafeBytes {
                unsafe XXH3_64bits($0.baseAddress, $0.count)
            }
            for index in 0..<4 { bytes[event + 4 + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt64(index))) }
        }
        record = end
    }
}

/// Takes events and keeps none.
private final class Nowhere: TraceSink {
    private(set) var stepCount: UInt64 = 0
    func append(_ event: TraceEvent) { if case .step = event { stepCount += 1 } }
    func appendStep(_ step: borrowing Step) { stepCount += 1 }
    func appendCall(_ call: CallRecord) {}
    func appendMemoryWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {}
    func storePage(_ content: RawSpan, object: UInt32, page: Int) -> PageHash { PageHash(content: content) }
    func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {}
    func finish() -> TraceTotals { TraceTotals() }
}
