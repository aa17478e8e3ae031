import NVMM
import TestSupport
import Testing
import TraceFile
import Tracer

@Suite struct RawStoreTests {
    private func store(_ byte: UInt8, at offset: Int, in client: ToyClient) {
        // SAFETY: the offset lies in the client's own object.
        unsafe client.memory.clientAddress.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    }

    @Test func `a store behind the interface is found before the guest runs again`() throws {
        let trace = TemporaryTrace()
        let result = try trace.record(RecorderOptions(rawStoreCheck: .always)) { client in
            try client.run(2)
            store(0x77, at: 0x6010, in: client)
            // In a page that the guest wrote too, and in one that a logged write goes to next.
            store(0x78, at: 0x3100, in: client)
            store(0x79, at: 0x5000, in: client)
            try client.write([1], at: 0x5001)
            try client.run(1)
        }
        let events = try trace.read().events
        let raw = events.writes.filter(\.isRawStore)
        #expect(raw.map(\.offset) == [0x5000, 0x3000, 0x6000])
        #expect(raw.map(\.bytes.count) == [4096, 4096, 4096])
        #expect(raw[0].bytes[0] == 0x79)
        #expect(raw[0].bytes[1] == 0)
        #expect(raw[1].bytes[0x100] == 0x78)
        #expect(raw[2].bytes[0x10] == 0x77)
        #expect(result.grade.level == .exact)
    }

    @Test func `one that is found at a keyframe came too late, and the grade says so`() throws {
        let trace = TemporaryTrace()
        let result = try trace.record(RecorderOptions(keyframeEverySteps: 5)) { client in
            try client.run(2)
            store(0x77, at: 0x6010, in: client)
            try client.run(4)
        }
        let events = try trace.read().events
        #expect(events.writes.filter(\.isRawStore).map(\.offset) == [0x6000])
        #expect(result.grade.level == .exitsOnly)
        #expect(result.grade.reasons == [.lateRawStore(object: 0, page: 6, step: 5)])
    }

    @Test func `loading a guest raw before the first run is exact`() throws {
        let trace = TemporaryTrace()
        let result = try trace.record { client in
            store(0x77, at: 0x6010, in: client)
            try client.run(4)
        }
        #expect(try trace.read().events.writes.filter(\.isRawStore).map(\.offset) == [0x6000])
        #expect(result.grade.level == .exact)
    }

    @Test(arguments: [RecorderOptions.RawStoreCheck.always, .atKeyframes])
    func `what the guest and logged writes changed is no raw store`(check: RecorderOptions.RawStoreCheck) throws {
        let trace = TemporaryTrace()
        try trace.record(RecorderOptions(keyframeEverySteps: 3, rawStoreCheck: check)) { client in
            for round in 0..<20 {
                try client.run(3)
                try client.write([UInt8(round)], at: 0x5000 + round * 100)
                // The client takes the list of dirty pages for itself; the tracer must not lose it.
                _ = client.machine.takeDirtyPages(of: client.memory)
            }
        }
        #expect(try trace.read().events.writes.filter(\.isRawStore).isEmpty)
    }

    @Test func `what a watched object tells is logged before the next run, and nothing is compared`() throws {
        let trace = TemporaryTrace()
        let backend = ToyBackend()
        backend.clientWrites = [0..<1]
        let result = try trace.record(on: backend) { client in
            try client.run(2)
            store(0x77, at: 0x6010, in: client)
            // A page that the guest wrote: it is logged as it is now, with what both wrote.
            store(0x78, at: 0x3100, in: client)
            // Told, and as it was before: nothing to log.
            backend.clientWrites = [3..<4, 6..<8]
            store(0x79, at: 0x9000, in: client)
            try client.run(1)
        }
        let raw = try trace.read().events.writes.filter(\.isRawStore)
        #expect(raw.map(\.offset) == [0x3000, 0x6000])
        #expect(raw[0].bytes[0x100] == 0x78)
        #expect(raw[1].bytes[0x10] == 0x77)
        #expect(result.grade.level == .exact)
    }

    @Test func `a store while the guest runs lowers the grade, and is logged before the next run`() throws {
        let trace = TemporaryTrace()
        let backend = ToyBackend()
        backend.clientWrites = []
        let result = try trace.record(on: backend) { client in
            try client.run(2)
            store(0x77, at: 0x6010, in: client)
            backend.clientWritesOfNextRun = [6..<7]
            try client.run(2)
        }
        let events = try trace.read().events
        #expect(events.writes.filter(\.isRawStore).map(\.offset) == [0x6000])
        #expect(result.grade.level == .exitsOnly)
        #expect(result.grade.reasons == [.writeDuringRun(object: 0, step: 3)])
    }
}
