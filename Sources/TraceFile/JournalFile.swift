// Journals that a writer left, or is still filling, beside its trace: Docs/trace-format.md, "Journals".

import Glibc

/// A copy of what one journal file holds.
struct JournalFile {
    var number: Int
    var epoch: UInt32
    var firstStep: UInt64
    /// Complete records.
    var records: [UInt8]

    /// The journals of `trace` that hold records, ascending by epoch. Files that are absent, or of another trace, are
    /// passed over; `identity` is the checksum of the trace's preamble and header frame.
    static func all(besides trace: String, identity: UInt64, limits: ReaderLimits) throws(TraceError) -> [JournalFile] {
        var result: [JournalFile] = []
        for number in 0..<journalsMax {
            if let journal = try read(journalPath(trace, number), number: number, identity: identity, limits: limits) {
                result.append(journal)
            }
        }
        return result.sorted { $0.epoch < $1.epoch }
    }

    private static func read(
        _ path: String, number: Int, identity: UInt64, limits: ReaderLimits
    ) throws(TraceError) -> JournalFile? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw .io(call: "open", errno: errno)
        }
        defer { close(descriptor) }
        // A writer may give the journal back while it is copied; then the epoch changes, and the copy is void.
        for _ in 0..<16 {
            guard let before = try head(descriptor), before.identity == identity, before.epoch != 0 else { return nil }
            guard before.committed <= UInt64(limits.frameBytes), let epoch = UInt32(exactly: before.epoch) else {
                throw .damagedJournal(number: number, position: 0)
            }
            var records = [UInt8](repeating: 0, count: Int(before.committed))
            let count = try readFully(descriptor, into: &records, at: UInt64(Journal.headerBytes))
            records.removeLast(records.count - count)
            guard let after = try head(descriptor) else { return nil }
            if after.epoch == before.epoch && after.committed >= before.committed {
                return JournalFile(number: number, epoch: epoch, firstStep: before.firstStep, records: records)
            }
        }
        return nil
    }

    private static func head(
        _ descriptor: Int32
    ) throws(TraceError) -> (identity: UInt64, epoch: UInt64, firstStep: UInt64, committed: UInt64)? {
        var bytes = [UInt8](repeating: 0, count: 48)
        guard try readFully(descriptor, into: &bytes, at: 0) == 48 else { return nil }
        var reader = ByteReader(bytes, place: TracePlace(frame: 0))
        guard try reader.fixed(UInt64.self) == Journal.magic else { return nil }
        let identity = try reader.fixed(UInt64.self)
        _ = try reader.fixed(UInt64.self)
        return (
            identity, try reader.fixed(UInt64.self), try reader.fixed(UInt64.self), try reader.fixed(UInt64.self)
        )
    }
}
