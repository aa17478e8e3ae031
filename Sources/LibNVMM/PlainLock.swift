// A lock for tables that are looked at and left.

import CClientThreads
import Glibc

/// `pthread_mutex_t`, not recursive. The client's signal handlers on this thread wait until it is let go.
///
/// SAFETY: allocated and initialised in init, destroyed in deinit, never moved or handed out.
@safe final class PlainLock: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init() {
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe pthread_mutex_init(mutex, nil)
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    func during<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        signal_put_off_begin()
        unsafe pthread_mutex_lock(mutex)
        defer {
            unsafe pthread_mutex_unlock(mutex)
            signal_put_off_end()
        }
        return try body()
    }
}
