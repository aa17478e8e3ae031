// tracectl replay --against-client of a client of /dev/kvm: the shim answers it from the trace, what it does is
// recorded again, and both recordings are compared.

import Analysis
import Foundation
import Replay
import SystemPackage
import TraceFile
import Tracer

extension ClientReplay {
    func runOnAnswers(_ reader: TraceReader) throws {
        let folder = try makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let answers = folder.appending(path: "answers").path
        try about(trace.text) { try KVMAnswers.write(reader, to: FilePath(answers)) }
        let again = folder.appending(path: "again.vmtrace").path
        let client = ClientRecording(
            command: command, output: again, level: .replay, isDurable: false, drops: false, answers: answers)
        let result = Result { try client.record() }
        if let signal = Interruption.pending {
            StandardError.line("tracectl: interrupted: no verdict")
            throw ExitStatus.signal(signal)
        }
        let status = try result.get()
        let comparison = try about(trace.text) {
            try ClientComparison(reader, try TraceReader(path: FilePath(again)))
        }
        let verdict = KVMClientVerdict(
            identical: comparison.isIdentical, clientStatus: status, comparison: comparison)
        StandardError.write(writesJSON ? try StableJSON.text(verdict) + "\n" : text(of: verdict))
        if !comparison.isIdentical { throw ExitStatus.difference }
    }

    private func text(of verdict: KVMClientVerdict) -> String {
        let comparison = verdict.comparison
        let ending = verdict.clientStatus == 0 ? "" : "; the client ended with status \(verdict.clientStatus)"
        var lines = [
            "tracectl: \(comparison.isIdentical ? "identical" : "different"): \(counted(comparison.exitCount, "exit"))"
                + ending
        ]
        if comparison.missingCount > 0 {
            lines.append("  the client ended before \(counted(comparison.missingCount, "more exit")) of the recording")
        }
        if comparison.extraCount > 0 {
            lines.append("  the client went on after the recording's end, and was asked to end with SIGTERM")
        }
        if comparison.waitCount > 0 {
            lines.append("  its timers were waited for: \(counted(comparison.waitCount, "time"))")
        }
        if comparison.movedWriteCount > 0 {
            lines.append("  writes to memory came earlier or later: \(counted(comparison.movedWriteCount, "time"))")
        }
        for difference in comparison.first {
            let count = comparison.counts[difference.kind] ?? 0
            lines.append(
                "  \(difference.kind.rawValue): \(counted(count, "exit")), the first \(grouped(difference.step))")
            for field in difference.fields.prefix(8) {
                lines.append("    \(field.name): recorded \(field.expected), now \(field.actual)")
            }
        }
        for device in comparison.differingDevices.prefix(10) {
            lines.append("  other answers of \(device.name): \(counted(device.count, "time"))")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// What `--json` prints.
struct KVMClientVerdict: Encodable {
    var identical: Bool
    var clientStatus: Int32
    var comparison: ClientComparison
}
