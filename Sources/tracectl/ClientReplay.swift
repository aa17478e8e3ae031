// tracectl replay --against-client: runs a client with a backend that answers from its trace.

import Analysis
import Foundation
import Replay
import SystemPackage
import TraceFile

/// A client of libnvmm under test. Its standard output is its own: the verdict goes to standard error.
struct ClientReplay {
    var trace: TraceName
    var command: [String]
    var writesJSON: Bool

    /// - Throws: ``ExitStatus/difference`` where the client does otherwise than recorded, ``Trouble`` where nothing can
    ///   be said.
    func run() throws {
        Interruption.watch()
        let reader = try about(trace.text) {
            let reader = try TraceReader(path: trace.path)
            let level = reader.header.level
            guard level == .client else { throw ReplayError.guestWritesMissing(level) }
            guard reader.totals.stepCount > 0 else { throw ReplayError.noSteps }
            return reader
        }
        if reader.header.finishesInstructions { return try runOnAnswers(reader) }
        let (status, report) = try runClient()
        if report.trouble == ClientReport.unfinished {
            // Differences are reported at once: there was none so far.
            let text =
                "tracectl: different: the client ended with status \(status) after"
                + " \(counted(report.runCount, "run")), before it came to its end; what it did until then was as"
                + " recorded, to step \(grouped(report.stepCount))\n"
            let verdict = ClientVerdict(identical: false, clientStatus: status, report: report)
            StandardError.write(writesJSON ? try StableJSON.text(verdict) + "\n" : text)
            throw ExitStatus.difference
        }
        if let trouble = report.trouble {
            let sentence = "could not be replayed into the client: \(trouble)"
            throw Trouble(path: trace.text, cause: PlainTrouble(sentence: sentence))
        }
        let verdict = ClientVerdict(identical: report.isIdentical, clientStatus: status, report: report)
        StandardError.write(writesJSON ? try StableJSON.text(verdict) + "\n" : text(of: verdict))
        if !report.isIdentical { throw ExitStatus.difference }
    }

    /// A new folder of ours alone.
    func makeFolder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: "tracectl-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        return folder
    }

    private func runClient() throws -> (status: Int32, report: ClientReport) {
        let folder = try makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "report")
        let variables = [
            "NVMM_BACKEND": "recorded", "NVMM_RECORDING": absolutePath(trace.path.string),
            "NVMM_REPLAY_REPORT": file.path,
        ]
        // Where the user's machines are registered is the user's choice.
        var client = ClientProcess(command, setting: variables) {
            $0.hasPrefix("NVMM_") && !$0.hasPrefix("NVMM_RUNTIME_DIR=")
        }
        let child = try client.spawn()
        var ended: Int32?
        while ended == nil { ended = try client.exitStatus(of: child, waits: true) }
        let status = ended ?? 0
        if let signal = Interruption.pending {
            StandardError.line("tracectl: interrupted: no verdict")
            throw ExitStatus.signal(signal)
        }
        guard let data = try? Data(contentsOf: file),
            var report = try? JSONDecoder().decode(ClientReport.self, from: data)
        else {
            if status > 128 {
                StandardError.line(
                    "tracectl: \(command[0]): ended by signal \(status - 128) before any report came of it")
                throw ExitStatus.command(status)
            }
            let sentence =
                "no report came of the command (status \(status)): it has to be linked with this project's libnvmm.so,"
                + " call nvmm_init, and end by itself"
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: sentence))
        }
        let progress = folder.appending(path: "report.progress")
        if report.trouble == ClientReport.unfinished, let counts = try? Data(contentsOf: progress) {
            (report.runCount, report.stepCount) = (counts.number(at: 0), counts.number(at: 8))
        }
        return (status, report)
    }

    private func text(of verdict: ClientVerdict) -> String {
        let report = verdict.report
        let ending = verdict.clientStatus == 0 ? "" : "; the client ended with status \(verdict.clientStatus)"
        let runs = counted(report.runCount, "run")
        guard let difference = report.difference else {
            return "tracectl: identical: \(runs), \(counted(report.machineCallCount, "machine call"))\(ending)\n"
        }
        return "tracectl: different after \(runs)\(ending)\n\n\(difference.text)"
    }
}

/// What `--json` prints.
struct ClientVerdict: Encodable {
    var identical: Bool
    var clientStatus: Int32
    var report: ClientReport
}

extension Data {
    /// Eight bytes, little-endian; what is not there is 0.
    fileprivate func number(at offset: Int) -> UInt64 {
        dropFirst(offset).prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
