// Which pages a client wrote through its own mapping of guest memory, where the kernel can tell (CWriteTracking): found
// afterwards, or held back until a gate admits them.

import CWriteTracking
import NVMM

/// Watches one mapping from the first ``take()`` on: who never asks pays nothing.
///
/// SAFETY: the tracker is a plain structure that only this object touches, one call at a time (the machine's calls do
/// not overlap); the range is the client's mapping, which outlives ``end()``.
@safe final class ClientWrites {
    private enum State { case idle, watching, promised, holding(HeldMapping), lost, unavailable }

    private let start: UInt
    private let byteCount: Int
    private var tracker = write_tracker()
    private var state = State.idle

    init(start: UInt, byteCount: Int) {
        self.start = start
        self.byteCount = byteCount
    }

    /// Ranges of pages that were written since the last call; all of them at the first.
    ///
    /// - Returns: nil where the kernel does not offer it (Linux 6.7 does).
    func take() -> [Range<Int>]? {
        switch state {
        case .unavailable: return nil
        case .idle: return begin()
        case .watching: return unsafe write_tracker_is_unchanged(&tracker) ? [] : scan()
        case .holding(let mapping): return mapping.take()
        // It worked when the watch began; should it not now, all pages are to be looked at. So they are until somebody
        // holds them.
        case .lost, .promised: return [0..<byteCount / pageBytes]
        }
    }

    /// From being watched to being held. What was written before and not taken is forgotten.
    ///
    /// - Returns: nil where nobody watches, or the kernel does not allow it: all is as before then.
    func hold(behind gate: any WriterGate) -> (any HeldWriters)? {
        if case .promised = state {
            guard let mapping = HeldMapping(start: start, byteCount: byteCount, gate: gate) else {
                state = .lost
                return nil
            }
            state = .holding(mapping)
            return mapping
        }
        guard case .watching = state else { return nil }
        // A mapping is registered with one descriptor at a time.
        _ = unsafe write_tracker_remove(&tracker, start, byteCount)
        if let mapping = HeldMapping(start: start, byteCount: byteCount, gate: gate) {
            unsafe write_tracker_close(&tracker)
            state = .holding(mapping)
            return mapping
        }
        if unsafe write_tracker_add(&tracker, start, byteCount) != 0 {
            unsafe write_tracker_close(&tracker)
            state = .lost
        }
        return nil
    }

    private func begin() -> [Range<Int>]? {
        guard !write_holder_must_protect(), unsafe write_tracker_open(&tracker) == 0 else {
            return beginWithoutTracker()
        }
        guard unsafe write_tracker_add(&tracker, start, byteCount) == 0 else {
            unsafe write_tracker_close(&tracker)
            return beginWithoutTracker()
        }
        state = .watching
        return [0..<byteCount / pageBytes]
    }

    /// Pages that are held need no tracker, and mprotect needs nothing of the kernel.
    private func beginWithoutTracker() -> [Range<Int>]? {
        state = write_holder_may_protect() ? .promised : .unavailable
        return write_holder_may_protect() ? [0..<byteCount / pageBytes] : nil
    }

    private func scan() -> [Range<Int>]? {
        let room = 64
        var found: [Range<Int>] = []
        var ranges = [written_range](repeating: written_range(start: 0, end: 0), count: room)
        var next = start
        while next < start + UInt(byteCount) {
            let count = unsafe write_tracker_scan(
                &tracker, &next, start + UInt(byteCount), &ranges, UInt32(room))
            // It worked when the watch began; should it not now, all pages are to be looked at.
            guard count >= 0 else { return [0..<byteCount / pageBytes] }
            for range in ranges.prefix(Int(count)) {
                found.append(Int(range.start - start) / pageBytes..<Int(range.end - start) / pageBytes)
            }
        }
        return found
    }

    /// Before the mapping goes.
    func end() {
        switch state {
        case .idle, .lost, .promised, .unavailable: return
        case .watching:
            _ = unsafe write_tracker_remove(&tracker, start, byteCount)
            unsafe write_tracker_close(&tracker)
        case .holding(let mapping): mapping.end()
        }
        state = .unavailable
    }
}
