// A file of records, which the shim writes where nobody drains: `struct ring_file_header` of Sources/CRing.

internal import CRing
internal import Glibc

/// Reads records from a file, in the order of their numbers. Any bytes give records or a typed error.
final class RawRecords {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var position = 0
    private var offset: UInt64 = 0
    private var isAtEnd = false
    private var order = RecordOrder()
    /// Read ahead: the first record of the process that comes next.
    private var attach: ShimRecord?
    /// Bytes of a last record that is not there as a whole.
    private(set) var cutOffBytes: UInt64 = 0

    static let payloadBytesMax = 1 << 20
    private static let recordBytes = MemoryLayout<ring_record>.size
    private static let headerBytes = MemoryLayout<ring_file_header>.size

    init(path: String) throws(ImportError) {
        descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .io(call: "open", errno: errno) }
        do throws(ImportError) {
            guard try fill(Self.headerBytes) else {
                throw buffer.isEmpty ? .notARecording : .tooShort(byteCount: UInt64(buffer.count))
            }
            let header = ShimRecord(
                kind: 0, sequence: 0, machine: 0, vcpu: 0, payload: Array(buffer[..<Self.headerBytes]))
            guard let (head, _) = header.split(ring_file_header.self), head.magic == ringFileMagic else {
                throw .notARecording
            }
            guard head.version == UInt32(RING_VERSION) else { throw .unsupportedVersion(head.version) }
            guard head.header_bytes == UInt32(Self.headerBytes) else { throw .damagedFile(offset: 12) }
            skip(Self.headerBytes)
        } catch {
            close(descriptor)
            throw error
        }
    }

    deinit { close(descriptor) }

    /// The next record, or how many are missing before it; nil at the end.
    func next() throws(ImportError) -> (record: ShimRecord, missing: UInt64)? {
        while true {
            if let record = order.next() { return (record, 0) }
            let isBlocked = attach != nil || isAtEnd || order.isFull
            if isBlocked && !order.isEmpty {
                let missing = order.skip()
                if let record = order.next() { return (record, missing) }
            }
            if let record = attach {
                // Numbers begin again with each process.
                attach = nil
                order.expected = record.sequence
                try order.hold(record)
                continue
            }
            guard let record = try read() else { return nil }
            if record.kind == UInt32(RING_KIND_ATTACH) {
                attach = record
            } else {
                try order.hold(record)
            }
        }
    }

    /// The next record of the file.
    private func read() throws(ImportError) -> ShimRecord? {
        guard !isAtEnd, try fill(Self.recordBytes) else { return ended() }
        let head = ShimRecord(
            kind: 0, sequence: 0, machine: 0, vcpu: 0,
            payload: Array(buffer[position..<position + Self.recordBytes]))
        guard let (header, _) = head.split(ring_record.self) else { return ended() }
        let byteCount = Int(ring_record_bytes_of(header))
        let isSound =
            header.commit >> 48 == 0x564D && byteCount % 8 == 0 && byteCount >= Self.recordBytes
            && Int(header.payload_bytes) <= min(byteCount - Self.recordBytes, Self.payloadBytesMax)
            && byteCount - Self.recordBytes - Int(header.payload_bytes) < 8
        guard isSound else { throw .damagedFile(offset: offset) }
        guard try fill(byteCount) else { return ended() }
        let start = position + Self.recordBytes
        let record = ShimRecord(
            kind: UInt32(truncatingIfNeeded: header.commit >> 32 & 0xFFFF), sequence: header.sequence,
            machine: header.machine, vcpu: header.vcpu,
            payload: Array(buffer[start..<start + Int(header.payload_bytes)]))
        skip(byteCount)
        return record
    }

    private func ended() -> ShimRecord? {
        isAtEnd = true
        cutOffBytes = UInt64(buffer.count - position)
        return nil
    }

    // MARK: - Bytes

    private func skip(_ count: Int) {
        position += count
        offset += UInt64(count)
    }

    /// Makes `count` bytes stand in the buffer from `position` on.
    ///
    /// - Returns: false where the file ends before.
    private func fill(_ count: Int) throws(ImportError) -> Bool {
        if buffer.count - position >= count { return true }
        buffer.removeSubrange(..<position)
        position = 0
        var piece = [UInt8](repeating: 0, count: max(1 << 16, count - buffer.count))
        while buffer.count < count {
            let got = unsafe piece.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if got == 0 { return false }
            if got < 0 {
                if errno == EINTR { continue }
                throw .io(call: "read", errno: errno)
            }
            buffer.append(contentsOf: piece[..<got])
        }
        return true
    }
}

/// `RING_FILE_MAGIC`, which is a macro.
private let ringFileMagic: UInt64 = 0x0A0D_5741_5254_4D56

/// `ring_record_bytes`, of a copy.
private func ring_record_bytes_of(_ record: ring_record) -> UInt32 { UInt32(truncatingIfNeeded: record.commit) }
