import Foundation
import NVMM
import Replay
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

/// One case for each kind of divergence. The transcripts stand in `Golden/`;
/// `REGENERATE_GOLDEN=1 swift test --filter DivergenceTests` writes them anew.
@Suite struct DivergenceTests {
    private func golden(_ name: String, _ text: String) throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/\(name).txt")
        if ProcessInfo.processInfo.environment["REGENERATE_GOLDEN"] != nil {
            try Data(text.utf8).write(to: file)
        }
        #expect(text == String(decoding: try Data(contentsOf: file), as: UTF8.self), "differs from Golden/\(name).txt")
    }

    private func divergence(
        _ fault: ToyBackend.Fault, withReference: Bool = true, keyframes: UInt64 = 8
    ) throws -> Divergence {
        let trace = try RecordedTrace(steps: 40, RecorderOptions(keyframeEverySteps: keyframes))
        let report = try trace.replay(on: ToyBackend(fault: fault), reference: withReference ? ToyBackend() : nil)
        #expect(report.exitStatus == 1)
        return try #require(report.divergence)
    }

    @Test func `a wrong flag is a register divergence, and its ADD is named`() throws {
        let found = try divergence(.carryFlag(from: 60))
        #expect(found.kind == .registers)
        let wrong = try #require(found.wrongInstruction)
        #expect(wrong.place.mnemonic == "add")
        #expect([0x100A, 0x1015].contains(wrong.place.rip))
        #expect(wrong.fields.map(\.name).contains("rflags"))
        #expect(wrong.memory.isEmpty)
        #expect(found.differingFields.map(\.name).contains("rflags"))
        try golden("register", found.text)
    }

    @Test func `without a reference the instructions before the exit are listed`() throws {
        let found = try divergence(.carryFlag(from: 60), withReference: false)
        #expect(found.wrongInstruction == nil)
        #expect(!found.instructionsBefore.isEmpty)
        #expect(!found.memoryWasCompared)
        try golden("register-without-reference", found.text)
    }

    @Test func `a wrong port is a payload divergence`() throws {
        let found = try divergence(.port(from: 60))
        #expect(found.kind == .exitPayload)
        #expect(found.differingFields.map(\.name) == ["exit.port"])
        #expect(found.wrongInstruction?.place.mnemonic == "out")
        try golden("exit-payload", found.text)
    }

    @Test func `a store to a wrong address is a memory divergence, bounded by keyframes`() throws {
        let found = try divergence(.storeAddress(from: 60))
        #expect(found.kind == .memory)
        #expect(found.vcpu == nil)
        let wrong = try #require(found.wrongInstruction)
        #expect(wrong.place.rip == 0x100C)
        #expect(wrong.place.mnemonic == "mov")
        #expect(wrong.fields.isEmpty)
        #expect(wrong.memory.first?.gpa == 0x3000 || wrong.memory.first?.gpa == 0x3004)
        #expect(wrong.place.step >= found.memoryEqualAtStep!)
        #expect(wrong.place.step < found.step)
        try golden("memory", found.text)
    }

    @Test func `an exit that does not happen is missing, and the replay ends all the same`() throws {
        let found = try divergence(.missingExit(from: 60))
        #expect(found.kind == .missingExit)
        #expect(found.wrongInstruction?.place.mnemonic == "out")
        try golden("missing-exit", found.text)
    }

    @Test func `an exit that is not in the trace is extra`() throws {
        let found = try divergence(.extraExit(from: 60))
        #expect(found.kind == .extraExit)
        #expect(found.wrongInstruction?.place.rip == 0x101A)
        #expect(found.wrongInstruction?.place.mnemonic == "nop")
        try golden("extra-exit", found.text)
    }

    @Test func `an event delivered to another handler is a wrong injection`() throws {
        let found = try divergence(.vector(from: 100))
        #expect(found.kind == .injection)
        let wrong = try #require(found.wrongInstruction)
        #expect(wrong.isEventDelivery)
        #expect(wrong.fields.map(\.name) == ["rip"])
        #expect(found.injected == "interrupt 0x20")
        try golden("wrong-injection", found.text)
    }

    @Test func `hidden state that differs at a keyframe is named`() throws {
        let found = try divergence(.privateState(from: 60))
        #expect(found.kind == .privateState)
        #expect(found.fields.map(\.name) == ["VCPU 0 private state at byte 0"])
        try golden("private-state", found.text)
    }

    @Test func `a reference that does as the replay did puts the blame on the trace`() throws {
        let trace = try RecordedTrace(on: ToyBackend(fault: .carryFlag(from: 60))) { try $0.run(40) }
        let report = try trace.replay(on: ToyBackend(), reference: ToyBackend())
        let found = try #require(report.divergence)
        #expect(found.referenceAgreesWithReplay)
        #expect(found.wrongInstruction == nil)
        try golden("trace-differs", found.text)
    }

    @Test func `the wrong instruction of a long step is found in its middle`() throws {
        // dec ecx; jnz: 30,000 rounds in one run, then add, out, and again.
        let guest: [UInt8] = [
            0xB9, 0x30, 0x75, 0x00, 0x00,  // 1000 mov ecx, 30000
            0x01, 0xC8,  // 1005 add eax, ecx
            0x49,  // 1007 dec ecx
            0x75, 0xFB,  // 1008 jnz 1005
            0xE6, 0x19,  // 100a out 0x19, al
            0xEB, 0xF2,  // 100c jmp 1000
        ]
        let trace = try RecordedTrace { client in
            try client.write(guest, at: ToyClient.codeAddress)
            try client.run(2)
        }
        let report = try trace.replay(on: ToyBackend(fault: .carryFlag(from: 50_000)), reference: ToyBackend())
        let wrong = try #require(report.divergence?.wrongInstruction)
        #expect(wrong.place.rip == 0x1005)
        // Three instructions a round, the first before the loop: ADD is next at the clock's 50,000 or after it.
        #expect(wrong.index == 50_002)
        #expect(wrong.place.step == 0)
    }

    @Test func `resynchronising goes on and counts`() throws {
        let trace = try RecordedTrace(steps: 40, RecorderOptions(keyframeEverySteps: 8))
        let faulty = ToyBackend(fault: .port(from: 60))
        let plain = try trace.replay(on: faulty)
        let resynchronised = try trace.replay(on: faulty, ReplayOptions(resynchronises: true))
        #expect(plain.totals.divergent == 1)
        #expect(plain.endStep < 40)
        #expect(resynchronised.endStep == 40)
        let totals = resynchronised.totals
        #expect(totals.divergent > 1)
        #expect(totals.identical + totals.divergent == 40)
        #expect(resynchronised.divergence?.step == plain.divergence?.step)
        #expect(resynchronised.exitStatus == 1)

        let memory = try trace.replay(
            on: ToyBackend(fault: .storeAddress(from: 60)), ReplayOptions(resynchronises: true))
        #expect(memory.endStep == 40)
        #expect(memory.totals.keyframesDifferent > 1)
        #expect(memory.totals.divergent == 0)
    }

    @Test func `the report can be encoded`() throws {
        let found = try divergence(.carryFlag(from: 60))
        let data = try JSONEncoder().encode(found)
        #expect(String(decoding: data, as: UTF8.self).contains("\"mnemonic\":\"add\""))
    }
}
