// Durable traces: which files are brought to stable storage, and when.

import Glibc
import NVMM
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import TraceFile

/// Counts the calls for each file by its name, and fails on demand.
private final class CountedStorage: Sendable {
    struct Calls {
        var data: [String: Int] = [:]
        var all: [String: Int] = [:]
    }
    private let calls = Mutex(Calls())
    private let failure: Int32

    /// - Parameter failure: error number of every call; 0 for none.
    init(failure: Int32 = 0) { self.failure = failure }

    var made: Calls { calls.withLock { $0 } }

    var storage: StableStorage {
        StableStorage(
            syncData: { self.count($0, \.data) },
            syncAll: { self.count($0, \.all) })
    }

    private func count(_ descriptor: Int32, _ kind: WritableKeyPath<Calls, [String: Int]>) -> Int32 {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = unsafe buffer.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return 0 }
            return unsafe readlink("/proc/self/fd/\(descriptor)", base, bytes.count)
        }
        let name = FilePath(String(decoding: buffer.prefix(max(length, 0)), as: UTF8.self)).lastComponent?.string
        calls.withLock { $0[keyPath: kind][name ?? "", default: 0] += 1 }
        guard failure != 0 else { return 0 }
        errno = failure
        return -1
    }
}

@Suite struct DurableTests {
    /// Writes steps for `seconds`, as fast as they go: the encoder's queue is never empty for long.
    ///
    /// - Returns: whole seconds from the first to the last call.
    @discardableResult private func write(
        _ destination: TraceDestination, durable: Bool, _ storage: CountedStorage, seconds: Double
    ) throws -> Int {
        var options = TraceWriterOptions()
        options.durable = durable
        options.stepsPerBlock = 64
        let start = ContinuousClock.now
        let writer = try TraceWriter(
            destination, header: EventGenerator.header, options: options, storage: storage.storage)
        var generator = EventGenerator(seed: 9, vcpuCount: 1)
        let events = (0..<200).map { _ in generator.step() }
        let end = start + .seconds(seconds)
        var index = 0
        while ContinuousClock.now < end {
            try writer.append(events[index % events.count])
            index += 1
        }
        _ = try writer.finish()
        return Int((ContinuousClock.now - start) / .seconds(1))
    }

    @Test func `a durable trace reaches stable storage while it is written, journals too, and at the end`() throws {
        let folder = TemporaryFolder()
        let storage = CountedStorage()
        let seconds = try write(.file(folder.file("a")), durable: true, storage, seconds: 2.5)
        let made = storage.made
        #expect(Set(made.data.keys) == ["a", "a.open.0", "a.open.1"])
        // Once a second, and never more often: a machine under load may take longer than it was asked to.
        for (name, count) in made.data { #expect((1...max(seconds, 1)).contains(count), "\(name): \(count)") }
        #expect(made.all == ["a": 1])
    }

    @Test func `nothing is asked of stable storage without need, nor of a pipe`() throws {
        let folder = TemporaryFolder()
        let storage = CountedStorage()
        try write(.file(folder.file("a")), durable: false, storage, seconds: 1.5)
        let null = try FileDescriptor.open(FilePath("/dev/null"), .writeOnly)
        defer { try? null.close() }
        try write(.descriptor(null), durable: true, storage, seconds: 1.5)
        #expect(storage.made.data.isEmpty && storage.made.all.isEmpty)
    }

    @Test func `storage that refuses ends the recording with its error`() throws {
        let folder = TemporaryFolder()
        #expect(throws: TraceWriteError.io(call: "fdatasync", errno: EIO)) {
            try write(.file(folder.file("a")), durable: true, CountedStorage(failure: EIO), seconds: 5)
        }
        #expect(throws: TraceWriteError.io(call: "fsync", errno: EIO)) {
            try write(.file(folder.file("b")), durable: true, CountedStorage(failure: EIO), seconds: 0)
        }
    }
}
