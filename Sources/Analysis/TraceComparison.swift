// Two recordings side by side: alignment by exit and place, first difference that means something, counts.

public import Replay
public import TraceFile

/// The difference of two recordings. Left and right are in the order of the arguments.
public struct TraceComparison: Hashable, Encodable, Sendable {
    /// Parts of the headers that differ.
    public var headerFields: [ComparedField] = []
    public var leftStepCount: UInt64 = 0
    public var rightStepCount: UInt64 = 0
    /// Steps with the same exit, payload and RIP, in order.
    public var alignedCount: UInt64 = 0
    /// Aligned steps with another event or other registers; the time-stamp counter does not count.
    public var registerDifferenceCount: UInt64 = 0
    /// Steps without a partner.
    public var onlyLeft = Unaligned()
    public var onlyRight = Unaligned()
    /// The first difference other than an asynchronous exit.
    public var firstDifference: Difference?

    public struct Unaligned: Hashable, Encodable, Sendable {
        public var synchronous: UInt64 = 0
        /// Exits NONE and STOPPED, which come where the host pleases.
        public var asynchronous: UInt64 = 0
    }

    public struct StepSummary: Hashable, Encodable, Sendable {
        public var step: UInt64
        public var vcpu: UInt32
        @Hexadecimal public var rip: UInt64
        public var exit: String
        public var event: String?
    }

    public struct Difference: Hashable, Encodable, Sendable {
        public enum Kind: String, Encodable, Sendable {
            /// The same exit with another event or other registers.
            case registers
            /// A step of one side has no partner.
            case onlyLeft, onlyRight
            /// Both sides go on with other steps.
            case replaced
        }
        public var kind: Kind
        /// The steps on both sides; nil at the end of a trace.
        public var left: StepSummary?
        public var right: StepSummary?
        /// What differs where the exits are the same; left is `expected`.
        public var fields: [ComparedField]
    }

    /// No difference, but for where the host interrupted.
    public var isSame: Bool { firstDifference == nil }
    /// As diff(1): 0 the same, 1 a difference.
    public var exitStatus: Int32 { isSame ? 0 : 1 }

    /// Compares two traces from their beginning.
    ///
    /// - Parameter windowSteps: how far an insertion may reach, 1 or more; memory is bounded by twice as many steps.
    public init(_ left: TraceReader, _ right: TraceReader, windowSteps: Int = 256) throws(TraceError) {
        headerFields = Self.compare(left.header, right.header)
        var aligner = StepAligner(
            left: StepWindow(try left.cursor()), right: StepWindow(try right.cursor()), windowSteps: max(windowSteps, 1)
        )
        try aligner.run(into: &self)
    }

    private static func compare(_ left: TraceHeader, _ right: TraceHeader) -> [ComparedField] {
        func parameters(_ header: TraceHeader) -> String {
            header.parameters.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        }
        return [
            ComparedField(name: "tool", expected: left.tool, actual: right.tool),
            ComparedField(name: "backend", expected: left.backendName, actual: right.backendName),
            ComparedField(name: "processor model", expected: left.processorModel, actual: right.processorModel),
            ComparedField(name: "level", expected: "\(left.level)", actual: "\(right.level)"),
            ComparedField(name: "parameters", expected: parameters(left), actual: parameters(right)),
            ComparedField(
                name: "CPUID table", expected: "\(left.cpuidTable.count) rows",
                actual: left.cpuidTable == right.cpuidTable
                    ? "\(left.cpuidTable.count) rows" : "\(right.cpuidTable.count) rows, others"),
        ].filter(\.differs)
    }
}
