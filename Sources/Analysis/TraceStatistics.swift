// Counts over a trace: exits by reason, port, MSR, page and event; calls and what they cost under NVMM's ABI.

public import Replay
public import TraceFile

/// What a trace holds, counted. All lists are ascending by their key, so that equal traces give equal documents.
public struct TraceStatistics: Hashable, Codable, Sendable {
    public var steps = Steps()
    public var exits: [ExitCount] = []
    public var io: [IOCount] = []
    public var msrs: [MSRCount] = []
    /// MEMORY exits by page of the faulting GPA.
    public var memory: [MemoryCount] = []
    public var events: [EventCount] = []
    public var calls = Calls()
    public var vcpus: [VCPUCount] = []
    public var memoryWrites = MemoryWrites()
    public var keyframeCount: UInt64 = 0
    public var lostEventCount: UInt64 = 0

    public struct Steps: Hashable, Codable, Sendable {
        public var count: UInt64 = 0
        /// Runs that did not enter the guest.
        public var returnedEarly: UInt64 = 0
        /// Runs that failed because of a bad event.
        public var failed: UInt64 = 0
        /// Runs that installed state.
        public var committing: UInt64 = 0
        public var instructions: UInt64 = 0
        /// The clock at the last keyframe, ticks; 0 without one.
        public var clock: UInt64 = 0
        /// Host time in the guest; nil where the trace holds none.
        public var guestNanoseconds: UInt64?
    }

    public struct ExitCount: Hashable, Codable, Sendable {
        /// Code and name: `NVMM_VCPU_EXIT_*`. A run that failed counts with the exit before it.
        @Hexadecimal public var code: UInt64
        public var reason: String
        public var count: UInt64
        /// Retired in the runs that ended so; 0 where the backend does not count.
        public var instructions: UInt64
    }

    public struct IOCount: Hashable, Codable, Sendable {
        @Hexadecimal public var port: UInt16
        public var isInput: Bool
        public var operandBytes: UInt8
        public var count: UInt64
    }

    public struct MSRCount: Hashable, Codable, Sendable {
        @Hexadecimal public var msr: UInt32
        public var isWrite: Bool
        public var count: UInt64
    }

    public struct MemoryCount: Hashable, Codable, Sendable {
        /// First byte of the page.
        @Hexadecimal public var gpa: UInt64
        /// `read`, `write` or `execute`.
        public var access: String
        public var count: UInt64
    }

    public struct EventCount: Hashable, Codable, Sendable {
        /// `interrupt`, `exception`, or the number that the client gave.
        public var kind: String
        public var vector: UInt8
        public var count: UInt64
    }

    public struct VCPUCount: Hashable, Codable, Sendable {
        public var id: UInt32
        public var steps: UInt64
        public var instructions: UInt64
    }

    public struct MemoryWrites: Hashable, Codable, Sendable {
        public var count: UInt64 = 0
        public var byteCount: UInt64 = 0
        /// Found by comparing pages.
        public var rawStores: UInt64 = 0
    }

    public struct Calls: Hashable, Codable, Sendable {
        public var getState: UInt64 = 0
        public var setState: UInt64 = 0
        public var inject: UInt64 = 0
        public var stop: UInt64 = 0
        public var run: UInt64 = 0
        /// Creation, mapping and configuration of machine and VCPUs.
        public var machine: UInt64 = 0
        /// What all of these cost under the comm-page ABI: each run, each machine call, each getstate that missed.
        public var systemCalls: UInt64 = 0
        /// Slices between which a library passed the turn on inside a run of its client; no calls, and not in ``run``.
        public var slices: UInt64 = 0
        public var underInterface = UnderInterface()
        /// By part of the state, in the order of the flag bits.
        public var parts: [PartCount] = []
    }

    /// What the same run would have cost in system calls with less of a comm page.
    public struct UnderInterface: Hashable, Codable, Sendable {
        /// Every getstate, setstate and inject is a call.
        public var noCommPage: UInt64 = 0
        /// State goes through the page: a getstate that hits and a setstate are loads and stores; inject is a call.
        public var commPageForState: UInt64 = 0
        /// NVMM's: inject is a store too. The same as ``Calls/systemCalls``.
        public var commPageForStateAndEvents: UInt64 = 0
    }

    public struct PartCount: Hashable, Codable, Sendable {
        public var part: String
        /// Asked for in a getstate that the comm page served, or in one that cost a system call.
        public var hits: UInt64 = 0
        public var misses: UInt64 = 0
        /// Declared by setstate, and installed by a run.
        public var sets: UInt64 = 0
        public var commits: UInt64 = 0
    }
}

extension TraceStatistics {
    /// Counts over a trace from its columns, without decoding steps.
    ///
    /// - Throws: what is wrong with the first damaged block: counts without it would be wrong in silence.
    public init(of reader: TraceReader) throws(TraceError) {
        var collector = StatisticsCollector()
        let problems = try reader.scanExits([.injections, .calls, .gpas, .steps, .retired, .time]) { collector.add($0) }
        if let first = problems.first { throw first }
        self = collector.result(
            reader.totals, clock: reader.keyframes.last?.clock ?? 0,
            hasSlices: reader.header.parameters.contains { $0.key == TraceHeader.Parameter.sliceInstructions })
    }
}
