import CRing
import Foundation
import NVMM
import SystemPackage
import TestSupport
import Testing
import TraceFile
@testable import Tracer

/// A small ring and the trace beside it, for the length of a test.
private final class RingFile {
    let trace = TemporaryTrace()
    var path: String { trace.url.path + ".open.ring" }
    let ring: RecordRing

    init(laneCount: UInt32 = 1, laneBytes: UInt64 = 16384) throws {
        ring = try RecordRing(
            creating: trace.url.path + ".open.ring", level: .replay, laneCount: laneCount, laneBytes: laneBytes)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes records as a client does, through a mapping of its own.
    func write(_ file: RawFile, _ numbers: Range<Int>, lane: (Int) -> UInt32 = { _ in 0 }) throws {
        var status = stat()
        let descriptor = unsafe open(path, O_RDWR)
        defer { close(descriptor) }
        let hasStatus = unsafe fstat(descriptor, &status) == 0
        try #require(hasStatus)
        let memory = unsafe mmap(nil, Int(status.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        defer { unsafe munmap(memory, Int(status.st_size)) }
        var writer = unsafe ring_writer()
        let isOpen = unsafe ring_writer_open(&writer, memory, UInt64(status.st_size))
        try #require(isOpen)
        for number in numbers {
            let start = file.starts[number]
            let kind = UInt16(file.bytes[start + 4]) | UInt16(file.bytes[start + 5]) << 8
            let count = Int(file.bytes[start + 36]) | Int(file.bytes[start + 37]) << 8
            let isWritten = unsafe file.bytes.withUnsafeBytes { bytes in
                var record = ring_record()
                let payload = unsafe bytes.baseAddress.map { unsafe $0 + start + 40 }
                var part = unsafe ring_part(bytes: payload, count: UInt32(count))
                return unsafe ring_write(&writer, lane(number), kind, &record, &part, 1)
            }
            #expect(isWritten, "record \(number)")
        }
    }
}

@Suite struct RecordRingTests {
    private func told() throws -> RawFile {
        try RawFile.told(RecorderOptions(level: .exits)) { client in
            client.budgets = [nil, 3]
            try client.run(8)
        }
    }

    @Test func `a ring that is drained as it is written gives the trace of a file of records`() throws {
        let told = try told()
        let raw = TemporaryTrace()
        try Data(told.bytes).write(to: raw.url)
        let expected = TemporaryTrace()
        _ = try importRecords(path: raw.path, to: .file(expected.path))
        let file = try RingFile(laneCount: 3, laneBytes: 16384)
        let drain = RingDrain(file.ring, to: .file(file.trace.path))
        // In lanes by turns; more than fits at once.
        for first in stride(from: 0, to: told.starts.count, by: 10) {
            try file.write(told, first..<min(first + 10, told.starts.count)) { UInt32($0 % 3) }
            #expect(try drain.step())
        }
        #expect(try !drain.step())
        let result = try drain.finish()
        #expect(result.isClosed && result.isTold)
        #expect(try file.trace.bytes == expected.bytes)
    }

    @Test func `what a killed drainer left completes its trace, wherever it was killed`() throws {
        let told = try told()
        let whole = TemporaryTrace()
        try Data(told.bytes).write(to: whole.url)
        let expected = TemporaryTrace()
        _ = try importRecords(path: whole.path, to: .file(expected.path))
        let events = try expected.read().events.filter { if case .keyframe = $0 { false } else { true } }
        for drained in stride(from: 3, to: told.starts.count, by: 17) {
            let file = try RingFile(laneBytes: 65536)
            do {
                // Goes away unfinished, as a killed one: its trace is incomplete, journals beside it.
                let drain = RingDrain(file.ring, to: .file(file.trace.path))
                try file.write(told, 0..<drained)
                _ = try drain.step()
                try file.write(told, drained..<told.starts.count)
            }
            let leftover = try leftoverEvents(ring: FilePath(file.path), of: file.trace.path)
            let repaired = TemporaryTrace()
            let report = try repairTrace(path: file.trace.path, to: .file(repaired.path), appending: leftover)
            #expect(report.isLossless)
            let read = try repaired.read().events.filter { if case .keyframe = $0 { false } else { true } }
            #expect(read == events, "\(drained) of \(told.starts.count) drained")
            for journal in journals(beside: file.trace.path) {
                try FileManager.default.removeItem(atPath: journal.string)
            }
        }
    }

    @Test func `what a killed drainer had read before its trace had a header is in the ring still`() throws {
        let told = try told()
        let file = try RingFile(laneBytes: 65536)
        do {
            let drain = RingDrain(file.ring, to: .file(file.trace.path))
            try file.write(told, 0..<1)
            #expect(try drain.step())
            #expect(try !drain.step())
            #expect(!drain.hasTrace)
            try file.write(told, 1..<told.starts.count)
        }
        var sequences: [UInt64] = []
        let left = try RecordRing(leftAt: file.path)
        try left.drainRest(eventCount: { 0 }, missing: { _ in }) { sequences.append($0.sequence) }
        #expect(sequences == Array(0..<UInt64(told.starts.count)))
        _ = try importLeftover(ring: FilePath(file.path), to: .file(file.trace.path))
        #expect(try !file.trace.read().events.isEmpty)
    }

    @Test func `a ring whose trace gets no header goes on taking records`() throws {
        let told = try told()
        let file = try RingFile(laneBytes: 16384)
        let drain = RingDrain(file.ring, to: .file(file.trace.path))
        // More than the lane has room for, and nothing that could begin a trace.
        for _ in 0..<1000 {
            try file.write(told, 0..<1)
            #expect(try drain.step())
        }
        #expect(!drain.hasTrace)
    }

    private func read(_ path: String) throws(ImportError) {
        let importer = RecordImporter { _ in EventCounter() }
        try RecordRing(leftAt: path).drainRest(
            eventCount: { importer.eventCount },
            missing: { (count) throws(ImportError) in try importer.noteLoss(count, "") }, importer.take)
    }

    @Test func `any flipped byte of a ring gives a reading or a typed error`() throws {
        let told = try told()
        let file = try RingFile()
        let count = told.starts.filter { $0 < 12000 }.count
        try file.write(told, 0..<count)
        let good = Array(try Data(contentsOf: URL(filePath: file.path)))
        let damaged = TemporaryTrace()
        var (readings, errors) = (0, 0)
        // The control page's fields, the lane's, and its records.
        for place in Array(0..<256) + Array(4096..<4352) + Array(8192..<20480) {
            var bytes = good
            bytes[place] ^= place % 2 == 0 ? 0xFF : 0x01
            try Data(bytes).write(to: damaged.url)
            do throws(ImportError) {
                try read(damaged.url.path)
                readings += 1
            } catch {
                errors += 1
            }
        }
        #expect(readings > 100 && errors > 100, "\(readings) \(errors)")
    }
}
