// tracectl verify: every checksum of a trace, without interpreting more than needed.

import ArgumentParser
import TraceFile

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks the integrity of a trace: every frame and checksum.",
        discussion: """
            Status 0: sound; 1: damaged, each damage with its place; 2: not a trace at all, or not readable.

            Example: tracectl verify boot.vmtrace
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    func run() throws {
        let report = try about(trace.text) { try verifyTrace(path: trace.path) }
        let what =
            "\(counted(report.frameCount, "frame")), \(counted(report.stepCount, "step")), \(sized(report.byteCount))"
        guard report.isIntact else {
            StandardOutput.line("damaged: \(what)")
            for problem in report.problems { StandardOutput.line("  " + sentence(for: problem)) }
            throw ExitStatus.difference
        }
        guard report.isComplete else {
            StandardOutput.line("not closed: \(what), all of them sound; tracectl repair completes it")
            throw ExitStatus.difference
        }
        StandardOutput.line("sound: \(what)")
    }
}
