// tracectl verify: every checksum of a trace, without interpreting more than needed.

import ArgumentParser

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks the integrity of a trace: every frame and checksum.",
        discussion: """
            Status 0: sound; 1: damaged, each damage with its place.

            Example: tracectl verify boot.vmtrace
            """)

    @Argument(help: "The trace.", completion: .file(extensions: ["vmtrace"]))
    var trace: String

    func run() throws {}
}
