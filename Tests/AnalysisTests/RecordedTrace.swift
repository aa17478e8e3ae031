// A trace of the toy client, for the length of a test.

import Foundation
import NVMM
import SystemPackage
import TestSupport
import TraceFile
import Tracer

/// A recording that is removed with this object.
final class RecordedTrace {
    let url: URL
    let reader: TraceReader

    init(
        _ options: RecorderOptions = RecorderOptions(), on backend: any Backend = ToyBackend(),
        _ body: (ToyClient) throws -> Void
    ) throws {
        url = FileManager.default.temporaryDirectory.appending(path: "analysis-\(UUID().uuidString).vmtrace")
        let recorder = try Recorder(.file(FilePath(url.path)), of: backend, options: options)
        let client = try ToyClient(on: recorder.backend)
        try body(client)
        try recorder.finish()
        reader = try TraceReader(path: FilePath(url.path))
    }

    deinit { try? FileManager.default.removeItem(at: url) }
}
