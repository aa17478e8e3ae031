// Where in a trace its exits are, and at which instructions: what takes decoding every step.

public import Replay
public import TraceFile

/// A trace's exits over its steps, by place, and what they took.
public struct TraceProfile: Hashable, Codable, Sendable {
    /// Steps of one bin of ``timeline``, ``places`` and ``injections``; the last bin may have fewer.
    public var stepsPerBin: UInt64 = 1
    public var binCount = 0
    /// Clock before the first step of each bin, ticks.
    public var binClocks: [UInt64] = []
    /// A row for each reason, in the order of ``TraceStatistics/exits``.
    public var timeline: [Row] = []
    /// A row for each port, MSR and page, the busiest first, at most ``placesMax``; with coarser bins.
    public var places: [Row] = []
    /// Bins of ``timeline`` in one of ``places``.
    public var binsPerPlaceBin = 1
    /// A row for each event that entered the guest.
    public var injections: [Row] = []
    /// The busiest instructions at which the guest exited, at most ``instructionsMax``.
    public var instructions: [ExitingInstruction] = []
    /// What the VMM did after an exit, the most frequent first, at most ``pairsMax``.
    public var pairs: [Pair] = []
    /// Host time of runs and between them, nanoseconds; nil where the trace holds none.
    public var guestTime: Latencies?
    public var vmmTime: Latencies?
    /// Ticks from an inject to the end of the run that took the event, less what that run retired.
    public var injectionDelay: Latencies?
    /// Ticks that the clock was advanced by, for a guest that waits.
    public var idleTicks: UInt64 = 0
    public var clock: UInt64 = 0

    public static let binsMax = 1200
    public static let placeBinsMax = 150
    public static let placesMax = 40
    public static let instructionsMax = 60
    public static let pairsMax = 20

    public struct Row: Hashable, Codable, Sendable {
        /// `IO`, `out port 0x402`, `interrupt 0x8`.
        public var name: String
        /// The device's name where it is known.
        public var device: String?
        public var count: UInt64
        public var bins: [UInt32]
    }

    public struct ExitingInstruction: Hashable, Codable, Sendable {
        /// Offset in the code segment; with ``base`` the linear address.
        @Hexadecimal public var rip: UInt64
        @Hexadecimal public var base: UInt64
        public var count: UInt64
        /// Retired in the runs that ended here.
        public var instructions: UInt64
        /// Host time of these runs, and after them in the VMM; nil where the trace holds none.
        public var guestNanoseconds: UInt64?
        /// The most frequent reason.
        public var reason: String
        /// As the last keyframe has it; nil where that is not known.
        public var text: String?
        public var symbol: String?
    }

    public struct Pair: Hashable, Codable, Sendable {
        public var reason: String
        /// Parts of the state, in the order of the flag bits.
        public var read: [String]
        public var written: [String]
        public var count: UInt64
    }

    /// A distribution; values are exact within three digits.
    public struct Latencies: Hashable, Codable, Sendable {
        public var count: UInt64
        public var minimum: UInt64
        public var maximum: UInt64
        public var mean: Double
        public var percentiles: [Percentile]
        /// Counts between powers of two: values from 2^n to below 2^(n+1), n from 0; 0 counts with 1.
        public var octaves: [UInt64]

        public struct Percentile: Hashable, Codable, Sendable {
            public var percentile: Double
            public var value: UInt64
        }
    }

    /// The part of the clock that the guest waited.
    public var idleShare: Double { clock == 0 ? 0 : Double(idleTicks) / Double(clock) }
}

extension TraceProfile {
    /// Decodes a whole trace, in memory that depends on the number of different places only.
    ///
    /// - Parameter symbols: names of the guest's functions.
    /// - Throws: ``TraceError`` for the first damage: counts without it would be wrong in silence.
    public init(
        of reader: TraceReader, symbols: SymbolTable? = nil, progress: (_ step: UInt64) -> Void = { _ in }
    ) throws(TraceError) {
        var collector = ProfileCollector(stepCount: try reader.stepEnd())
        let cursor = try reader.cursor()
        while let event = try cursor.next() {
            collector.add(event)
            if case .step = event, cursor.nextStepIndex % 65536 == 0 { progress(cursor.nextStepIndex) }
        }
        self = collector.result(code: try RecordedCode(reader), symbols: symbols)
    }
}
