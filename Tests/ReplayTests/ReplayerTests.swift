import NVMM
import Replay
import TestSupport
import Testing
import TraceFile
import TraceTestSupport
import Tracer

@Suite struct ReplayerTests {
    @Test func `an unchanged backend replays every step and keyframe`() throws {
        let trace = try RecordedTrace(steps: 50, RecorderOptions(keyframeEverySteps: 8))
        let report = try trace.replay()
        #expect(report.divergence == nil)
        #expect(report.totals.identical == 50)
        #expect(report.totals.keyframesEqual == 8)  // 0, 8, ... 48, 50
        #expect(report.memoryEqualAtStep == 50)
        #expect(report.firstStep == 0)
        #expect(report.endStep == 50)
        #expect(report.totals.instructions == trace.reader.totals.instructionCount)
        #expect(report.isClean)
        #expect(report.exitStatus == 0)
    }

    @Test(arguments: [0, 30] as [UInt64])
    func `a trace without keyframes replays from its beginning, memory uncompared`(from: UInt64) throws {
        var options = RecorderOptions()
        options.writesKeyframes = false
        let report = try RecordedTrace(steps: 50, options).replay(ReplayOptions(from: from))
        #expect(report.isClean)
        #expect(report.firstStep == 0 && report.totals.identical == 50)
        #expect(report.memoryEqualAtStep == nil && report.totals.keyframesEqual == 0)
    }

    @Test(arguments: [0, 1, 7, 8, 9, 20, 31, 48, 49] as [UInt64])
    func `a range starts at the nearest keyframe and gives the same verdicts`(from: UInt64) throws {
        let trace = try RecordedTrace(steps: 50, RecorderOptions(keyframeEverySteps: 8))
        let report = try trace.replay(ReplayOptions(from: from))
        #expect(report.isClean)
        #expect(report.firstStep == from / 8 * 8)
        #expect(report.totals.identical == 50 - report.firstStep)
        let part = try trace.replay(ReplayOptions(from: from, to: from + 1))
        #expect(part.endStep == from + 1)
        #expect(part.isClean)
    }

    @Test func `early returns, failed runs and writes replay too`() throws {
        let trace = try RecordedTrace { client in
            client.vcpu.stop()
            try client.run(4)
            client.vcpu.commPage.event = VCPUEvent(kind: .exception, vector: 3)
            client.vcpu.inject()
            #expect(throws: VCPUError.self) { try client.run(1) }
            try client.write([0xB8, 9], at: 0x1005)  // mov eax, 9 in place of 5
            try client.run(3)
            try client.vcpu.configure(.cpuid(leaf: 0, .exit))
            try client.run(10)
        }
        let report = try trace.replay()
        #expect(report.isClean)
        #expect(report.totals.identical == 18)
    }

    @Test func `raw stores found at run entry replay exactly`() throws {
        let trace = try RecordedTrace(RecorderOptions(rawStoreCheck: .always)) { client in
            try client.run(2)
            // SAFETY: within the client's object. mov eax, 9 in place of 5
            unsafe client.memory.clientAddress.storeBytes(of: 9, toByteOffset: 0x1006, as: UInt8.self)
            try client.run(10)
        }
        let report = try trace.replay()
        #expect(report.isClean)
        #expect(report.rawStoreCount == 1)
    }

    @Test func `objects and VCPUs that come and go replay from any step`() throws {
        let trace = try RecordedTrace(RecorderOptions(keyframeEverySteps: 2)) { client in
            let machine = client.machine
            try client.run(3)
            let extra = try machine.hvaMap(byteCount: 8192)
            try machine.gpaMap(extra, offset: 4096, gpa: GPA(0x20000), byteCount: 4096, protection: [.read, .write])
            // SAFETY: the span views the array's initialised bytes and ends with the call.
            try unsafe machine.write(extra, at: 4100, [1, 2, 3].span.bytes)
            _ = try machine.createVCPU(id: 3)
            try client.run(3)
            try machine.gpaUnmap(gpa: GPA(0x20000), byteCount: 4096)
            try machine.hvaUnmap(extra)
            try machine.destroyVCPU(id: 3)
            let other = try machine.hvaMap(byteCount: 4096)
            try machine.gpaMap(other, offset: 0, gpa: GPA(0x20000), byteCount: 4096, protection: .read)
            try client.run(6)
        }
        for from in 0..<12 {
            let report = try trace.replay(ReplayOptions(from: UInt64(from)))
            #expect(report.isClean, "from \(from)")
        }
    }

    @Test func `after a loss, steps are unverifiable up to the next keyframe`() throws {
        let trace = try RecordedTrace { client in
            try client.run(3)
            let saved = (client.vcpu.saveState(), client.vcpu.savePrivateState())
            try client.run(3)
            try client.vcpu.restore(saved.0, privateState: saved.1)
            try client.run(4)
        }
        let report = try trace.replay()
        // The recorder writes a keyframe before the next run, so that nothing is left unverifiable here.
        #expect(report.totals.identical == 10)
        #expect(report.isClean)
    }

    @Test func `progress is reported at the end`() throws {
        let trace = try RecordedTrace(steps: 9)
        var last: ReplayProgress?
        _ = try Replayer(trace.reader, on: ToyBackend()).run { last = $0 }
        #expect(last?.step == 9)
        #expect(last?.stepsDone == 9)
    }

    // MARK: - What cannot be replayed

    @Test func `a trace of level exits is refused`() throws {
        let trace = try RecordedTrace(steps: 5, RecorderOptions(level: .exits))
        #expect(throws: ReplayError.exitsLevel) { try trace.replay() }
    }

    @Test func `another backend or CPUID is refused`() throws {
        let trace = try RecordedTrace(steps: 5)
        #expect(throws: ReplayError.backendMismatch(recorded: "toy", replaying: "other")) {
            try trace.replay(on: ToyBackend(name: "other"))
        }
        #expect(try trace.replay(on: ToyBackend(name: "other"), ReplayOptions(allowsOtherBackend: true)).isClean)
        let other = ToyBackend()
        other.cpuidTable[0].registers.eax = 2
        #expect(
            throws: ReplayError.cpuidMismatch(
                leaf: 0, subleaf: 0, recorded: CPUIDRegisters(eax: 1), replaying: CPUIDRegisters(eax: 2))
        ) { try trace.replay(on: other) }
    }

    @Test func `a step that is not there is refused`() throws {
        let trace = try RecordedTrace(steps: 5)
        #expect(throws: ReplayError.noSuchStep(5)) { try trace.replay(ReplayOptions(from: 5)) }
        #expect(throws: ReplayError.noSuchStep(3)) { try trace.replay(ReplayOptions(from: 3, to: 3)) }
    }

    @Test func `more memory than the limit is refused`() throws {
        let trace = try RecordedTrace(steps: 5)
        #expect(throws: ReplayError.tooMuchMemory(byteCount: 0x10000, limit: 0xFFFF)) {
            try trace.replay(ReplayOptions(memoryBytesMax: 0xFFFF))
        }
    }
}
