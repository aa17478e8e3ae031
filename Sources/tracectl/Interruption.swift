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

    private static let wasAsked = Atomic<Bool>(false)

    /// Whether SIGUSR1, or a signal that asks for the end, arrived.
    static var asksForTrace: Bool { wasAsked.load(ordering: .relaxed) || pending != nil }

    /// From here on SIGUSR1 asks for what a flight recorder keeps.
    static func watchForRequests() {
        wasAsked.store(false, ordering: .relaxed)
        // SAFETY: the handler does nothing but one atomic store, to a variable that exists.
        _ = signal(SIGUSR1) { _ in Interruption.wasAsked.store(true, ordering: .relaxed) }
        var signals = sigset_t()
        _ = unsafe sigemptyset(&signals)
        _ = unsafe sigaddset(&signals, SIGUSR1)
        _ = unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }

    /// From here on SIGINT, SIGTERM and SIGHUP only leave a note, once: a second one does what it always did.
    static func watch() {
        // The variable must exist before a handler touches it: its first use is not async-signal-safe.
        signalNumber.store(0, ordering: .relaxed)
        var signals = sigset_t()
        _ = unsafe sigemptyset(&signals)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            var before = sigaction()
            _ = unsafe sigaction(number, nil, &before)
            // Under nohup a closed terminal is no reason to end. SIG_IGN is the number 1, not a function.
            let isIgnored = unsafe unsafeBitCast(before.__sigaction_handler.sa_handler, to: Int.self) == 1
            if number == SIGHUP && isIgnored { continue }
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { number in
                Interruption.signalNumber.store(number, ordering: .relaxed)
            }
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
            // SAFETY: the pointers live for the calls; the handler does nothing but one atomic store.
            _ = unsafe sigaction(number, &action, nil)
            _ = unsafe sigaddset(&signals, number)
        }
        // A parent may have left them blocked, as test runners do.
        _ = unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        // A reader of `-o -` that went away is an error to report (EPIPE), not a reason to die without closing up.
        _ = signal(SIGPIPE, SIG_IGN)
    }
}
