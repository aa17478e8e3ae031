// tracectl report: one page about a trace, for a browser.

import Analysis
import ArgumentParser
import Glibc
import Replay
import SystemPackage
import TraceFile

struct Report: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a page about a trace: exits over time, places, instructions, calls.",
        discussion: """
            One file, which needs no network: a timeline of exits with zoom, a heat map of ports and pages, the \
            instructions that exit most, events, calls and times. Numbers are those of stats.

            Example: tracectl report boot.vmtrace -o report.html
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(
        name: [.short, .long], help: ArgumentHelp("The page to write; - for standard output.", valueName: "file"),
        completion: .file(extensions: ["html"]))
    var output = "report.html"

    @Option(
        help: ArgumentHelp("Names of the guest's functions: a System.map or an ELF file.", valueName: "file"))
    var symbols: String?

    @Flag(help: "Also replay the trace, and show the first difference if there is one.")
    var replay = false

    @Option(help: "What executes the guest, with --replay.")
    var backend: BackendName = .soft

    @Option(parsing: .unconditional, help: ArgumentHelp(visibility: .hidden), transform: FaultRequest.parse)
    var fault: FaultRequest?

    func run() throws {
        Interruption.watch()
        let symbols = try readSymbols(symbols)
        let page = try about(trace.text) {
            let reader = try TraceReader(path: trace.path)
            let name = trace.path.lastComponent?.string ?? trace.text
            let report = TraceReport(
                name: trace.text == "standard input" ? trace.text : name, recorded: recorded(reader),
                statistics: try TraceStatistics(of: reader),
                profile: try profile(of: reader, symbols, "reading"), replay: try replay ? verdict(reader) : nil)
            return try report.page()
        }
        guard output != "-" else { return StandardOutput.write(page) }
        try writeText(page, to: output)
        StandardError.line("wrote \(output), \(sized(page.utf8.count))")
    }

    private func recorded(_ reader: TraceReader) -> [String] {
        let header = reader.header
        var phrases = ["recorded by \(header.tool) on \(header.backendName)", "processor \(header.processorModel)"]
        phrases.append("level \(header.level)")
        if !reader.isComplete { phrases.append("not ended properly") }
        return phrases
    }

    private func verdict(_ reader: TraceReader) throws -> TraceReport.ReplayVerdict {
        let model = reader.header.isOfHypervisor ? nil : reader.header.processorModel
        let report = try Replayer(
            reader, on: makeBackend(backend, model: model, recording: reader.header, fault: fault),
            reference: makeBackend(.soft, model: model, recording: reader.header, fault: nil)
        ).run()
        let summary = text(of: report).split(separator: "\n").first.map(String.init) ?? ""
        return .init(isClean: report.isClean, summary: summary, divergence: report.divergence)
    }
}

/// - Returns: nil where no file is named.
func readSymbols(_ path: String?) throws -> SymbolTable? {
    guard let path else { return nil }
    let bytes = try readFile(path)
    return try about(path) { try SymbolTable(bytes) }
}

/// Decodes a whole trace, with progress on a terminal. Ends the process when interrupted.
func profile(of reader: TraceReader, _ symbols: SymbolTable?, _ verb: String) throws -> TraceProfile {
    var progress = Progress()
    defer { progress.end() }
    let total = reader.totals.stepCount
    return try TraceProfile(of: reader, symbols: symbols) { step in
        progress.update { _ in "\(verb): step \(grouped(step)) of \(grouped(total))" }
        if let signal = Interruption.pending {
            progress.end()
            StandardError.line("tracectl: interrupted")
            Glibc.exit(ExitStatus.signal(signal).rawValue)
        }
    }
}
