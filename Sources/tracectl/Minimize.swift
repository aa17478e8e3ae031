// tracectl minimize: the smallest trace that still shows the same first difference.

import Analysis
import ArgumentParser
import Glibc
import Replay
import SystemPackage
import TraceFile

struct Minimize: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes the smallest trace that still shows the same first difference.",
        discussion: """
            Begins later, ends with the divergent step, and leaves out inputs, pages and bytes of memory, as long as a \
            replay finds the same instruction and the same values. The result is a trace like any other, for a bug \
            report or a corpus (corpus add --expect different).

            Status 0: written; 2: trouble, such as a trace that replays without a difference.

            Example: tracectl minimize boot.vmtrace --backend kvm -o small.vmtrace
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(help: "What executes the guest.")
    var backend: BackendName = .soft

    @Option(
        help: ArgumentHelp("Differences that are accepted, in TOML, as for replay.", valueName: "file"),
        completion: .file(extensions: ["toml"]))
    var known: String?

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write.", valueName: "trace"),
        completion: .file(extensions: ["vmtrace"]))
    var output: String

    @Flag(help: "One JSON document.")
    var json = false

    @Option(parsing: .unconditional, help: ArgumentHelp(visibility: .hidden), transform: FaultRequest.parse)
    var fault: FaultRequest?

    func run() throws {
        Interruption.watch()
        let known = try known.map { try readKnownDifferences($0) } ?? []
        let reader = try about(trace.text) { try TraceReader(path: trace.path) }
        guard !isSameFile(trace.path, FilePath(output)) else {
            throw Trouble(
                path: output, cause: PlainTrouble(sentence: "is the trace that is read: give the copy another name"))
        }
        let header = reader.header
        let model = header.isOfHypervisor ? nil : header.processorModel
        let (part, candidate) = (output + ".part", output + ".candidate")
        func discard() { for path in [part, candidate] { removeTrace(path) } }
        discard()
        defer { discard() }
        var progress = Progress()
        let report = try about(trace.text) {
            let reference = try makeBackend(.soft, model: model, recording: header, fault: nil)
            let minimizer = TraceMinimizer(reader, reference: reference, known: known, workFile: FilePath(candidate)) {
                var fault = fault
                if let step = fault?.step { fault?.step = step > $0 ? step - $0 : 0 }
                return try makeBackend(backend, model: model, recording: header, fault: fault)
            }
            return try minimizer.minimize(to: FilePath(part)) { report in
                progress.update { _ in "minimizing: \(counted(report.candidateCount, "candidate"))" }
                if let signal = Interruption.pending {
                    progress.end()
                    discard()
                    StandardError.line("tracectl: interrupted: nothing is written")
                    Glibc.exit(ExitStatus.signal(signal).rawValue)
                }
            }
        }
        progress.end()
        try moveIntoPlace(part, output)
        if json { return StandardOutput.line(try StableJSON.text(report)) }
        StandardOutput.write(text(of: report, seconds: progress.elapsed / .seconds(1)))
    }

    private func text(of report: MinimizeReport, seconds: Double) -> String {
        var lines: [String] = []
        lines.append(
            "minimized: \(counted(report.stepsAfter, "step")) of \(grouped(report.stepsBefore)),"
                + " beginning with step \(report.firstStep)")
        lines.append("  inputs between steps  \(grouped(report.inputsAfter)) of \(grouped(report.inputsBefore))")
        lines.append("  pages at the start    \(grouped(report.pagesAfter)) of \(grouped(report.pagesBefore))")
        lines.append(
            "  bytes in them         \(grouped(report.bytesAfter)) of \(grouped(report.bytesBefore)), not zero")
        if let place = report.divergence?.wrongInstruction?.place ?? report.divergence?.instructionAtExit {
            lines.append("  still                 \(place.text) at rip \(hex(place.rip))")
        }
        lines.append("  \(counted(report.candidateCount, "candidate")) replayed in \(decimals(seconds, 1)) s")
        return lines.joined(separator: "\n") + "\n"
    }
}

/// The rules of a file for `--known`.
func readKnownDifferences(_ path: String) throws -> [KnownDifference] {
    let bytes = try readFile(path)
    return try about(path) { try KnownDifferencesFile.rules(in: String(decoding: bytes, as: UTF8.self)) }
}
