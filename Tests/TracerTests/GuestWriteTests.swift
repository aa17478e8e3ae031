import NVMM
import TestSupport
import Testing
import TraceFile
import Tracer

/// Level `client`: guest memory can be followed with no processor.
@Suite struct GuestWriteTests {
    @Test func `level client holds what the guest wrote after each step`() throws {
        let trace = TemporaryTrace()
        var contents: [[UInt8]] = []
        func content(_ client: ToyClient) -> [UInt8] {
            client.memory.withBytes(0..<client.memory.byteCount) { bytes in
                unsafe bytes.withUnsafeBytes { unsafe Array($0) }
            }
        }
        _ = try trace.record(RecorderOptions(level: .client, keyframeEverySteps: 7)) { client in
            client.budgets = [nil, 2]
            client.beforeRun = { client in
                // In the page that the guest writes too: the client's bytes are not the guest's.
                if client.exitNames.count % 5 == 4 { try client.write([0xAA, 0xBB], at: ToyClient.dataAddress + 64) }
                contents.append(content(client))
            }
            try client.run(40)
            contents.append(content(client))
        }
        // Following the trace alone gives the same memory before each run.
        var memory: [UInt8] = []
        var step = 0
        var guestBytes = 0
        var isBehindStep = false
        for event in try trace.read().events {
            switch event {
            case .machine(.hvaMap(_, let byteCount)): memory = [UInt8](repeating: 0, count: byteCount)
            case .memoryWrite(let write):
                memory.replaceSubrange(write.offset..<write.offset + write.bytes.count, with: write.bytes)
                isBehindStep = false
            case .guestWrite(let write):
                #expect(isBehindStep, "the guest's writes follow their step")
                memory.replaceSubrange(write.offset..<write.offset + write.bytes.count, with: write.bytes)
                guestBytes += write.bytes.count
            case .step:
                #expect(memory == contents[step], "before step \(step)")
                step += 1
                isBehindStep = true
            case .machine, .call, .keyframe, .loss: isBehindStep = false
            }
        }
        #expect(step == 40)
        #expect(memory == contents[40])
        #expect(guestBytes > 0)
        #expect(guestBytes < 40 * 64)
    }

    @Test func `level replay holds none`() throws {
        let trace = TemporaryTrace()
        _ = try trace.record { try $0.run(10) }
        #expect(try trace.read().events.allSatisfy { if case .guestWrite = $0 { false } else { true } })
    }
}
