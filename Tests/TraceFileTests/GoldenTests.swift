// Traces of released versions stay readable: each file of Samples/corpus/reads is read for ever.
//
// A new version of the format adds files; those that are there are never written again. To make one:
// VMTRACE_GOLDEN=FOLDER swift test --filter GoldenTests

import Glibc
import NVMM
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

@Suite struct GoldenTests {
    static let corpus = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()
        .appending("Samples").appending("corpus").appending("reads")

    /// What `tiny-v1.vmtrace` holds: one of most things. Docs/trace-format.md shows its bytes.
    static func tinyEvents(page: PageHash) -> [TraceEvent] {
        var state = VCPUState.reset
        state[.rip] = 0x7C00
        state[.rax] = 0x2A
        state[.tsc] = 12
        let out = Step(
            vcpu: 0, kind: .entered, budget: 1000, commit: [], event: nil,
            exit: VCPUExit(
                reason: .io(IOExit(isInput: false, port: 0x402, addressBytes: 2, operandBytes: 1, npc: 0x7C02)),
                state: ExitState(rflags: 2, cr8: 0)),
            cached: [.gprs, .segments, .crs, .msrs], retired: 12, clock: 12, state: state)
        var halted = out
        halted.budget = 988
        halted.commit = .gprs
        state[.rip] = 0x7C02
        halted.committed.copy(.gprs, from: state)
        state[.rip] = 0x7C03
        state[.tsc] = 113
        halted.state = state
        halted.exit.reason = .halted
        halted.cached = []
        halted.retired = 1
        halted.clock = 113
        return [
            .machine(.createVCPU(id: 0)), .machine(.hvaMap(object: 0, byteCount: 8192)),
            .machine(
                .gpaMap(GPARange(object: 0, offset: 0, gpa: GPA(0x7000), byteCount: 8192, protection: .all))),
            .memoryWrite(MemoryWrite(object: 0, offset: 0xC00, bytes: [0xE6, 0x2A, 0xF4])),
            .step(out),
            .call(CallRecord(vcpu: 0, kind: .setState, flags: .gprs, cost: .commPage)),
            .machine(.advanceClock(ticks: 100)),
            .step(halted),
            .keyframe(
                Keyframe(
                    stepCount: 2, clock: 113, machinePrivateState: [1],
                    vcpus: [
                        Keyframe.VCPUImage(
                            id: 0, state: state, privateState: [2, 3], cached: .all, commit: [], pageState: state,
                            eventCommit: false, event: VCPUEvent(kind: .exception, vector: 0), stop: false)
                    ],
                    objects: [.init(object: 0, byteCount: 8192, pages: [.init(page: 0, content: page)])],
                    gpaRanges: [
                        GPARange(object: 0, offset: 0, gpa: GPA(0x7000), byteCount: 8192, protection: .all)
                    ])),
        ]
    }

    static func tinyPage() -> [UInt8] {
        var page = [UInt8](repeating: 0, count: 4096)
        page.replaceSubrange(0xC00..<0xC03, with: [0xE6, 0x2A, 0xF4])
        return page
    }

    static func writeTiny(_ path: FilePath) throws {
        let header = TraceHeader(
            tool: "exit-tracer 0.1", backendName: "soft", capability: Capability(countsInstructions: true),
            processorModel: "base-v1", cpuidTable: [], level: .replay)
        let writer = try TraceWriter(.file(path), header: header)
        let page = try unsafe writer.storePage(tinyPage().span.bytes)
        for event in tinyEvents(page: page) { try writer.append(event) }
        _ = try writer.finish()
    }

    static func writeMixed(_ path: FilePath) throws -> [TraceEvent] {
        var options = TraceWriterOptions()
        options.stepsPerBlock = 20
        options.keyframesPerFullKeyframe = 2
        return try writeRandomTrace(
            path, seed: 1, vcpus: 2, count: 100, options: options, keyframeEvery: 30, pageCount: 4)
    }

    @Test func `the first version's traces are read as they were written`() throws {
        if let folder = unsafe getenv("VMTRACE_GOLDEN") {
            let target = FilePath(unsafe String(cString: folder))
            try Self.writeTiny(target.appending("tiny-v1.vmtrace"))
            _ = try Self.writeMixed(target.appending("mixed-v1.vmtrace"))
        }
        let tiny = try TraceReader(path: Self.corpus.appending("tiny-v1.vmtrace"))
        let page = unsafe PageHash(content: Self.tinyPage().span.bytes)
        expectEqual(try allEvents(tiny), Self.tinyEvents(page: page))
        #expect(try tiny.page(page) == Self.tinyPage())

        let folder = TemporaryFolder()
        let mixed = Self.corpus.appending("mixed-v1.vmtrace")
        expectEqual(
            try allEvents(try TraceReader(path: mixed)), try Self.writeMixed(folder.file("mixed.vmtrace")))
        for file in [Self.corpus.appending("tiny-v1.vmtrace"), mixed] {
            let report = try verifyTrace(path: file)
            #expect(report.isIntact && report.isComplete)
        }
    }
}
