// Single bits of a whole recording flipped, each verified as `tracectl verify` does.
//
//   EXIT_TRACER_FLIP_TRACE=PATH    another trace than that of SeaBIOS booting a disk
//   EXIT_TRACER_FLIP_ROUNDS=N      bits that are flipped, spread evenly over the trace
//   EXIT_TRACER_FLIP_SEED=N        another seed than the usual one

import Foundation
import NVMM
import ReferenceVMM
import SoftBackend
import SystemPackage
import TestSupport
import Testing
import Tracer

@testable import TraceFile

private enum FlipSettings {
    private static func number(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }
    static let firmware = "/usr/share/seabios/bios.bin"
    static var trace: String? { ProcessInfo.processInfo.environment["EXIT_TRACER_FLIP_TRACE"] }
    static var rounds: Int { Int(clamping: number("EXIT_TRACER_FLIP_ROUNDS") ?? 400) }
    static var seed: UInt64 { number("EXIT_TRACER_FLIP_SEED") ?? 20_261_122 }
}

/// A copy of a trace in which one bit at a time is wrong.
private struct FlippedTrace {
    let copy = TemporaryTrace()
    let file: FileDescriptor
    let good: [UInt8]

    init(_ bytes: [UInt8]) throws {
        good = bytes
        file = try FileDescriptor.open(
            copy.path, .readWrite, options: [.create, .truncate], permissions: FilePermissions(rawValue: 0o600))
        try file.writeAll(bytes)
    }

    /// Whether verifying the copy with this bit flipped finds anything. A refusal is a detection too.
    ///
    /// - Parameter isFull: whether all of the trace is verified, or only up to the first finding.
    func detects(byte: Int, bit: Int, isFull: Bool) throws -> Bool {
        try file.writeAll(toAbsoluteOffset: Int64(byte), [good[byte] ^ 1 << UInt8(bit)])
        defer { _ = try? file.writeAll(toAbsoluteOffset: Int64(byte), [good[byte]]) }
        do throws(TraceError) {
            return !(try verifyTrace(path: copy.path, stopsAtFirstProblem: !isFull).isIntact)
        } catch {
            if case .io = error { throw error }
            return true
        }
    }
}

@Suite struct BitFlipTests {
    private func recordBoot(_ path: FilePath) throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Samples/guests")
        let firmware = [UInt8](try Data(contentsOf: URL(filePath: FlipSettings.firmware)))
        let disk = [UInt8](try Data(contentsOf: folder.appending(path: "bootdisk.bin")))
        let recorder = try Recorder(.file(path), of: SoftBackend())
        let machine = try PC(
            machine: try recorder.backend.createMachine(),
            configuration: PCConfiguration(image: .firmware(firmware), disk: disk))
        _ = try machine.run(limits: PCLimits(instructions: 300_000_000))
        try recorder.finish()
    }

    @Test(.requires(.file(FlipSettings.trace ?? FlipSettings.firmware)))
    func `no flipped bit of a recorded boot escapes verification`() throws {
        let recorded = TemporaryTrace()
        if FlipSettings.trace == nil { try recordBoot(recorded.path) }
        let path = FlipSettings.trace.map { FilePath($0) } ?? recorded.path
        // Else everything would count as detected.
        let sound = try verifyTrace(path: path)
        try #require(sound.isIntact && sound.isComplete, "\(path) is not sound before any bit is flipped")

        let trace = try FlippedTrace([UInt8](try Data(contentsOf: URL(filePath: path.string))))
        defer { try? trace.file.close() }
        let (rounds, size) = (FlipSettings.rounds, trace.good.count)
        var generator = SeededGenerator(seed: FlipSettings.seed)
        var undetected: [String] = []
        let start = ContinuousClock.now
        for round in 0..<rounds {
            // One bit in each of so many equal stretches, so that no part of the trace is left out.
            let first = size * round / rounds
            let byte = Int.random(in: first..<max(size * (round + 1) / rounds, first + 1), using: &generator)
            let bit = Int.random(in: 0..<8, using: &generator)
            // Some are verified to the end, since nothing behind the damage may do harm either.
            if try !trace.detects(byte: byte, bit: bit, isFull: round % 64 == 0) {
                undetected.append("byte \(byte) bit \(bit)")
            }
        }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        print(
            "bit flips: \(rounds) of \(size) bytes, seed \(FlipSettings.seed), \(undetected.count) not detected,"
                + " \(Int(seconds.rounded(.up))) s")
        #expect(undetected.isEmpty, "\(undetected.prefix(10))")
    }
}
