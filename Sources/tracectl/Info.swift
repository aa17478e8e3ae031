// tracectl info: what a trace is: who recorded it, how long it is, what it is good for.

import Analysis
import ArgumentParser
import TraceFile

struct Info: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a trace holds, without decoding it.",
        discussion: "Example: tracectl info boot.vmtrace")

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {
        let reader = try about(trace.text) { try TraceReader(path: trace.path) }
        let document = TraceDescription(reader)
        StandardOutput.write(json ? try StableJSON.text(document) + "\n" : document.text)
    }
}
