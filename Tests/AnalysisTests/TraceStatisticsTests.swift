@testable import Analysis
import Foundation
import NVMM
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

@Suite struct TraceStatisticsTests {
    /// Writes MSR 0x10, reads it, reads and writes unmapped memory, CPUID leaf 0, HLT, and again.
    private static let exerciser: [UInt8] = [
        0xB9, 0x10, 0x00, 0x00, 0x00,  // 1000 mov ecx, 0x10
        0x0F, 0x30,  // 1005 wrmsr
        0x0F, 0x32,  // 1007 rdmsr
        0x0F, 0x30,  // 1009 wrmsr
        0xE6, 0x19,  // 100b out 0x19, al
        0xE4, 0x60,  // 100d in al, 0x60
        0xF4,  // 100f hlt
        0xA3, 0x34, 0x12, 0x10, 0x00,  // 1010 mov [0x101234], eax
    ]

    @Test func `exits are counted by reason, port, MSR and page`() throws {
        let trace = try RecordedTrace { client in
            try client.write(Self.exerciser, at: ToyClient.codeAddress)
            client.vector = nil
            try client.run(6)
            try client.run(2)  // The store exits twice: nobody emulates it.
        }
        let statistics = try TraceStatistics(of: trace.reader)
        #expect(statistics.steps.count == 8)
        #expect(
            statistics.exits.map { "\($0.reason) \($0.count)" }
                == ["MEMORY 2", "IO 2", "HALTED 1", "RDMSR 1", "WRMSR 2"])
        #expect(
            statistics.io == [
                .init(port: 0x19, isInput: false, operandBytes: 1, count: 1),
                .init(port: 0x60, isInput: true, operandBytes: 1, count: 1),
            ])
        #expect(
            statistics.msrs == [
                .init(msr: 0x10, isWrite: false, count: 1), .init(msr: 0x10, isWrite: true, count: 2),
            ])
        #expect(statistics.memory == [.init(gpa: 0x101000, access: "write", count: 2)])
        #expect(statistics.vcpus == [.init(id: 0, steps: 8, instructions: statistics.steps.instructions)])
        #expect(statistics.steps.instructions == 2)  // mov ecx and hlt
    }

    @Test func `the counts are those that the client kept`() throws {
        var names: [String] = []
        let trace = try RecordedTrace { client in
            client.budgets = [nil, 3]
            try client.run(500)
            names = client.exitNames
        }
        let statistics = try TraceStatistics(of: trace.reader)
        for exit in statistics.exits { #expect(exit.count == names.count { $0 == exit.reason }) }
        #expect(statistics.exits.reduce(0) { $0 + $1.count } == 500)
        #expect(statistics.steps.instructions == trace.reader.totals.instructionCount)
        let halts = names.count { $0 == "HALTED" }
        #expect(statistics.events.map(\.kind) == ["interrupt"])
        #expect(statistics.events.map(\.vector) == [0x20])
        #expect(halts - 1...halts ~= Int(statistics.events[0].count))
    }

    @Test func `slices inside a client's run are no calls of the client`() throws {
        var options = RecorderOptions()
        let plain = try TraceStatistics(of: RecordedTrace(steps: 30, options).reader)
        options.parameters = [.init(key: TraceHeader.Parameter.sliceInstructions, value: "3")]
        let sliced = try TraceStatistics(of: RecordedTrace(steps: 30, options).reader)
        let slices = try #require(plain.exits.first { $0.reason == "NONE" }).count
        #expect(slices > 0)
        #expect(plain.calls.slices == 0)
        #expect(sliced.calls.slices == slices)
        #expect(sliced.calls.run == plain.calls.run - slices)
        #expect(sliced.calls.systemCalls == plain.calls.systemCalls - slices)
    }

    @Test func `calls are accounted as the comm page serves them`() throws {
        let trace = try RecordedTrace { client in
            try client.run(1)  // OUT: getstate hit, setstate
            try client.vcpu.getState([.gprs, .fpu])  // fpu is not held: a system call for both
            try client.vcpu.getState(.fpu)  // held now
            client.machine.advanceClock(by: 5)  // no call of NVMM's
            client.vcpu.stop()
            try client.run(1)  // early: what is cached stays so
            try client.vcpu.getState(.fpu)
        }
        let calls = try TraceStatistics(of: trace.reader).calls
        #expect(calls.getState == 4)
        #expect(calls.setState == 2)
        #expect(calls.stop == 1)
        #expect(calls.run == 2)
        #expect(calls.machine == 3)  // hva map, gpa map, create VCPU
        #expect(calls.systemCalls == 2 + 3 + 1)
        #expect(calls.slices == 0)
        #expect(calls.underInterface.commPageForStateAndEvents == 6)
        #expect(calls.underInterface.commPageForState == 6 + calls.inject)
        #expect(calls.underInterface.noCommPage == 2 + 3 + calls.getState + calls.setState + calls.inject)
        let gprs = try #require(calls.parts.first { $0.part == "gprs" })
        #expect((gprs.hits, gprs.misses, gprs.sets, gprs.commits) == (1, 1, 2, 1))
        let fpu = try #require(calls.parts.first { $0.part == "fpu" })
        #expect((fpu.hits, fpu.misses) == (2, 1))
    }

    @Test func `equal traces give equal documents, keys in order`() throws {
        let texts = try (0..<2).map { _ in
            let trace = try RecordedTrace { try $0.run(50) }
            return try StableJSON.text(TraceStatistics(of: trace.reader))
        }
        #expect(texts[0] == texts[1])
        let keys = ["\"calls\"", "\"events\"", "\"exits\"", "\"io\"", "\"keyframeCount\"", "\"steps\"", "\"vcpus\""]
        let places = keys.compactMap { texts[0].range(of: $0)?.lowerBound }
        #expect(places.count == keys.count)
        #expect(places == places.sorted())
    }
}
