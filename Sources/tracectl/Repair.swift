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
    var trace: String

    @Option(name: [.short, .long], help: ArgumentHelp("The trace to write.", valueName: "trace"), completion: .file())
    var output: String

    func run() throws {
        let report: RepairReport
        do {
            report = try repairTrace(path: FilePath(trace), output: FilePath(output))
        } catch {
            switch error {
            case .read(let cause): throw Trouble(path: trace, cause: cause)
            case .write(let cause): throw Trouble(path: output, cause: cause)
            case .sameFile:
                throw Trouble(path: output, cause: PlainTrouble(sentence: "is the trace itself: give another name"))
            }
        }
        let from = report.wasComplete ? "" : ", the trace had not been closed"
        let journals = report.journalsMerged == 0 ? "" : ", merged \(counted(report.journalsMerged, "journal"))"
        StandardOutput.line("recovered \(counted(report.stepsRecovered, "step"))\(from)\(journals)")
        for lost in report.stepsLost {
            StandardOutput.line("lost: steps \(lost.lowerBound) to \(lost.upperBound &- 1)")
        }
        for lost in report.bytesLost {
            StandardOutput.line("lost: bytes \(lost.lowerBound) to \(lost.upperBound) of the file")
        }
        if report.keyframesLost > 0 { StandardOutput.line("lost: \(counted(report.keyframesLost, "keyframe"))") }
        for problem in report.damage { StandardOutput.line("found: " + sentence(for: problem)) }
        if report.endIsUncertain { StandardOutput.line("steps after the last one may be lost: the end is damaged") }
        if !report.isLossless { throw ExitStatus.difference }
        StandardOutput.line("nothing was lost")
    }
}
