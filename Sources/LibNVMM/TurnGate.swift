// Where a thread of the client that stores into guest memory waits until no VCPU executes: Docs/libnvmm.md.

import CClientThreads
import Glibc
import NVMM

/// The gate of one machine. It is closed while a slice of a VCPU executes; a writer then takes a turn of its own, which
/// makes the VCPU give way.
///
/// A writer that was admitted has not written yet: it has to be scheduled first. A slice therefore begins only when the
/// writers of other threads are known to have gone on, or after ``patience``; else a page would be protected again just
/// before its writer gets there, and so for ever.
///
/// SAFETY: everything below changes under `lock` only.
final class TurnGate: WriterGate, @unchecked Sendable {
    private struct Writer {
        var thread: Int32
        /// Processor time that the thread had used before it was woken.
        var used: UInt64
    }

    /// Nanoseconds that a slice waits for writers at most: longer than a busy host takes to schedule a thread.
    private static let patience: UInt64 = 8_000_000
    /// Processor time after which a thread that runs is past its store, which takes a few microseconds.
    private static let storeNanoseconds: UInt64 = 20_000

    private let turns: TurnLock
    private let lock = PlainLock()
    /// The thread whose slice executes; 0 while the gate is open.
    private var runner: Int32 = 0
    private var writers: [Writer] = []
    private var held: [UInt32: any HeldWriters] = [:]

    init(_ turns: TurnLock) { self.turns = turns }

    /// Holds who writes to `object` from now on, where somebody records and the kernel allows it.
    func watch(_ object: MemoryObject) {
        guard let writers = object.holdWriters(behind: self) else { return }
        lock.during { held[object.ordinal] = writers }
    }

    func forget(_ object: MemoryObject) {
        lock.during { held[object.ordinal] = nil }
    }

    // MARK: - Writers

    func admit(thread: Int32, _ open: () -> Void) {
        guard !admitAtOnce(thread, open) else { return }
        // Nobody else opens or closes the gate while this has the turn.
        turns.during { _ = admitAtOnce(thread, open) }
    }

    private func admitAtOnce(_ thread: Int32, _ open: () -> Void) -> Bool {
        lock.during {
            // A signal handler of the thread that executes cannot wait for it: the recording notices such a store,
            // and lowers its grade.
            guard runner == 0 || runner == thread else { return false }
            writers.removeAll { $0.thread == thread }
            writers.append(Writer(thread: thread, used: Self.processorTime(of: thread)))
            open()
            return true
        }
    }

    // MARK: - Slices

    /// Before a slice, with the turn.
    ///
    /// - Parameter yield: called while there is something to wait for: lets others have the turn, who may be the ones.
    func close(yield: () -> Void) {
        let own = client_thread_number()
        guard !closeAtOnce(own) else { return }
        let start = Self.now
        repeat {
            // A thread that was seen asleep may have come as far as the next page, and is then about to wait here:
            // asked for in this order, or it would be missed.
            lock.during { writers.removeAll { $0.thread == own || Self.hasGoneOn($0) } }
            let isAnyoneWaiting = lock.during { held.values.contains { $0.hasWaiting } }
            if !isAnyoneWaiting, closeAtOnce(own) { return }
            usleep(20)
            yield()
        } while Self.now &- start < Self.patience
        lock.during {
            writers.removeAll()
            runner = own
        }
    }

    /// After a slice, with the turn.
    func open() { lock.during { runner = 0 } }

    private func closeAtOnce(_ own: Int32) -> Bool {
        lock.during {
            // What this thread wrote itself it has written.
            guard writers.allSatisfy({ $0.thread == own }) else { return false }
            writers.removeAll(keepingCapacity: true)
            runner = own
            return true
        }
    }

    // MARK: - How far a thread got

    private static func hasGoneOn(_ writer: Writer) -> Bool {
        // Woken, it is runnable until it has run, and asleep again only behind its store or at another page.
        guard isRunnable(writer.thread) else { return true }
        return processorTime(of: writer.thread) &- writer.used >= storeNanoseconds
    }

    private static var now: UInt64 { time(of: CLOCK_MONOTONIC) }

    /// 0 for a thread that has ended.
    private static func processorTime(of thread: Int32) -> UInt64 {
        // The clock of a thread by its number, as the C library's pthread_getcpuclockid makes it.
        time(of: ~thread << 3 | 6)
    }

    private static func time(of clock: clockid_t) -> UInt64 {
        var time = timespec()
        guard unsafe clock_gettime(clock, &time) == 0 else { return 0 }
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Whether the kernel has `thread` as running or ready: the state in /proc/self/task/N/stat, behind the name.
    private static func isRunnable(_ thread: Int32) -> Bool {
        let file = unsafe Glibc.open("/proc/self/task/\(thread)/stat", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { Glibc.close(file) }
        var text = [UInt8](repeating: 0, count: 64)
        let count = unsafe read(file, &text, text.count)
        guard count > 0, let nameEnd = text.prefix(count).lastIndex(of: UInt8(ascii: ")")), nameEnd + 2 < count else {
            return false
        }
        return text[nameEnd + 2] == UInt8(ascii: "R")
    }
}
