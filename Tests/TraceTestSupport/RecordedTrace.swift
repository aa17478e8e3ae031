// A trace of the toy client, for the length of a test.

import Foundation
public import NVMM
import SystemPackage
public import TestSupport
public import TraceFile
public import Tracer

/// A recording that is removed with this object.
public final class RecordedTrace {
    private let url: URL
    public let reader: TraceReader

    /// Records `body` on `backend`.
    public init(
        _ options: RecorderOptions = RecorderOptions(), on backend: any Backend = ToyBackend(),
        _ body: (ToyClient) throws -> Void
    ) throws {
        url = FileManager.default.temporaryDirectory.appending(path: "recorded-\(UUID().uuidString).vmtrace")
        let recorder = try Recorder(.file(FilePath(url.path)), of: backend, options: options)
        let client = try ToyClient(on: recorder.backend)
        try body(client)
        try recorder.finish()
        reader = try TraceReader(path: FilePath(url.path))
    }

    /// `count` runs with some that end by budget.
    public convenience init(steps count: Int, _ options: RecorderOptions = RecorderOptions()) throws {
        try self.init(options) { client in
            client.budgets = [nil, nil, 3]
            try client.run(count)
        }
    }

    /// The file as it is.
    public func bytes() throws -> [UInt8] { Array(try Data(contentsOf: url)) }

    deinit { try? FileManager.default.removeItem(at: url) }
}
