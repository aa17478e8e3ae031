// A lock whose holder can wait for others to come first.

internal import Glibc

/// A mutex and a condition, not recursive.
///
/// SAFETY: both are allocated and initialised in init, destroyed in deinit, never moved or handed out.
@safe final class RecordedLock: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>

    init() {
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe pthread_mutex_init(mutex, nil)
        unsafe changed = .allocate(capacity: 1)
        unsafe changed.initialize(to: pthread_cond_t())
        unsafe pthread_cond_init(changed, nil)
    }

    deinit {
        unsafe pthread_cond_destroy(changed)
        unsafe changed.deallocate()
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    func during<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        take()
        defer { pass() }
        return try body()
    }

    func take() { unsafe pthread_mutex_lock(mutex) }
    func pass() { unsafe pthread_mutex_unlock(mutex) }

    /// With the lock: lets others have it for a moment, until one of them calls ``wakeAll()`` or a millisecond passed:
    /// a store into a comm page wakes nobody.
    func yield() {
        var until = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &until)
        until.tv_nsec += 1_000_000
        if until.tv_nsec >= 1_000_000_000 {
            until.tv_nsec -= 1_000_000_000
            until.tv_sec += 1
        }
        unsafe pthread_cond_timedwait(changed, mutex, &until)
    }

    func wakeAll() { unsafe pthread_cond_broadcast(changed) }

    /// A number that no other thread has while this one lives.
    static var ownThread: UInt { UInt(pthread_self()) }
}
