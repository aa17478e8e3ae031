// Figures of a whole trace, which its trailer holds: Docs/trace-format.md, "Trailer".

public import NVMM

/// Totals over all steps.
public struct TraceTotals: Equatable, Sendable {
    public var stepCount: UInt64 = 0
    /// Instructions retired, where the backend counts them.
    public var instructionCount: UInt64 = 0
    /// Exits by reason, ascending by code; reasons that did not occur are left out.
    public var exits: [ExitTotal] = []
    public var calls: [CallTotal] = []
    public var injectedEvents: UInt64 = 0
    /// Runs that did not enter the guest.
    public var earlyReturns: UInt64 = 0
    public var memoryWrites: UInt64 = 0
    /// Bytes that the VMM wrote to guest memory, before compression.
    public var memoryWriteBytes: UInt64 = 0
    public var machineEvents: UInt64 = 0
    public var lostEvents: UInt64 = 0
    public var keyframeCount: UInt64 = 0
    /// Distinct pages stored.
    public var pageCount: UInt64 = 0
    public var bytes = FrameBytes()

    public struct ExitTotal: Equatable, Sendable {
        /// `NVMM_VCPU_EXIT_*`.
        public var code: UInt64
        public var name: String
        public var count: UInt64
        /// Host time in the guest, nanoseconds; 0 where the trace holds none.
        public var guestNanoseconds: UInt64
        public var guestNanosecondsMax: UInt64
    }

    public struct CallTotal: Equatable, Sendable {
        public var kind: CallRecord.Kind
        public var cost: CallCost
        public var count: UInt64
    }

    /// Bytes of the file by kind of frame, frame headers included.
    public struct FrameBytes: Equatable, Sendable {
        /// Preamble and header frame.
        public var header: UInt64 = 0
        /// Steps frames, less ``ioPayload``.
        public var steps: UInt64 = 0
        /// What the content of memory writes takes, compressed.
        public var ioPayload: UInt64 = 0
        public var keyframes: UInt64 = 0
        public var pages: UInt64 = 0
        /// Index frames and trailer.
        public var index: UInt64 = 0

        public var total: UInt64 { header &+ steps &+ ioPayload &+ keyframes &+ pages &+ index }
    }

    /// Bytes of the file for each exit, less page frames and I/O payload; nil without steps.
    public var bytesPerExit: Double? {
        guard stepCount > 0 else { return nil }
        return Double(bytes.total &- bytes.pages &- bytes.ioPayload) / Double(stepCount)
    }

    public init() {}

    init(_ summary: BlockSummary) {
        stepCount = UInt64(summary.stepCount)
        instructionCount = summary.retired
        exits = summary.exits.map { total in
            let reason = ExitReason.names[Int(total.number)]
            return ExitTotal(
                code: reason.code, name: reason.name, count: total.count, guestNanoseconds: total.timeSum,
                guestNanosecondsMax: total.timeMax)
        }
        for kind in CallRecord.Kind.allCases {
            for cost: CallCost in [.commPage, .systemCall] {
                let count = summary.calls[Int(kind.rawValue) * 2 + Int(cost.rawValue)]
                if count > 0 { calls.append(CallTotal(kind: kind, cost: cost, count: count)) }
            }
        }
        injectedEvents = summary.injectedEvents
        earlyReturns = summary.earlyReturns
        memoryWrites = summary.memoryWrites
        memoryWriteBytes = summary.memoryWriteBytes
        machineEvents = summary.machineEvents
        lostEvents = summary.lostEvents
    }
}
