// The smallest trace that still shows the same divergence.

import Foundation
import NVMM
import SystemPackage
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

@testable import Replay

@Suite struct MinimizeTests {
    /// A folder for the result and the candidates.
    private final class Place {
        let url = FileManager.default.temporaryDirectory.appending(path: "minimize-\(UUID().uuidString)")
        var output: FilePath { FilePath(url.appending(path: "small.vmtrace").path) }
        var work: FilePath { FilePath(url.appending(path: "candidate.vmtrace").path) }

        init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(at: url) }
    }

    private static let faults: [ToyBackend.Fault] = [
        .carryFlag(from: 60), .storeAddress(from: 60), .port(from: 60), .missingExit(from: 60), .extraExit(from: 60),
        .vector(from: 60), .privateState(from: 60),
    ]

    @Test(arguments: faults)
    func `a smaller trace shows the same on the wrong backend, and nothing on the right one`(
        fault: ToyBackend.Fault
    ) throws {
        let place = try Place()
        let trace = try RecordedTrace(steps: 200, RecorderOptions(keyframeEverySteps: 50))
        let minimizer = TraceMinimizer(trace.reader, reference: ToyBackend(), workFile: place.work) { _ in
            ToyBackend(fault: fault)
        }
        let report = try minimizer.minimize(to: place.output)
        let whole = try #require(trace.replay(on: ToyBackend(fault: fault), reference: ToyBackend()).divergence)
        let small = try TraceReader(path: place.output)
        let found = try #require(
            Replayer(small, on: ToyBackend(fault: fault), reference: ToyBackend()).run().divergence)
        #expect(found.kind == whole.kind)
        #expect(found.differingFields == whole.differingFields)
        #expect(found.wrongInstruction?.place.rip == whole.wrongInstruction?.place.rip)
        #expect(found.wrongInstruction?.place.bytes == whole.wrongInstruction?.place.bytes)
        #expect(found.memory == whole.memory || whole.kind != .memory)
        #expect(try Replayer(small, on: ToyBackend()).run().isClean)
        #expect(small.totals.stepCount == report.stepsAfter)
        #expect(report.stepsBefore == 200)
        // What a keyframe finds needs the way from the fault to there, all else a step.
        let isSeenLater = whole.kind == .memory || whole.kind == .privateState
        #expect(report.stepsAfter <= (isSeenLater ? 50 : 1), "\(report.stepsAfter) steps")
        #expect(report.pagesAfter <= report.pagesBefore)
        #expect(report.bytesAfter <= report.bytesBefore)
        #expect(try verifyTrace(path: place.output).isIntact)
        #expect(
            small.header.parameters.contains { $0.key == "first-step" && $0.value == "\(report.firstStep)" })
    }

    @Test func `without a right backend a trace begins at one of its own keyframes`() throws {
        let place = try Place()
        let trace = try RecordedTrace(steps: 200, RecorderOptions(keyframeEverySteps: 50))
        let wrong = ToyBackend.Fault.carryFlag(from: 700)
        let whole = try #require(trace.replay(on: ToyBackend(fault: wrong), reference: nil).divergence)
        let minimizer = TraceMinimizer(
            trace.reader, reference: ToyBackend(fault: wrong), workFile: place.work
        ) { _ in ToyBackend(fault: wrong) }
        let report = try minimizer.minimize(to: place.output)
        #expect(trace.reader.keyframes.map(\.stepCount).contains(report.firstStep))
        #expect(report.firstStep <= whole.step)
        let found = try Replayer(TraceReader(path: place.output), on: ToyBackend(fault: wrong)).run().divergence
        #expect(found?.differingFields == whole.differingFields)
    }

    @Test func `a trace without a difference is not minimized`() throws {
        let place = try Place()
        let trace = try RecordedTrace(steps: 20)
        let minimizer = TraceMinimizer(trace.reader, reference: ToyBackend(), workFile: place.work) { _ in ToyBackend()
        }
        #expect(throws: MinimizeError.noDivergence) { try minimizer.minimize(to: place.output) }
        #expect(!FileManager.default.fileExists(atPath: place.output.string))
    }

    @Test func `delta debugging finds what is needed, and nothing else`() throws {
        var generator = SeededGenerator(seed: 20261126)
        for _ in 0..<200 {
            let count = Int.random(in: 1...60, using: &generator)
            let needed = Set(
                (0..<Int.random(in: 0...min(5, count), using: &generator)).map { _ in
                    Int.random(in: 0..<count, using: &generator)
                })
            var asked = 0
            let kept = minimized(Array(0..<count)) {
                asked += 1
                return needed.isSubset(of: $0)
            }
            #expect(Set(kept) == needed)
            #expect(asked <= count * count + 3 * count + 2)
        }
    }
}
