// The writer where things go wrong: killed, out of space, abandoned by its reader.

import Glibc
import NVMM
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

@Suite(.serialized) struct WriterTests {
    @Test func `a trace is for its owner only`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("private.vmtrace")
        try store([1], path)
        unsafe chmod(path.string, 0o644)
        let writer = try TraceWriter(.file(path), header: EventGenerator.header)
        var generator = EventGenerator(seed: 1, vcpuCount: 1)
        try writer.append(generator.step())
        for name in folder.names() {
            var status = stat()
            #expect(unsafe stat(folder.file(name).string, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600, "\(name)")
        }
        #expect(folder.names() == ["private.vmtrace", "private.vmtrace.open.0", "private.vmtrace.open.1"])
        _ = try writer.finish()
        #expect(folder.names() == ["private.vmtrace"])
    }

    @Test func `an unfinished trace is read up to its last event`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("open.vmtrace")
        var generator = EventGenerator(seed: 4, vcpuCount: 2)
        var options = TraceWriterOptions()
        options.stepsPerBlock = 40
        let writer = try TraceWriter(.file(path), header: EventGenerator.header, options: options)
        var events: [TraceEvent] = []
        for index in 0..<400 {
            let event = generator.chance(60) ? generator.step() : generator.other()
            try writer.append(event)
            events.append(event)
            if index == 200 {
                let keyframe = try generator.keyframe(writer)
                try writer.append(keyframe)
                events.append(keyframe)
            }
            if index % 13 == 0 {
                // Readable while it is being written, to the last event.
                let reader = try TraceReader(path: path)
                #expect(!reader.isComplete)
                #expect(reader.damage.isEmpty)
                expectEqual(try allEvents(reader), events)
            }
        }
        let report = try repairTrace(path: path, output: folder.file("repaired.vmtrace"))
        #expect(report.isLossless && !report.endIsUncertain)
        let totals = try writer.finish()
        #expect(report.totals == totals)
        #expect(try contents(path) == contents(folder.file("repaired.vmtrace")))
    }

    @Test func `what a killed writer left is not written over`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("left.vmtrace")
        let journal = folder.file("left.vmtrace.open.1")
        try store([1, 2, 3], path)
        // A link that leads nowhere is no place to write to either.
        #expect(unsafe symlink("nowhere", journal.string) == 0)
        let refusal = TraceWriteError.unrepaired(trace: path.string, journal: journal.string)
        #expect(throws: refusal) { try TraceWriter(.file(path), header: EventGenerator.header) }
        // Nor does a repaired trace take its place.
        let sound = folder.file("sound.vmtrace")
        _ = try smallTrace(sound)
        #expect(throws: RepairError.write(refusal)) { try repairTrace(path: sound, output: path) }
        #expect(try contents(path) == [1, 2, 3])
        #expect(folder.names() == ["left.vmtrace", "left.vmtrace.open.1", "sound.vmtrace"])

        #expect(unsafe unlink(journal.string) == 0)
        _ = try TraceWriter(.file(path), header: EventGenerator.header).finish()
        #expect(try TraceReader(path: path).isComplete)
    }

    @Test func `a full device is an error with its number`() throws {
        #expect(throws: TraceWriteError.io(call: "write", errno: ENOSPC)) {
            try TraceWriter(.file("/dev/full"), header: EventGenerator.header)
        }
    }

    @Test func `when the file may grow no more nothing recorded is lost`() async throws {
        let folder = TemporaryFolder()
        let path = folder.file("full.vmtrace")
        let counter = try SharedCounter(folder.file("count"))
        // RLIMIT_FSIZE stands in for a full disk: set in a child, whose other files are unaffected.
        await #expect(processExitsWith: .success) {
            [trace = path.string as String, count = folder.file("count").string as String] in
            let counter = try SharedCounter(FilePath(count))
            unsafe signal(SIGXFSZ, SIG_IGN)
            var options = TraceWriterOptions()
            options.bytesPerBlock = 1 << 16
            let writer = try TraceWriter(.file(FilePath(trace)), header: EventGenerator.header, options: options)
            var limit = rlimit(rlim_cur: 1 << 17, rlim_max: 1 << 17)
            unsafe setrlimit(__rlimit_resource_t(1), &limit)  // RLIMIT_FSIZE
            var generator = EventGenerator(seed: 6, vcpuCount: 1)
            #expect(throws: TraceWriteError.io(call: "write", errno: EFBIG)) {
                while true {
                    try writer.append(generator.step())
                    counter.value += 1
                }
            }
            #expect(throws: TraceWriteError.self) { try writer.finish() }
        }
        #expect(counter.value > 100)
        let report = try repairTrace(path: path, output: folder.file("saved.vmtrace"))
        #expect(report.stepsRecovered == counter.value)
        #expect(report.stepsLost.isEmpty)
    }

    @Test(arguments: 0..<50)
    func `a killed writer loses at most the record in flight`(round: Int) async throws {
        let folder = TemporaryFolder()
        let path = folder.file("killed.vmtrace")
        let saved = folder.file("saved.vmtrace")
        let counter = try SharedCounter(folder.file("count"))
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [trace = path.string as String, count = folder.file("count").string as String, round = round as Int] in
            let counter = try SharedCounter(FilePath(count))
            var options = TraceWriterOptions()
            options.stepsPerBlock = 64
            let writer = try TraceWriter(.file(FilePath(trace)), header: EventGenerator.header, options: options)
            // The time of death does not follow from anything that the writer does.
            KillTimer.start(microseconds: 500 + UInt32(round) * 2500)
            var generator = EventGenerator(seed: UInt64(round), vcpuCount: 2)
            while true {
                let isStep = generator.chance(60)
                try writer.append(isStep ? generator.step() : generator.other())
                if isStep { counter.value += 1 }
                if generator.number(500) == 0 { try writer.append(try generator.keyframe(writer)) }
            }
        }
        let report = try repairTrace(path: path, output: saved)
        let recovered = report.stepsRecovered
        #expect(recovered == counter.value || recovered == counter.value + 1)
        #expect(report.stepsLost.isEmpty)
        let verified = try verifyTrace(path: saved)
        #expect(verified.isIntact && verified.isComplete)
        // And they are the very steps.
        var generator = EventGenerator(seed: UInt64(round), vcpuCount: 2)
        let sink = try TraceWriter(.file(folder.file("again")), header: EventGenerator.header)
        let cursor = try TraceReader(path: saved).cursor()
        while let event = try cursor.next() {
            let isStep = generator.chance(60)
            let expected = isStep ? generator.step() : generator.other()
            try #require(event == expected)
            if generator.number(500) == 0 {
                let keyframe = try generator.keyframe(sink)
                guard let event = try cursor.next() else { break }
                try #require(event == keyframe)
            }
        }
    }

    @Test func `a pipe gets the same bytes as a file`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("file.vmtrace")
        let events = try writeRandomTrace(path, seed: 21, vcpus: 2, count: 3000)
        let ends = try FileDescriptor.pipe()
        var piped: [UInt8] = []
        // The pipe holds 64 KiB, so somebody must read while we write.
        let expected = try contents(path)
        let thread = PipeDrain(ends.readEnd)
        let writer = try TraceWriter(.descriptor(ends.writeEnd), header: EventGenerator.header)
        for event in events { try writer.append(event) }
        _ = try writer.finish()
        try ends.writeEnd.close()
        piped = thread.join()
        #expect(piped == expected)
    }

    @Test func `a reader of the pipe that goes away is an error, not a signal`() throws {
        let ends = try FileDescriptor.pipe()
        let writer = try TraceWriter(.descriptor(ends.writeEnd), header: EventGenerator.header)
        try ends.readEnd.close()
        var generator = EventGenerator(seed: 1, vcpuCount: 1)
        for _ in 0..<10 { try writer.append(generator.step()) }
        #expect(throws: TraceWriteError.io(call: "write", errno: EPIPE)) { try writer.finish() }
        try ends.writeEnd.close()
    }

    @Test func `pages are stored once, and none is mistaken for another`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("pages.vmtrace")
        // A hash of 2 bits, under which most pages collide.
        let writer = try TraceWriter(
            .file(path), header: EventGenerator.header, options: TraceWriterOptions(),
            pageHash: { content in
                PageHash(high: 0, low: unsafe UInt64(content.unsafeLoad(fromByteOffset: 0, as: UInt8.self) & 3) << 32)
            })
        var contentOf: [PageHash: [UInt8]] = [:]
        var names: [PageHash] = []
        for round in 0..<2 {
            for kind in 1...100 as ClosedRange<UInt8> {
                let page = [UInt8](repeating: kind, count: 4096)
                let name = try unsafe writer.storePage(page.span.bytes)
                if round == 0 {
                    #expect(contentOf[name] == nil)
                    contentOf[name] = page
                    names.append(name)
                } else {
                    #expect(contentOf[name] == page)
                }
            }
        }
        let zero = try unsafe writer.storePage([UInt8](repeating: 0, count: 4096).span.bytes)
        #expect(contentOf[zero] == nil)
        let references = names.enumerated().map { Keyframe.PageReference(page: $0.offset, content: $0.element) }
        try writer.append(
            .keyframe(
                Keyframe(
                    stepCount: 0, clock: 0, machinePrivateState: [], vcpus: [],
                    objects: [Keyframe.ObjectImage(object: 0, byteCount: 4096 * 100, pages: references)],
                    gpaRanges: [])))
        let totals = try writer.finish()
        #expect(totals.pageCount == 100)
        let reader = try TraceReader(path: path)
        for (name, content) in contentOf { #expect(try reader.page(name) == content) }
        let unknown = PageHash(high: 1, low: 1)
        #expect(throws: TraceError.noSuchPage(unknown)) { try reader.page(unknown) }
    }

    @Test func `misuse is told, and does no harm`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("misuse.vmtrace")
        var options = TraceWriterOptions()
        options.stepsPerBlock = 0
        #expect(throws: TraceWriteError.invalidOptions) {
            try TraceWriter(.file(path), header: EventGenerator.header, options: options)
        }
        let writer = try TraceWriter(.file(path), header: EventGenerator.header)
        var generator = EventGenerator(seed: 2, vcpuCount: 1)
        guard case .step(var step) = generator.step() else { return }
        step.vcpu = TraceWriter.vcpusMax
        #expect(throws: TraceWriteError.invalidVCPU(id: 4096)) { try writer.appendStep(step) }
        #expect(throws: TraceWriteError.invalidPage(byteCount: 12)) {
            try unsafe writer.storePage([UInt8](repeating: 1, count: 12).span.bytes)
        }
        let missing = PageHash(high: 5, low: 5)
        #expect(throws: TraceWriteError.unknownPage(missing)) {
            try writer.append(
                .keyframe(
                    Keyframe(
                        stepCount: 0, clock: 0, machinePrivateState: [], vcpus: [],
                        objects: [
                            Keyframe.ObjectImage(
                                object: 0, byteCount: 4096, pages: [.init(page: 0, content: missing)])
                        ], gpaRanges: [])))
        }
        step.vcpu = 0
        try writer.appendStep(step)
        #expect(try writer.finish().stepCount == 1)
        #expect(throws: TraceWriteError.finished) { try writer.appendStep(step) }
        #expect(throws: TraceWriteError.finished) { try writer.finish() }
    }

    @Test func `scans count what decoding counts`() throws {
        let folder = TemporaryFolder()
        let path = folder.file("scan.vmtrace")
        let events = try writeRandomTrace(path, seed: 31, vcpus: 3, count: 5000, recordsTime: true)
        let reader = try TraceReader(path: path)
        var byName: [String: Int] = [:]
        var calls: [CallRecord: Int] = [:]
        var injections = 0
        var gpas: [UInt64] = []
        var times = 0
        var stepExits: [String: Int] = [:]
        let problems = try reader.scanExits([.calls, .injections, .gpas, .steps, .time]) { block in
            for exit in block.exits { byName[exit.reason.name, default: 0] += exit.count }
            for (call, count) in block.calls { calls[call, default: 0] += count }
            for (_, count) in block.injections { injections += count }
            gpas += block.gpas
            times += block.guestNanoseconds.count
            for place in block.stepExits { stepExits[block.exits[Int(place)].reason.name, default: 0] += 1 }
        }
        #expect(problems.isEmpty)
        var expected: [String: Int] = [:]
        var expectedCalls: [CallRecord: Int] = [:]
        var expectedGPAs: [UInt64] = []
        for event in events {
            switch event {
            case .step(let step):
                expected[step.exit.reason.name, default: 0] += 1
                if case .memory(let exit) = step.exit.reason { expectedGPAs.append(exit.gpa.rawValue) }
            case .call(let call): expectedCalls[call, default: 0] += 1
            default: break
            }
        }
        #expect(byName == expected)
        #expect(stepExits == expected)
        #expect(calls == expectedCalls)
        #expect(injections == steps(events).filter { $0.event != nil }.count)
        #expect(gpas.sorted() == expectedGPAs.sorted())
        #expect(times == steps(events).count)
        let fromTotals = Dictionary(uniqueKeysWithValues: reader.totals.exits.map { ($0.name, Int($0.count)) })
        #expect(fromTotals == expected)
        #expect(reader.totals.bytes.total == UInt64(try contents(path).count))
    }
}

/// Collects what comes out of a pipe.
final class PipeDrain: @unchecked Sendable {
    private let end: FileDescriptor
    private var thread = pthread_t()
    private var bytes: [UInt8] = []

    init(_ end: FileDescriptor) {
        self.end = end
        unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<PipeDrain>.fromOpaque(context).takeUnretainedValue().drain()
                return nil
            }, unsafe Unmanaged.passUnretained(self).toOpaque())
    }

    private func drain() {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while let count = try? unsafe buffer.withUnsafeMutableBytes({ try unsafe end.read(into: $0) }), count > 0 {
            bytes += buffer[0..<count]
        }
    }

    func join() -> [UInt8] {
        pthread_join(thread, nil)
        return bytes
    }
}

/// A number that a child shares with its parent through a file.
@safe final class SharedCounter {
    private let word: UnsafeMutablePointer<UInt64>

    init(_ path: FilePath) throws {
        let file = unsafe open(path.string, O_RDWR | O_CREAT, 0o600)
        try #require(file >= 0 && ftruncate(file, 4096) == 0)
        let mapped = unsafe mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        close(file)
        let memory = try unsafe #require(mapped)
        unsafe word = memory.bindMemory(to: UInt64.self, capacity: 1)
    }

    var value: UInt64 {
        get { unsafe word.pointee }
        set { unsafe word.pointee = newValue }
    }

    deinit { unsafe munmap(word, 4096) }
}

/// Ends the process, as SIGKILL from outside would.
enum KillTimer {
    static func start(microseconds: UInt32) {
        var thread = pthread_t()
        let delay = unsafe UnsafeMutableRawPointer(bitPattern: UInt(microseconds))
        unsafe pthread_create(
            &thread, nil,
            { delay in
                usleep(UInt32(UInt(bitPattern: delay)))
                kill(getpid(), SIGKILL)
                return nil
            }, delay)
    }
}
