// tracectl dump: the steps of a trace, one a line.

import ArgumentParser

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

    func run() throws {}
}
