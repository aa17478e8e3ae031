// tracectl repair: makes a whole trace of what a killed writer or a damaged disk left.

import ArgumentParser

struct Repair: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Merges what a killed recording left, rebuilds the index, says what was lost.",
        discussion: """
            The input is not changed. Status 0: nothing was lost; 1: something was, and is named.

            Example: tracectl repair boot.vmtrace -o whole.vmtrace
            """)

    @Argument(help: "The trace; the files that its writer left beside it are found by its name.", completion: .file())
    var trace: String

    @Option(name: [.short, .long], help: ArgumentHelp("The trace to write.", valueName: "trace"), completion: .file())
    var output: String

    func run() throws {}
}
