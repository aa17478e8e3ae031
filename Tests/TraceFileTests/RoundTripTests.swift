// What is written comes back.

import NVMM
import SystemPackage
import TestSupport
import Testing
import TraceFile

/// Everything that a cursor gives.
func allEvents(_ reader: TraceReader, fromKeyframe index: Int? = nil) throws -> [TraceEvent] {
    let cursor = try reader.cursor(fromKeyframe: index)
    var events: [TraceEvent] = []
    while let event = try cursor.next() { events.append(event) }
    return events
}

/// Writes random events with a keyframe now and then; returns them all.
func writeRandomTrace(
    _ path: FilePath, seed: UInt64, vcpus: Int, count: Int, options: TraceWriterOptions = TraceWriterOptions(),
    keyframeEvery: Int = 0, pageCount: Int = 64, recordsTime: Bool = false
) throws -> [TraceEvent] {
    var generator = EventGenerator(seed: seed, vcpuCount: vcpus, recordsTime: recordsTime)
    var header = EventGenerator.header
    header.recordsTime = recordsTime
    let writer = try TraceWriter(.file(path), header: header, options: options)
    var events: [TraceEvent] = []
    for index in 0..<count {
        let event = generator.chance(60) ? generator.step() : generator.other()
        try writer.append(event)
        events.append(event)
        if keyframeEvery > 0, index % keyframeEvery == keyframeEvery - 1 {
            let keyframe = try generator.keyframe(writer, pageCount: pageCount, kinds: pageCount * 3)
            try writer.append(keyframe)
            events.append(keyframe)
        }
    }
    let totals = try writer.finish()
    #expect(totals.stepCount == generator.stepCount)
    return events
}

func expectEqual(_ left: [TraceEvent], _ right: [TraceEvent], _ comment: Comment? = nil) {
    #expect(left.count == right.count, comment)
    for index in 0..<min(left.count, right.count) where left[index] != right[index] {
        Issue.record("event \(index) differs (\(String(describing: comment)))")
        return
    }
}

@Suite struct RoundTripTests {
    @Test(arguments: [(1, 0), (1, 40), (3, 25), (2, 0)])
    func `every kind of event comes back, in order`(vcpus: Int, keyframeEvery: Int) throws {
        let folder = TemporaryFolder()
        var options = TraceWriterOptions()
        options.stepsPerBlock = 50
        options.keyframesPerFullKeyframe = 4
        for seed in 1...12 as ClosedRange<UInt64> {
            let path = folder.file("random.vmtrace")
            let events = try writeRandomTrace(
                path, seed: seed, vcpus: vcpus, count: 600, options: options, keyframeEvery: keyframeEvery,
                recordsTime: seed % 2 == 0)
            let reader = try TraceReader(path: path)
            #expect(reader.isComplete)
            expectEqual(try allEvents(reader), events, "seed \(seed)")
            #expect(reader.damage.isEmpty)
        }
    }

    @Test func `the header comes back`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("header.vmtrace")
        let writer = try TraceWriter(.file(path), header: EventGenerator.header)
        let totals = try writer.finish()
        let reader = try TraceReader(path: path)
        #expect(reader.header == EventGenerator.header)
        #expect(reader.totals == totals)
        #expect(try allEvents(reader).isEmpty)
        #expect(folder.names() == ["header.vmtrace"])
    }

    @Test func `a cursor begins at any keyframe`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("keyframes.vmtrace")
        let events = try writeRandomTrace(path, seed: 5, vcpus: 2, count: 500, keyframeEvery: 50)
        let reader = try TraceReader(path: path)
        #expect(reader.keyframes.count == 10)
        for entry in reader.keyframes {
            let all = try allEvents(reader, fromKeyframe: entry.index)
            expectEqual(all, Array(events.suffix(all.count)))
            guard case .keyframe(let keyframe)? = all.first else {
                Issue.record("keyframe \(entry.index) is not first")
                return
            }
            #expect(keyframe.stepCount == entry.stepCount)
            #expect(keyframe.clock == entry.clock)
        }
        #expect(throws: TraceError.noSuchKeyframe(index: 10, count: 10)) { try reader.cursor(fromKeyframe: 10) }
    }

    @Test func `equal events give equal files`() throws {
        let folder = TemporaryFolder()
        for name in ["a", "b"] {
            _ = try writeRandomTrace(folder.file(name), seed: 9, vcpus: 2, count: 6000, keyframeEvery: 500)
        }
        #expect(try contents(folder.file("a")) == contents(folder.file("b")))
    }

    @Test func `a long memory write becomes several adjacent ones`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("long.vmtrace")
        let writer = try TraceWriter(.file(path), header: EventGenerator.header)
        let bytes = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 / 3) }
        try writer.append(.memoryWrite(MemoryWrite(object: 1, offset: 4096, bytes: bytes)))
        _ = try writer.finish()
        var joined: [UInt8] = []
        for event in try allEvents(try TraceReader(path: path)) {
            guard case .memoryWrite(let write) = event else { continue }
            #expect(write.offset == 4096 + joined.count)
            joined += write.bytes
        }
        #expect(joined == bytes)
    }
}
