// tracectl repair: makes a whole trace of what a killed writer or a damaged disk left.

import ArgumentParser
import SystemPackage
import TraceFile

struct Repair: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Merges what a killed recording left, rebuilds the index, says what was lost.",
        discussion: """
            The input is not changed. Status 0: nothing was lost; 1: something was, and is named.

            Example: tracectl repair boot.vmtrace -o whole.vmtrace
            """)

    @Argument(help: "The trace; the files that its writer left beside it are found by its name.", completion: .file())
    var trace: TraceName

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write; - for standard output.", valueName: "trace"),
        completion: .file())
    var output: String

    func run() throws {
        let report: RepairReport
        let isPiped = output == "-"
        let name = isPiped ? "standard output" : output
        func say(_ line: String) {
            if isPiped { StandardError.line(line) } else { StandardOutput.line(line) }
        }
        do {
            report = try repairTrace(
                path: trace.path, to: isPiped ? .descriptor(.standardOutput) : .file(FilePath(output)))
        } catch {
            switch error {
            case .read(let cause): throw Trouble(path: trace.text, cause: cause)
            case .write(let cause): throw Trouble(path: name, cause: cause)
            case .sameFile:
                throw Trouble(path: output, cause: PlainTrouble(sentence: "is the trace itself: give another name"))
            }
        }
        let from = report.wasComplete ? "" : ", the trace had not been closed"
        let journals = report.journalsMerged == 0 ? "" : ", merged \(counted(report.journalsMerged, "journal"))"
        say("recovered \(counted(report.stepsRecovered, "step"))\(from)\(journals)")
        for lost in report.stepsLost {
            say("lost: steps \(lost.lowerBound) to \(lost.upperBound &- 1)")
        }
        for lost in report.bytesLost {
            say("lost: bytes \(lost.lowerBound) to \(lost.upperBound) of the file")
        }
        if report.keyframesLost > 0 { say("lost: \(counted(report.keyframesLost, "keyframe"))") }
        for problem in report.damage { say("found: " + sentence(for: problem)) }
        if report.endIsUncertain { say("steps after the last one may be lost: the end is damaged") }
        if !report.isLossless { throw ExitStatus.difference }
        say("nothing was lost")
    }
}
