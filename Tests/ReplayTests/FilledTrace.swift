// Traces that tests make of recorded ones: filled, or damaged.

import Foundation
import NVMM
import Replay
import SystemPackage
import TestSupport
import TraceFile
import TraceTestSupport

private func temporaryFile() -> URL {
    FileManager.default.temporaryDirectory.appending(path: "made-\(UUID().uuidString).vmtrace")
}

extension TraceReader {
    func allEvents() throws -> [TraceEvent] {
        let cursor = try cursor()
        var events: [TraceEvent] = []
        while let event = try cursor.next() { events.append(event) }
        return events
    }
}

extension RecordedTrace {
    var events: [TraceEvent] { get throws { try reader.allEvents() } }
}

/// What a ``TraceFiller`` made, removed with this object.
final class FilledTrace {
    private let url = temporaryFile()
    let report: ReplayReport
    var events: [TraceEvent] { get throws { try TraceReader(path: FilePath(url.path)).allEvents() } }

    init(_ trace: RecordedTrace, on backend: any Backend = ToyBackend()) throws {
        report = try TraceFiller(trace.reader, on: backend).fill(to: .file(FilePath(url.path)))
    }

    deinit { try? FileManager.default.removeItem(at: url) }
}

/// Bytes as a trace, removed with this object.
final class DamagedTrace {
    private let url = temporaryFile()
    let reader: TraceReader

    init(_ bytes: [UInt8]) throws {
        try Data(bytes).write(to: url)
        reader = try TraceReader(path: FilePath(url.path))
    }

    /// What a writer makes of these events.
    init(events: [TraceEvent], header: TraceHeader) throws {
        let writer = try TraceWriter(.file(FilePath(url.path)), header: header)
        for event in events { try writer.append(event) }
        _ = try writer.finish()
        reader = try TraceReader(path: FilePath(url.path))
    }

    deinit { try? FileManager.default.removeItem(at: url) }
}

func decoded(_ text: String) throws -> ClientReport {
    try JSONDecoder().decode(ClientReport.self, from: Data(text.utf8))
}
