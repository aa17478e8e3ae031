// tracectl nvmm: what the backend behind libnvmm offers, and which machines there are.

import Analysis
import ArgumentParser
import Glibc
import LibNVMM
import NVMM

struct NVMMCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nvmm", abstract: "Tells what the backend behind libnvmm offers, and which machines there are.",
        subcommands: [Identify.self, ListMachines.self])
}

struct Identify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints the capability that clients of libnvmm see.",
        discussion: "Example: tracectl nvmm identify --json")

    @Option(help: "The backend to ask.")
    var backend: BackendName = .soft

    @Flag(help: "Print one JSON document.")
    var json = false

    private struct Document: Encodable {
        var backend, processorModel: String
        var version, stateBytes, machinesMax, vcpusMax, cpuidEntriesMax: UInt32
        var memoryBytesMax: UInt64
        var xcr0Mask, mxcsrMask: String
        var offersTPRExits, countsInstructions: Bool
    }

    func run() throws {
        let asked = try makeBackend(backend, model: nil, fault: nil)
        let offered = asked.capability
        let document = Document(
            backend: asked.name, processorModel: asked.processorModel, version: offered.version,
            stateBytes: offered.stateBytes, machinesMax: offered.machinesMax, vcpusMax: offered.vcpusMax,
            cpuidEntriesMax: offered.cpuidEntriesMax, memoryBytesMax: offered.memoryBytesMax,
            xcr0Mask: hex(offered.xcr0Mask), mxcsrMask: hex(UInt64(offered.mxcsrMask)),
            offersTPRExits: offered.offersTPRExits, countsInstructions: offered.countsInstructions)
        if json { return StandardOutput.line(try StableJSON.text(document)) }
        StandardOutput.line("backend \(document.backend), processor \(document.processorModel)")
        StandardOutput.line("  kernel version     \(document.version), state of \(grouped(document.stateBytes)) bytes")
        StandardOutput.line("  machines           \(document.machinesMax), VCPUs in each \(document.vcpusMax)")
        StandardOutput.line("  guest memory       \(sized(document.memoryBytesMax))")
        StandardOutput.line("  XCR0 mask          \(document.xcr0Mask)")
        StandardOutput.line("  MXCSR mask         \(document.mxcsrMask)")
        StandardOutput.line("  CPUID leaves       \(document.cpuidEntriesMax) can be configured")
        StandardOutput.line("  TPR exits          \(yes(document.offersTPRExits))")
        StandardOutput.line("  instruction counts \(yes(document.countsInstructions))")
    }

    private func yes(_ value: Bool) -> String { value ? "yes" : "no" }
}

struct ListMachines: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the machines of this user's clients of libnvmm.",
        discussion: """
            Machine number, VCPUs, guest memory, owner and age, as nvmmctl does.

            Example: tracectl nvmm list
            """)

    @Flag(help: "Print one JSON document.")
    var json = false

    func run() throws {
        let machines = MachineRegistry().entries
        if json { return StandardOutput.line(try StableJSON.text(machines)) }
        let lines = table(
            "machine", ["VCPUs", "memory", "process", "created"],
            machines.map { entry in
                (
                    "\(entry.id)",
                    ["\(entry.vcpuCount)", sized(entry.memoryBytes), "\(entry.process)", dateText(entry.seconds)]
                )
            })
        StandardOutput.line(lines.isEmpty ? "no machines" : lines.dropFirst().joined(separator: "\n"))
    }
}

/// Local time to the second.
private func dateText(_ seconds: Int64) -> String {
    var moment = time_t(seconds)
    var parts = unsafe tm()
    var text = [CChar](repeating: 0, count: 32)
    // SAFETY: the buffers live for the calls, and strftime ends the text with a zero within 32 bytes or gives 0.
    guard unsafe localtime_r(&moment, &parts) != nil,
        unsafe strftime(&text, text.count, "%Y-%m-%d %H:%M:%S", &parts) > 0
    else { return "\(seconds)" }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
