// A trace of the toy client, for the length of a test.

import Foundation
import NVMM
import Replay
import SystemPackage
import TestSupport
import TraceFile
import Tracer

/// A recording that is removed with this object.
final class RecordedTrace {
    let url: URL
    let reader: TraceReader

    /// Records `body` on `backend`.
    init(
        _ options: RecorderOptions = RecorderOptions(), on backend: any Backend = ToyBackend(),
        _ body: (ToyClient) throws -> Void
    ) throws {
        url = FileManager.default.temporaryDirectory.appending(path: "replay-\(UUID().uuidString).vmtrace")
        let recorder = try Recorder(.file(FilePath(url.path)), of: backend, options: options)
        let client = try ToyClient(on: recorder.backend)
        try body(client)
        try recorder.finish()
        reader = try TraceReader(path: FilePath(url.path))
    }

    /// `count` runs with some that end by budget.
    convenience init(steps count: Int, _ options: RecorderOptions = RecorderOptions()) throws {
        try self.init(options) { client in
            client.budgets = [nil, nil, 3]
            try client.run(count)
        }
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func replay(
        on backend: any Backend = ToyBackend(), reference: (any Backend)? = nil,
        _ options: ReplayOptions = ReplayOptions()
    ) throws(ReplayError) -> ReplayReport {
        try Replayer(reader, on: backend, reference: reference, options: options).run()
    }
}
