// tracectl record: boots firmware or a flat guest on a backend and writes what crosses the boundary.

import ArgumentParser
import NVMM
import TraceFile

struct Record: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a guest and records every exit, event and commit.",
        discussion: """
            The trace is created with mode 0600: it holds the guest's memory.

            Example, firmware with a disk:
              tracectl record --firmware /usr/share/seabios/bios.bin --disk boot.img -o boot.vmtrace
            Example, a flat image entered at 0000:7C00 in real mode:
              tracectl record --guest hello.bin --max-instructions 1000000 -o hello.vmtrace
            """)

    @Option(help: "What executes the guest.")
    var backend: BackendName = .soft

    @Option(help: "How much to record: exits (statistics, comparison) or replay (all that a replay needs).")
    var level: LevelName = .replay

    @Option(help: ArgumentHelp("Firmware to enter at the reset vector.", valueName: "file"), completion: .file())
    var firmware: String?

    @Option(
        help: ArgumentHelp("A flat, ELF or multiboot image to load and enter directly.", valueName: "file"),
        completion: .file())
    var guest: String?

    @Option(help: ArgumentHelp("Where a flat guest is loaded (default: 0x7c00).", valueName: "address"))
    var loadAt: Address?

    @Option(
        help: ArgumentHelp("Disk image; opened for reading, writes are kept in memory.", valueName: "image"),
        completion: .file())
    var disk: String?

    @Option(help: ArgumentHelp("Guest memory.", valueName: "bytes"))
    var memory = ByteCount(bytes: 64 << 20)

    @Option(help: "Virtual processors.")
    var cpus: UInt32 = 1

    @Option(help: ArgumentHelp("Processor model that the guest sees.", valueName: "model"))
    var cpu: String?

    @Option(help: ArgumentHelp("Steps between keyframes.", valueName: "steps"))
    var keyframeEvery: UInt64?

    @Option(help: ArgumentHelp("End the recording after so many exits.", valueName: "n"))
    var maxExits: UInt64?

    @Option(help: ArgumentHelp("End the recording after so many instructions.", valueName: "n"))
    var maxInstructions: UInt64?

    @Flag(help: "Record host time too; two recordings are then no longer the same bytes.")
    var time = false

    @Flag(help: "Write to stable storage once a second.")
    var durable = false

    @Option(help: ArgumentHelp("Fail where the recording is worth less than this: exact.", valueName: "grade"))
    var require: RequiredGrade?

    @Option(help: ArgumentHelp(visibility: .hidden))
    var fault: FaultRequest?

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write; - for standard output.", valueName: "trace"),
        completion: .file(extensions: ["vmtrace"]))
    var output: String

    func validate() throws {
        guard (firmware == nil) != (guest == nil) else {
            throw ValidationError("name what to run: either --firmware FILE or --guest FILE")
        }
        guard loadAt == nil || guest != nil else { throw ValidationError("--load-at goes with --guest") }
        guard cpus > 0 else { throw ValidationError("--cpus must be at least 1") }
        guard keyframeEvery != 0 else { throw ValidationError("--keyframe-every must be at least 1") }
    }

    func run() throws {}
}

enum RequiredGrade: String, ExpressibleByArgument, CaseIterable { case exact }

/// ``RecordLevel`` as an option.
enum LevelName: String, ExpressibleByArgument, CaseIterable {
    case exits, replay
    var level: RecordLevel { self == .exits ? .exits : .replay }
}
