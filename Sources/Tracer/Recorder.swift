// The recorder of one machine: takes events from the wrapped backend into a trace.

public import NVMM
public import TraceFile

/// Records what goes over the interface of a wrapped backend.
///
/// ```swift
/// let recorder = try Recorder(.file("run.vmtrace"), of: SoftBackend())
/// let backend = recorder.backend          // use it as the one it wraps
/// try recorder.finish()
/// ```
///
/// Recording never changes what the client sees. Where the trace cannot be written, recording turns itself off,
/// the client goes on undisturbed, and ``failure`` says why.
public final class Recorder {
    public let options: RecorderOptions
    /// The backend to use in place of the recorded one.
    public var backend: any Backend { traced }
    private let traced: TracedBackend

    private let writer: any TraceSink
    /// Guards the writer and everything below; never held while the guest or a closure of the client runs.
    private let lock = RecordLock()
    private let isActive = Untracked(true)
    private var failure_: TraceWriteError?
    private var grade_: TraceGrade
    private var result: RecordingResult?
    private weak var recording: MachineRecording?
    private var hasMachine = false
    /// Something was appended since the last keyframe, so that the trace's end is not yet held by one.
    private let keyframeIsStale = Untracked(false)

    /// Starts a trace of what `backend` will do.
    ///
    /// - Throws: what ``TraceWriter`` throws where the destination cannot be opened or written.
    public convenience init(
        _ destination: TraceDestination, of backend: any Backend, options: RecorderOptions = RecorderOptions(),
        writerOptions: TraceWriterOptions = TraceWriterOptions()
    ) throws(TraceWriteError) {
        let writer = try TraceWriter(
            destination, header: Self.header(of: backend, options: options), options: writerOptions)
        self.init(writer, of: backend, options: options)
    }

    /// - Parameter writer: made with ``header(of:options:)``; the recorder finishes it.
    public init(_ writer: any TraceSink, of backend: any Backend, options: RecorderOptions = RecorderOptions()) {
        self.writer = writer
        self.options = options
        // What a host's processor ran is found again by its registers.
        let finds = backend.capability.countsInstructions || backend.processorModel == hostProcessorModel
        grade_ = TraceGrade(level: options.level, countsInstructions: finds)
        traced = TracedBackend(backend)
        traced.recorder = self
    }

    deinit { traced.recorder = nil }

    /// What stands at the head of a trace of `backend`.
    public static func header(of backend: any Backend, options: RecorderOptions) -> TraceHeader {
        TraceHeader(
            tool: options.tool, backendName: backend.name, capability: backend.capability,
            processorModel: backend.processorModel, cpuidTable: backend.cpuidTable, level: options.level,
            parameters: options.parameters.sorted { $0.key < $1.key }, recordsTime: options.recordsTime)
    }

    /// Why recording turned itself off; nil while all is well.
    public var failure: TraceWriteError? { locked { failure_ } }
    /// What the trace is good for as far as it goes.
    public var grade: TraceGrade { locked { grade_ } }
    public var stepCount: UInt64 { locked { writer.stepCount } }

    /// Ends the trace: a last keyframe, so that the memory at the end can be compared, then the index.
    /// What the client does afterwards is not recorded. A second call returns the first one's result.
    ///
    /// - Throws: the error that ended recording early, or that ending it met.
    @discardableResult public func finish() throws(TraceWriteError) -> RecordingResult {
        lock.lock()
        defer { lock.unlock() }
        if let result { return result }
        if let failure_ { throw failure_ }
        if let recording { recording.writeLastKeyframe() }
        if let failure_ { throw failure_ }
        isActive.value = false
        let ended: RecordingResult
        do {
            ended = RecordingResult(totals: try writer.finish(), grade: grade_)
        } catch {
            fail(error)
            throw error
        }
        result = ended
        return ended
    }

    private func locked<Value>(_ body: () -> Value) -> Value {
        lock.lock()
        defer { lock.unlock() }
        return body()
    }
}

/// How a recording ended.
public struct RecordingResult: Equatable, Sendable {
    public var totals: TraceTotals
    public var grade: TraceGrade
}

// MARK: - For the wrappers

extension Recorder {
    /// Takes the lock if the recording still runs.
    ///
    /// - Returns: false where nothing is to be recorded; the lock is then not held.
    func begin() -> Bool {
        lock.lock()
        guard isActive.value else {
            lock.unlock()
            return false
        }
        return true
    }

    /// As ``begin()``, also where nothing is recorded any more.
    func lockAlways() { lock.lock() }

    func end() { lock.unlock() }

    /// Claims the trace for the machine that `recording` is of. Lock held.
    ///
    /// - Returns: false for every machine but the first.
    func adopt(_ recording: MachineRecording) -> Bool {
        guard !hasMachine else {
            lowerGrade(to: .exitsOnly, because: .secondMachine)
            return false
        }
        hasMachine = true
        self.recording = recording
        return true
    }

    /// Appends through the writer. Lock held. After a failure nothing is appended any more.
    func append(_ body: (any TraceSink) throws(TraceWriteError) -> Void) {
        guard isActive.value else { return }
        keyframeIsStale.value = true
        do {
            try body(writer)
        } catch {
            fail(error)
        }
    }

    func append(_ event: MachineEvent) {
        append { (writer) throws(TraceWriteError) in try writer.append(.machine(event)) }
    }

    /// Appends a keyframe unless the last one still describes the machine. Lock held.
    func appendKeyframe(_ make: () -> Keyframe) {
        guard keyframeIsStale.value else { return }
        let keyframe = make()
        append { (writer) throws(TraceWriteError) in try writer.append(.keyframe(keyframe)) }
        keyframeIsStale.value = false
    }

    /// Steps written so far. Lock held.
    var stepsWritten: UInt64 { writer.stepCount }

    /// Lock held.
    var isRecording: Bool { isActive.value }

    func lowerGrade(to level: TraceGrade.Level, because reason: TraceGrade.Reason) {
        let before = grade_
        grade_.lower(to: level, because: reason)
        if grade_ != before { writer.noteGrade(level, reason) }
    }

    private func fail(_ error: TraceWriteError) {
        failure_ = error
        isActive.value = false
        grade_.lower(to: .statistics, because: .recordingFailed(step: writer.stepCount))
    }
}
