// tracectl replay: repeats a recording on a backend and compares every step.

import Analysis
import ArgumentParser
import Glibc
import Replay
import SoftBackend
import TraceFile

struct ReplayTrace: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Repeats a recording and compares every exit, state and page.",
        discussion: """
            Status 0: all steps identical (or explained by a named unlogged input); 1: a difference; 2: trouble, such \
            as a trace without any step: where nothing was compared, nothing is identical.

            Example: tracectl replay boot.vmtrace
            Example, steps 5000 to 6000 from the nearest keyframe: tracectl replay boot.vmtrace --from 5000 --to 6000
            Example, a client of libnvmm or /dev/kvm against what it did when it was recorded, with no processor:
              tracectl replay --against-client client.vmtrace -- ./client arguments
            The trace is one of level client (record --level client, or fill). The client's output is its own; the \
            verdict comes on standard error.
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(help: "What executes the guest.")
    var backend: BackendName = .soft

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("First step; the replay starts at the keyframe before it.", valueName: "step"),
        transform: UInt64.parse)
    var from: UInt64?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("Last step.", valueName: "step"), transform: UInt64.parse)
    var to: UInt64?

    @Flag(help: "After a difference, go on from the recorded state, and count.")
    var resync = false

    @Option(
        help: ArgumentHelp(
            "Differences that are accepted, in TOML; the report says what each rule swallowed.", valueName: "file"),
        completion: .file(extensions: ["toml"]))
    var known: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            """
            Parts of a long trace that are replayed at the same time, each with its own memory (default: one for each \
            processor, 4 at most).
            """,
            valueName: "n"), transform: Int.parse)
    var jobs: Int?

    @Flag(help: "One JSON document.")
    var json = false

    @Flag(help: "Test a client: the trace answers it in its hypervisor's place, and what it does is compared.")
    var againstClient = false

    @Option(parsing: .unconditional, help: ArgumentHelp(visibility: .hidden), transform: FaultRequest.parse)
    var fault: FaultRequest?

    @Argument(parsing: .postTerminator, help: "The client to run, after --, with --against-client.")
    var command: [String] = []

    func validate() throws {
        guard againstClient == !command.isEmpty else {
            throw ValidationError("--against-client and a command go together: --against-client TRACE -- COMMAND")
        }
        if againstClient, from != nil || to != nil || resync || known != nil || jobs != nil || fault != nil {
            throw ValidationError("--from, --to, --resync, --known and --jobs do not go with --against-client")
        }
        if let jobs, jobs < 1 { throw ValidationError("--jobs is 1 or more") }
        if let from, let to, to < from { throw ValidationError("--to lies before --from") }
    }

    func run() throws {
        if againstClient { return try ClientReplay(trace: trace, command: command, writesJSON: json).run() }
        Interruption.watch()
        let known = try known.map { try readKnownDifferences($0) } ?? []
        let report = try about(trace.text) {
            let reader = try TraceReader(path: trace.path)
            var options = ReplayOptions(from: from ?? 0, resynchronises: resync)
            options.known = known
            // The options end before a step, the command line names the last one.
            options.to = to.map { $0 == .max ? $0 : $0 + 1 }
            let model = reader.header.isOfHypervisor ? nil : reader.header.processorModel
            let subject = try makeBackend(backend, model: model, recording: reader.header, fault: fault)
            let reference = try makeBackend(.soft, model: model, recording: reader.header, fault: nil)
            let end = try reader.stepEnd()
            if let to, to >= end { warnOfEnd("--to", trace.text, end: end) }
            var progress = Progress()
            defer { progress.end() }
            let total = reader.totals.stepCount
            let replayer: Replayer
            // A deliberate error begins at a run of one machine that executes them all.
            if fault == nil, let shared = subject as? SoftBackend {
                replayer = Replayer(
                    reader, on: shared, jobs: jobs ?? min(processorCount, 4), reference: reference, options: options)
            } else {
                replayer = Replayer(reader, on: subject, reference: reference, options: options)
            }
            return try replayer.run { done in
                progress.update { seconds in
                    "replaying: step \(grouped(done.step)) of \(grouped(total)),"
                        + " \(grouped(Int(Double(done.stepsDone) / seconds))) steps/s"
                }
                if let signal = Interruption.pending {
                    progress.end()
                    StandardError.line("tracectl: interrupted at step \(done.step): no verdict")
                    Glibc.exit(ExitStatus.signal(signal).rawValue)
                }
            }
        }
        StandardOutput.write(json ? try StableJSON.text(report) + "\n" : text(of: report))
        if let fault, report.isClean, report.knownDifferences.allSatisfy({ $0.stepCount == 0 }) {
            warnOfIdleFault(fault, in: report)
        }
        warnOfGreed(report)
        if !report.isClean { throw ExitStatus.difference }
    }

    /// A rule is for a rare case: one that swallows more hides what nobody has looked into.
    private func warnOfGreed(_ report: ReplayReport) {
        for use in report.knownDifferences where use.stepCount &* 1000 > report.totals.stepCount {
            StandardError.line(
                "tracectl: the known difference of \(use.rule.instruction) in \(use.rule.field) swallowed"
                    + " \(share(use.stepCount, of: report.totals.stepCount)) of the steps: look into it again")
        }
    }

    /// A fault that was asked for and not found is a finding about the request, not about the trace.
    private func warnOfIdleFault(_ fault: FaultRequest, in report: ReplayReport) {
        let why =
            fault.step >= report.endStep
            ? "never fired: the replay ended after step \(report.endStep - min(1, report.endStep))"
            : "never fired, or changed nothing that a step shows: choose another fault or an earlier step"
        StandardError.line("tracectl: the fault \(fault) \(why)")
    }
}
