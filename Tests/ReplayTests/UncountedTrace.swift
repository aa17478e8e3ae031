// Traces as of a hypervisor, made of those that were recorded on a backend that counts.

import Foundation
import NVMM
import Replay
import SoftBackend
import SystemPackage
import TestSupport
import TraceFile
import Tracer

extension TraceReader {
    /// What a shim would have recorded of the same run: no counts, no clock, a processor of its own.
    ///
    /// - Parameter folder: where the copy is written.
    func withoutCounts(
        in folder: URL, keepsKeyframes: Bool = true, change: (inout Step) -> Void = { _ in }
    ) throws -> TraceReader {
        let path = FilePath(folder.appending(path: "uncounted-\(UUID().uuidString).vmtrace").path)
        var header = header
        header.capability.countsInstructions = false
        (header.backendName, header.processorModel, header.cpuidTable) = ("nvmm", TraceHeader.hostProcessor, [])
        let writer = try TraceWriter(.file(path), header: header)
        let cursor = try cursor()
        while let event = try cursor.next() {
            switch event {
            case .step(var step):
                (step.retired, step.clock) = (nil, 0)
                change(&step)
                try writer.append(.step(step))
            case .keyframe(let keyframe):
                guard keepsKeyframes else { continue }
                for reference in keyframe.objects.flatMap(\.pages) {
                    let content = try page(reference.content)
                    _ = try unsafe writer.storePage(content.span.bytes)
                }
                try writer.append(event)
            default: try writer.append(event)
            }
        }
        _ = try writer.finish()
        return try TraceReader(path: path)
    }
}

/// Records a guest in protected mode on the soft backend, takes the counts away, and replays.
///
/// - Parameters:
///   - run: sets the guest up, which stands at ``GuestLayout/code``, and runs it to its end.
///   - change: of each recorded step.
func replayWithoutCounts(
    change: (inout Step) -> Void = { _ in }, _ run: (GuestMachine) throws -> Void
) throws -> ReplayReport {
    let folder = FileManager.default.temporaryDirectory.appending(path: "uncounted-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let whole = FilePath(folder.appending(path: "whole.vmtrace").path)
    let recorder = try Recorder(.file(whole), of: SoftBackend())
    let guest = try GuestMachine(recorder.backend)
    try guest.enterProtected()
    try run(guest)
    try recorder.finish()
    let uncounted = try TraceReader(path: whole).withoutCounts(in: folder, change: change)
    return try Replayer(uncounted, on: SoftBackend()).run()
}
