// tracectl stats: counts by exit reason, port, MSR, page and event, and what the comm page saved.

import Analysis
import ArgumentParser
import SystemPackage
import TraceFile

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Counts exits by reason and place, events, and calls.",
        discussion: "Example: tracectl stats boot.vmtrace --json")

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {
        let statistics = try about(trace) { try TraceStatistics(of: try TraceReader(path: FilePath(trace))) }
        StandardOutput.write(json ? try StableJSON.text(statistics) + "\n" : text(of: statistics))
    }
}
