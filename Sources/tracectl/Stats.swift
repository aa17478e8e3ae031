// tracectl stats: counts by exit reason, port, MSR, page and event, and what the comm page saved.

import Analysis
import ArgumentParser
import TraceFile

struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Counts exits by reason and place, events, and calls.",
        discussion: """
            With --by-rip also by instruction, what the VMM did after each kind of exit, times as distributions, and \
            how long the guest waited: that takes decoding every step.

            Example: tracectl stats boot.vmtrace --json
            Example: tracectl stats boot.vmtrace --by-rip --symbols System.map
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Flag(help: "Also by instruction.")
    var byRip = false

    @Option(
        help: ArgumentHelp(
            "Names of the guest's functions, a System.map or an ELF file; implies --by-rip.", valueName: "file"))
    var symbols: String?

    @Flag(help: "One JSON document.")
    var json = false

    private struct Document: Encodable {
        var statistics: TraceStatistics
        var profile: TraceProfile
    }

    func run() throws {
        let symbols = try readSymbols(symbols)
        try about(trace.text) {
            let reader = try TraceReader(path: trace.path)
            let statistics = try TraceStatistics(of: reader)
            guard byRip || symbols != nil else {
                return StandardOutput.write(json ? try StableJSON.text(statistics) + "\n" : text(of: statistics))
            }
            Interruption.watch()
            let profile = try profile(of: reader, symbols, "counting")
            let document = Document(statistics: statistics, profile: profile)
            StandardOutput.write(
                json ? try StableJSON.text(document) + "\n" : text(of: statistics) + text(of: profile))
        }
    }
}
