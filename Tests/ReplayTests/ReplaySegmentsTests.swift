import Foundation
import NVMM
import SoftBackend
import SystemPackage
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

@testable import Replay

/// A replay of segments at the same time says what one pass says, to the last word of its report.
@Suite struct ReplaySegmentsTests {
    private func record(on backend: any Backend = SoftBackend()) throws -> RecordedTrace {
        try RecordedTrace(RecorderOptions(keyframeEverySteps: 4), on: backend) { client in
            try client.write(ToyClient.shifter, at: ToyClient.codeAddress)
            client.vector = nil
            client.budgets = [nil, nil, 3, 1]
            try client.run(60)
        }
    }

    /// What came of a replay, as text that leaves nothing out.
    private func outcome(_ replay: () throws(ReplayError) -> ReplayReport) throws -> String {
        let report: ReplayReport
        do throws(ReplayError) { report = try replay() } catch { return "\(error)" }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return String(decoding: try encoder.encode(report), as: UTF8.self)
    }

    private func compare(
        _ reader: TraceReader, on backend: SoftBackend = SoftBackend(), _ options: ReplayOptions, jobs: Int
    ) throws -> String {
        let segments = ReplaySegment.divide(reader.keyframes, for: options, jobs: jobs, ticksMin: 1)
        let replayer = Replayer(reader, on: backend, jobs: jobs, reference: SoftBackend(), options: options)
        let inSegments = try outcome { () throws(ReplayError) in
            try replayer.run(segments, on: backend, progress: { _ in })
        }
        let inOnePass = try outcome { () throws(ReplayError) in
            try replayer.run(observer: nil, progress: { _ in })
        }
        #expect(inSegments == inOnePass)
        return inSegments
    }

    @Test func `segments are the steps, each once`() throws {
        let trace = try record()
        let keyframes = trace.reader.keyframes
        for jobs in 1...5 {
            let segments = ReplaySegment.divide(keyframes, for: ReplayOptions(from: 9, to: 50), jobs: jobs, ticksMin: 1)
            #expect(segments.count > 1)
            #expect(segments.count <= 4 * jobs + 1)
            #expect(segments.first?.from == 9)
            #expect(segments.last?.endKeyframe == nil)
            for (segment, next) in zip(segments, segments.dropFirst()) {
                #expect(segment.endKeyframe == next.from)
                #expect(keyframes.contains { $0.stepCount == next.from })
                #expect(next.from > segment.from && next.from < 50)
            }
        }
        #expect(ReplaySegment.divide(keyframes, for: ReplayOptions(), jobs: 4).count == 1)
        #expect(ReplaySegment.divide([], for: ReplayOptions(), jobs: 4, ticksMin: 1).count == 1)
    }

    @Test(arguments: [(0, nil), (0, 41), (13, nil), (13, 47), (58, nil)] as [(UInt64, UInt64?)])
    func `an equal replay`(from: UInt64, to: UInt64?) throws {
        let trace = try record()
        let report = try compare(trace.reader, ReplayOptions(from: from, to: to), jobs: 2)
        #expect(report.contains("\"divergent\" : 0"))
    }

    /// With keyframes each four steps, each place in a segment is met.
    @Test(arguments: 20...27 as ClosedRange<UInt64>, [false, true])
    func `the first difference in full`(fromRun: UInt64, resynchronises: Bool) throws {
        let trace = try record(on: SoftBackend(fault: .shlCarry, fromRun: fromRun))
        let report = try compare(trace.reader, ReplayOptions(resynchronises: resynchronises), jobs: 3)
        #expect(report.contains("\"referenceAgreesWithReplay\" : true"))
    }

    @Test func `a backend that is wrong from the beginning`() throws {
        let trace = try record()
        let report = try compare(trace.reader, on: SoftBackend(fault: .shlCarry), ReplayOptions(), jobs: 2)
        #expect(report.contains("\"mnemonic\" : \"shl\""))
    }

    @Test func `damage anywhere`() throws {
        let bytes = try record().bytes()
        var kinds: Set<Bool> = []
        let url = FileManager.default.temporaryDirectory.appending(path: "segments-\(UUID().uuidString).vmtrace")
        defer { try? FileManager.default.removeItem(at: url) }
        for place in stride(from: 0, to: bytes.count, by: 97) {
            var bytes = bytes
            bytes[place] ^= 0x10
            try Data(bytes).write(to: url)
            guard let reader = try? TraceReader(path: FilePath(url.path)) else { continue }
            let report = try compare(reader, ReplayOptions(), jobs: 2)
            kinds.insert(report.hasPrefix("{"))
        }
        #expect(kinds == [true, false])
    }

    @Test func `progress ends with all steps`() throws {
        let trace = try record()
        let segments = ReplaySegment.divide(trace.reader.keyframes, for: ReplayOptions(), jobs: 2, ticksMin: 1)
        var last: ReplayProgress?
        let replayer = Replayer(trace.reader, on: SoftBackend(), jobs: 2)
        _ = try replayer.run(segments, on: SoftBackend(), progress: { last = $0 })
        #expect(last == ReplayProgress(stepsDone: 60, step: 60))
    }
}
