import NVMM
import Replay
import SoftBackend
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

/// A client under test: it is recorded at level `client`, then answered from its trace.
@Suite struct RecordedBackendTests {
    private func record(
        steps count: Int = 30, _ options: RecorderOptions = RecorderOptions(level: .client),
        _ prepare: (ToyClient) throws -> Void = { _ in }
    ) throws -> RecordedTrace {
        try RecordedTrace(options) { client in
            client.budgets = [nil, nil, 3]
            try prepare(client)
            try client.run(count)
        }
    }

    /// Runs `body` on answers from the trace. What it throws is what a client meets after a difference.
    private func answer(
        _ trace: RecordedTrace, memory: any Backend = ToyBackend(), _ body: (ToyClient) throws -> Void
    ) throws -> (report: ClientReport, error: (any Error)?) {
        let backend = try RecordedBackend(trace.reader, memory: memory)
        let client = try ToyClient(on: backend)
        client.budgets = [nil, nil, 3]
        do {
            try body(client)
            return (backend.finish(), nil)
        } catch {
            return (backend.finish(), error)
        }
    }

    private func difference(
        _ trace: RecordedTrace, _ body: (ToyClient) throws -> Void
    ) throws -> ClientDifference {
        let (report, _) = try answer(trace, body)
        #expect(!report.isIdentical)
        return try #require(report.difference)
    }

    @Test func `an unchanged client is answered as it was recorded`() throws {
        var recorded: (output: [UInt8], exits: [String], memory: [UInt8]) = ([], [], [])
        func memory(_ client: ToyClient) -> [UInt8] {
            client.memory.withBytes(0..<client.memory.byteCount) { bytes in
                unsafe bytes.withUnsafeBytes { unsafe Array($0) }
            }
        }
        let trace = try RecordedTrace(RecorderOptions(level: .client)) { client in
            client.budgets = [nil, nil, 3]
            try client.run(60)
            recorded = (client.output, client.exitNames, memory(client))
        }
        let (report, error) = try answer(trace) { client in
            try client.run(60)
            #expect(client.output == recorded.output)
            #expect(client.exitNames == recorded.exits)
            #expect(memory(client) == recorded.memory)
        }
        #expect(error == nil)
        #expect(report.isIdentical)
        #expect(report.runCount == 60)
        #expect(report.stepCount == 60)
        #expect(report.guestBytes > 0)
    }

    @Test func `a filled trace is the one that is recorded at level client`() throws {
        let client = try record()
        let replay = try record(RecorderOptions())
        let filled = try FilledTrace(replay)
        #expect(filled.report.isClean)
        #expect(try filled.events == client.events)
        #expect(try filled.events.contains { if case .guestWrite = $0 { true } else { false } })
        #expect(try !replay.events.contains { if case .guestWrite = $0 { true } else { false } })
    }

    @Test func `what is filled on a backend that differs is no trace`() throws {
        let filled = try FilledTrace(try record(RecorderOptions()), on: ToyBackend(fault: .carryFlag(from: 20)))
        #expect(!filled.report.isClean)
        #expect(filled.report.divergence?.kind == .registers)
    }

    @Test(arguments: [RecordLevel.exits, .replay]) func `a trace without guest writes is refused`(
        level: RecordLevel
    ) throws {
        let trace = try record(RecorderOptions(level: level))
        #expect(throws: ReplayError.guestWritesMissing(level)) {
            try RecordedBackend(trace.reader, memory: ToyBackend())
        }
    }

    // MARK: - Differences

    @Test func `another committed value is named with both`() throws {
        let found = try difference(try record()) { client in
            client.beforeRun = { if $0.exitNames.count == 4 { $0.vcpu.commPage.state[.rax] = 0x99 } }
            try client.run(30)
        }
        #expect(found.kind == .commit)
        #expect(found.step == 4)
        #expect(found.vcpu == 0)
        let field = try #require(found.fields.first)
        #expect(field.name == "rax")
        #expect(field.actual == "0x0000000000000099")
        #expect(field.expected != field.actual)
        #expect(!found.lastEvents.isEmpty)
    }

    @Test func `other committed parts are a difference`() throws {
        let found = try difference(try record()) { client in
            client.beforeRun = { if $0.exitNames.count == 4 { $0.vcpu.setState(.drs) } }
            try client.run(30)
        }
        #expect(found.kind == .commit)
        #expect(found.fields.map(\.name) == ["committed"])
        #expect(found.fields.first?.actual.contains("drs") == true)
    }

    @Test func `reserved bits of what is committed do not count`() throws {
        let trace = try record { client in
            client.beforeRun = { if $0.exitNames.count == 4 { $0.vcpu.setState([.segments, .interrupt]) } }
        }
        let (report, _) = try answer(trace) { client in
            client.beforeRun = { client in
                guard client.exitNames.count == 4 else { return }
                client.vcpu.commPage.state.interrupt.insert(InterruptState(rawValue: 1 << 40))
                client.vcpu.commPage.state[.gdt].attributes = .present
                client.vcpu.setState([.segments, .interrupt])
            }
            try client.run(30)
        }
        #expect(report.isIdentical)
    }

    @Test func `an event that is missing, and one that is another`() throws {
        let trace = try record(steps: 40)
        let missing = try difference(trace) { client in
            client.vector = nil
            try client.run(40)
        }
        #expect(missing.kind == .event)
        #expect(missing.fields == [ComparedField(name: "event", expected: "interrupt 0x20", actual: "-")])
        let other = try difference(trace) { client in
            client.vector = 0x21
            try client.run(40)
        }
        #expect(other.fields == [ComparedField(name: "event", expected: "interrupt 0x20", actual: "interrupt 0x21")])
        #expect(other.step == missing.step)
    }

    @Test func `an event that was not recorded is a difference`() throws {
        let found = try difference(try record()) { client in
            client.beforeRun = { client in
                guard client.exitNames.count == 2 else { return }
                client.vcpu.commPage.event = VCPUEvent(kind: .interrupt, vector: 0x30)
                client.vcpu.inject()
            }
            try client.run(30)
        }
        #expect(found.kind == .event)
        #expect(found.fields == [ComparedField(name: "event", expected: "-", actual: "interrupt 0x30")])
    }

    @Test func `another memory write is found by place and bytes`() throws {
        let trace = try record { try $0.write([1, 2, 3, 4], at: 0x5004) }
        let found = try difference(trace) { client in
            try client.write([1, 2, 9, 4], at: 0x5004)
            try client.run(30)
        }
        #expect(found.kind == .memory)
        #expect(
            found.fields == [ComparedField(name: "object 0 offset 0x5006, gpa 0x5006", expected: "03", actual: "09")])
    }

    @Test func `a raw store that was recorded must be made, and no other`() throws {
        func store(_ byte: UInt8, at offset: Int, _ client: ToyClient) {
            // SAFETY: the offset lies in the client's own object.
            unsafe client.memory.clientAddress.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
        }
        let trace = try record(RecorderOptions(level: .client, rawStoreCheck: .always)) { client in
            client.beforeRun = { if $0.exitNames.count == 5 { store(0x77, at: 0x6010, $0) } }
        }
        let (same, _) = try answer(trace) { client in
            client.beforeRun = { if $0.exitNames.count == 5 { store(0x77, at: 0x6010, $0) } }
            try client.run(30)
        }
        #expect(same.isIdentical)
        let missing = try difference(trace) { try $0.run(30) }
        #expect(missing.step == 5)
        #expect(missing.fields.map(\.actual) == ["00"])
        let more = try difference(trace) { client in
            client.beforeRun = { if $0.exitNames.count == 3 { store(0x12, at: 0x7000, $0) } }
            try client.run(30)
        }
        #expect(more.kind == .memory)
        #expect(more.step == 3)
        #expect(more.fields.map(\.name) == ["object 0 offset 0x7000, gpa 0x7000"])
    }

    @Test func `another mapping, one that is missing and a configuration`() throws {
        let trace = try record { client in
            let extra = try client.machine.hvaMap(byteCount: 8192)
            try client.machine.gpaMap(extra, offset: 0, gpa: GPA(0x20000), byteCount: 4096, protection: .read)
            try client.vcpu.configure(.cpuid(leaf: 0, .exit))
        }
        let other = try difference(trace) { client in
            let extra = try client.machine.hvaMap(byteCount: 8192)
            try client.machine.gpaMap(extra, offset: 4096, gpa: GPA(0x20000), byteCount: 4096, protection: .read)
        }
        #expect(other.kind == .order)
        #expect(other.fields.first?.expected.contains("offset 0x0") == true)
        #expect(other.fields.first?.actual.contains("offset 0x1000") == true)
        let missing = try difference(trace) { try $0.run(1) }
        #expect(missing.fields.first?.expected == "map object 1, 8192 bytes")
        #expect(missing.fields.first?.actual == "run VCPU 0")
        let configured = try difference(trace) { client in
            let extra = try client.machine.hvaMap(byteCount: 8192)
            try client.machine.gpaMap(extra, offset: 0, gpa: GPA(0x20000), byteCount: 4096, protection: .read)
            try client.vcpu.configure(.cpuid(leaf: 1, .exit))
        }
        #expect(configured.fields.first?.expected == "configure VCPU 0: CPUID leaf 0x0 exits")
        #expect(configured.fields.first?.actual == "configure VCPU 0: CPUID leaf 0x1 exits")
    }

    @Test func `the clock's advances are compared, or the recorded ones taken`() throws {
        let trace = try record(steps: 40)
        let found = try difference(trace) { client in
            client.beforeRun = { if $0.exitNames.count == 2 { $0.machine.advanceClock(by: 7) } }
            try client.run(40)
        }
        #expect(found.kind == .order)
        #expect(found.fields.first?.actual == "advance the clock by 7")
        let backend = try RecordedBackend(
            trace.reader, memory: ToyBackend(), options: RecordedBackendOptions(clock: .taken))
        let client = try ToyClient(on: backend)
        client.budgets = [nil, nil, 3]
        client.beforeRun = { $0.machine.advanceClock(by: 7) }
        try client.run(40)
        #expect(backend.finish().isIdentical)
    }

    @Test func `a run past the recording's end, and an end before it`() throws {
        let trace = try record(steps: 10)
        let past = try difference(trace) { try $0.run(11) }
        #expect(past.kind == .pastEnd)
        #expect(past.step == 10)
        let early = try difference(trace) { try $0.run(9) }
        #expect(early.kind == .endsEarly)
        #expect(early.step == 9)
        #expect(early.fields.first?.actual == "the client has ended")
    }

    @Test func `another budget is a difference`() throws {
        let found = try difference(try record()) { client in
            client.budgets = [nil, nil, 4]
            try client.run(30)
        }
        #expect(found.kind == .budget)
        #expect(found.fields == [ComparedField(name: "budget", expected: "3", actual: "4")])
    }

    @Test func `after a difference runs fail, and the first difference stays`() throws {
        let trace = try record()
        let backend = try RecordedBackend(trace.reader, memory: ToyBackend())
        let client = try ToyClient(on: backend)
        client.budgets = [nil, nil, 3]
        try client.run(2)
        client.vcpu.setState(.drs)
        #expect(throws: VCPUError.notAsRecorded) { try client.run(1) }
        let first = backend.report
        #expect(throws: VCPUError.notAsRecorded) { try client.vcpu.run(budget: nil) }
        #expect(backend.finish() == first)
    }

    @Test func `early returns and failed runs are answered too`() throws {
        func act(_ client: ToyClient) throws {
            client.vcpu.stop()
            try client.run(4)
            client.vcpu.commPage.event = VCPUEvent(kind: .exception, vector: 3)
            client.vcpu.inject()
            #expect(throws: VCPUError.badEvent(VCPUEvent(kind: .exception, vector: 3))) { try client.run(1) }
            try client.run(6)
        }
        let trace = try RecordedTrace(RecorderOptions(level: .client)) { client in
            client.budgets = [nil, nil, 3]
            try act(client)
        }
        #expect(try answer(trace) { try act($0) }.report.isIdentical)
    }

    @Test func `the report's document reads back`() throws {
        let found = try difference(try record(steps: 10)) { try $0.run(11) }
        var report = ClientReport()
        report.runCount = 10
        report.difference = found
        report.trouble = "quote \" backslash \\ line\n"
        #expect(try decoded(report.json) == report)
    }

    @Test func `a second machine is trouble, not a verdict`() throws {
        let backend = try RecordedBackend(try record().reader, memory: ToyBackend())
        _ = try ToyClient(on: backend)
        #expect(throws: MachineError.tooMany(limit: 1)) { try backend.createMachine() }
        #expect(backend.failure == .secondMachine(step: 0))
        #expect(backend.finish().difference == nil)
        #expect(!backend.report.isIdentical)
    }

    @Test func `state that is read and committed whole is what was recorded, the counter of time too`() throws {
        // Read behind a halt, whose advance of the clock stands in the trace before the next run.
        func act(_ client: ToyClient) throws {
            client.vector = nil
            client.beforeRun = { client in
                try client.vcpu.getState(.all)
                client.vcpu.setState(.all)
            }
            try client.run(40)
        }
        let trace = try RecordedTrace(RecorderOptions(level: .client), on: SoftBackend()) { try act($0) }
        let (report, _) = try answer(trace, memory: SoftBackend()) { client in
            client.budgets = []
            try act(client)
        }
        #expect(report.difference?.text == nil)
        #expect(report.isIdentical)
    }

    // MARK: - Threads

    @Test func `a call that another thread makes is waited for, and reported when it does not come`() throws {
        let trace = try record { _ = try $0.machine.createVCPU(id: 1) }
        let options = RecordedBackendOptions(patience: .milliseconds(50), mayWait: { true })
        let backend = try RecordedBackend(trace.reader, memory: ToyBackend(), options: options)
        let client = try ToyClient(on: backend)
        let start = ContinuousClock.now
        #expect(throws: VCPUError.notAsRecorded) { try client.run(1) }
        #expect(ContinuousClock.now - start >= .milliseconds(50))
        #expect(backend.report.difference?.fields.first?.expected == "create VCPU 1")
    }

    // MARK: - Damage

    @Test func `what no recorder writes ends in an error that names the place`() throws {
        let map = TraceEvent.machine(.hvaMap(object: 0, byteCount: 4096))
        func failure(_ event: TraceEvent) throws -> ReplayError? {
            var header = try record(steps: 1).reader.header
            header.level = .client
            let made = try DamagedTrace(events: [map, event], header: header)
            let backend = try RecordedBackend(made.reader, memory: ToyBackend())
            _ = try backend.createMachine().hvaMap(byteCount: 4096)
            let report = backend.finish()
            #expect(!report.isIdentical)
            #expect(report.trouble != nil)
            return backend.failure
        }
        let bytes: [UInt8] = [1, 2]
        #expect(
            try failure(.guestWrite(MemoryWrite(object: 7, offset: 0, bytes: bytes)))
                == .unknownObject(ordinal: 7, step: 0))
        #expect(
            try failure(.guestWrite(MemoryWrite(object: 0, offset: 4095, bytes: bytes)))
                == .outsideObject(ordinal: 0, offset: 4095, step: 0))
        #expect(
            try failure(.memoryWrite(MemoryWrite(object: 0, offset: 1 << 62, bytes: bytes)))
                == .outsideObject(ordinal: 0, offset: 1 << 62, step: 0))
        #expect(try failure(.loss(Loss(eventCount: 3, reason: "ring full"))) == .eventsMissing(step: 0))
    }

    @Test func `a damaged recording ends in an error, never in a trap`() throws {
        let trace = try record(steps: 12)
        let whole = try trace.bytes()
        var found = 0
        for place in stride(from: 40, to: whole.count, by: 3) {
            var bytes = whole
            bytes[place] ^= 0x55
            guard let damaged = try? DamagedTrace(bytes) else { continue }
            guard let backend = try? RecordedBackend(damaged.reader, memory: ToyBackend()) else { continue }
            guard let client = try? ToyClient(on: backend) else { continue }
            client.budgets = [nil, nil, 3]
            try? client.run(12)
            let report = backend.finish()
            if !report.isIdentical { found += 1 }
            if report.trouble != nil { #expect(backend.failure != nil) }
        }
        #expect(found > 0)
    }
}
