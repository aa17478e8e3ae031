// A program that a test starts and ends; signals as they are by default (Tests/CHostOracle).

import CHostOracle
import Glibc

enum ChildProcessError: Error, Equatable {
    case cannotStart(program: String)
}

/// A running program; killed when the last reference goes.
final class ChildProcess {
    private var identifier: Int32

    init(_ arguments: [String]) throws(ChildProcessError) {
        // SAFETY: the copies are freed below, after the call that reads them.
        let copies = unsafe arguments.map { unsafe strdup($0) }
        var pointers = unsafe copies.map { unsafe UnsafePointer($0) }
        unsafe pointers.append(nil)
        identifier = unsafe oracle_spawn(&pointers)
        unsafe copies.forEach { unsafe free($0) }
        guard identifier > 0 else { throw .cannotStart(program: arguments.first ?? "") }
    }

    deinit { end() }

    /// Waits until the program ends by itself.
    ///
    /// - Returns: its exit status; -1 for a signal.
    func wait() -> Int32 {
        guard identifier > 0 else { return -1 }
        let status = oracle_wait(identifier)
        identifier = 0
        return status
    }

    func end() {
        guard identifier > 0 else { return }
        oracle_end(identifier)
        identifier = 0
    }
}
