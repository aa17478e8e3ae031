// Traces as of a hypervisor, made of those that were recorded on a backend that counts.

import Foundation
import NVMM
import SystemPackage
import TraceFile

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
