import NVMM
import TestSupport
import Testing
import TraceFile
import Tracer

@Suite struct FlightRecorderTests {
    /// The newest part of so many runs of a busy client.
    private func fly(
        _ options: RecorderOptions, runs: Int, endsAfter: @escaping (ExitReason) -> Bool = { _ in false },
        eachTime: (FlightRecorder) -> Void = { _ in }
    ) throws -> FlightRecorder {
        let backend = ToyBackend()
        let flight = try FlightRecorder(
            Recorder.header(of: backend, options: options), byteCount: FlightRecorder.byteCountMin)
        flight.endsAfter = endsAfter
        let recorder = Recorder(flight, of: backend, options: options)
        let client = try ToyClient(on: recorder.backend)
        for _ in 0..<runs / 20 {
            try busy(20)(client)
            eachTime(flight)
        }
        try recorder.finish()
        return flight
    }

    private func trace(of flight: FlightRecorder) throws -> (events: [TraceEvent], reader: TraceReader) {
        let trace = TemporaryTrace()
        _ = try flight.write(to: .file(trace.path))
        return try trace.read()
    }

    /// Writes into a page of its own choice before each run, so that keyframes differ.
    private func busy(_ runs: Int) -> (ToyClient) throws -> Void {
        { client in
            client.budgets = [nil, 3]
            client.beforeRun = { client in
                let count = client.exitNames.count
                try client.write([UInt8](repeating: UInt8(count & 0xFF), count: 2000), at: 0x5000 + count % 3 * 0x1000)
            }
            try client.run(runs)
        }
    }

    @Test func `what fits is kept whole, as a trace would hold it`() throws {
        let options = RecorderOptions(keyframeEverySteps: 10)
        let direct = TemporaryTrace()
        try direct.record(options) { client in for _ in 0..<2 { try busy(20)(client) } }
        let flight = try fly(options, runs: 40)
        #expect(flight.firstStep == 0)
        #expect(try trace(of: flight).events == (try direct.read().events))
    }

    @Test(arguments: [RecordLevel.replay, .client, .exits])
    func `what is kept ends as the whole recording does, and its bound holds`(level: RecordLevel) throws {
        let options = RecorderOptions(level: level, keyframeEverySteps: 50)
        let direct = TemporaryTrace()
        let runs = level == .exits ? 12_000 : 2_000
        try direct.record(options) { client in for _ in 0..<runs / 20 { try busy(20)(client) } }
        var most = 0
        let flight = try fly(options, runs: runs, eachTime: { most = max(most, $0.keptBytes) })
        let (kept, whole) = (try trace(of: flight).events, try direct.read().events)
        #expect(most <= FlightRecorder.byteCountMin)
        #expect(flight.firstStep > 0)
        #expect(kept.steps.count > 100)
        #expect(kept.steps == Array(whole.steps.suffix(kept.steps.count)))
        #expect(UInt64(whole.steps.count - kept.steps.count) == flight.firstStep)
        #expect(kept.losses.count == 1)
    }

    @Test func `all pages of the first keyframe that is kept are in the trace`() throws {
        let flight = try fly(RecorderOptions(keyframeEverySteps: 50), runs: 2_000)
        #expect(flight.firstStep > 0)
        let (events, reader) = try trace(of: flight)
        guard case .loss = events.first, case .keyframe(let first) = events.dropFirst().first else {
            Issue.record("it begins with \(events.prefix(2))")
            return
        }
        #expect(first.stepCount == 0)
        let pages = first.objects.flatMap(\.pages)
        #expect(pages.count > 3)
        for page in pages { #expect(try reader.page(page.content).count == 4096) }
        #expect(reader.header.parameters.contains { $0.key == "first-step" && $0.value == "\(flight.firstStep)" })
    }

    @Test func `nothing comes after the exit that ends it but what its VMM did then`() throws {
        var exits = 0
        let flight = try fly(
            RecorderOptions(), runs: 40,
            endsAfter: { exit in
                exits += exit == .halted ? 1 : 0
                return exit == .halted
            })
        #expect(exits == 1)
        #expect(flight.ending == .halted)
        let events = try trace(of: flight).events
        #expect(events.steps.last?.exit.reason == .halted)
        #expect(events.steps.filter { $0.exit.reason == .halted }.count == 1)
        // The writes that the client made before it ran the guest again.
        guard let last = events.lastIndex(where: { if case .step = $0 { true } else { false } }) else { return }
        #expect(events[last...].contains { if case .memoryWrite = $0 { true } else { false } })
    }

    @Test func `a stretch without keyframe that is too long is given up, not kept without its beginning`() throws {
        let flight = try fly(RecorderOptions(keyframeEverySteps: 100_000), runs: 3_000)
        let events = try trace(of: flight).events
        #expect(flight.keptBytes <= FlightRecorder.byteCountMin)
        #expect(events.losses.count == 1)
        // The recorder's last keyframe is all there is.
        #expect(events.steps.isEmpty)
    }
}
