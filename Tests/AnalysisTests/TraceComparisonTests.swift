import Analysis
import NVMM
import Replay
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

@Suite struct TraceComparisonTests {
    @Test func `two recordings of one run are the same`() throws {
        let traces = try (0..<2).map { _ in try RecordedTrace { try $0.run(200) } }
        let comparison = try TraceComparison(traces[0].reader, traces[1].reader)
        #expect(comparison.isSame)
        #expect(comparison.exitStatus == 0)
        #expect(comparison.alignedCount == 200)
        #expect(comparison.leftStepCount == 200)
        #expect(comparison.headerFields.isEmpty)
    }

    @Test func `where the host interrupted is no difference`() throws {
        let left = try RecordedTrace { try $0.run(100) }
        let right = try RecordedTrace { client in
            client.budgets = [nil, 2, nil]
            try client.run(140)
        }
        let comparison = try TraceComparison(left.reader, right.reader)
        #expect(comparison.onlyRight.asynchronous > 10)
        #expect(comparison.registerDifferenceCount == 0)
        #expect(comparison.onlyLeft.asynchronous == 0)
        // One side got further with its runs; up to there nothing differs.
        #expect(min(comparison.onlyLeft.synchronous, comparison.onlyRight.synchronous) == 0)
        if let first = comparison.firstDifference { #expect(first.left == nil || first.right == nil) }
    }

    @Test func `other registers at the same exit are found first`() throws {
        let left = try RecordedTrace { try $0.run(100) }
        let right = try RecordedTrace(on: ToyBackend(fault: .carryFlag(from: 60))) { try $0.run(100) }
        let comparison = try TraceComparison(left.reader, right.reader)
        #expect(comparison.alignedCount == 100)
        #expect(comparison.registerDifferenceCount > 0)
        let first = try #require(comparison.firstDifference)
        #expect(first.kind == .registers)
        #expect(first.fields.map(\.name) == ["rflags"])
        #expect(first.left?.step == first.right?.step)
    }

    @Test func `inserted exits are counted, and what follows aligns again`() throws {
        // The right guest has an extra OUT before its loop goes on as the left one's.
        let left = try RecordedTrace { try $0.run(100) }
        let right = try RecordedTrace { client in
            client.beforeRun = { client in
                // Before the eleventh run the guest makes a detour over an OUT at 0x5000.
                guard client.exitNames.count == 10 else { return }
                try client.write([0xE6, 0x42, 0xEB, 0xFE], at: 0x5000)
                let saved = client.vcpu.commPage.state
                client.vcpu.commPage.state[.rip] = 0x5000
                client.vcpu.setState(.gprs)
                _ = try client.vcpu.run(budget: nil)
                client.vcpu.commPage.state = saved
                client.vcpu.setState(.gprs)
            }
            try client.run(100)
        }
        let comparison = try TraceComparison(left.reader, right.reader)
        #expect(comparison.onlyRight.synchronous == 1)
        #expect(comparison.onlyLeft.synchronous == 0)
        #expect(comparison.alignedCount == 100)
        let first = try #require(comparison.firstDifference)
        #expect(first.kind == .onlyRight)
        #expect(first.right?.exit == "IO out 0x42/1")
    }

    @Test func `traces that have nothing in common still end, in bounded memory`() throws {
        let left = try RecordedTrace { try $0.run(2000) }
        let right = try RecordedTrace { client in
            try client.write([0xE6, 0x55, 0xEB, 0xFC], at: ToyClient.codeAddress)  // out 0x55, al; jmp back
            try client.run(2000)
        }
        let comparison = try TraceComparison(left.reader, right.reader, windowSteps: 64)
        #expect(comparison.alignedCount == 0)
        #expect(comparison.onlyLeft.synchronous == 2000)
        #expect(comparison.onlyRight.synchronous == 2000)
        #expect(comparison.firstDifference?.kind == .replaced)
        #expect(comparison.exitStatus == 1)
    }
}
