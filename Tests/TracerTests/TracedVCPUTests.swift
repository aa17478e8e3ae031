import NVMM
import TestSupport
import Testing
import TraceFile
import Tracer

@Suite struct TracedVCPUTests {
    @Test func `a traced client sees what an untraced one does`() throws {
        let plain = try ToyClient(on: ToyBackend())
        plain.budgets = [nil, 4, nil, 0]
        try plain.run(60)

        let trace = TemporaryTrace()
        let recorder = try Recorder(.file(trace.path), of: ToyBackend())
        let traced = try ToyClient(on: recorder.backend)
        traced.budgets = [nil, 4, nil, 0]
        try traced.run(60)

        #expect(traced.exitNames == plain.exitNames)
        #expect(traced.output == plain.output)
        #expect(traced.vcpu.saveState() == plain.vcpu.saveState())
        #expect(traced.machine.clock == plain.machine.clock)
        let whole = 0..<plain.memory.byteCount
        let bytes = { (client: ToyClient) in client.memory.withBytes(whole) { span in span.byteCount } }
        #expect(bytes(traced) == bytes(plain))
        #expect(traced.machine.takeDirtyPages(of: traced.memory) == plain.machine.takeDirtyPages(of: plain.memory))
        #expect(traced.vcpu.commPage.stateCached == plain.vcpu.commPage.stateCached)
        try recorder.finish()
    }

    @Test func `a step holds what the run consumed and where it ended`() throws {
        let trace = TemporaryTrace()
        try trace.record { try $0.run(9) }
        let steps = try trace.read().events.steps
        #expect(steps.count == 9)
        #expect(steps[0].commit == [.gprs, .segments, .crs])
        #expect(steps[0].committed[.rip] == 0x1000)
        #expect(steps[0].event == nil)
        #expect(
            steps[0].exit.reason
                == .io(IOExit(isInput: false, port: 0x19, addressBytes: 4, operandBytes: 1, npc: 0x1013)))
        #expect(steps[0].state[.rip] == 0x1011)
        #expect(steps[0].state[.rax] == 8)
        #expect(steps[0].retired == 4)
        #expect(steps[0].clock == 4)
        #expect(steps[0].cached == [.gprs, .segments, .crs, .msrs])
        #expect(steps[0].coverage == .all)
        // IN, answered with 0x31: committed at the run after it.
        #expect(steps[2].commit == .gprs)
        #expect(steps[2].committed[.rax] == 0x31)
        // The seventh exit is HLT; the eighth run delivers the interrupt.
        #expect(steps[6].exit.reason == .halted)
        #expect(steps[6].event == nil)
        #expect(steps[7].event == VCPUEvent(kind: .interrupt, vector: 0x20))
        #expect(steps[7].commit == [])
        #expect(steps[7].clock == steps[6].clock + 100 + steps[7].retired!)
    }

    @Test func `setstate snapshots nothing: what the page holds at the run counts`() throws {
        let trace = TemporaryTrace()
        try trace.record { client in
            client.vcpu.commPage.state[.rbx] = 1
            client.vcpu.setState(.gprs)
            client.vcpu.commPage.state[.rbx] = 2
            try client.run(1)
        }
        let step = try #require(try trace.read().events.steps.first)
        #expect(step.committed[.rbx] == 2)
        #expect(step.state[.rbx] == 2)
    }

    @Test func `a run that returned early consumed nothing`() throws {
        let trace = TemporaryTrace()
        try trace.record { client in
            client.vcpu.stop()
            client.vcpu.stop()
            try client.run(2)
        }
        let events = try trace.read().events
        #expect(events.steps[0].kind == .returnedEarly)
        #expect(events.steps[0].exit.reason == .stopped)
        #expect(events.steps[0].commit == [])
        #expect(events.steps[1].kind == .entered)
        #expect(events.steps[1].commit == [.gprs, .segments, .crs])
        #expect(events.calls.filter { $0.kind == .stop }.count == 2)
    }

    @Test func `a bad event fails as before, and is in the trace`() throws {
        let trace = TemporaryTrace()
        let bad = VCPUEvent(kind: .exception, vector: 3)
        try trace.record { client in
            try client.run(1)
            client.vcpu.commPage.event = bad
            client.vcpu.inject()
            #expect(throws: VCPUError.badEvent(bad)) { try client.run(1) }
            try client.run(1)
        }
        let steps = try trace.read().events.steps
        #expect(steps.map(\.failed) == [false, true, false])
        #expect(steps[1].event == bad)
        #expect(steps[1].exit == steps[0].exit)
        #expect(steps[1].commit == .gprs)
        #expect(steps[1].state[.rip] == 0x1013)
        #expect(steps[2].event == nil)
    }

    @Test func `calls carry their flags and what they cost`() throws {
        let trace = TemporaryTrace()
        try trace.record { client in
            try client.run(1)
            #expect(try client.vcpu.getState(.gprs) == .commPage)
            #expect(try client.vcpu.getState([.gprs, .fpu]) == .systemCall)
            client.vcpu.commPage.stateWanted = .drs
            try client.vcpu.fetchWantedState()
        }
        let calls = try trace.read().events.calls
        #expect(
            calls.suffix(3) == [
                CallRecord(vcpu: 0, kind: .getState, flags: .gprs, cost: .commPage),
                CallRecord(vcpu: 0, kind: .getState, flags: [.gprs, .fpu], cost: .systemCall),
                CallRecord(vcpu: 0, kind: .getState, flags: .drs, cost: .systemCall),
            ])
        #expect(calls.first == CallRecord(vcpu: 0, kind: .setState, flags: [.gprs, .segments, .crs], cost: .commPage))
    }

    @Test func `host time is recorded only when asked for`() throws {
        let trace = TemporaryTrace()
        try trace.record(RecorderOptions(recordsTime: true)) { try $0.run(3) }
        let (events, reader) = try trace.read()
        #expect(reader.header.recordsTime)
        #expect(events.steps.allSatisfy { $0.time != nil })
        try trace.record { try $0.run(3) }
        #expect(try trace.read().events.steps.allSatisfy { $0.time == nil })
    }
}
