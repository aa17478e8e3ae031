// Who may be inside a run of a machine whose VCPUs run at the same time: all of them, or one who changes the machine.

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Runs go through it side by side; a change of the machine waits until all have come out, and none enters meanwhile.
/// Whoever is inside looks at ``isWanted`` and comes out soon, at an instruction boundary.
///
/// SAFETY: mutex and condition are allocated in init, freed in deinit, never moved or handed out; the counts change
/// with the mutex held.
@safe final class RunGate: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var insideCount = 0
    private var waiting = 0
    private let wanted = Atomic<Bool>(false)

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

    /// Whether somebody waits for all runs to come out.
    @inline(__always) var isWanted: Bool { wanted.load(ordering: .relaxed) }

    func enter() {
        unsafe pthread_mutex_lock(mutex)
        while waiting > 0 { unsafe pthread_cond_wait(changed, mutex) }
        insideCount += 1
        unsafe pthread_mutex_unlock(mutex)
    }

    func leave() {
        unsafe pthread_mutex_lock(mutex)
        insideCount -= 1
        let isLast = insideCount == 0
        unsafe pthread_mutex_unlock(mutex)
        if isLast { unsafe pthread_cond_broadcast(changed) }
    }

    /// Calls `body` while nobody is inside. The caller must not be inside itself.
    func exclusively<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        unsafe pthread_mutex_lock(mutex)
        waiting += 1
        wanted.store(true, ordering: .relaxed)
        while insideCount > 0 { unsafe pthread_cond_wait(changed, mutex) }
        defer {
            waiting -= 1
            wanted.store(waiting > 0, ordering: .relaxed)
            unsafe pthread_mutex_unlock(mutex)
            unsafe pthread_cond_broadcast(changed)
        }
        return try body()
    }
}
