// tracectl export: a trace in the formats of other tools.

import Analysis
import ArgumentParser
import Glibc
import TraceFile

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a trace for other tools: Perfetto, SQLite, JSON lines, CSV.",
        discussion: """
            perfetto: for ui.perfetto.dev; runs and the VMM's work between them as slices, injected events, flows.
            sqlite: tables step, call, memory_write, trace.
            jsonl: what dump --json prints. csv: a row for each step.

            Example: tracectl export boot.vmtrace --format perfetto --from 5000 --to 20000 -o boot.pftrace
            """)

    enum Format: String, ExpressibleByArgument, CaseIterable { case perfetto, sqlite, jsonl, csv }

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(help: "What to write.")
    var format: Format

    @Option(parsing: .unconditional, help: ArgumentHelp("First step.", valueName: "step"), transform: UInt64.parse)
    var from: UInt64 = 0

    @Option(parsing: .unconditional, help: ArgumentHelp("Last step.", valueName: "step"), transform: UInt64.parse)
    var to: UInt64?

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("The file to write; - for standard output, but not for sqlite.", valueName: "file"))
    var output: String

    func validate() throws {
        if let to, to < from { throw ValidationError("--to lies before --from") }
        if output == "-", format == .sqlite { throw ValidationError("an SQLite database is a file: give -o FILE") }
    }

    func run() throws {
        Interruption.watch()
        let reader = try about(trace.text) { try TraceReader(path: trace.path) }
        var progress = Progress()
        defer { progress.end() }
        let file = output == "-" ? nil : OutputFile(output)
        defer { file?.discard() }
        let total = min(reader.totals.stepCount, to.map { $0 &+ 1 } ?? .max)
        let export = TraceExport(reader, ExportWindow(first: from, last: to ?? .max)) { step in
            progress.update { _ in "exporting: step \(grouped(step)) of \(grouped(total))" }
            if let signal = Interruption.pending {
                progress.end()
                file?.discard()
                StandardError.line("tracectl: interrupted: nothing is written")
                Glibc.exit(ExitStatus.signal(signal).rawValue)
            }
        }
        try about(trace.text) {
            switch format {
            case .sqlite: try export.writeSQLite(to: file?.part ?? "")
            case .perfetto: try export.writePerfetto { write($0, file) }
            case .csv: try export.writeCSV { write(Array($0.utf8), file) }
            case .jsonl:
                try export.forEach(wrapping: { $0 }) { (event, number) throws(ExportError) in
                    guard case .step(let step) = event else { return }
                    write(Array((jsonLine(of: step, number: number) + "\n").utf8), file)
                }
            }
        }
        guard format != .sqlite else {
            if let file { try moveIntoPlace(file.part, output) }
            return
        }
        try file?.finish()
    }

    private func write(_ bytes: [UInt8], _ file: OutputFile?) {
        guard let file else { return StandardOutput.write(bytes) }
        file.write(bytes)
    }
}
