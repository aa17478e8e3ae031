// Traces that were cut, flipped or torn: what is detected, what is saved.

import NVMM
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

/// A small trace of everything: two VCPUs, keyframes, pages.
func smallTrace(_ path: FilePath, seed: UInt64 = 3) throws -> [TraceEvent] {
    var options = TraceWriterOptions()
    options.stepsPerBlock = 8
    options.keyframesPerFullKeyframe = 2
    return try writeRandomTrace(path, seed: seed, vcpus: 2, count: 16, options: options, keyframeEvery: 8, pageCount: 3)
}

func steps(_ events: [TraceEvent]) -> [Step] {
    events.compactMap { if case .step(let step) = $0 { step } else { nil } }
}

/// Events of a damaged trace: errors are passed over, as a cursor allows.
func readableEvents(_ reader: TraceReader) throws -> (events: [TraceEvent], errors: [TraceError]) {
    let cursor = try reader.cursor()
    var events: [TraceEvent] = []
    var errors: [TraceError] = []
    while true {
        do {
            guard let event = try cursor.next() else { return (events, errors) }
            events.append(event)
        } catch let error {
            errors.append(error)
            try #require(errors.count < 10_000)
        }
    }
}

@Suite struct DamageTests {
    @Test func `a sound trace is intact, and repairing it copies it`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("sound.vmtrace")
        let events = try smallTrace(path)
        let report = try verifyTrace(path: path)
        #expect(report.isIntact, "\(report.problems)")
        #expect(report.isComplete)
        #expect(report.stepCount == UInt64(steps(events).count))
        let repaired = try repairTrace(path: path, output: folder.file("copy.vmtrace"))
        #expect(repaired.isLossless && !repaired.endIsUncertain)
        #expect(try contents(path) == contents(folder.file("copy.vmtrace")))
    }

    @Test func `every flipped bit is detected`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("flip.vmtrace")
        let events = try smallTrace(path)
        let good = try contents(path)
        var undetected: [Int] = []
        for bit in 0..<good.count * 8 {
            var bytes = good
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            try store(bytes, path)
            // A refusal is a detection too.
            guard let report = try? verifyTrace(path: path, limits: .tight) else { continue }
            if report.isIntact { undetected.append(bit) }
            // Whatever is still read is what was written.
            #expect(report.stepCount <= UInt64(steps(events).count))
        }
        #expect(undetected.isEmpty, "bits \(undetected.prefix(10)) of \(good.count * 8)")
    }

    @Test func `a trace cut anywhere keeps its complete frames`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("cut.vmtrace")
        let output = folder.file("repaired.vmtrace")
        let events = try smallTrace(path)
        let good = try contents(path)
        let whole = try TraceReader(path: path)
        let entries = try whole.loadIndex()
        for length in 0..<good.count {
            try store(Array(good[0..<length]), path)
            do {
                let report = try repairTrace(path: path, output: output)
                // Every step whose frame ends before the cut.
                let expected = entries.filter { $0.end <= UInt64(length) }.reduce(0) {
                    $0 + ($1.summary?.stepCount ?? 0)
                }
                #expect(report.stepsRecovered == UInt64(expected), "cut at \(length)")
                let reader = try TraceReader(path: output)
                #expect(reader.isComplete)
                let saved = try readableEvents(reader)
                #expect(steps(saved.events).count == expected)
                if saved.errors.isEmpty { expectEqual(saved.events, Array(events.prefix(saved.events.count))) }
            } catch RepairError.read(let error) {
                #expect(UInt64(length) < whole.startBytes, "cut at \(length): \(error)")
            }
        }
    }

    @Test func `a damaged frame costs itself alone`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("hole.vmtrace")
        var options = TraceWriterOptions()
        options.stepsPerBlock = 10
        let events = try writeRandomTrace(path, seed: 8, vcpus: 1, count: 200, options: options)
        let entries = try TraceReader(path: path).loadIndex()
        let victim = entries[4]
        var bytes = try contents(path)
        bytes[Int(victim.offset) + 60] ^= 0x10
        try store(bytes, path)

        let first = victim.firstStep
        let next = first + UInt64(victim.summary?.stepCount ?? 0)
        let saved = try readableEvents(try TraceReader(path: path))
        #expect(
            saved.errors == [
                .damagedPayload(offset: victim.offset, type: 2, firstStep: first, vcpu: 0),
                .missingSteps(first: first, next: next),
            ])
        let all = steps(events)
        #expect(steps(saved.events) == Array(all[..<Int(first)] + all[Int(next)...]))

        let report = try repairTrace(path: path, output: folder.file("out.vmtrace"))
        #expect(report.stepsLost == [first..<next])
        #expect(report.stepsRecovered == UInt64(all.count) - (next - first))
        #expect(!report.isLossless && !report.endIsUncertain)
        let after = try readableEvents(try TraceReader(path: folder.file("out.vmtrace")))
        #expect(steps(after.events) == steps(saved.events))
    }

    @Test func `a damaged header is passed over to the next good frame`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("header.vmtrace")
        var options = TraceWriterOptions()
        options.stepsPerBlock = 10
        _ = try writeRandomTrace(path, seed: 8, vcpus: 1, count: 200, options: options)
        let entries = try TraceReader(path: path).loadIndex()
        let victim = entries[2]
        var bytes = try contents(path)
        bytes[Int(victim.offset) + 9] ^= 1
        try store(bytes, path)
        let report = try repairTrace(path: path, output: folder.file("out.vmtrace"))
        #expect(report.bytesLost == [victim.offset..<victim.end])
        #expect(report.stepsLost == [victim.firstStep..<entries[3].firstStep])
    }

    @Test func `without its trailer a trace is incomplete but whole`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("untrailed.vmtrace")
        let events = try smallTrace(path)
        var bytes = try contents(path)
        let trailer = try TraceReader(path: path).trailerOffset
        bytes.removeLast(bytes.count - Int(trailer))
        try store(bytes, path)
        let reader = try TraceReader(path: path)
        #expect(!reader.isComplete)
        expectEqual(try allEvents(reader), events)
        #expect(reader.keyframes.count == 2)
        #expect(reader.totals.stepCount == UInt64(steps(events).count))
    }

    @Test func `bytes after the trailer are told`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("tail.vmtrace")
        _ = try smallTrace(path)
        try store(try contents(path) + [0], path)
        #expect(!(try verifyTrace(path: path).isIntact))
    }

    @Test func `what is no trace is refused`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("other")
        #expect(throws: TraceError.io(call: "open", errno: 2)) { try TraceReader(path: path) }
        #expect(throws: TraceError.io(call: "fstat", errno: 21)) { try TraceReader(path: folder.path) }
        try store([], path)
        #expect(throws: TraceError.tooShort(byteCount: 0)) { try TraceReader(path: path) }
        try store(Array("\u{7F}ELF and more".utf8), path)
        #expect(throws: TraceError.notATrace) { try TraceReader(path: path) }
        // As a transfer in text mode leaves it.
        try store([0x89, 0x56, 0x4D, 0x54, 0x0A, 0x1A, 0x0A] + Array(repeating: 0, count: 100), path)
        #expect(throws: TraceError.notATrace) { try TraceReader(path: path) }
    }

    @Test func `a newer required feature is refused by its name`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("newer.vmtrace")
        var preamble = Preamble()
        preamble.version = 9
        preamble.required = 1 << 5
        var payload = EventGenerator.header.encoded()
        payload.replaceSubrange(0..<1, with: [1, 4] + Array("zest".utf8))
        let frame = EncodedFrame(
            type: .header, flags: .critical, payload: payload, rawBytes: payload.count, firstStep: 0)
        try store(preamble.encoded() + frame.header.encoded() + frame.payload, path)
        #expect(throws: TraceError.unsupportedFeature(bit: 5, name: "zest")) { try TraceReader(path: path) }
        // A newer version alone is read.
        preamble.required = 0
        try store(preamble.encoded() + frame.header.encoded() + frame.payload, path)
        #expect(try TraceReader(path: path).header == EventGenerator.header)
    }

    @Test func `an unknown frame is skipped unless it is critical`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("unknown.vmtrace")
        let events = try smallTrace(path)
        let bytes = try contents(path)
        let cut = Int(try TraceReader(path: path).trailerOffset)
        for isCritical in [false, true] {
            var header = EncodedFrame(type: .steps, flags: [], payload: [1, 2, 3], rawBytes: 3, firstStep: 0).header
            header.type = 77
            header.flags = isCritical ? .critical : []
            try store(Array(bytes[..<cut]) + header.encoded() + [1, 2, 3], path)
            if isCritical {
                #expect(throws: TraceError.unknownCriticalFrame(type: 77, offset: UInt64(cut))) {
                    try TraceReader(path: path)
                }
            } else {
                expectEqual(try allEvents(try TraceReader(path: path)), events)
            }
        }
    }

    @Test func `a reader's limits hold whatever the file says`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("limits.vmtrace")
        _ = try writeRandomTrace(path, seed: 2, vcpus: 2, count: 2000, keyframeEvery: 500)
        func firstError(_ change: (inout ReaderLimits) -> Void) throws -> TraceError? {
            var limits = ReaderLimits()
            change(&limits)
            do {
                let reader = try TraceReader(path: path, limits: limits)
                return try readableEvents(reader).errors.first
            } catch let error as TraceError { return error }
        }
        func name(_ error: TraceError?) -> ReaderLimits.Name? {
            if case .limitExceeded(let name, _, _, _)? = error { name } else { nil }
        }
        #expect(try name(firstError { $0.frameBytes = 100 }) == .frameBytes)
        #expect(try name(firstError { $0.blockBytes = 1000 }) == .blockBytes)
        #expect(try name(firstError { $0.stepsPerBlock = 100 }) == .stepsPerBlock)
        #expect(try name(firstError { $0.eventsPerBlock = 10 }) == .eventsPerBlock)
        #expect(try name(firstError { $0.blocksPerEpoch = 1 }) == .blocksPerEpoch)
        #expect(try name(firstError { $0.indexEntries = 3 }) == .indexEntries)
        #expect(try name(firstError { $0.keyframePages = 3 }) == .keyframePages)
        #expect(try firstError { _ in } == nil)
    }
}
