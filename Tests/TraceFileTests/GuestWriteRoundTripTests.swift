import NVMM
import Testing

@testable import TraceFile

/// What the guest wrote, as level `client` holds it.
@Suite struct GuestWriteRoundTripTests {
    /// Random events of two VCPUs, each step with some writes of the guest behind it.
    private func events() -> [TraceEvent] {
        var generator = EventGenerator(seed: 11, vcpuCount: 2)
        var result: [TraceEvent] = []
        for event in generator.events(3000) {
            result.append(event)
            guard case .step = event else { continue }
            for _ in 0..<generator.number(3) {
                let (object, offset) = (UInt32(generator.number(3)), generator.number(1 << 30))
                result.append(
                    .guestWrite(MemoryWrite(object: object, offset: offset, bytes: generator.bytes(300) + [1])))
            }
        }
        return result
    }

    @Test func `guest writes come back, and count as none of the VMM's`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("guest.vmtrace")
        let events = events()
        var header = EventGenerator.header
        header.level = .client
        let writer = try TraceWriter(.file(path), header: header)
        for event in events { try writer.append(event) }
        let totals = try writer.finish()
        let reader = try TraceReader(path: path)
        #expect(reader.header.level == .client)
        expectEqual(try allEvents(reader), events)
        let ofVMM = events.count { if case .memoryWrite = $0 { true } else { false } }
        #expect(totals.memoryWrites == UInt64(ofVMM))
        #expect(try verifyTrace(path: path).isIntact)
    }

    @Test func `a killed writer's guest writes are recovered from its journal`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("open.vmtrace")
        var generator = EventGenerator(seed: 12, vcpuCount: 1)
        let write = MemoryWrite(object: 0, offset: 0x1000, bytes: [1, 2, 3])
        let events: [TraceEvent] = [generator.step(), .guestWrite(write), generator.step()]
        do {
            let writer = try TraceWriter(.file(path), header: EventGenerator.header)
            for event in events { try writer.append(event) }
        }
        expectEqual(try allEvents(try TraceReader(path: path)), events)
    }

    @Test func `a long guest write becomes several adjacent ones`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("long.vmtrace")
        let writer = try TraceWriter(.file(path), header: EventGenerator.header)
        let bytes = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 / 3) }
        try writer.append(.guestWrite(MemoryWrite(object: 1, offset: 4096, bytes: bytes)))
        _ = try writer.finish()
        var joined: [UInt8] = []
        for event in try allEvents(try TraceReader(path: path)) {
            guard case .guestWrite(let write) = event else { continue }
            #expect(write.offset == 4096 + joined.count)
            joined += write.bytes
        }
        #expect(joined == bytes)
    }
}
