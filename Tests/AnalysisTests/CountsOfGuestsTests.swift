// What statistics count in a trace is what the reference VMM counted while nobody recorded.

import Analysis
import Foundation
import NVMM
import ReferenceVMM
import SoftBackend
import SystemPackage
import Testing
import TraceFile
import Tracer

@Suite struct CountsOfGuestsTests {
    private static let guests = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Samples/guests")

    private func run(_ name: String, on backend: any Backend) throws -> PC {
        let image = [UInt8](try Data(contentsOf: Self.guests.appending(path: "\(name).bin")))
        let vcpuCount = name == "twocpus" ? 2 : 1
        let pc = try PC(
            machine: try backend.createMachine(),
            configuration: PCConfiguration(image: .flat(image), vcpuCount: vcpuCount))
        _ = try pc.run(limits: PCLimits(instructions: 50_000_000))
        return pc
    }

    @Test(arguments: ["hello", "longmode", "exerciser", "selfmod", "twocpus", "exits"])
    func `statistics count the exits of an untraced run`(name: String) throws {
        let untraced = try run(name, on: SoftBackend())
        let path = FilePath(FileManager.default.temporaryDirectory.path + "/counts-\(UUID().uuidString).vmtrace")
        defer { try? FileManager.default.removeItem(atPath: path.string) }
        let recorder = try Recorder(.file(path), of: SoftBackend())
        _ = try run(name, on: recorder.backend)
        try recorder.finish()
        let statistics = try TraceStatistics(of: try TraceReader(path: path))
        let counted = Dictionary(uniqueKeysWithValues: statistics.exits.map { ($0.reason, $0.count) })
        #expect(counted == untraced.exitCounts)
        #expect(statistics.steps.instructions == untraced.instructions)
        #expect(untraced.steps > 0)
    }
}
