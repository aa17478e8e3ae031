// The virtio block device: VIRTIO 1.2, section 5.2. Requests are done at once, in the order that they come in.

final class VirtioBlock: VirtioKind {
    static let sectorBytes = DiskContent.sectorBytes
    private(set) var content: [UInt8]

    let deviceID: UInt16 = 2
    let classCode: UInt32 = 0x0100_0001
    let queueCount = 1
    /// VIRTIO_BLK_F_FLUSH.
    let features: UInt64 = 1 << 9

    private enum RequestType {
        static let read: UInt64 = 0, write: UInt64 = 1, flush: UInt64 = 4, identify: UInt64 = 8
    }
    private enum RequestStatus {
        static let fine: UInt8 = 0, failed: UInt8 = 1, unsupported: UInt8 = 2
    }

    /// - Parameter content: the whole disk; a part sector at the end is filled with zeros.
    init(content: [UInt8]) {
        self.content = DiskContent.wholeSectors(content)
    }

    /// The capacity in sectors of 512 bytes, and fields that only features give a meaning.
    var configuration: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 60)
        bytes.setNumber(0, UInt64(content.count / Self.sectorBytes), 8)
        return bytes
    }

    func wants(queue: Int) -> Bool { true }

    func handle(_ chain: VirtChain, queue: Int, in memory: PCMemory) -> Int {
        // Section 5.2.6: a header of 16 bytes first, a byte of status last, each as part of one descriptor.
        guard let first = chain.readable.first, first.byteCount >= 16, let last = chain.writable.last,
            last.byteCount >= 1, let header = memory.readPhysical(first.address, byteCount: 16)
        else { return 0 }
        var reading = chain.readable, writing = chain.writable
        reading[0] = VirtBuffer(address: first.address &+ 16, byteCount: first.byteCount - 16)
        writing[writing.count - 1].byteCount -= 1
        var written = 0
        let sector = header.number(8, 8)
        let status: UInt8 =
            switch header.number(0, 4) {
            case RequestType.read: read(sector, into: writing, memory, &written)
            case RequestType.write: write(sector, from: reading, memory)
            case RequestType.flush: RequestStatus.fine
            case RequestType.identify: identify(into: writing, memory, &written)
            default: RequestStatus.unsupported
            }
        let isTold = memory.writePhysical(last.address &+ UInt64(last.byteCount - 1), [status])
        return written + (isTold ? 1 : 0)
    }

    /// Where in the content all of the buffers' bytes are; nil where they are not all on the disk.
    private func range(_ sector: UInt64, _ buffers: [VirtBuffer]) -> Range<Int>? {
        let byteCount = buffers.reduce(0) { $0 + $1.byteCount }
        guard sector <= UInt64(content.count / Self.sectorBytes), byteCount % Self.sectorBytes == 0,
            case let start = Int(sector) * Self.sectorBytes, byteCount <= content.count - start
        else { return nil }
        return start..<start + byteCount
    }

    private func read(_ sector: UInt64, into buffers: [VirtBuffer], _ memory: PCMemory, _ written: inout Int) -> UInt8 {
        guard let range = range(sector, buffers) else { return RequestStatus.failed }
        for buffer in buffers {
            let start = range.lowerBound + written
            guard memory.writePhysical(buffer.address, content[start..<start + buffer.byteCount]) else {
                return RequestStatus.failed
            }
            written += buffer.byteCount
        }
        return RequestStatus.fine
    }

    private func write(_ sector: UInt64, from buffers: [VirtBuffer], _ memory: PCMemory) -> UInt8 {
        guard let range = range(sector, buffers) else { return RequestStatus.failed }
        var start = range.lowerBound
        for buffer in buffers {
            guard let bytes = memory.readPhysical(buffer.address, byteCount: buffer.byteCount) else {
                return RequestStatus.failed
            }
            content.replaceSubrange(start..<start + bytes.count, with: bytes)
            start += bytes.count
        }
        return RequestStatus.fine
    }

    /// Section 5.2.6.4: a serial number of at most 20 bytes.
    private func identify(into buffers: [VirtBuffer], _ memory: PCMemory, _ written: inout Int) -> UInt8 {
        let name = Array("EXIT-TRACER".utf8) + [UInt8](repeating: 0, count: 9)
        for buffer in buffers {
            let part = name[written..<min(written + buffer.byteCount, name.count)]
            guard memory.writePhysical(buffer.address, part) else { return RequestStatus.failed }
            written += part.count
        }
        return RequestStatus.fine
    }
}
