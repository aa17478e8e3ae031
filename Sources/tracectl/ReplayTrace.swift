// tracectl replay: repeats a recording on a backend and compares every step.

import ArgumentParser

struct ReplayTrace: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Repeats a recording and compares every exit, state and page.",
        discussion: """
            Status 0: all steps identical (or explained by a named unlogged input); 1: a difference.

            Example: tracectl replay boot.vmtrace
            Example, steps 5000 to 6000 from the nearest keyframe: tracectl replay boot.vmtrace --from 5000 --to 6000
            """)

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    @Option(help: "What executes the guest.")
    var backend: BackendName = .soft

    @Option(help: ArgumentHelp("First step; the replay starts at the keyframe before it.", valueName: "step"))
    var from: UInt64?

    @Option(help: ArgumentHelp("Last step.", valueName: "step"))
    var to: UInt64?

    @Flag(help: "After a difference, go on from the recorded state, and count.")
    var resync = false

    @Flag(help: "One JSON document.")
    var json = false

    @Option(help: ArgumentHelp(visibility: .hidden))
    var fault: FaultRequest?

    func validate() throws {
        if let from, let to, to < from { throw ValidationError("--to lies before --from") }
    }

    func run() throws {}
}
