// tracectl info: what a trace is: who recorded it, how long it is, what it is good for.

import ArgumentParser

struct Info: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a trace holds, without decoding it.",
        discussion: "Example: tracectl info boot.vmtrace")

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {}
}
