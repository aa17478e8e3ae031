// tracectl record -- COMMAND: runs a client of libnvmm with the shim preloaded, drains the ring that the shim writes,
// and sees to the trace whatever way the client ends.

import Glibc
import NVMM
import SystemPackage
import TraceFile
import Tracer

/// A program whose calls of libnvmm are recorded from outside (Docs/libnvmm.md).
struct ClientRecording {
    var command: [String]
    var output: String
    var level: LevelName
    var keyframeEvery: UInt64?
    /// What exits leave in the comm page of libnvmm; nil: NVMM's own.
    var commPage: CommPagePolicy?
    var isDurable: Bool
    var drops: Bool
    var requires: RequiredGrade?
    /// Keeps the newest part until something happens.
    var flight: Flight?
    /// A file of answers that takes /dev/kvm's place; what the trace is good for is then nobody's concern.
    var answers: String?

    /// Runs the command; its standard streams are ours.
    ///
    /// - Throws: ``ExitStatus`` with the command's own where that is not 0, ``Trouble`` where no trace came of it.
    func run() throws {
        let status = try record()
        if status != 0 { throw ExitStatus.command(status) }
    }

    /// - Returns: the command's exit status, 128 + n where a signal ended it.
    func record() throws -> Int32 {
        let shim = try Shim.find()
        if let objection = Preloadable.objection(to: command[0]) {
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: objection))
        }
        try makeRoom()
        let ring = try makeRing()
        let drain: RingDrain
        if let flight {
            drain = RingDrain(ring) { (header) throws(TraceWriteError) in try flight.makeSink(header) }
            Interruption.watchForRequests()
        } else {
            drain = RingDrain(ring, to: .file(FilePath(output)), options: options)
        }
        Interruption.watch()
        let process = process(shim)
        let child: pid_t
        do {
            child = try process.spawn()
        } catch {
            removeFile(ringPath)
            throw error
        }
        if let flight {
            return try fly(child, of: process, ring, drain, flight)
        }
        let (status, failure) = try follow(child, of: process, ring, drain)
        // Whoever is left of the command's processes goes on without being recorded.
        ring.turnOff()
        try complete(drain, ring, status, failure)
        return status
    }

    var ringPath: String { ringName(besides: output) }

    var options: TraceWriterOptions {
        var options = TraceWriterOptions()
        options.durable = isDurable
        return options
    }

    /// An older trace of this name would be taken for this run's.
    private func makeRoom() throws {
        try refuseUnrepaired(output)
        if isFolder(output) {
            throw Trouble(path: output, cause: PlainTrouble(sentence: "is a folder: give the trace a name in it"))
        }
        removeFile(output)
    }

    private func makeRing() throws -> RecordRing {
        // A limit on the size of files is then an error like another; the client gets the signal as it was.
        signal(SIGXFSZ, SIG_IGN)
        defer { signal(SIGXFSZ, SIG_DFL) }
        do throws(ImportError) {
            return try RecordRing(creating: ringPath, level: level.level, drops: drops)
        } catch {
            removeFile(ringPath)
            throw Trouble(path: output, cause: error)
        }
    }

    // MARK: - The client

    private func process(_ shim: Shim) -> ClientProcess {
        let preloaded = "LD_PRELOAD="
        var variables = ["VMTRACE_RING": absolutePath(ringPath), "VMTRACE_LEVEL": level.rawValue]
        if let every = keyframeEvery ?? flight?.keyframeEvery {
            variables["NVMM_TRACE_KEYFRAME_EVERY"] = "\(every)"
        }
        if let commPage { variables["NVMM_COMM_PAGE"] = commPage.text }
        variables["VMTRACE_ANSWERS"] = answers
        let others = ClientProcess.inherited.filter { $0.hasPrefix(preloaded) }.map { $0.dropFirst(preloaded.count) }
        variables["LD_PRELOAD"] = ([shim.path[...]] + others).joined(separator: ":")
        return ClientProcess(command, setting: variables) { entry in
            [preloaded, "NVMM_TRACE", "VMTRACE_"].contains { entry.hasPrefix($0) }
        }
    }

    /// Drains until the command ends.
    ///
    /// - Returns: its exit status, 128 + n where a signal ended it, and what ended the draining before.
    private func follow(
        _ child: pid_t, of process: ClientProcess, _ ring: RecordRing, _ drain: RingDrain
    ) throws -> (Int32, ImportError?) {
        var process = process
        var failure: ImportError?
        var pause: useconds_t = 0
        var progress = Progress()
        defer { progress.end() }
        while true {
            progress.update { seconds in liveLine(drain, ring, seconds) }
            if let status = try process.exitStatus(of: child, waits: failure != nil) { return (status, failure) }
            guard failure == nil else { continue }
            do throws(ImportError) {
                // A client that waits is looked at less and less often, up to 500 times a second.
                pause = try drain.step() ? 0 : min(pause + 100, 2000)
                if pause > 0 { usleep(pause) }
            } catch {
                // The client goes on; the trace ends here.
                ring.turnOff()
                failure = error
            }
        }
    }

    private func liveLine(_ drain: RingDrain, _ ring: RecordRing, _ seconds: Double) -> String {
        let rate = grouped(Int(Double(drain.stepCount) / max(seconds, 0.001)))
        var status = stat()
        let bytes = unsafe stat(output, &status) == 0 ? UInt64(clamping: status.st_size) : 0
        let lost = ring.lostCount > 0 ? ", \(grouped(ring.lostCount)) records lost" : ""
        return "recording: \(grouped(drain.stepCount)) exits, \(rate) a second, \(sized(bytes))\(lost),"
            + " good for \(words(drain.grade.level))"
    }

    // MARK: - The trace

    private func complete(
        _ drain: RingDrain, _ ring: RecordRing, _ status: Int32, _ before: ImportError?
    ) throws {
        var result: ImportResult?
        var failure = before
        do throws(ImportError) {
            result = failure == nil ? try drain.finish() : try drain.finishEarly()
        } catch {
            if failure == nil { failure = error }
            // What does not depend on the records that made no sense.
            if case .write = error {} else { result = try? drain.finishEarly() }
        }
        guard let result else {
            // Ring and journals stay: they hold what the trace does not.
            let steps = counted(drain.stepCount, "step")
            let cause = failure.map { sentence(for: $0) } ?? "the trace could not be closed"
            throw Trouble(
                path: output,
                cause: PlainTrouble(
                    sentence: "\(cause): the client went on (status \(status)), the trace ends after \(steps);"
                        + " tracectl repair saves what there is"))
        }
        removeFile(ringPath)
        guard let totals = result.totals else { throw Trouble(path: command[0], cause: nothing(status, ring, failure)) }
        if answers != nil, failure == nil { return }
        StandardError.line(
            "tracectl: recorded \(counted(totals.stepCount, "exit")), \(sized(totals.bytes.total)):"
                + " the client ended with status \(status)")
        if let failure {
            StandardError.line("tracectl: \(sentence(for: failure)): the trace ends there")
        } else if ring.tookUsForDead {
            StandardError.line("tracectl: the client was not drained for a second: the trace ends there")
        } else if !result.isClosed {
            StandardError.line("tracectl: the client did not end the recording: the trace holds what came before")
        }
        if ring.refusedCount > 0 {
            StandardError.line("tracectl: \(counted(ring.refusedCount, "more process")) of the command not recorded")
        }
        for reason in result.grade.reasons where reason != .recordLevel || level != .exits {
            StandardError.line("tracectl: good for \(words(result.grade.level)): \(words(reason))")
        }
        if let requires { try requires.check(result.grade) }
    }

    private func nothing(_ status: Int32, _ ring: RecordRing, _ failure: ImportError?) -> PlainTrouble {
        let cause: String
        if let failure {
            cause = sentence(for: failure)
        } else if ring.hasForeignLayout {
            cause = "its libnvmm is of another lineage than the shim was built for"
        } else if ring.client != nil {
            cause = "it made no machine"
        } else {
            cause = "it has to open /dev/kvm, or be linked with a libnvmm.so, dynamically, and call nvmm_init"
        }
        return PlainTrouble(sentence: "no trace came of the command (status \(status)): \(cause)")
    }
}

/// The ring beside a trace that is being recorded from a client, and after its drainer was killed.
func ringName(besides trace: String) -> String { trace + ".open.ring" }

/// - Throws: ``Trouble`` where journals or a ring of an earlier recording stand beside `trace`: perhaps an only copy.
func refuseUnrepaired(_ trace: String) throws {
    var left = journals(beside: FilePath(trace)).map(\.string)
    if unsafe access(ringName(besides: trace), F_OK) == 0 { left.append(ringName(besides: trace)) }
    if let file = left.first {
        throw Trouble(path: trace, cause: TraceWriteError.unrepaired(trace: trace, journal: file))
    }
}

/// The library that is preloaded into a client.
struct Shim {
    var path: String

    static let name = "libvmtrace.so"
    /// Names the library where it does not stand with tracectl.
    static let variable = "VMTRACE_LIBRARY"

    /// Where ``variable`` says; else beside tracectl, as it is built, or in `../lib`, as it is installed.
    static func find() throws -> Shim {
        var places: [String] = []
        if let named = unsafe getenv(variable) {
            places = [unsafe String(cString: named)]
        } else {
            // SAFETY: with NULL the result is allocated, and freed here.
            guard let program = unsafe realpath("/proc/self/exe", nil) else {
                throw PlainTrouble(sentence: "/proc is not there: set \(variable) to the path of \(name)")
            }
            let folder = FilePath(unsafe String(cString: program)).removingLastComponent()
            unsafe free(program)
            places = [folder.appending(name).string, folder.removingLastComponent().appending("lib/\(name)").string]
        }
        guard let found = places.first(where: { unsafe access($0, R_OK) == 0 }) else {
            throw PlainTrouble(
                sentence: "\(name) is not at \(places.joined(separator: " or ")): build it"
                    + " (swift build --product vmtrace, or make install), or set \(variable) to its path")
        }
        guard !found.contains(where: { $0 == " " || $0 == ":" }) else {
            throw PlainTrouble(sentence: "\(found): LD_PRELOAD takes no path with spaces or colons: move it elsewhere")
        }
        return Shim(path: found)
    }
}
