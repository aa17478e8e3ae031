// Whose turn it is: the VCPUs of one machine, and the calls that change it, go one after another as they came.

import Glibc

/// A lock that is granted in the order of asking. With an ordinary mutex a VCPU that gives way between two slices would
/// mostly be the one that gets it again.
///
/// SAFETY: the mutex and the condition are allocated in init, freed in deinit, and never moved or handed out; the
/// numbers change under the mutex only.
@safe final class TurnLock: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var nextTicket: UInt64 = 0
    private var serving: UInt64 = 0

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
        unsafe pthread_mutex_destroy(mutex)
        unsafe changed.deallocate()
        unsafe mutex.deallocate()
    }

    func take() {
        unsafe pthread_mutex_lock(mutex)
        let ticket = nextTicket
        nextTicket &+= 1
        while serving != ticket { unsafe pthread_cond_wait(changed, mutex) }
        unsafe pthread_mutex_unlock(mutex)
    }

    func pass() {
        unsafe pthread_mutex_lock(mutex)
        serving &+= 1
        let hasWaiters = nextTicket != serving
        unsafe pthread_mutex_unlock(mutex)
        if hasWaiters { unsafe pthread_cond_broadcast(changed) }
    }

    func during<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        take()
        defer { pass() }
        return try body()
    }
}
