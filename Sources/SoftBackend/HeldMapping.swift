// A client's mapping of guest memory whose writers wait until no VCPU executes (CWriteTracking, write_holding.h).

import CWriteTracking
import NVMM
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Every page is protected but those that somebody was let write to since the last ``take()``. A thread of its own
/// answers, until ``end()``.
///
/// SAFETY: `holder` is allocated in init and freed with the object, which the thread keeps; its two descriptors are
/// opened in init and closed by the thread, when it uses them no more. The range is the client's mapping, which
/// outlives ``end()``.
@safe final class HeldMapping: HeldWriters, @unchecked Sendable {
    private struct Pages {
        /// Let written to, in the order of that.
        var open: [Int] = []
        var isEnded = false
    }

    private let start: UInt
    private let byteCount: Int
    private let gate: any WriterGate
    private let holder: UnsafeMutablePointer<write_holder>
    private let pages = Mutex(Pages())
    private let isServing = Atomic(false)

    /// - Returns: nil where the kernel does not offer it or does not allow it.
    init?(start: UInt, byteCount: Int, gate: any WriterGate) {
        self.start = start
        self.byteCount = byteCount
        self.gate = gate
        unsafe holder = .allocate(capacity: 1)
        unsafe holder.initialize(to: write_holder())
        guard unsafe write_holder_open(holder) == 0 else { return nil }
        guard unsafe write_holder_add(holder, start, byteCount) == 0 else {
            unsafe write_holder_close(holder)
            return nil
        }
        guard startServing() else {
            _ = unsafe write_holder_remove(holder, start, byteCount)
            unsafe write_holder_close(holder)
            return nil
        }
    }

    deinit { unsafe holder.deallocate() }

    /// Ranges of pages, ascending, that were open to writers since the last call; they are protected again.
    func take() -> [Range<Int>] {
        pages.withLock { pages in
            guard !pages.open.isEmpty else { return [] }
            var ranges: [Range<Int>] = []
            for page in pages.open.sorted() {
                if let last = ranges.last, page <= last.upperBound {
                    ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, page + 1)
                } else {
                    ranges.append(page..<page + 1)
                }
            }
            pages.open.removeAll(keepingCapacity: true)
            if !pages.isEnded {
                for range in ranges {
                    _ = unsafe write_holder_protect(
                        holder, start + UInt(range.lowerBound * pageBytes), range.count * pageBytes)
                }
            }
            return ranges
        }
    }

    /// Before the mapping goes, and where nobody watches any more. Who waits goes on.
    func end() {
        pages.withLock { pages in
            guard !pages.isEnded else { return }
            pages.isEnded = true
            _ = unsafe write_holder_remove(holder, start, byteCount)
            unsafe write_holder_end(holder)
        }
    }

    var hasWaiting: Bool {
        // In this order: the thread says that it serves before it takes a writer from the queue.
        let isQueued = pages.withLock { $0.isEnded ? false : unsafe write_holder_has_next(holder) }
        return isQueued || isServing.load(ordering: .sequentiallyConsistent)
    }

    // MARK: - The thread

    private func startServing() -> Bool {
        // The client's signal handlers run on the client's threads: blocked before the thread begins.
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(self).toOpaque()
        let code = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<HeldMapping>.fromOpaque(context).takeRetainedValue().serve()
                return nil
            }, context)
        guard code == 0 else {
            unsafe Unmanaged<HeldMapping>.fromOpaque(context).release()
            return false
        }
        // Nobody waits for its end: who ends it may have the turn that it is waiting for.
        pthread_detach(thread)
        return true
    }

    private var isEnded: Bool { pages.withLock { $0.isEnded } }

    private func serve() {
        var writers = [held_writer](repeating: held_writer(), count: 16)
        while !isEnded {
            unsafe write_holder_wait(holder)
            isServing.store(true, ordering: .sequentiallyConsistent)
            while true {
                let count = unsafe write_holder_next(holder, &writers, UInt32(writers.count))
                if count == 0 { break }
                for writer in writers.prefix(Int(count)) { gate.admit(thread: writer.thread) { open(writer.page) } }
            }
            isServing.store(false, ordering: .sequentiallyConsistent)
        }
        unsafe write_holder_close(holder)
    }

    private func open(_ address: UInt) {
        pages.withLock { pages in
            // Once it has ended, something else may be mapped there.
            guard !pages.isEnded else { return }
            pages.open.append(Int(address - start) / pageBytes)
            _ = unsafe write_holder_admit(holder, address, pageBytes)
        }
    }
}
