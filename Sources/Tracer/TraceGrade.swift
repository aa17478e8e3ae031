// What a recording is good for, said at its end: Docs/determinism.md, "Grade at record time".

internal import TraceFile

/// Grade of a recording, best first, with what lowered it.
public struct TraceGrade: Equatable, Sendable {
    public enum Level: Int, Comparable, Sendable {
        /// Counts may be off: steps are missing.
        case statistics
        /// Exits, registers and events are right; a replay may differ from the recording.
        case exitsOnly
        /// Replays to the same states and memory.
        case exact
        public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    }

    public internal(set) var level: Level
    /// Sources of nondeterminism in the order in which they were first seen.
    public internal(set) var reasons: [Reason]

    public enum Reason: Hashable, Sendable {
        /// Recorded at a level that holds neither writes nor keyframes.
        case recordLevel
        /// The backend has no instruction counter: where a run without an exit ended is not known.
        case instructionsNotCounted
        /// A store through `MemoryObject.clientAddress` was found after the guest could have read it.
        case lateRawStore(object: UInt32, page: Int, step: UInt64)
        /// `Machine.write` ran while a VCPU did: which came first is not known.
        case writeDuringRun(object: UInt32, step: UInt64)
        /// The client put a VCPU or the machine into another state by `restore`.
        case clientRestoredState(step: UInt64)
        /// The backend made more than one machine; only the first is in the trace.
        case secondMachine
        /// The trace could not be written to its end.
        case recordingFailed(step: UInt64)
        /// Records were lost on the way from the recorded process.
        case recordsLost(step: UInt64)
        /// What a run consumed is not published by the library below: it was inferred, and more than one answer fits.
        case consumptionInferred(step: UInt64)
        /// Two VCPUs ran at the same time: the order of what they did to memory is not known.
        case runsOverlapped(step: UInt64)
        /// A part of the machine lives in the hypervisor's kernel, where nobody sees what it does.
        case kernelDevice(String)
        /// What the client stores into a mapping of guest memory is not recorded.
        case memoryNotWatched(byteCount: UInt64)
        /// The hypervisor does not give registers at an exit, and the client did not ask for them.
        case registersNotSampled
    }

    /// That of a recording of a backend that nothing has lowered yet.
    init(level recordLevel: RecordLevel, countsInstructions: Bool) {
        self.init(level: .exact)
        if recordLevel == .exits { lower(to: .exitsOnly, because: .recordLevel) }
        if !countsInstructions { lower(to: .exitsOnly, because: .instructionsNotCounted) }
    }

    init(level: Level) {
        self.level = level
        reasons = []
    }

    /// Lowers the grade. A kind of reason is listed once, with the first place.
    mutating func lower(to lower: Level, because reason: Reason) {
        level = min(level, lower)
        if !reasons.contains(where: { $0.kind == reason.kind }) { reasons.append(reason) }
    }
}

extension TraceGrade.Reason {
    fileprivate var kind: Int {
        switch self {
        case .recordLevel: 0
        case .instructionsNotCounted: 1
        case .lateRawStore: 2
        case .writeDuringRun: 3
        case .clientRestoredState: 4
        case .secondMachine: 5
        case .recordingFailed: 6
        case .recordsLost: 7
        case .consumptionInferred: 8
        case .runsOverlapped: 9
        case .kernelDevice: 10
        case .memoryNotWatched: 11
        case .registersNotSampled: 12
        }
    }
}
