// tracectl diff: two recordings side by side, and where they part.

import Analysis
import ArgumentParser
import SystemPackage
import TraceFile

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares two recordings: the first difference and a summary.",
        discussion: """
            Status 0: the same; 1: different.

            Example: tracectl diff before.vmtrace after.vmtrace
            """)

    @Argument(help: "A trace.", completion: .file(extensions: ["vmtrace"]))
    var left: String

    @Argument(help: "Another.", completion: .file(extensions: ["vmtrace"]))
    var right: String

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {
        let leftReader = try about(left) { try TraceReader(path: FilePath(left)) }
        let rightReader = try about(right) { try TraceReader(path: FilePath(right)) }
        // What damage there is belongs to one of two files; which one, its own verify says.
        let comparison = try about("\(left) or \(right)") { try TraceComparison(leftReader, rightReader) }
        StandardOutput.write(json ? try StableJSON.text(comparison) + "\n" : text(of: comparison))
        if !comparison.isSame { throw ExitStatus.difference }
    }
}
