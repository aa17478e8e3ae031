// What a recording holds and how often it can be restarted from.

public import TraceFile

/// Choices of a recording. The defaults record everything that a replay needs.
public struct RecorderOptions: Sendable {
    /// When pages are compared to find stores that bypassed `Machine.write`.
    public enum RawStoreCheck: Sendable {
        /// At each run entry, before the guest can see the store: exact, and reads all guest memory each time.
        case always
        /// Before each keyframe: cheap, and what is found then comes too late for an exact replay.
        case atKeyframes
    }

    public var level: RecordLevel
    /// Steps after which a keyframe is due at the next run entry, 1 or more; it bounds what a seek re-executes.
    public var keyframeEverySteps: UInt64
    /// As ``keyframeEverySteps``, counted in retired instructions; nil: steps only. Of a guest that seldom exits.
    public var keyframeEveryInstructions: UInt64?
    /// false: only where a loss leaves a replay no other way. The trace is as small as it can be; a replay begins at
    /// its beginning and compares no memory.
    public var writesKeyframes = true
    public var rawStoreCheck: RawStoreCheck
    /// Adds host time to the steps; two recordings of one run then differ.
    public var recordsTime: Bool
    /// Program and version for the header: `tracectl 0.1.0`.
    public var tool: String
    /// The client's parameters for the header; sorted by key there.
    public var parameters: [TraceHeader.Parameter]

    public init(
        level: RecordLevel = .replay, keyframeEverySteps: UInt64 = 65_536,
        keyframeEveryInstructions: UInt64? = 500_000_000, rawStoreCheck: RawStoreCheck = .atKeyframes,
        recordsTime: Bool = false, tool: String = "exit-tracer", parameters: [TraceHeader.Parameter] = []
    ) {
        precondition(keyframeEverySteps > 0, "a keyframe at every step is the most there can be")
        self.level = level
        self.keyframeEverySteps = keyframeEverySteps
        self.keyframeEveryInstructions = keyframeEveryInstructions
        self.rawStoreCheck = rawStoreCheck
        self.recordsTime = recordsTime
        self.tool = tool
        self.parameters = parameters
    }
}
