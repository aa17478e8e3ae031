// Ctrl-C: the first asks for a proper end, the second ends the process.

import Glibc
import Synchronization

enum Interruption {
    /// Signal that asked for the end; 0 for none.
    private static let signalNumber = Atomic<Int32>(0)

    /// The signal that arrived, if any. Work that can end early looks here between its pieces.
    static var pending: Int32? {
        let number = signalNumber.load(ordering: .relaxed)
        return number == 0 ? nil : number
    }

    /// From here on SIGINT, SIGTERM and SIGHUP only leave a note, once: a second one does what it always did.
    static func watch() {
        // The variable must exist before a handler touches it: its first use is not async-signal-safe.
        signalNumber.store(0, ordering: .relaxed)
        // Whoever started this may have had them blocked (a thread of a dispatch pool has), and masks are inherited.
        var watched = sigset_t()
        // SAFETY: the set lives for the calls.
        unsafe sigemptyset(&watched)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            unsafe sigaddset(&watched, number)
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { number in
                Interruption.signalNumber.store(number, ordering: .relaxed)
            }
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
            // SAFETY: both pointers live for the call; the handler does nothing but one atomic store.
            _ = unsafe sigaction(number, &action, nil)
        }
        _ = unsafe pthread_sigmask(SIG_UNBLOCK, &watched, nil)
        // A reader of `-o -` that went away is an error to report (EPIPE), not a reason to die without closing up.
        _ = signal(SIGPIPE, SIG_IGN)
    }
}
