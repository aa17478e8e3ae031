import Foundation
import NVMM
import ReferenceVMM
import Replay
import SoftBackend
import SystemPackage
import Testing
import TraceFile
import Tracer

/// A whole PC as the client under test: its devices, its disk, its two processors.
@Suite struct PCReplayTests {
    private static let guests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Samples/guests")

    /// Runs a guest and gives what it printed.
    private func run(_ name: String, vcpus: Int, on backend: any Backend) throws -> String {
        let image = Array(try Data(contentsOf: Self.guests.appending(path: name + ".bin")))
        var output: [UInt8] = []
        let configuration = PCConfiguration(
            image: GuestImage.detect(image), memoryBytes: 4 << 20, vcpuCount: vcpus, disk: nil,
            serialOutput: { output.append($0) })
        let machine = try PC(machine: try backend.createMachine(), configuration: configuration)
        _ = try machine.run(limits: PCLimits(instructions: 50_000_000, steps: nil)) { false }
        return String(decoding: output, as: UTF8.self)
    }

    @Test(arguments: [("hello", 1), ("longmode", 1), ("selfmod", 1), ("exerciser", 1), ("twocpus", 2)])
    func `the PC is answered as it was recorded`(name: String, vcpus: Int) throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "pc-\(UUID().uuidString).vmtrace")
        defer { try? FileManager.default.removeItem(at: url) }
        let recorder = try Recorder(
            .file(FilePath(url.path)), of: SoftBackend(), options: RecorderOptions(level: .client))
        let recorded = try run(name, vcpus: vcpus, on: recorder.backend)
        let steps = try recorder.finish().totals.stepCount
        let backend = try RecordedBackend(try TraceReader(path: FilePath(url.path)), memory: SoftBackend())
        let answered = try run(name, vcpus: vcpus, on: backend)
        let report = backend.finish()
        #expect(report.difference?.text == nil)
        #expect(report.trouble == nil)
        #expect(report.stepCount == steps)
        #expect(answered == recorded)
    }
}
