// tracectl info: what a trace is: who recorded it, how long it is, what it is good for.

import Analysis
import ArgumentParser
import SystemPackage
import TraceFile

struct Info: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a trace holds, without decoding it.",
        discussion: "Example: tracectl info boot.vmtrace")

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {
        let reader = try about(trace) { try TraceReader(path: FilePath(trace)) }
        let document = TraceDescription(reader)
        StandardOutput.write(json ? try StableJSON.text(document) + "\n" : document.text)
    }
}
