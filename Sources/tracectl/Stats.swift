// tracectl stats: counts by exit reason, port, MSR, page and event, and what the comm page saved.

import ArgumentParser

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Counts exits by reason and place, events, and calls.",
        discussion: "Example: tracectl stats boot.vmtrace --json")

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {}
}
