// The sample guests and a PC that runs one to its end.

import Glibc
import NVMM
import ReferenceVMM
import SoftBackend

/// What a run of a guest gave.
struct GuestRun: Equatable {
    var outcome: PCOutcome
    var serial: String
    var debug: String
    var steps: UInt64
    var instructions: UInt64
    var clock: UInt64
    var exitCounts: [String: UInt64]
    var disk: [UInt8]
}

enum SampleGuest {
    /// Folder of the sample guests, from this file's place.
    static let folder = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/Samples/guests/"

    static func image(_ name: String) throws -> [UInt8] { try contents(folder + name + ".bin") }

    static func contents(_ path: String) throws -> [UInt8] {
        guard let file = unsafe fopen(path, "rb") else { throw Missing(path: path) }
        defer { unsafe fclose(file) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe fread(&part, 1, part.count, file)
            guard count > 0 else { return bytes }
            bytes += part[..<count]
        }
    }

    struct Missing: Error { var path: String }

    static func run(
        _ configuration: PCConfiguration, limits: PCLimits = PCLimits(instructions: 200_000_000)
    ) throws -> GuestRun {
        final class Text { var bytes: [UInt8] = [] }
        let (serial, debug) = (Text(), Text())
        var configuration = configuration
        configuration.serialOutput = { serial.bytes.append($0) }
        configuration.debugOutput = { debug.bytes.append($0) }
        let machine = try SoftBackend().createMachine()
        let pc = try PC(machine: machine, configuration: configuration)
        let outcome = try pc.run(limits: limits)
        return GuestRun(
            outcome: outcome, serial: String(decoding: serial.bytes, as: UTF8.self),
            debug: String(decoding: debug.bytes, as: UTF8.self), steps: pc.steps, instructions: pc.instructions,
            clock: machine.clock, exitCounts: pc.exitCounts, disk: pc.diskContent)
    }
}
