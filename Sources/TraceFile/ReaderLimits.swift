// Bounds on what a reader takes from a file: Docs/trace-format.md, "Limits".

/// How much memory a reader is willing to spend, whatever the file says.
public struct ReaderLimits: Hashable, Sendable {
    /// Which limit was exceeded.
    public enum Name: String, Hashable, Sendable {
        case frameBytes, blockBytes, stepsPerBlock, eventsPerBlock, blocksPerEpoch, indexEntries, keyframePages
        case headerBytes, pages
    }
    /// Stored and decompressed bytes of one frame.
    public var frameBytes = 64 << 20
    /// Bytes that one block's decoded columns take in memory, and those of all blocks of an epoch.
    public var blockBytes = 256 << 20
    public var stepsPerBlock = 1 << 20
    /// Calls, writes and machine events of a block.
    public var eventsPerBlock = 1 << 22
    /// VCPUs that have a block in one epoch.
    public var blocksPerEpoch = 4096
    /// Frames of the file.
    public var indexEntries = 1 << 22
    /// Pages that one keyframe lists.
    public var keyframePages = 1 << 24
    /// Distinct pages of the page store.
    public var pages = 1 << 24
    /// Decompressed page frames that are kept, in bytes.
    public var pageCacheBytes = 16 << 20

    public init() {}
    public static let `default` = ReaderLimits()
    /// For untrusted traces on a small machine, and for fuzzing: some 32 MiB in all.
    public static var tight: ReaderLimits {
        var limits = ReaderLimits()
        limits.frameBytes = 2 << 20
        limits.blockBytes = 8 << 20
        limits.stepsPerBlock = 1 << 15
        limits.eventsPerBlock = 1 << 16
        limits.blocksPerEpoch = 64
        limits.indexEntries = 1 << 14
        limits.keyframePages = 1 << 16
        limits.pages = 1 << 16
        limits.pageCacheBytes = 1 << 20
        return limits
    }
}
