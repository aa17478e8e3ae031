import Foundation
import NVMM
import Replay
import SystemPackage
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

/// Recordings from outside of a hypervisor, which says neither how many instructions a run retired nor what time it is.
@Suite struct UncountedReplayTests {
    private func replay(_ trace: RecordedTrace, change: (inout Step) -> Void = { _ in }) throws -> ReplayReport {
        let folder = FileManager.default.temporaryDirectory.appending(path: "uncounted-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let uncounted = try trace.reader.withoutCounts(in: folder, keepsKeyframes: false, change: change)
        return try Replayer(uncounted, on: ToyBackend()).run()
    }

    @Test func `exits that the guest causes are checked without counts`() throws {
        let report = try replay(try RecordedTrace { try $0.run(40) })
        #expect(report.isClean)
        #expect(report.totals.identical == 40)
    }

    @Test func `a wrong register is a divergence there too, and no count is shown`() throws {
        var seen = 0
        let report = try replay(try RecordedTrace { try $0.run(40) }) { step in
            seen += 1
            if seen == 8 { step.state[.rbx] ^= 1 }
        }
        #expect(report.divergence?.step == 7)
        #expect(report.divergence?.differingFields.map(\.name) == ["rbx"])
    }

    @Test func `a run that ended without an exit is found by its registers`() throws {
        let trace = try RecordedTrace { client in
            client.budgets = [nil, nil, nil, nil, 3]
            try client.run(20)
        }
        let report = try replay(trace)
        #expect(report.totals.identical == 20)
        #expect(report.isClean)
    }

    @Test func `registers that no place of the replay has are a divergence`() throws {
        let trace = try RecordedTrace { client in
            client.budgets = [nil, nil, nil, nil, 3]
            try client.run(20)
        }
        let report = try replay(trace) { step in
            if step.exit.reason == .none { step.state[.rbx] ^= 1 }
        }
        #expect(report.totals.identical == 4)
        #expect(report.divergence?.step == 4)
    }
}
