// Measures the figures of Benchmarks/README.md and prints them as a table. --quick: fewer rounds; --speed: only those
// of the interpreter, which need no trace; --exit-cost RUNS: only nanoseconds of a run with its exit.

import Analysis
import Foundation
import NVMM
import ReferenceVMM
import Replay
import SoftBackend
import SystemPackage
import TraceFile
import Tracer

let arguments = CommandLine.arguments
if let place = arguments.firstIndex(of: "--exit-cost"),
    let runs = arguments.dropFirst(place + 1).first.flatMap({ Int($0) })
{
    print(try FlatGuest(FlatCode.exits, on: SoftBackend()).exitCost(runs: runs))
    exit(0)
}
@MainActor func option(_ name: String, _ fallback: String) -> String {
    guard let index = arguments.firstIndex(of: name), index + 1 < arguments.count else { return fallback }
    return arguments[index + 1]
}
let isQuick = arguments.contains("--quick")
let rounds = isQuick ? 3 : 7
let loopInstructions: UInt64 = isQuick ? 50_000_000 : 200_000_000
let firmware = [UInt8](try Data(contentsOf: URL(filePath: option("--firmware", "/usr/share/seabios/bios.bin"))))
let disk = (try? Data(contentsOf: URL(filePath: option("--disk", "")))).map { [UInt8]($0) }
let exitsGuest = [UInt8](try Data(contentsOf: URL(filePath: option("--exits", "Samples/guests/exits.bin"))))
let folder = FileManager.default.temporaryDirectory.appending(
    path: "figures-\(ProcessInfo.processInfo.processIdentifier)")
try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
defer { try? FileManager.default.removeItem(at: folder) }
@MainActor func place(_ name: String) -> FilePath { FilePath(folder.appending(path: name).path) }

var table = Table()

// MARK: - Speed of the interpreter

/// Boots the firmware on `backend` to its end; the instructions that took.
@MainActor @discardableResult func boot(_ backend: any Backend) throws -> (instructions: UInt64, steps: UInt64) {
    let machine = try PC(
        machine: try backend.createMachine(),
        configuration: PCConfiguration(image: .firmware(firmware), disk: disk))
    _ = try machine.run(limits: PCLimits(instructions: 2_000_000_000))
    return (machine.instructions, machine.steps)
}

@MainActor func speed(_ name: String, target: String = "60 M", _ body: () throws -> UInt64) rethrows {
    var rates: [Double] = []
    for _ in 0..<rounds {
        var count: UInt64 = 0
        let time = try seconds { count = try body() }
        rates.append(Double(count) / time / 1e6)
    }
    table.add("soft backend, \(name)", "\(number(median(rates), 0)) M instr/s", target: target)
}
try speed("SeaBIOS") { try boot(SoftBackend()).instructions }
for (name, code, isWide) in [
    ("register loop of 16-bit code", FlatCode.arithmetic, false), ("memory and call loop", FlatCode.memory, false),
    ("register loop of 64-bit code", FlatCode.wideArithmetic, true),
    ("memory and call loop", FlatCode.wideMemory, true),
] {
    try speed(isWide ? "\(name), translated" : "\(name), interpreted", target: isWide ? "300 M" : "60 M") {
        try FlatGuest(code, isWide: isWide, on: SoftBackend()).run(instructions: loopInstructions)
        return loopInstructions
    }
}

// MARK: - Snapshots

/// Snapshots of a machine of 256 MiB, all of it written, with so many pages written between any two.
@MainActor func snapshots(pagesBetween pages: Int) throws {
    let guest = try FlatGuest(FlatCode.wideMemory, isWide: true, memoryBytes: 256 << 20, on: SoftBackend())
    guard let machine = guest.machine as? any SnapshottingMachine, let memory = machine.gpaToHVA(GPA(0))?.object else {
        fatalError("the soft backend takes snapshots")
    }
    func write(_ count: Int, _ value: UInt8) throws {
        for page in 16..<16 + count { try unsafe machine.write(memory, at: page * pageBytes, [value].span.bytes) }
    }
    try write(memory.pageCount - 16, 1)
    var kept = [try machine.takeSnapshot()]
    var taking: [Double] = []
    var restoring: [Double] = []
    for round in 0..<rounds * 3 {
        try write(pages, UInt8(truncatingIfNeeded: round + 2))
        try guest.run(instructions: 1000)
        taking.append(try seconds { kept.append(try machine.takeSnapshot()) } * 1000)
        restoring.append(try seconds { try machine.restore(kept[kept.count - 2]) } * 1000)
    }
    table.add(
        "snapshot of 256 MiB, \(pages) pages written since the last: taken; restored",
        "\(number(median(taking), 3)); \(number(median(restoring), 3)) ms", target: "1 ms")
}
try snapshots(pagesBetween: 16)
try snapshots(pagesBetween: 1024)

if arguments.contains("--speed") { exit(0) }

// MARK: - Cost of recording

/// Runs `body` on a backend that is recorded to `path`.
@MainActor @discardableResult func recording(_ path: FilePath, _ body: (any Backend) throws -> Void) throws
    -> RecordingResult
{
    let recorder = try Recorder(.file(path), of: SoftBackend())
    try body(recorder.backend)
    return try recorder.finish()
}

let firmwareTrace = place("firmware.vmtrace")
let exitsTrace = place("exits.vmtrace")

/// Runs the sample guest that makes more than 100,000 exits of mixed kinds, to its end.
@MainActor func runExits(_ backend: any Backend) throws {
    let machine = try PC(machine: try backend.createMachine(), configuration: PCConfiguration(image: .flat(exitsGuest)))
    _ = try machine.run(limits: PCLimits(instructions: 100_000_000))
}

@MainActor func overhead(_ name: String, _ path: FilePath, _ body: (any Backend) throws -> Void) throws {
    try body(SoftBackend())  // warms caches
    let pairs = try Pairs(rounds: rounds, ours: { try recording(path, body) }, theirs: { try body(SoftBackend()) })
    let range = "\(number(pairs.range.lowerBound)) to \(number(pairs.range.upperBound))"
    table.add(
        "recording, \(name)", "\(number(pairs.ratio)) times the untraced run",
        against: "untraced \(number(median(pairs.theirs))) s; \(range)", target: "1.10")
}
try overhead("SeaBIOS", firmwareTrace) { try boot($0) }
try overhead("100,000 exits, 2 instructions each", exitsTrace) { try runExits($0) }

// MARK: - Size

@MainActor func size(_ name: String, _ path: FilePath) throws {
    let reader = try TraceReader(path: path)
    let totals = reader.totals
    let options = TraceWriterOptions()
    var plain = RowLayout(.plain, level: Int32(options.compressionLevel), stepsPerBlock: options.stepsPerBlock)
    var delta = RowLayout(.delta, level: Int32(options.compressionLevel), stepsPerBlock: options.stepsPerBlock)
    let cursor = try reader.cursor()
    while let event = try cursor.next() {
        guard case .step(let step) = event else { continue }
        plain.add(step)
        delta.add(step)
    }
    plain.close()
    delta.close()
    let rows = [plain, delta].map { number(Double($0.byteCount) / Double(max($0.stepCount, 1))) }
    let bytes = totals.bytes
    let stepsAlone = number(Double(bytes.steps) / Double(max(totals.stepCount, 1)))
    table.add(
        "bytes per exit, \(name) (\(totals.stepCount) exits)",
        "\(number(totals.bytesPerExit ?? 0)) (steps alone \(stepsAlone))",
        against: "rows \(rows[0]), rows as differences \(rows[1])", target: "4")
    table.add(
        "rest of the file, \(name)",
        "page frames \(bytes.pages) B, I/O payload \(bytes.ioPayload) B, keyframes \(bytes.keyframes) B,"
            + " index \(bytes.index) B")
}
try size("SeaBIOS", firmwareTrace)
try size("100,000 exits", exitsTrace)

// MARK: - Reading

@MainActor func scan(_ name: String, _ path: FilePath) throws {
    let steps = try TraceReader(path: path).totals.stepCount
    let pairs = try Pairs(
        rounds: rounds,
        ours: { _ = try TraceStatistics(of: try TraceReader(path: path)) },
        theirs: {
            let cursor = try TraceReader(path: path).cursor()
            while try cursor.next() != nil {}
        })
    table.add(
        "stats, \(name)", "\(number(Double(steps) / median(pairs.ours) / 1e6)) M exits/s",
        against: "decoding every step: \(number(Double(steps) / median(pairs.theirs) / 1e6)) M exits/s", target: "20 M")
}
try scan("100,000 exits", exitsTrace)

/// Opens the trace and shows the state at a step.
@MainActor func seek(_ path: FilePath, _ wanted: UInt64) throws -> Step? {
    let cursor = try TraceReader(path: path).cursor(fromStep: wanted)
    while let event = try cursor.next() {
        if case .step(let step) = event { return step }
    }
    return nil
}
var latencies: [Double] = []
let total = try TraceReader(path: exitsTrace).totals.stepCount
var generator: UInt64 = 1
for _ in 0..<(isQuick ? 10 : 50) {
    generator = generator &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    let wanted = (generator >> 16) % total
    latencies.append(try seconds { _ = try seek(exitsTrace, wanted) } * 1000)
}
table.add(
    "state at a random step of 100,000, opening included", "median \(number(median(latencies))) ms",
    against: "worst \(number(latencies.max() ?? 0)) ms", target: "50 ms")

// MARK: - Replaying

let untraced = try seconds { try boot(SoftBackend()) }
let replayTime = try seconds {
    let report = try Replayer(try TraceReader(path: firmwareTrace), on: SoftBackend()).run()
    guard report.isClean else { fatalError("the replay differs from the recording") }
}
let fileBytes = (try FileManager.default.attributesOfItem(atPath: firmwareTrace.string)[.size] as? Int) ?? 0
table.add(
    "replaying SeaBIOS, all compared", "\(number(replayTime)) s; the trace has \(fileBytes) B",
    against: "running it untraced: \(number(untraced)) s")

print("\n" + table.text)
