// tracectl diff: two recordings side by side, and where they part.

import ArgumentParser

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares two recordings: the first difference and a summary.",
        discussion: """
            Status 0: the same; 1: different.

            Example: tracectl diff before.vmtrace after.vmtrace
            """)

    @Argument(help: "A trace.", completion: .file(extensions: ["vmtrace"]))
    var left: String

    @Argument(help: "Another.", completion: .file(extensions: ["vmtrace"]))
    var right: String

    @Flag(help: "One JSON document.")
    var json = false

    func run() throws {}
}
