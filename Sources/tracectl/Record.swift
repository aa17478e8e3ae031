// tracectl record: boots firmware or a flat guest on a backend and writes what crosses the boundary.

import ArgumentParser
import Glibc
import NVMM
import ReferenceVMM
import SystemPackage
import TraceFile
import Tracer

struct Record: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a guest and records every exit, event and commit.",
        discussion: """
            The trace is created with mode 0600: it holds the guest's memory.

            Example, firmware with a disk:
              tracectl record --firmware /usr/share/seabios/bios.bin --disk boot.img -o boot.vmtrace
            Example, a flat image entered at 0000:7C00 in real mode:
              tracectl record --guest hello.bin --max-instructions 1000000 -o hello.vmtrace
            Example, a Linux kernel with its initial RAM disk, without firmware:
              tracectl record --kernel vmlinuz --initrd initrd.img --append console=ttyS0 --memory 256M \
                --max-instructions 2000000000 -o linux.vmtrace
            Example, a program that uses libnvmm, recorded by a library that is preloaded into it:
              tracectl record -o client.vmtrace -- ./client arguments
            Example, an unmodified QEMU on KVM:
              tracectl record -o boot.vmtrace -- qemu-system-x86_64 -accel kvm -m 64 -drive file=disk.img
            Example, the last 64 MiB before a crash, whenever it comes:
              tracectl record --ring 64M --trigger shutdown,stall=10s -o crash.vmtrace -- ./client arguments
            """)

    @Option(help: "What executes the guest.")
    var backend: BackendName = .soft

    @Option(
        help: """
            How much to record: exits (statistics, comparison), replay (all that a replay needs) or client (also what \
            the guest writes, for replay --against-client).
            """)
    var level: LevelName = .replay

    @Option(help: ArgumentHelp("Firmware to enter at the reset vector.", valueName: "file"), completion: .file())
    var firmware: String?

    @Option(
        help: ArgumentHelp("A flat, ELF or multiboot image to load and enter directly.", valueName: "file"),
        completion: .file())
    var guest: String?

    @Option(
        help: ArgumentHelp(
            "A Linux kernel to enter: a bzImage by its boot protocol, a vmlinux by PVH.", valueName: "file"),
        completion: .file())
    var kernel: String?

    @Option(help: ArgumentHelp("Its initial RAM disk.", valueName: "file"), completion: .file())
    var initrd: String?

    @Option(parsing: .unconditional, help: ArgumentHelp("Its command line.", valueName: "text"))
    var append: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Where a flat guest is loaded (default: 0x7c00).", valueName: "address"),
        transform: Address.parse)
    var loadAt: Address?

    @Option(
        help: ArgumentHelp("Disk image; opened for reading, writes are kept in memory.", valueName: "image"),
        completion: .file())
    var disk: String?

    @Option(help: ArgumentHelp("The same as a virtio disk on PCI.", valueName: "image"), completion: .file())
    var virtioDisk: String?

    @Flag(help: "A virtio console on PCI; standard output is its output too.")
    var virtioConsole = false

    @Option(
        help: ArgumentHelp(
            "What is typed on the virtio console, else on the serial port, once the guest reads there.",
            valueName: "file"), completion: .file())
    var input: String?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("Guest memory (default: 64M).", valueName: "bytes"),
        transform: ByteCount.parse)
    var memory = ByteCount(bytes: 64 << 20)

    @Option(parsing: .unconditional, help: "Virtual processors (default: 1).", transform: Int.parse)
    var cpus = 1

    @Option(
        help: ArgumentHelp(
            """
            Processor model that the guest sees: base-v1 (default), base-v2 with BMI, ADX, POPCNT, FSGSBASE, \
            base-v3 with floating point too (the default of --kernel), base-v4 with SHA and INVPCID too, \
            base-v5 with XSAVE too, or base-v6 with AVX and AVX2 too.
            """,
            valueName: "model"))
    var cpu: String?

    @Option(
        parsing: .unconditional, help: ArgumentHelp(
            "Steps between keyframes (default: 65536, or 500 million instructions).", valueName: "steps"),
        transform: UInt64.parse)
    var keyframeEvery: UInt64?

    @Flag(
        help: "The smallest trace: a replay begins at its beginning, and compares exits and registers, but no memory.")
    var noKeyframes = false

    @Option(
        help: ArgumentHelp(
            "What exits leave in the comm page, a policy as whatif has it; else NVMM's own.", valueName: "file"),
        completion: .file(extensions: ["toml"]))
    var commPage: String?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("End the recording after so many exits.", valueName: "n"),
        transform: UInt64.parse)
    var maxExits: UInt64?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("End the recording after so many instructions.", valueName: "n"),
        transform: UInt64.parse)
    var maxInstructions: UInt64?

    @Flag(help: "Record host time too; two recordings are then no longer the same bytes.")
    var time = false

    @Option(help: "The interface that a command is recorded at; found out where it is left out.")
    var api: InterfaceName?

    @Flag(help: "Lose records of a command rather than let it wait; the trace counts what is lost.")
    var drop = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            """
            Keep the newest part in memory, so many bytes of events and earlier memory contents, and write it when a \
            trigger comes.
            """, valueName: "bytes"),
        transform: ByteCount.parse)
    var ring: ByteCount?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            """
            What ends a recording with --ring and writes its trace, with commas between: shutdown (a triple fault), \
            invalid, signal (one that ends the command, or SIGUSR1 to tracectl), stall=SECONDS without an exit \
            (default: shutdown,invalid,signal).
            """, valueName: "list"),
        transform: Triggers.parse)
    var trigger: Triggers?

    @Flag(help: "Write to stable storage once a second.")
    var durable = false

    @Option(help: ArgumentHelp("Fail where the recording is worth less than this: exact.", valueName: "grade"))
    var require: RequiredGrade?

    @Option(parsing: .unconditional, help: ArgumentHelp(visibility: .hidden), transform: FaultRequest.parse)
    var fault: FaultRequest?

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write; - for standard output.", valueName: "trace"),
        completion: .file(extensions: ["vmtrace"]))
    var output: String

    @Argument(
        parsing: .postTerminator,
        help: "A client of libnvmm or /dev/kvm to run and record, after --: its own output stays as it is.")
    var command: [String] = []

    func validate() throws {
        guard trigger == nil || ring != nil else {
            throw ValidationError("--trigger goes with --ring BYTES, which says how much is kept until then")
        }
        guard ring.map({ $0.bytes >= FlightRecorder.byteCountMin }) ?? true else {
            throw ValidationError("--ring must be at least 1M")
        }
        guard require == nil || level != .exits else {
            throw ValidationError("--require exact needs --level replay or client")
        }
        if !command.isEmpty { return try validateCommand() }
        guard [firmware, guest, kernel].count(where: { $0 != nil }) == 1 else {
            throw ValidationError(
                "name what to run: one of --firmware FILE, --guest FILE, --kernel FILE, or -- COMMAND")
        }
        guard kernel != nil || (initrd == nil && append == nil) else {
            throw ValidationError("--initrd and --append go with --kernel")
        }
        guard loadAt == nil || guest != nil else { throw ValidationError("--load-at goes with --guest") }
        guard cpus > 0 else { throw ValidationError("--cpus must be at least 1") }
        guard backend != .kvm || maxInstructions == nil else {
            throw ValidationError("KVM counts no instructions: end the recording with --max-exits")
        }
        guard keyframeEvery != 0 else { throw ValidationError("--keyframe-every must be at least 1") }
        guard !noKeyframes || keyframeEvery == nil && ring == nil else {
            throw ValidationError("--no-keyframes goes with neither --keyframe-every nor --ring")
        }
        guard api == nil, !drop else { throw ValidationError("--api and --drop go with a command") }
    }

    private func validateCommand() throws {
        guard guestFiles.isEmpty, append == nil, loadAt == nil, fault == nil, !virtioConsole else {
            throw ValidationError(
                "a command brings its own guest: no --firmware, --guest, --kernel, --disk or --load-at with it")
        }
        guard cpus == 1, cpu == nil else {
            throw ValidationError("a command chooses its own processors: no --cpus or --cpu with it")
        }
        guard maxExits == nil, maxInstructions == nil, !time else {
            throw ValidationError("--max-exits, --max-instructions and --time do not go with a command")
        }
        guard require == nil || ring == nil else {
            throw ValidationError("--require and --ring do not go together with a command")
        }
        guard !noKeyframes else { throw ValidationError("--no-keyframes does not go with a command") }
        guard output != "-" else { throw ValidationError("the trace of a command goes to a file: give -o FILE") }
        guard keyframeEvery != 0 else { throw ValidationError("--keyframe-every must be at least 1") }
    }

    func run() throws {
        if !command.isEmpty {
            let client = try ClientRecording(
                command: command, output: output, level: level, keyframeEvery: keyframeEvery,
                commPage: commPagePolicy(), isDurable: durable,
                drops: drop, requires: require, flight: flight)
            return try client.run()
        }
        Interruption.watch()
        let flight = flight
        if flight != nil {
            Interruption.watchForRequests()
            try Flight.checkFolder(of: output)
        }
        // Everything that is read comes first: a recording that cannot begin leaves nothing behind.
        let console = Console(toStandardError: output == "-")
        let configuration = try makeConfiguration(console)
        let subject = try makeBackend(backend, model: processorModel, providing: commPagePolicy(), fault: fault)
        let name = output == "-" ? "standard output" : output
        try checkOutput()
        let recorder = try about(name) { try makeRecorder(of: subject, flight) }

        let machine: PC
        do {
            machine = try PC(machine: try recorder.backend.createMachine(), configuration: configuration)
        } catch {
            _ = try? recorder.finish()
            if output != "-", flight == nil { removeFile(output) }
            throw Trouble(path: imagePath, cause: error)
        }
        let outcome = try drive(machine, recorder, flight)
        console.end()
        if let flight { return try end(flight, recorder, outcome) }
        let result = try about(name) { try finish(recorder) }
        try report(outcome, machine, recorder, result)
    }

    /// A trace takes the place of an older one of its name, but not of what is to be run.
    private func checkOutput() throws {
        guard output != "-" else { return }
        try refuseUnrepaired(output)
        for input in guestFiles where isSameFile(FilePath(input), FilePath(output)) {
            throw Trouble(
                path: output, cause: PlainTrouble(sentence: "is also what is to be run: give the trace another name"))
        }
    }

    /// Linux for x86-64 does not begin without floating point.
    private var processorModel: String? { cpu ?? (kernel != nil && backend == .soft ? "base-v3" : nil) }

    private var imagePath: String { firmware ?? kernel ?? guest ?? "" }
    /// What is read of the guest.
    private var guestFiles: [String] { [firmware, guest, kernel, initrd, disk, virtioDisk, input].compactMap { $0 } }

    private func makeConfiguration(_ console: Console) throws -> PCConfiguration {
        let image: PCConfiguration.Image
        if let firmware {
            image = .firmware(try readFile(firmware))
        } else if let kernel {
            image = .linux(
                LinuxImage(
                    kernel: try readFile(kernel), initrd: try initrd.map { try readFile($0) },
                    commandLine: append ?? ""))
        } else {
            let bytes = try readFile(guest ?? "")
            if loadAt == nil, LinuxImage.isKernel(bytes) {
                throw Trouble(
                    path: guest ?? "", cause: PlainTrouble(sentence: "is a Linux kernel: boot it with --kernel"))
            }
            image = loadAt.map { .flat(bytes, loadAt: GPA($0.value)) } ?? GuestImage.detect(bytes)
        }
        return PCConfiguration(
            image: image, memoryBytes: memory.bytes, vcpuCount: cpus, disk: try disk.map { try readFile($0) },
            virtioDisk: try virtioDisk.map { try readFile($0) }, hasVirtioConsole: virtioConsole,
            input: try input.map { try readFile($0) } ?? [],
            serialOutput: { console.write($0) })
    }

    private func commPagePolicy() throws -> CommPagePolicy? { try commPage.map { try readPolicy($0) } }

    private var flight: Flight? { ring.map { Flight(byteCount: $0.bytes, triggers: trigger ?? .standard) } }

    private var writing: TraceWriterOptions {
        var options = TraceWriterOptions()
        options.durable = durable
        return options
    }

    private func makeRecorder(of subject: any Backend, _ flight: Flight?) throws -> Recorder {
        var options = RecorderOptions(level: level.level, recordsTime: time, tool: toolVersion)
        if let every = keyframeEvery ?? flight?.keyframeEvery { options.keyframeEverySteps = every }
        if keyframeEvery != nil { options.keyframeEveryInstructions = nil }
        options.writesKeyframes = !noKeyframes
        // No file names: two recordings of the same guest are the same bytes wherever its image lies.
        options.parameters = [
            .init(key: "cpus", value: "\(cpus)"), .init(key: "memory", value: "\(memory.bytes)"),
            .init(key: "keyframe-every", value: noKeyframes ? "never" : "\(options.keyframeEverySteps)"),
            .init(key: "image", value: firmware != nil ? "firmware" : kernel != nil ? "kernel" : "guest"),
        ]
        if let policy = try commPagePolicy() {
            options.parameters.append(.init(key: TraceHeader.Parameter.commPage, value: policy.text))
        }
        if let flight {
            return Recorder(
                try flight.makeSink(Recorder.header(of: subject, options: options)), of: subject, options: options)
        }
        let destination: TraceDestination =
            output == "-" ? .descriptor(.standardOutput) : .file(FilePath(output))
        return try Recorder(destination, of: subject, options: options, writerOptions: writing)
    }

    /// Runs the guest to its end, a limit, a signal or a failure to write.
    private func drive(_ machine: PC, _ recorder: Recorder, _ flight: Flight?) throws -> PCOutcome {
        var progress = Progress()
        defer { progress.end() }
        let limits = PCLimits(instructions: maxInstructions, steps: maxExits)
        do {
            return try machine.run(limits: limits) {
                progress.update { seconds in
                    let exits = "recording: \(grouped(machine.steps)) exits,"
                    return recorder.backend.capability.countsInstructions
                        ? exits + " \(grouped(machine.instructions / 1_000_000)) M instructions,"
                            + " \(decimals(Double(machine.instructions) / 1e6 / seconds, 0)) M/s"
                        : exits + " \(grouped(Int(Double(machine.steps) / seconds))) exits/s"
                }
                return Interruption.pending != nil || recorder.failure != nil || flight?.trigger() != nil
            }
        } catch {
            _ = try? recorder.finish()
            throw Trouble(path: imagePath, cause: error)
        }
    }

    /// Writes what the flight recorder kept, where something has happened.
    private func end(_ flight: Flight, _ recorder: Recorder, _ outcome: PCOutcome) throws {
        _ = try about(output) { try recorder.finish() }
        if let trigger = flight.trigger() {
            try flight.write(to: output, because: trigger, writing)
        } else {
            flight.reportNothing()
        }
        if let signal = Interruption.pending { throw ExitStatus.signal(signal) }
        if let sentence = failure(outcome) { throw PlainTrouble(sentence: sentence) }
    }

    /// Closes the trace. What stands in a file before the disk was full is not lost, and the error says so.
    private func finish(_ recorder: Recorder) throws -> RecordingResult {
        do {
            return try recorder.finish()
        } catch {
            // A pattern in the catch itself crashes Swift 6.3.1.
            guard output != "-", case .io(let call, let number) = error, [ENOSPC, EFBIG, EDQUOT].contains(number)
            else { throw error }
            let kept = "; what was recorded before is kept, tracectl repair completes it"
            throw PlainTrouble(sentence: systemSentence(call, number) + kept)
        }
    }

    private func report(
        _ outcome: PCOutcome, _ machine: PC, _ recorder: Recorder, _ result: RecordingResult
    ) throws {
        func say(_ line: String) {
            if output == "-" { StandardError.line(line) } else { StandardOutput.line(line) }
        }
        let totals = result.totals
        let instructions =
            recorder.backend.capability.countsInstructions ? ", \(counted(machine.instructions, "instruction"))" : ""
        say("recorded \(counted(totals.stepCount, "exit"))\(instructions): \(words(outcome))")
        let size = sized(totals.bytes.total)
        let perExit = totals.bytesPerExit.map { ", \(decimals($0)) bytes per exit without pages and I/O payload" }
        say("trace: \(size)\(perExit ?? ""); good for: \(words(result.grade.level))")
        if let fault, fault.step >= totals.stepCount {
            StandardError.line(
                "tracectl: the fault \(fault) never fired: the recording ended after"
                    + " \(counted(totals.stepCount, "step"))")
        }
        for reason in result.grade.reasons { say("  \(words(reason))") }

        if let signal = Interruption.pending {
            StandardError.line("tracectl: interrupted: the trace is closed and whole up to here")
            throw ExitStatus.signal(signal)
        }
        if let require { try require.check(result.grade) }
        if let sentence = failure(outcome) { throw PlainTrouble(sentence: sentence) }
    }
}

enum RequiredGrade: String, ExpressibleByArgument, CaseIterable {
    case exact

    func check(_ grade: TraceGrade) throws {
        guard grade.level != .exact else { return }
        throw PlainTrouble(sentence: "--require \(rawValue): the recording is good for \(words(grade.level)) only")
    }
}

/// What a command speaks with its hypervisor.
enum InterfaceName: String, ExpressibleByArgument, CaseIterable { case nvmm, kvm }

/// ``RecordLevel`` as an option.
enum LevelName: String, ExpressibleByArgument, CaseIterable {
    case exits, replay, client
    var level: RecordLevel {
        switch self {
        case .exits: .exits
        case .replay: .replay
        case .client: .client
        }
    }
}
