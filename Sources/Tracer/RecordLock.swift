// A lock with separate lock and unlock, for sections that do not nest as closures.

internal import Glibc

/// `pthread_mutex_t`, not recursive. The record path takes it uncontended, so that it costs one atomic operation.
@safe final class RecordLock: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init() {
        // SAFETY: allocated and initialised here, destroyed in deinit, never moved or exposed.
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe pthread_mutex_init(mutex, nil)
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    func lock() { unsafe pthread_mutex_lock(mutex) }
    func unlock() { unsafe pthread_mutex_unlock(mutex) }
}
