// Two recordings of a client, the second answered from the first.

import Analysis
import Foundation
import NVMM
import SystemPackage
import Testing
import TraceFile

@Suite struct ClientComparisonTests {
    private static let out = ExitReason.io(
        IOExit(
            isInput: false, port: 0x80, addressBytes: 0, operandBytes: 1, isRepeated: false, isString: false, npc: 0))

    private func step(_ reason: ExitReason = out, event: UInt8? = nil, rax: UInt64? = nil) -> TraceEvent {
        var committed = VCPUState()
        committed[.rax] = rax ?? 0
        return .step(
            Step(
                vcpu: 0, kind: .entered, commit: rax == nil ? [] : .gprs, committed: committed,
                event: event.map { VCPUEvent(kind: .interrupt, vector: $0) }, exit: VCPUExit(reason: reason),
                cached: [],
                retired: nil, clock: 0, state: VCPUState()))
    }

    private func answer(_ byte: UInt8) -> TraceEvent {
        .machine(.completion(Completion(vcpu: 0, kind: .portRead, address: 0x60, elementBytes: 1, bytes: [byte])))
    }

    private func write(_ byte: UInt8, at offset: Int = 0) -> TraceEvent {
        .memoryWrite(MemoryWrite(object: 0, offset: offset, bytes: [byte]))
    }

    private func compare(_ recorded: [TraceEvent], _ actual: [TraceEvent]) throws -> ClientComparison {
        let folder = FileManager.default.temporaryDirectory.appending(path: "client-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func trace(_ events: [TraceEvent], _ name: String) throws -> TraceReader {
            let path = FilePath(folder.appending(path: name).path)
            let header = TraceHeader(
                tool: "test", backendName: TraceHeader.kvm, capability: Capability(countsInstructions: false),
                processorModel: TraceHeader.hostProcessor, cpuidTable: [], level: .client)
            let writer = try TraceWriter(.file(path), header: header)
            let map: [TraceEvent] = [
                .machine(.createVCPU(id: 0)), .machine(.hvaMap(object: 0, byteCount: 4096)),
            ]
            for event in map + events { try writer.append(event) }
            _ = try writer.finish()
            return try TraceReader(path: path)
        }
        return try ClientComparison(try trace(recorded, "a"), try trace(actual, "b"))
    }

    @Test func `a client that did the same is identical, however often it was interrupted`() throws {
        let recorded = [step(), answer(1), step(event: 8, rax: 5), write(7), step(.halted)]
        let interrupted = [
            step(), answer(1), step(ExitReason.none, rax: 5), step(event: 8), step(ExitReason.none), write(7),
            step(.halted),
        ]
        #expect(try compare(recorded, recorded).isIdentical)
        let comparison = try compare(recorded, interrupted)
        #expect(comparison.isIdentical)
        #expect(comparison.exitCount == 3)
        #expect(comparison.waitCount == 2)
    }

    @Test func `each kind of difference is told apart`() throws {
        let recorded = [step(), answer(1), step(event: 8, rax: 5), write(7), step(.halted)]
        func kinds(_ actual: [TraceEvent]) throws -> [ClientComparison.Kind] {
            try compare(recorded, actual).first.map(\.kind)
        }
        #expect(try kinds([step(), answer(2), step(event: 8, rax: 5), write(7), step(.halted)]) == [.answers])
        #expect(try kinds([step(), answer(1), step(event: 9, rax: 5), write(7), step(.halted)]) == [.events])
        #expect(try kinds([step(), answer(1), step(event: 8, rax: 6), write(7), step(.halted)]) == [.commits])
        #expect(try kinds([step(), answer(1), step(event: 8), write(7), step(.halted)]) == [.commits])
        #expect(try kinds([step(), answer(1), step(event: 8, rax: 5), write(6), step(.halted)]) == [.memory])
        #expect(try kinds([step(), answer(1), step(event: 8, rax: 5), step(.halted)]) == [.memory])
        #expect(try kinds([step(), answer(1), step(event: 8, rax: 5), write(7), step(.shutdown)]) == [.exits])
        let unmapped = TraceEvent.machine(.hvaUnmap(object: 0))
        #expect(
            try kinds([step(), answer(1), step(event: 8, rax: 5), write(7), unmapped, step(.halted)]) == [.machine])
    }

    @Test func `writes that come later are counted, not called different`() throws {
        let late = try compare([step(), write(7), step(), step(), step()], [step(), step(), step(), write(7), step()])
        #expect(late.isIdentical)
        #expect(late.movedWriteCount == 1)
        let never = try compare([step(), write(7), step(), step()], [step(), step(), write(8), step()])
        #expect(never.first.map(\.kind) == [.memory])
        #expect(never.first.first?.step == 1)
    }

    @Test func `an end that comes too early, and one that does not come`() throws {
        let recorded = [step(), step(), step(.halted)]
        #expect(try compare(recorded, [step()]).missingCount == 2)
        #expect(try !compare(recorded, [step()]).isIdentical)
        let more = try compare(recorded, recorded + [step(ExitReason.none)])
        #expect(more.extraCount == 1)
        #expect(!more.isIdentical)
    }

    @Test func `devices that answer otherwise are counted by port`() throws {
        let comparison = try compare(
            [step(), answer(1), step(), answer(2), step()], [step(), answer(3), step(), answer(4), step()])
        #expect(comparison.counts == [.answers: 2])
        #expect(comparison.differingDevices.map(\.count) == [2])
        #expect(comparison.differingDevices.first?.name.contains("60") == true)
    }
}
