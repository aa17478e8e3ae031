// Cursors that begin at a step.

import NVMM
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

@Suite struct StepSeekTests {
    /// Three VCPUs, so that the steps of a block are not in a row; keyframes between some epochs.
    private func record(_ path: FilePath) throws -> [TraceEvent] {
        var options = TraceWriterOptions()
        options.stepsPerBlock = 16
        return try writeRandomTrace(
            path, seed: 12, vcpus: 3, count: 600, options: options, keyframeEvery: 150, pageCount: 4)
    }

    @Test func `a cursor from a step gives what follows in the whole trace`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("seek.vmtrace")
        let events = try record(path)
        let all = steps(events)
        let reader = try TraceReader(path: path)
        #expect(try reader.stepEnd() == UInt64(all.count))
        for number in 0..<all.count {
            let cursor = try reader.cursor(fromStep: UInt64(number))
            try #require(cursor.nextStepIndex == UInt64(number))
            var given: [TraceEvent] = []
            while steps(given).count < min(40, all.count - number), let event = try cursor.next() {
                given.append(event)
            }
            try #require(steps(given) == Array(all[number..<number + steps(given).count]), "from step \(number)")
            // Nothing that precedes the step before comes again, and nothing between steps is left out.
            let place = try #require(events.firstIndex { if case .step(all[number]) = $0 { true } else { false } })
            let own = try #require(given.firstIndex { if case .step = $0 { true } else { false } })
            let rest = given[own...]
            try #require(Array(rest) == Array(events[place..<place + rest.count]), "from step \(number)")
            try #require(own <= place && Array(given[..<own]) == Array(events[place - own..<place]), "from \(number)")
        }
    }

    @Test func `behind the last step a cursor is at its end`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("end.vmtrace")
        _ = try record(path)
        let reader = try TraceReader(path: path)
        for step in [try reader.stepEnd(), .max] { #expect(try reader.cursor(fromStep: step).next() == nil) }
        let empty = folder.file("empty.vmtrace")
        _ = try TraceWriter(.file(empty), header: EventGenerator.header).finish()
        let none = try TraceReader(path: empty)
        #expect(try none.stepEnd() == 0)
        #expect(try none.cursor(fromStep: 0).next() == nil)
    }

    @Test func `damage before the epoch of a step does not keep it from being read`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("hole.vmtrace")
        var options = TraceWriterOptions()
        options.stepsPerBlock = 10
        let events = try writeRandomTrace(path, seed: 8, vcpus: 1, count: 200, options: options)
        let victim = try TraceReader(path: path).loadIndex()[4]
        var bytes = try contents(path)
        bytes[Int(victim.offset) + 60] ^= 0x10
        try store(bytes, path)

        let (first, count) = (victim.firstStep, UInt64(victim.summary?.stepCount ?? 0))
        let reader = try TraceReader(path: path)
        let all = steps(events)
        let cursor = try reader.cursor(fromStep: first + count + 3)
        while let event = try cursor.next() {
            guard case .step(let step) = event else { continue }
            #expect(step == all[Int(cursor.nextStepIndex) - 1])
        }
        #expect(cursor.nextStepIndex == UInt64(all.count))
        // Damaged: by name. Gone altogether, after a repair: as missing.
        #expect(throws: TraceError.damagedPayload(offset: victim.offset, type: 2, firstStep: first, vcpu: 0)) {
            try reader.cursor(fromStep: first + 2)
        }
        let saved = folder.file("saved.vmtrace")
        _ = try repairTrace(path: path, output: saved)
        let rest = try TraceReader(path: saved).cursor(fromStep: first + 2)
        #expect(throws: TraceError.missingSteps(first: first + 2, next: first + count)) { try rest.next() }
    }
}
