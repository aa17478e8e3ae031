// Whose turn it is: the VCPUs of one machine, and the calls that change it, go one after another as they came.

import CClientThreads
import Glibc
import NVMM

/// A lock that is granted in the order of asking, and that asks a VCPU which has it for a run to give way. With an
/// ordinary mutex a VCPU that gives way between two slices would mostly be the one that gets it again.
///
/// SAFETY: the mutex and the condition are allocated in init, freed in deinit, and never moved or handed out; the rest
/// changes under the mutex only.
@safe final class TurnLock: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var nextTicket: UInt64 = 0
    private var serving: UInt64 = 0
    /// The VCPU whose run has the turn.
    private var running: (any VCPU)?

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
        lock()
        awaitTurn()
        unlock()
    }

    func pass() {
        lock()
        serveNext()
        unlock()
    }

    /// The client's signal handlers on this thread wait until the mutex is let go.
    private func lock() {
        signal_put_off_begin()
        unsafe pthread_mutex_lock(mutex)
    }

    private func unlock() {
        unsafe pthread_mutex_unlock(mutex)
        signal_put_off_end()
    }

    func during<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        take()
        defer { pass() }
        return try body()
    }

    // MARK: Runs

    /// Takes the turn for a slice of a run. Whoever asks from now on makes it give way.
    ///
    /// - Returns: whether somebody waits already.
    func take(forRunOf vcpu: any VCPU) -> Bool {
        lock()
        defer { unlock() }
        awaitTurn()
        return begin(vcpu)
    }

    /// Between two slices: lets all who wait come first. Passing and asking are one step, so that who comes next knows
    /// that this VCPU waits.
    ///
    /// - Returns: as ``take(forRunOf:)``.
    func passOn(inRunOf vcpu: any VCPU) -> Bool {
        lock()
        defer { unlock() }
        if hasWaiters {
            serveNext()
            awaitTurn()
        }
        return begin(vcpu)
    }

    // MARK: With the mutex

    private var hasWaiters: Bool { nextTicket != serving &+ 1 }

    private func awaitTurn() {
        let ticket = nextTicket
        nextTicket &+= 1
        if serving != ticket { running?.giveWay() }
        while serving != ticket { unsafe pthread_cond_wait(changed, mutex) }
    }

    private func serveNext() {
        running = nil
        let hadWaiters = hasWaiters
        serving &+= 1
        if hadWaiters { unsafe pthread_cond_broadcast(changed) }
    }

    private func begin(_ vcpu: any VCPU) -> Bool {
        vcpu.commPage.giveWay = false
        running = vcpu
        return hasWaiters
    }
}
