// Where a recording's events go: into a trace, or to another process that writes one.

public import TraceFile

/// Takes the events of one recording, one call at a time. After an error it takes no more.
public protocol TraceSink: AnyObject {
    /// Steps appended so far.
    var stepCount: UInt64 { get }
    func append(_ event: TraceEvent) throws(TraceWriteError)
    func appendStep(_ step: borrowing Step) throws(TraceWriteError)
    func appendCall(_ call: CallRecord) throws(TraceWriteError)
    func appendMemoryWrite(
        object: UInt32, offset: Int, bytes: RawSpan, isRawStore: Bool
    ) throws(TraceWriteError)
    /// Takes the content of a page for the keyframe that comes next.
    ///
    /// - Returns: the name by which that keyframe lists it.
    func storePage(_ content: RawSpan, object: UInt32, page: Int) throws(TraceWriteError) -> PageHash
    /// Hears that the recording is worth less than it was.
    func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason)
    func finish() throws(TraceWriteError) -> TraceTotals
}

extension TraceWriter: TraceSink {
    public func storePage(_ content: RawSpan, object: UInt32, page: Int) throws(TraceWriteError) -> PageHash {
        try storePage(content)
    }

    /// A trace does not hold its grade: whoever recorded it says so.
    public func noteGrade(_ level: TraceGrade.Level, _ reason: TraceGrade.Reason) {}
}
