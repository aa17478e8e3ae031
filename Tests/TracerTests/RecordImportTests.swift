import Foundation
import NVMM
import SystemPackage
import TestSupport
import Testing
import TraceFile
@testable import Tracer

/// A file of records and the trace made of it, for the length of a test.
private final class Imported {
    let raw = FileManager.default.temporaryDirectory.appending(path: "raw-\(UUID().uuidString)")
    let trace = TemporaryTrace()

    deinit { try? FileManager.default.removeItem(at: raw) }

    func report(_ bytes: [UInt8]) throws -> ImportReport {
        try Data(bytes).write(to: raw)
        return try importRecords(path: FilePath(raw.path), to: .file(trace.path))
    }
}

/// Takes events and keeps none: thousands of traces would need as many files.
final class EventCounter: TraceSink {
    private(set) var stepCount: UInt64 = 0
    func append(_ event: TraceEvent) { if case .step = event { stepCount += 1 } }
    func appendStep(_ step: borrowing Step) { stepCount += 1 }
    func appendCall(_ call: CallRecord) {}
    func appendMemoryWrite(object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool) {}
    func storePage(_ content: RawSpan, object: UInt32, page: Int) -> PageHash { PageHash(content: content) }
    func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {}
    func finish() -> TraceTotals { TraceTotals() }
}

@Suite struct RecordImportTests {
    private func client(_ client: ToyClient) throws {
        client.budgets = [nil, 3]
        client.beforeRun = { client in
            if client.exitNames.count % 5 == 0 { try client.write([1, 2, 3], at: 0x5000) }
        }
        try client.run(40)
    }

    @Test func `what a library tells makes the bytes that it would have written itself`() throws {
        let options = RecorderOptions(keyframeEverySteps: 10)
        let direct = TemporaryTrace()
        let result = try direct.record(options, client)
        let imported = Imported()
        let report = try imported.report(try RawFile.told(options, by: client).bytes)
        #expect(report.damage == nil)
        #expect(report.cutOffBytes == 0)
        #expect(report.result.isClosed && report.result.isTold)
        #expect(report.result.grade == result.grade)
        #expect(try imported.trace.bytes == direct.bytes)
        #expect(try imported.trace.read().events.keyframes.count == 5)
    }

    @Test func `records come out of a file in the order of their numbers`() throws {
        let told = try RawFile.told(by: client)
        var shuffled = Array(told.bytes[..<told.starts[1]])
        // Neighbours change places, as two threads may append them; the first stays: it begins the process.
        for pair in stride(from: 1, to: told.starts.count, by: 2) {
            let ends = Array(told.starts[pair...].dropFirst().prefix(2)) + [told.bytes.count, told.bytes.count]
            let (middle, end) = (ends[0], pair + 1 < told.starts.count ? ends[1] : ends[0])
            shuffled += told.bytes[middle..<end] + told.bytes[told.starts[pair]..<middle]
        }
        let (plain, mixed) = (Imported(), Imported())
        _ = try plain.report(told.bytes)
        #expect(try mixed.report(shuffled).damage == nil)
        #expect(try plain.trace.bytes == mixed.trace.bytes)
    }

    @Test func `a lost record is a loss, and the states after it are right`() throws {
        // The 70th is in the middle of the runs.
        let direct = TemporaryTrace()
        try direct.record(RecorderOptions(), client)
        let imported = Imported()
        let report = try imported.report(try RawFile.told(losing: { $0 == 300 }, by: client).bytes)
        #expect(report.damage == nil)
        let (whole, rest) = (try direct.read().events, try imported.trace.read().events)
        // One event is missing; all others are as they were.
        #expect(rest.count == whole.count - 1)
        var place = 0
        var missing = 0
        for event in whole {
            if place < rest.count, same(rest[place], event) { place += 1 } else { missing += 1 }
        }
        #expect(missing == 1)
    }

    /// A keyframe counts the steps that are there.
    private func same(_ left: TraceEvent, _ right: TraceEvent) -> Bool {
        guard case .keyframe(var first) = left, case .keyframe(let second) = right else { return left == right }
        first.stepCount = second.stepCount
        return first == second
    }

    @Test func `a second process is not mixed into the trace of the first`() throws {
        var told = try RawFile.told(by: client)
        let single = Imported()
        _ = try single.report(told.bytes)
        let second = try RawFile.told(by: client)
        told.bytes += second.bytes[32...]
        let both = Imported()
        let report = try both.report(told.bytes)
        #expect(report.result.grade.reasons == [TraceGrade.Reason.secondMachine])
        #expect(try both.trace.bytes == single.trace.bytes)
    }

    @Test func `a file cut anywhere gives what stands before`() throws {
        let told = try RawFile.told(by: client)
        let whole = Imported()
        _ = try whole.report(told.bytes)
        let events = try whole.trace.read().events
        for end in stride(from: 0, to: told.bytes.count, by: 997) {
            let imported = Imported()
            guard let report = try? imported.report(Array(told.bytes[..<end])), report.result.totals != nil else {
                continue
            }
            let records = told.starts.filter { $0 < end }
            #expect(report.damage == nil)
            let isWhole = told.starts.contains(end)
            #expect(report.cutOffBytes == (isWhole ? 0 : UInt64(end - (records.last ?? 0))))
            let read = try imported.trace.read().events
            #expect(zip(read, events).allSatisfy { $0 == $1 }, "cut at \(end)")
        }
    }

    /// A seventh of the bytes: most of this file is alike.
    @Test func `any flipped byte gives a reading or a typed error`() throws {
        let told = try RawFile.told(by: { try $0.run(6) }).bytes
        try flip(told, every: 7)
    }

    @Test func `any flipped byte of what a shim saw gives a reading or a typed error`() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let seen = Array(try Data(contentsOf: root.appending(path: "Interposer/seen.raw")))
        let imported = Imported()
        let report = try imported.report(seen)
        #expect(report.damage == nil && !report.result.isTold)
        #expect(report.result.totals?.stepCount == 11)
        try flip(seen, every: 1)
    }

    @Test func `any flipped byte of what a shim saw of /dev/kvm gives a reading or a typed error`() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let seen = Array(try Data(contentsOf: root.appending(path: "Interposer/kvm.raw")))
        let report = try Imported().report(seen)
        #expect(report.damage == nil && !report.result.isTold)
        #expect(report.result.totals?.stepCount == 15)
        try flip(seen, every: 5)
    }

    private func flip(_ good: [UInt8], every stride: Int) throws {
        let imported = Imported()
        var (readings, damages, errors) = (0, 0, 0)
        for place in Swift.stride(from: 0, to: good.count, by: stride) {
            var bytes = good
            bytes[place] ^= place % 3 == 0 ? 0xFF : place % 3 == 1 ? 0x01 : 0x80
            do {
                try Data(bytes).write(to: imported.raw)
                let report = try importRecords(
                    path: FilePath(imported.raw.path), with: RecordImporter { _ in EventCounter() })
                if report.damage == nil { readings += 1 } else { damages += 1 }
            } catch is ImportError {
                errors += 1
            }
        }
        // Each of the three happens, so that the test tests something.
        #expect(readings > 100 && damages > 100 && errors > 10, "\(readings) \(damages) \(errors)")
    }
}
