// tracectl diff: two recordings side by side, and where they part.

import Analysis
import ArgumentParser
import TraceFile

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares two recordings: the first difference and a summary.",
        discussion: """
            Exits, events and registers are compared, memory is not. How the two were recorded (level, backend, \
            processor) is shown where it differs, and is no difference of its own.

            Status 0: the same; 1: different.

            Example: tracectl diff before.vmtrace after.vmtrace
            """)

    @Argument(help: "A trace.", completion: .file(extensions: ["vmtrace"]))
    var left: TraceName

    @Argument(help: "Another.", completion: .file(extensions: ["vmtrace"]))
    var right: TraceName

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {
        let leftReader = try about(left.text) { try TraceReader(path: left.path) }
        let rightReader = try about(right.text) { try TraceReader(path: right.path) }
        // What damage there is belongs to one of two files; which one, its own verify says.
        let comparison = try about("\(left.text) or \(right.text)") { try TraceComparison(leftReader, rightReader) }
        StandardOutput.write(json ? try StableJSON.text(comparison) + "\n" : text(of: comparison))
        if !comparison.isSame { throw ExitStatus.difference }
    }
}
