// tracectl stats: counts by exit reason, port, MSR, page and event, and what the comm page saved.

import Analysis
import ArgumentParser
import TraceFile

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Counts exits by reason and place, events, and calls.",
        discussion: "Example: tracectl stats boot.vmtrace --json")

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {
        let statistics = try about(trace.text) { try TraceStatistics(of: try TraceReader(path: trace.path)) }
        StandardOutput.write(json ? try StableJSON.text(statistics) + "\n" : text(of: statistics))
    }
}
