// The thread that compresses: takes sealed journals, writes their frames, gives the journals back.

import Glibc

/// A journal that is full, with what its encoding needs.
struct SealedJournal: Sendable {
    var journal: Journal
    var epoch: UInt32
    var firstStep: UInt64
}

/// One worker with its queue. The frame sink belongs to this thread whenever the queue is not idle, and to the
/// writer's thread after ``waitUntilIdle()``: they never use it at once.
@safe final class EncoderThread: @unchecked Sendable {
    private let sink: FrameSink
    /// Touched by the thread alone.
    private var schedule: SyncSchedule
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var thread = pthread_t()
    private var isStarted = false

    // Under the mutex.
    private var queue: [SealedJournal] = []
    private var isBusy = false
    private var isStopping = false
    private var failure: TraceWriteError?

    /// - Parameter schedule: of the files that are to be brought to stable storage; empty where that is not asked for.
    init(sink: FrameSink, schedule: SyncSchedule) throws(TraceWriteError) {
        self.sink = sink
        self.schedule = schedule
        // SAFETY: allocated once, initialised here, destroyed in deinit, when the thread has ended.
        unsafe mutex = .allocate(capacity: 1)
        unsafe changed = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe changed.initialize(to: pthread_cond_t())
        unsafe pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(changed, &attributes)
        unsafe pthread_condattr_destroy(&attributes)
        let context = unsafe Unmanaged.passRetained(self).toOpaque()
        let code = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<EncoderThread>.fromOpaque(context).takeRetainedValue().work()
                return nil
            }, context)
        guard code == 0 else {
            unsafe Unmanaged<EncoderThread>.fromOpaque(context).release()
            throw .io(call: "pthread_create", errno: code)
        }
        isStarted = true
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe pthread_cond_destroy(changed)
        unsafe mutex.deallocate()
        unsafe changed.deallocate()
    }

    private func locked<Result>(_ body: () -> Result) -> Result {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return body()
    }

    // MARK: - The writer's side

    func submit(_ journal: SealedJournal) {
        locked {
            queue.append(journal)
            unsafe pthread_cond_broadcast(changed)
        }
    }

    /// Returns once `count` or fewer journals are in hand.
    func wait(untilInHand count: Int) throws(TraceWriteError) {
        let problem = locked { () -> TraceWriteError? in
            while queue.count + (isBusy ? 1 : 0) > count, failure == nil { unsafe pthread_cond_wait(changed, mutex) }
            return failure
        }
        if let problem { throw problem }
    }

    func waitUntilIdle() throws(TraceWriteError) { try wait(untilInHand: 0) }

    /// Ends the thread after what is queued, or at once after a failure.
    func stop() {
        guard isStarted else { return }
        locked {
            isStopping = true
            unsafe pthread_cond_broadcast(changed)
        }
        pthread_join(thread, nil)
        isStarted = false
    }

    // MARK: - The thread

    private func work() {
        // A reader of our pipe that goes away must not end the process: EPIPE says the same. And the client's
        // signal handlers run on the client's threads.
        var signals = sigset_t()
        unsafe sigfillset(&signals)
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        while let job = take() {
            var problem: TraceWriteError?
            do throws(TraceWriteError) {
                let epoch = try encodeEpoch(
                    journal: job.journal.records(), isTrusted: true, epoch: job.epoch, firstStep: job.firstStep,
                    compressor: sink.compressor)
                for frame in epoch.frames { try sink.write(frame) }
                if let damage = epoch.damage { problem = .journal(damage) }
            } catch { problem = error }
            if problem == nil { job.journal.close() }
            locked {
                isBusy = false
                failure = problem
                unsafe pthread_cond_broadcast(changed)
            }
        }
    }

    private func take() -> SealedJournal? {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        while true {
            if failure != nil { return nil }
            // Before the next journal: a queue that is never empty must not put it off.
            if schedule.isDue {
                unsafe pthread_mutex_unlock(mutex)
                var problem: TraceWriteError?
                do throws(TraceWriteError) { try schedule.sync() } catch { problem = error }
                unsafe pthread_mutex_lock(mutex)
                guard let problem else { continue }
                failure = problem
                unsafe pthread_cond_broadcast(changed)
                return nil
            }
            if !queue.isEmpty {
                isBusy = true
                return queue.removeFirst()
            }
            if isStopping { return nil }
            if schedule.isEmpty {
                unsafe pthread_cond_wait(changed, mutex)
            } else {
                var due = schedule.due
                unsafe pthread_cond_timedwait(changed, mutex, &due)
            }
        }
    }
}
