// tracectl record -- COMMAND: runs a client of libnvmm, which records itself, and sees to its trace afterwards.

import Glibc
import SystemPackage
import TraceFile

/// A program that uses this project's libnvmm, told by its environment to record (Docs/libnvmm.md).
struct ClientRecording {
    var command: [String]
    var output: String
    var level: LevelName
    var keyframeEvery: UInt64?
    var isDurable: Bool

    /// Runs the command; its standard streams are ours.
    ///
    /// - Throws: ``ExitStatus`` with the command's own where that is not 0, ``Trouble`` where no trace came of it.
    func run() throws {
        Interruption.watch()
        try makeRoom()
        let status = try wait(for: spawn())
        try complete()
        try report(status)
        if status != 0 { throw ExitStatus.command(status) }
    }

    /// An older trace of this name would be taken for this run's.
    private func makeRoom() throws {
        if let journal = journals(beside: FilePath(output)).first {
            throw Trouble(path: output, cause: TraceWriteError.unrepaired(trace: output, journal: journal.string))
        }
        removeFile(output)
    }

    private func environment() -> [String] {
        var set = ["NVMM_TRACE": absolute(output), "NVMM_TRACE_LEVEL": level.rawValue]
        if let keyframeEvery { set["NVMM_TRACE_KEYFRAME_EVERY"] = "\(keyframeEvery)" }
        if isDurable { set["NVMM_TRACE_DURABLE"] = "1" }
        var entries: [String] = []
        var place = unsafe environ
        while let entry = unsafe place.pointee {
            let text = unsafe String(cString: entry)
            if !text.hasPrefix("NVMM_TRACE") { entries.append(text) }
            unsafe place += 1
        }
        return entries + set.keys.sorted().map { "\($0)=\(set[$0] ?? "")" }
    }

    private func spawn() throws -> pid_t {
        var child: pid_t = 0
        // SAFETY: the pointers are copies of the strings with a terminating nil, freed after the call.
        let arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        let variables = unsafe environment().map { unsafe strdup($0) } + [nil]
        defer {
            for unsafe pointer in unsafe arguments + variables { unsafe free(pointer) }
        }
        let code = unsafe posix_spawnp(&child, command[0], nil, nil, arguments, variables)
        guard code == 0 else {
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: systemSentence("run", code)))
        }
        return child
    }

    /// The command's exit status, 128 + n where a signal ended it. A signal to end that reaches us is passed on.
    private func wait(for child: pid_t) throws -> Int32 {
        var status: Int32 = 0
        var passedOn = false
        while unsafe waitpid(child, &status, 0) < 0 {
            guard errno == EINTR else {
                throw Trouble(path: command[0], cause: PlainTrouble(sentence: systemSentence("wait for", errno)))
            }
            // A terminal sends Ctrl-C to both.
            if let signal = Interruption.pending, signal != SIGINT, !passedOn {
                passedOn = true
                kill(child, signal)
            }
        }
        let signal = status & 0x7F
        return signal == 0 ? status >> 8 & 0xFF : 128 + signal
    }

    /// A client that was killed left its last steps in journals: they are merged.
    private func complete() throws {
        let left = journals(beside: FilePath(output))
        guard !left.isEmpty else { return }
        let whole = output + ".whole"
        do {
            let report = try repairTrace(path: FilePath(output), to: .file(FilePath(whole)))
            StandardError.line(
                "tracectl: the client did not end the trace: recovered \(counted(report.stepsRecovered, "step"))")
        } catch {
            throw Trouble(
                path: output,
                cause: PlainTrouble(sentence: "the client did not end the trace: try `tracectl repair \(output)`"))
        }
        guard unsafe rename(whole, output) == 0 else {
            throw Trouble(path: whole, cause: PlainTrouble(sentence: systemSentence("rename", errno)))
        }
        for journal in left { removeFile(journal.string) }
    }

    private func report(_ status: Int32) throws {
        let reader: TraceReader
        do {
            reader = try TraceReader(path: FilePath(output))
        } catch {
            let sentence =
                "no trace came of the command (status \(status)): it has to be linked with this project's libnvmm.so"
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: sentence))
        }
        let totals = reader.totals
        StandardError.line(
            "tracectl: recorded \(counted(totals.stepCount, "exit")), \(sized(totals.bytes.total)):"
                + " the client ended with status \(status)")
    }

    private func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        // SAFETY: with NULL the result is allocated, and freed here.
        guard let folder = unsafe getcwd(nil, 0) else { return path }
        defer { unsafe free(folder) }
        return unsafe String(cString: folder) + "/" + path
    }
}
