// A trace file for the length of a test.

import Foundation
import NVMM
import SystemPackage
import TestSupport
import TraceFile
import Tracer

/// A path that is removed with this object.
final class TemporaryTrace {
    let url: URL
    var path: FilePath { FilePath(url.path) }

    init() {
        url = FileManager.default.temporaryDirectory.appending(path: "tracer-\(UUID().uuidString).vmtrace")
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    var bytes: [UInt8] { get throws { Array(try Data(contentsOf: url)) } }

    /// All events, and the reader that they came from.
    func read() throws -> (events: [TraceEvent], reader: TraceReader) {
        let reader = try TraceReader(path: path)
        let cursor = try reader.cursor()
        var events: [TraceEvent] = []
        while let event = try cursor.next() { events.append(event) }
        return (events, reader)
    }

    /// Records what `body` does with a toy client.
    @discardableResult func record(
        _ options: RecorderOptions = RecorderOptions(), on backend: any Backend = ToyBackend(),
        _ body: (ToyClient) throws -> Void
    ) throws -> RecordingResult {
        let recorder = try Recorder(.file(path), of: backend, options: options)
        let client = try ToyClient(on: recorder.backend)
        try body(client)
        return try recorder.finish()
    }
}

extension [TraceEvent] {
    var steps: [Step] { compactMap { if case .step(let step) = $0 { step } else { nil } } }
    var calls: [CallRecord] { compactMap { if case .call(let call) = $0 { call } else { nil } } }
    var writes: [MemoryWrite] { compactMap { if case .memoryWrite(let write) = $0 { write } else { nil } } }
    var keyframes: [Keyframe] { compactMap { if case .keyframe(let keyframe) = $0 { keyframe } else { nil } } }
    var losses: [Loss] { compactMap { if case .loss(let loss) = $0 { loss } else { nil } } }
}
