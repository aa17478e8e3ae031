// tracectl record --ring -- COMMAND: the command's recording stays in memory until a trigger comes.

import Glibc
import Tracer

extension ClientRecording {
    /// Drains the ring into memory, writes the trace when a trigger comes, and waits for the command's end.
    ///
    /// - Returns: the command's exit status, 128 + n where a signal ended it.
    func fly(
        _ child: pid_t, of process: ClientProcess, _ ring: RecordRing, _ drain: RingDrain, _ flight: Flight
    ) throws -> Int32 {
        var process = process
        var pause: useconds_t = 0
        while true {
            if let status = try process.exitStatus(of: child, waits: false) {
                ring.turnOff()
                try land(drain, flight, flight.trigger() ?? flight.trigger(commandStatus: status))
                return status
            }
            do throws(ImportError) {
                // A client that waits is looked at less and less often, up to 500 times a second.
                pause = try drain.step() ? 0 : min(pause + 100, 2000)
                if pause > 0 { usleep(pause) }
            } catch {
                // The client goes on. What came before is kept, and is all that there will be.
                ring.turnOff()
                StandardError.line("tracectl: \(sentence(for: error)): the recording ends there")
                return try wait(for: child, of: process) { status in
                    try land(drain, flight, flight.trigger(commandStatus: status))
                }
            }
            guard let trigger = flight.trigger() else { continue }
            // Whoever has something to look for wants the trace now, not when the command ends.
            ring.turnOff()
            try land(drain, flight, trigger)
            return try wait(for: child, of: process) { _ in }
        }
    }

    private func wait(
        for child: pid_t, of process: ClientProcess, _ ended: (Int32) throws -> Void
    ) throws -> Int32 {
        var process = process
        while true {
            guard let status = try process.exitStatus(of: child, waits: true) else { continue }
            try ended(status)
            return status
        }
    }

    private func land(_ drain: RingDrain, _ flight: Flight, _ trigger: String?) throws {
        // Records that make no sense end what is kept; the part before them is written all the same.
        var failure: ImportError?
        do throws(ImportError) { _ = try drain.finish() } catch { failure = error }
        removeFile(ringPath)
        if let failure { StandardError.line("tracectl: \(sentence(for: failure)): the recording ends there") }
        guard flight.recorder != nil else {
            let text = "nothing was recorded: it has to be linked with a libnvmm.so, dynamically, and make a machine"
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: text))
        }
        guard let trigger else { return flight.reportNothing() }
        try flight.write(to: output, because: trigger, options)
    }
}
