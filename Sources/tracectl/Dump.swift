// tracectl dump: the steps of a trace, one a line.

import ArgumentParser
import NVMM
import Replay
import TraceFile

struct Dump: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints the steps of a trace, one a line.",
        discussion: """
            Example, the first hundred: tracectl dump boot.vmtrace --exits 0..99
            Example, port accesses as JSON lines: tracectl dump boot.vmtrace --reason io --json
            """)

    @Argument(help: TraceName.help, completion: .file(extensions: ["vmtrace"]))
    var trace: TraceName

    @Option(
        parsing: .unconditional, help: ArgumentHelp("Only these steps, both included.", valueName: "a..b"),
        transform: StepRange.parse)
    var exits: StepRange?

    @Option(help: "Only exits of this reason, as NVMM names it.")
    var reason: ReasonName?

    @Flag(help: "One JSON object a line, with all registers.")
    var json = false

    func run() throws {
        try about(trace.text) {
            let reader = try TraceReader(path: trace.path)
            let end = try reader.stepEnd()
            let first = exits?.first ?? 0
            let last = exits?.last ?? .max
            if exits != nil {
                guard first < end else { throw PlainTrouble(sentence: noStepSentence(first, end: end)) }
                if let asked = exits?.last, asked >= end { warnOfEnd("--exits", trace.text, end: end) }
            }
            let cursor = try reader.cursor(fromStep: first)
            while cursor.nextStepIndex <= last, let event = try cursor.next() {
                guard case .step(let step) = event else { continue }
                guard reason == nil || step.exit.reason.code == reason?.code else { continue }
                // The cursor stands behind the step.
                let number = cursor.nextStepIndex - 1
                StandardOutput.line(
                    json ? jsonLine(of: step, number: number) : "[\(number)] " + EventText.line(.step(step)))
            }
        }
    }
}

/// What to say where a step is asked for that the trace has not.
func noStepSentence(_ step: UInt64, end: UInt64) -> String {
    end == 0
        ? "holds no steps: there is no step \(step)"
        : "has no step \(step): its \(counted(end, "step")) are numbered 0 to \(end - 1)"
}

/// Says that an option reaches beyond the last step, which `end` follows.
func warnOfEnd(_ option: String, _ name: String, end: UInt64) {
    guard end > 0 else { return }
    StandardError.line("tracectl: \(name): has \(counted(end, "step")): \(option) ends at the last, step \(end - 1)")
}
