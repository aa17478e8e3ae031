import NVMM
import Replay
import SoftBackend
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

/// The toy client's guests are real 32-bit code: the embedded backend records and replays them too.
@Suite struct SoftReplayTests {
    private func record(_ options: RecorderOptions = RecorderOptions(), guest: [UInt8]) throws -> RecordedTrace {
        try RecordedTrace(options, on: SoftBackend()) { client in
            try client.write(guest, at: ToyClient.codeAddress)
            client.vector = nil
            client.budgets = [nil, nil, 3, 1]
            try client.run(60)
        }
    }

    @Test(arguments: [0, 1, 9, 10, 25, 37, 59] as [UInt64])
    func `a recording on the soft backend replays from any step`(from: UInt64) throws {
        let trace = try record(RecorderOptions(keyframeEverySteps: 10), guest: ToyClient.guest)
        let report = try trace.replay(on: SoftBackend(), ReplayOptions(from: from))
        #expect(report.divergence?.text == nil)
        #expect(report.isClean)
        #expect(report.firstStep == from / 10 * 10)
        #expect(report.memoryEqualAtStep == 60)
    }

    @Test(arguments: [0, 7, 20] as [UInt64])
    func `an injected fault is found, and its instruction named`(fromRun: UInt64) throws {
        let trace = try record(RecorderOptions(keyframeEverySteps: 10), guest: ToyClient.shifter)
        let report = try trace.replay(
            on: SoftBackend(fault: .shlCarry, fromRun: fromRun), reference: SoftBackend())
        #expect(report.exitStatus == 1)
        let found = try #require(report.divergence)
        #expect(found.kind == .registers)
        #expect(found.step >= fromRun)
        let wrong = try #require(found.wrongInstruction)
        #expect(wrong.place.rip == 0x100A)
        #expect(wrong.place.mnemonic == "shl")
        #expect(wrong.fields.map(\.name).contains("rflags"))
        #expect(!wrong.isEventDelivery)
    }

    @Test func `an unchanged backend runs the shifter without a difference`() throws {
        let trace = try record(guest: ToyClient.shifter)
        #expect(try trace.replay(on: SoftBackend(), reference: SoftBackend()).isClean)
    }
}
