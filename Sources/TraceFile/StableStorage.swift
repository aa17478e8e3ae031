// What makes a durable trace survive a power cut: the calls, and when the next one is due.

import Glibc

/// The calls that bring a file to stable storage. Tests put their own in their place.
struct StableStorage: Sendable {
    /// Content, and what is needed to find it. The corresponding C function is `fdatasync`.
    var syncData: @Sendable (Int32) -> Int32 = { fdatasync($0) }
    /// Content and everything that is known of the file. The corresponding C function is `fsync`.
    var syncAll: @Sendable (Int32) -> Int32 = { fsync($0) }
}

/// Files that are brought to stable storage once a second, whether there is other work or not.
struct SyncSchedule {
    private let descriptors: [Int32]
    private let storage: StableStorage
    /// When the next time is, by CLOCK_MONOTONIC: a clock that is set back must not put it off.
    private(set) var due = timespec()

    /// - Parameter descriptors: empty: nothing is ever due.
    init(_ descriptors: [Int32], storage: StableStorage) {
        self.descriptors = descriptors
        self.storage = storage
        due = Self.now
        due.tv_sec += 1
    }

    var isEmpty: Bool { descriptors.isEmpty }

    private static var now: timespec {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return time
    }

    var isDue: Bool {
        let now = Self.now
        return !descriptors.isEmpty && (now.tv_sec, now.tv_nsec) >= (due.tv_sec, due.tv_nsec)
    }

    /// Brings all files to stable storage; the next time is a second after the end of this one.
    ///
    /// - Throws: ``TraceWriteError/io(call:errno:)`` for the first that refuses.
    mutating func sync() throws(TraceWriteError) {
        for descriptor in descriptors where storage.syncData(descriptor) != 0 {
            throw .io(call: "fdatasync", errno: errno)
        }
        due = Self.now
        due.tv_sec += 1
    }
}
