// The command line's entry: parses, runs a verb, turns what it throws into one line and an exit status.

import ArgumentParser
import Glibc

@main
struct TraceControl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tracectl",
        abstract: "Records what crosses the boundary between a VMM and its hypervisor, and replays it.",
        discussion: """
            A trace holds the guest's memory: treat it as you would the guest.

            Example: tracectl record --guest hello.bin -o hello.vmtrace && tracectl replay hello.vmtrace

            Exit status: 0 the same, or done; 1 a difference or damage was found; 2 or more, trouble, wrong usage too.
            """,
        version: toolVersion,
        subcommands: [
            Record.self, ReplayTrace.self, Minimize.self, Fill.self, Info.self, Dump.self, Stats.self, Report.self,
            WhatIfCalls.self, Export.self, Diff.self, Verify.self, Repair.self, ImportRecords.self, CorpusCommands.self,
            NVMMCommands.self,
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
            StandardOutput.flush()
        } catch let status as ExitCode {
            StandardOutput.flush()
            Glibc.exit(status.rawValue)
        } catch {
            StandardOutput.flush()
            if let sentence = sentence(forAny: error) {
                StandardError.line("tracectl: \(sentence)")
            } else if exitCode(for: error).isSuccess {
                exit(withError: error)  // help that was asked for
            } else {
                // The parser's words, but the status of all trouble: 64 would be its own, and 1 is a difference.
                StandardError.line(fullMessage(for: error))
            }
            Glibc.exit(ExitStatus.trouble.rawValue)
        }
    }
}

/// What stands in a trace's header as the recording program.
let toolVersion = "tracectl 0.1.0"

/// What the process ends with, as diff(1) and cmp(1) have it.
enum ExitStatus {
    /// A divergent or unverifiable step, damage, or something lost in repair.
    static let difference = ExitCode(1)
    /// Wrong input, a failed system call: anything but an answer.
    static let trouble = ExitCode(2)
    /// Of a run over a corpus: a trace, or what it needs, is damaged or not supported; trying again changes nothing.
    static let permanentTrouble = ExitCode(42)
    /// EX_TEMPFAIL of sysexits(3): something is not here now, or the run was interrupted; try again.
    static let temporaryTrouble = ExitCode(75)
    /// Ended by a signal that was asked for: 128 and the signal's number.
    static func signal(_ number: Int32) -> ExitCode { ExitCode(128 + number) }
    /// That of a command that was run.
    static func command(_ status: Int32) -> ExitCode { ExitCode(status) }
}
