// tracectl repair: makes a whole trace of what a killed writer or a damaged disk left.

import ArgumentParser
import Glibc
import SystemPackage
import TraceFile
import Tracer

struct Repair: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Merges what a killed recording left, rebuilds the index, says what was lost.",
        discussion: """
            What a client of libnvmm had recorded and nobody drained is in a ring beside the trace: it is merged too.
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
        var leftover: [TraceEvent] = []
        let ring = FilePath(ringName(besides: trace.text))
        if trace.text != "-", unsafe access(ring.string, F_OK) == 0 {
            do throws(ImportError) {
                leftover = try leftoverEvents(ring: ring, of: trace.path)
            } catch {
                guard (try? TraceReader(path: trace.path)) != nil else { return try importRing(ring, name, say) }
                // The trace is worth saving without it.
                StandardError.line("tracectl: \(ring): \(sentence(for: error)): it is left out")
            }
        }
        do {
            report = try repairTrace(
                path: trace.path, to: isPiped ? .descriptor(.standardOutput) : .file(FilePath(output)),
                appending: leftover)
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
        let drained = leftover.isEmpty ? "" : ", \(counted(leftover.count, "event")) from the ring"
        say("recovered \(counted(report.stepsRecovered, "step"))\(from)\(journals)\(drained)")
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

    /// The drainer was killed before it had begun the trace: all that was recorded is in the ring.
    private func importRing(_ ring: FilePath, _ name: String, _ say: (String) -> Void) throws {
        let destination: TraceDestination = output == "-" ? .descriptor(.standardOutput) : .file(FilePath(output))
        do {
            let result = try importLeftover(ring: ring, to: destination)
            guard let totals = result.totals else {
                throw Trouble(path: ring.string, cause: PlainTrouble(sentence: "nothing was recorded in it"))
            }
            say("recovered \(counted(totals.stepCount, "step")) from the ring: the trace had not been begun")
        } catch let error as ImportError {
            switch error {
            case .write: throw Trouble(path: name, cause: error)
            // Killed before it was set up.
            case .notARecording, .tooShort:
                throw Trouble(path: ring.string, cause: PlainTrouble(sentence: "nothing was recorded in it"))
            default: throw Trouble(path: ring.string, cause: error)
            }
        }
    }
}
