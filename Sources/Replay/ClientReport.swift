// What a replay into a client found: whether it did all that was recorded, or the first thing that it did otherwise.

/// The verdict on a client that ran on a ``RecordedBackend``.
public struct ClientReport: Hashable, Codable, Sendable {
    /// Runs of the client that were answered, and steps of the trace that they took.
    public var runCount: UInt64 = 0
    public var stepCount: UInt64 = 0
    /// Calls that change the machine, as recorded.
    public var machineCallCount: UInt64 = 0
    /// Bytes of guest memory that the guest had written.
    public var guestBytes: UInt64 = 0
    /// The first one. What came after it was not compared.
    public var difference: ClientDifference?
    /// The recording could not be read on, and why: nothing is known of what came after it.
    public var trouble: String?

    /// The ``trouble`` of a report whose client has begun and has not yet ended.
    public static let unfinished = "the client did not come to its end"

    public init() {}

    public var isIdentical: Bool { difference == nil && trouble == nil }
}

/// The first thing that a client did otherwise than recorded. Expected is the recording, actual the client.
public struct ClientDifference: Hashable, Codable, Sendable {
    public enum Kind: String, CaseIterable, Codable, Sendable {
        /// A call that changes the machine, or a run, where something else was recorded.
        case order
        /// The same run with other parts committed, or other values in them.
        case commit
        /// The same run with another event, with none, or with one that was not recorded.
        case event
        /// The same run with another bound on its instructions.
        case budget
        /// Guest memory at a run's entry: the client wrote something else, elsewhere, too much or too little.
        case memory
        /// The client made a call behind the recording's end.
        case pastEnd
        /// The client ended before the recording did.
        case endsEarly
    }

    public var kind: Kind
    /// Steps of the trace before it: the number of the step that the client was about to run.
    public var step: UInt64
    /// Of a run.
    public var vcpu: UInt32?
    /// What differs, with both values as text; `-` stands where a side has none.
    public var fields: [ComparedField]
    /// The last events of the trace before and with it.
    public var lastEvents: [RecentEvent]

    public static let fieldsMax = 16
}
