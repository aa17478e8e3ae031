// A recording that is kept in memory until a trigger: asks the triggers, and writes the trace.

import Glibc
import NVMM
import SystemPackage
import TraceFile
import Tracer

/// What a recording does with its newest part.
final class Flight {
    let byteCount: Int
    let triggers: Triggers
    /// Steps between keyframes, at one of which what is kept begins: some eight of them, at about 256 bytes a step.
    var keyframeEvery: UInt64 { UInt64(min(max(byteCount / 2048, 256), 65_536)) }
    private(set) var recorder: FlightRecorder?
    private var lastCount: UInt64 = 0
    private var lastExit = ContinuousClock.now

    init(byteCount: Int, triggers: Triggers) {
        self.byteCount = byteCount
        self.triggers = triggers
    }

    func makeSink(_ header: TraceHeader) throws(TraceWriteError) -> any TraceSink {
        let made = try FlightRecorder(header, byteCount: byteCount)
        made.endsAfter = { [triggers] in triggers.endsAfter($0) }
        recorder = made
        lastExit = .now
        return made
    }

    /// The trigger that has come, in words; nil while none has. To be asked a few times a second.
    func trigger() -> String? {
        guard let recorder else { return nil }
        if let exit = recorder.ending { return "exit \(exit.name)" }
        if Interruption.asksForTrace, triggers.all.contains(.signal) { return "a signal to tracectl" }
        if recorder.guestExitCount != lastCount {
            lastCount = recorder.guestExitCount
            lastExit = .now
        }
        guard let stall = triggers.stall, ContinuousClock.now - lastExit >= stall else { return nil }
        return "no exit for \(stall)"
    }

    /// As ``trigger()``, of a command that has ended.
    func trigger(commandStatus status: Int32) -> String? {
        guard triggers.all.contains(.signal), status > 128 else { return nil }
        return "the command was ended by signal \(status - 128)"
    }

    /// A place that cannot be written must not come to light when something has happened at last.
    static func checkFolder(of output: String) throws {
        guard output != "-" else { return }
        let folder = FilePath(output).removingLastComponent()
        let path = folder.isEmpty ? "." : folder.string
        guard unsafe access(path, W_OK | X_OK) == 0 else {
            throw Trouble(path: output, cause: PlainTrouble(sentence: systemSentence("access", errno)))
        }
    }

    /// Writes what is kept, and says so.
    func write(to output: String, because trigger: String, _ options: TraceWriterOptions) throws {
        guard let recorder else { return }
        recorder.end()
        let isPiped = output == "-"
        let totals = try about(isPiped ? "standard output" : output) {
            try recorder.write(to: isPiped ? .descriptor(.standardOutput) : .file(FilePath(output)), options: options)
        }
        let first = recorder.firstStep == 0 ? "all" : "from step \(grouped(recorder.firstStep)) on"
        StandardError.line(
            "tracectl: \(trigger): wrote \(counted(totals.stepCount, "exit")), \(first),"
                + " \(sized(totals.bytes.total))")
        if recorder.lacksBeginning {
            StandardError.line(
                "tracectl: good for exits only (statistics and comparison): no keyframe lies in what was kept;"
                    + " of a client of /dev/kvm only a whole recording replays: give --ring more")
        }
    }

    /// For a recording that came to its end without.
    func reportNothing() {
        StandardError.line(
            "tracectl: no trigger came in \(counted(recorder?.stepCount ?? 0, "exit")): no trace is written")
    }
}
