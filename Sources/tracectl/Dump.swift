// tracectl dump: the steps of a trace, one a line.

import ArgumentParser
import NVMM
import Replay
import SystemPackage
import TraceFile

struct Dump: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints the steps of a trace, one a line.",
        discussion: """
            Example, the first hundred: tracectl dump boot.vmtrace --exits 0..99
            Example, port accesses as JSON lines: tracectl dump boot.vmtrace --reason io --json
            """)

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    @Option(help: ArgumentHelp("Only these steps, both included.", valueName: "a..b"))
    var exits: StepRange?

    @Option(help: "Only exits of this reason, as NVMM names it.")
    var reason: ReasonName?

    @Flag(help: "One JSON object a line, with all registers.")
    var json = false

    func run() throws {
        try about(trace) {
            let reader = try TraceReader(path: FilePath(trace))
            let first = exits?.first ?? 0
            let last = exits?.last ?? .max
            // A keyframe is a place to begin reading at, too.
            let start = reader.keyframes.last { $0.stepCount <= first }
            let cursor = try reader.cursor(fromKeyframe: start?.index)
            var number = start?.stepCount ?? 0
            while number <= last, let event = try cursor.next() {
                guard case .step(let step) = event else { continue }
                defer { number += 1 }
                guard number >= first, reason == nil || step.exit.reason.code == reason?.code else { continue }
                StandardOutput.line(
                    json ? jsonLine(of: step, number: number) : "[\(number)] " + EventText.line(.step(step)))
            }
        }
    }
}
