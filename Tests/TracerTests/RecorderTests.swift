import NVMM
import SystemPackage
import TestSupport
import Testing
import TraceFile
import Tracer

@Suite struct RecorderTests {
    @Test func `recording the same run twice gives the same bytes`() throws {
        let (first, second) = (TemporaryTrace(), TemporaryTrace())
        for trace in [first, second] {
            try trace.record(RecorderOptions(keyframeEverySteps: 7)) { client in
                client.budgets = [nil, 3]
                try client.run(100)
            }
        }
        #expect(try first.bytes == second.bytes)
        #expect(try first.bytes.count > 1000)
    }

    @Test func `the header says what was recorded, parameters in order`() throws {
        let trace = TemporaryTrace()
        let parameters = [
            TraceHeader.Parameter(key: "memory", value: "64K"), TraceHeader.Parameter(key: "cpus", value: "1"),
        ]
        try trace.record(RecorderOptions(tool: "test 1", parameters: parameters)) { try $0.run(1) }
        let header = try trace.read().reader.header
        #expect(header.tool == "test 1")
        #expect(header.backendName == "toy")
        #expect(header.processorModel == "toy-v1")
        #expect(header.level == .replay)
        #expect(header.parameters.map(\.key) == ["cpus", "memory"])
    }

    @Test func `keyframes stand at the first run, at each interval and at the end`() throws {
        let trace = TemporaryTrace()
        let result = try trace.record(RecorderOptions(keyframeEverySteps: 10)) { try $0.run(25) }
        let (events, reader) = try trace.read()
        #expect(events.keyframes.map(\.stepCount) == [0, 10, 20, 25])
        #expect(reader.keyframes.map(\.stepCount) == [0, 10, 20, 25])
        #expect(result.totals.stepCount == 25)
        #expect(reader.isComplete)
        let last = try #require(events.keyframes.last)
        #expect(last.vcpus.map(\.id) == [0])
        #expect(last.vcpus[0].state == events.steps.last?.state)
        #expect(last.objects.map(\.object) == [0])
        // Code, handlers, data, table, and the stack's page at 0x7000.
        #expect(last.objects[0].pages.map(\.page) == [1, 2, 3, 4, 7])
        #expect(try reader.page(last.objects[0].pages[1].content).prefix(2) == [0x42, 0xC3])
        #expect(last.gpaRanges.count == 1)
    }

    @Test func `keyframes can be spaced by instructions`() throws {
        let trace = TemporaryTrace()
        try trace.record(RecorderOptions(keyframeEveryInstructions: 20)) { try $0.run(25) }
        let frames = try trace.read().events.keyframes
        #expect(frames.count > 3)
        for (left, right) in zip(frames, frames.dropFirst().dropLast()) {
            #expect(right.clock - left.clock >= 20)
        }
    }

    @Test func `without keyframes there is one only where a loss makes it needed`() throws {
        var options = RecorderOptions(keyframeEverySteps: 4)
        options.writesKeyframes = false
        let trace = TemporaryTrace()
        try trace.record(options) { try $0.run(25) }
        #expect(try trace.read().events.keyframes.isEmpty)
        let restored = TemporaryTrace()
        try restored.record(options) { client in
            try client.run(3)
            let saved = (client.vcpu.saveState(), client.vcpu.savePrivateState())
            try client.run(3)
            try client.vcpu.restore(saved.0, privateState: saved.1)
            try client.run(19)
        }
        #expect(try restored.read().events.keyframes.map(\.stepCount) == [6])
    }

    @Test func `a client's writes are events, also through withWritable`() throws {
        let trace = TemporaryTrace()
        try trace.record { client in
            try client.run(1)
            try client.write([1, 2, 3], at: 0x5000)
            try client.machine.withWritable(client.memory, 0x5003..<0x5005) { span in
                span.storeBytes(of: 0x0504, as: UInt16.self)
            }
            #expect(throws: MachineError.outsideObject(offset: 0x10000, byteCount: 1)) {
                try client.write([1], at: 0x10000)
            }
            try client.run(1)
        }
        let writes = try trace.read().events.writes.suffix(2)
        #expect(
            Array(writes) == [
                MemoryWrite(object: 0, offset: 0x5000, bytes: [1, 2, 3]),
                MemoryWrite(object: 0, offset: 0x5003, bytes: [4, 5]),
            ])
    }

    @Test func `level exits holds steps and calls but no memory`() throws {
        let trace = TemporaryTrace()
        let result = try trace.record(RecorderOptions(level: .exits, keyframeEverySteps: 1)) { try $0.run(20) }
        let events = try trace.read().events
        #expect(events.steps.count == 20)
        #expect(events.steps.allSatisfy { $0.coverage == .all })
        #expect(!events.calls.isEmpty)
        #expect(events.writes.isEmpty)
        #expect(events.keyframes.isEmpty)
        #expect(result.grade.level == .exitsOnly)
        #expect(result.grade.reasons == [.recordLevel])
    }

    @Test func `a full disk turns recording off and leaves the client alone`() throws {
        let full = try unsafe FileDescriptor.open("/dev/full", .writeOnly)
        defer { try? full.close() }
        let recorder: Recorder
        do {
            recorder = try Recorder(
                .descriptor(full), of: ToyBackend(), options: RecorderOptions(keyframeEverySteps: 1))
        } catch {
            return  // The head alone already failed: nothing was handed to a client.
        }
        let client = try ToyClient(on: recorder.backend)
        let plain = try ToyClient(on: ToyBackend())
        try client.run(20_000)
        try plain.run(20_000)
        #expect(client.output == plain.output)
        #expect(recorder.failure != nil)
        #expect(recorder.grade.level == .statistics)
        #expect(throws: TraceWriteError.self) { try recorder.finish() }
    }

    @Test func `after the end nothing is recorded, and the client goes on`() throws {
        let trace = TemporaryTrace()
        let recorder = try Recorder(.file(trace.path), of: ToyBackend())
        let client = try ToyClient(on: recorder.backend)
        try client.run(5)
        let result = try recorder.finish()
        try client.run(5)
        #expect(client.exitNames.count == 10)
        #expect(try recorder.finish() == result)
        #expect(try trace.read().events.steps.count == 5)
    }

    @Test func `a machine that ends before the recording leaves its last keyframe`() throws {
        let trace = TemporaryTrace()
        let recorder = try Recorder(.file(trace.path), of: ToyBackend())
        do {
            let client = try ToyClient(on: recorder.backend)
            try client.run(5)
        }
        try recorder.finish()
        let events = try trace.read().events
        #expect(events.keyframes.map(\.stepCount) == [0, 5])
        #expect(events.last == .machine(.destroy))
    }

    @Test func `a second machine is not recorded, and the grade says so`() throws {
        let trace = TemporaryTrace()
        let recorder = try Recorder(.file(trace.path), of: ToyBackend())
        let first = try ToyClient(on: recorder.backend)
        let second = try ToyClient(on: recorder.backend)
        try first.run(3)
        try second.run(4)
        let result = try recorder.finish()
        #expect(result.grade.reasons == [.secondMachine])
        #expect(try trace.read().events.steps.count == 3)
    }

    @Test func `a client that restores a state leaves a gap and a fresh keyframe`() throws {
        let trace = TemporaryTrace()
        let result = try trace.record { client in
            try client.run(3)
            let state = client.vcpu.saveState()
            let privateState = client.vcpu.savePrivateState()
            try client.run(3)
            try client.vcpu.restore(state, privateState: privateState)
            try client.run(3)
        }
        let events = try trace.read().events
        #expect(events.losses.count == 1)
        #expect(events.keyframes.map(\.stepCount) == [0, 6, 9])
        #expect(result.grade.level == .exitsOnly)
        #expect(result.grade.reasons == [.clientRestoredState(step: 6)])
    }

    @Test func `a soft recording is graded exact, one without counts is not`() throws {
        let trace = TemporaryTrace()
        #expect(try trace.record { try $0.run(10) }.grade == Recorder(try writer(), of: ToyBackend()).grade)
        let uncounted = try trace.record(on: ToyBackend(countsInstructions: false)) { try $0.run(10) }
        #expect(uncounted.grade.level == .exitsOnly)
        #expect(uncounted.grade.reasons == [.instructionsNotCounted])
    }

    private func writer() throws -> TraceWriter {
        try TraceWriter(
            .file(TemporaryTrace().path), header: Recorder.header(of: ToyBackend(), options: RecorderOptions()))
    }
}
