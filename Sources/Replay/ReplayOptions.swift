// What to replay of a trace, and how to go on after a difference.

/// Choices of a replay. The defaults replay the whole trace and stop at the first divergence.
public struct ReplayOptions: Sendable {
    /// First step of interest, from 0. The replay starts at the nearest keyframe at or before it.
    public var from: UInt64
    /// The step before which the replay ends; nil: the end of the trace.
    public var to: UInt64?
    /// After a divergence, load the recorded state (and memory at the next keyframe) and go on counting.
    public var resynchronises: Bool
    /// Replays on a backend of another name than the recording's.
    public var allowsOtherBackend: Bool
    /// Limit on all memory objects together, in bytes: a trace cannot ask for more.
    public var memoryBytesMax: UInt64
    /// Executed instructions and events that a divergence report lists at most.
    public var historyCount: Int
    /// Differences that are accepted: steps that show nothing else are explained.
    public var known: [KnownDifference] = []
    /// Whether a divergence's cause is looked for, which takes longer than the replay of a short trace.
    var locatesCause = true

    public init(
        from: UInt64 = 0, to: UInt64? = nil, resynchronises: Bool = false, allowsOtherBackend: Bool = false,
        memoryBytesMax: UInt64 = 16 << 30, historyCount: Int = 8
    ) {
        self.from = from
        self.to = to
        self.resynchronises = resynchronises
        self.allowsOtherBackend = allowsOtherBackend
        self.memoryBytesMax = memoryBytesMax
        self.historyCount = max(historyCount, 1)
    }
}

/// How far a replay is.
public struct ReplayProgress: Hashable, Sendable {
    /// Steps executed, and the step reached.
    public var stepsDone: UInt64
    public var step: UInt64
}
