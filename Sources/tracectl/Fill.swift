// tracectl fill: adds to a trace what its guest wrote to memory.

import ArgumentParser
import Glibc
import Replay
import SystemPackage
import TraceFile

struct Fill: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Adds what the guest wrote to memory, for replay --against-client.",
        discussion: """
            Replays a trace of level replay and writes it again with what the guest wrote in each step: level client. \
            Status 1 where the replay differs: nothing is then written.

            Example: tracectl fill boot.vmtrace -o boot-client.vmtrace
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write.", valueName: "trace"),
        completion: .file(extensions: ["vmtrace"]))
    var output: String

    func run() throws {
        Interruption.watch()
        let reader = try about(trace.text) { try TraceReader(path: trace.path) }
        guard output != "-" else {
            throw Trouble(
                path: "standard output", cause: PlainTrouble(sentence: "a filled trace goes to a file: give -o FILE"))
        }
        guard !isSameFile(trace.path, FilePath(output)) else {
            throw Trouble(
                path: output, cause: PlainTrouble(sentence: "is the trace that is read: give the copy another name"))
        }
        // Under another name until it is whole: a copy that ends early is of no use, and an older one may be.
        discard()
        defer { discard() }
        let report = try about(trace.text) {
            do {
                return try fill(reader)
            } catch ReplayError.write(let error) {
                throw Trouble(path: output, cause: error)
            }
        }
        guard report.isClean else {
            StandardOutput.write(Self.refusal + "\n" + text(of: report))
            throw ExitStatus.difference
        }
        try moveIntoPlace(part, output)
        StandardOutput.line("filled \(counted(report.endStep, "step")): every one replayed identical")
    }

    private var part: String { output + ".part" }

    private func discard() { removeTrace(part) }

    private static let refusal = "not filled: the replay differs, so that what the recorded guest wrote is not known"

    private func fill(_ reader: TraceReader) throws -> ReplayReport {
        let header = reader.header
        let model = header.isOfHypervisor ? nil : header.processorModel
        let filler = TraceFiller(
            reader, on: try makeBackend(.soft, model: model, recording: header, fault: nil),
            reference: try makeBackend(.soft, model: model, recording: header, fault: nil))
        var progress = Progress()
        defer { progress.end() }
        let total = reader.totals.stepCount
        return try filler.fill(to: .file(FilePath(part))) { done in
            progress.update { _ in "filling: step \(grouped(done.step)) of \(grouped(total))" }
            if let signal = Interruption.pending {
                progress.end()
                discard()
                StandardError.line("tracectl: interrupted at step \(done.step): nothing is written")
                Glibc.exit(ExitStatus.signal(signal).rawValue)
            }
        }
    }
}
