// What can go wrong in writing and in reading a trace: Docs/trace-format.md, "Duties of a reader".

/// A place in a trace file.
public struct TracePlace: Hashable, Sendable {
    /// File offset of the frame's first byte.
    public var frame: UInt64
    /// Column of a steps frame; nil in other frames.
    public var column: ColumnID?
    /// Byte within the (decompressed) column or payload.
    public var position: Int
    /// Machine-wide number of the step, where one is being decoded.
    public var step: UInt64?
    public init(frame: UInt64, column: ColumnID? = nil, position: Int = 0, step: UInt64? = nil) {
        self.frame = frame
        self.column = column
        self.position = position
        self.step = step
    }
}

/// Failures of reading. None of them comes from a correct writer on sound storage, but for `io` and `notATrace`.
public enum TraceError: Error, Equatable, Sendable {
    /// A system call failed. `call` is its name, `errno` its error number.
    case io(call: String, errno: Int32)
    /// The file does not begin with the magic number of a trace.
    case notATrace
    /// The file ends inside its preamble or its header frame: nothing was recorded yet.
    case tooShort(byteCount: UInt64)
    /// The trace needs a feature that this reader has not. `name` is what the trace calls it.
    case unsupportedFeature(bit: Int, name: String)
    /// A frame that must not be skipped is of a type that this reader does not know.
    case unknownCriticalFrame(type: UInt16, offset: UInt64)
    /// The preamble's checksum does not match.
    case damagedPreamble
    /// No good frame header stands here. `resume` is the next good frame, or the end of the file.
    case damagedHeader(offset: UInt64, resume: UInt64)
    /// The frame's header is good, its payload is not.
    case damagedPayload(offset: UInt64, type: UInt16, firstStep: UInt64, vcpu: UInt32)
    /// The last frame reaches past the end of the file.
    case truncated(offset: UInt64, missing: UInt64)
    /// Steps are not there: `first` up to, not including, `next`.
    case missingSteps(first: UInt64, next: UInt64)
    /// The checksum is right, the content makes no sense.
    case malformed(Malformation, TracePlace)
    /// The file asks for more than the reader's limits give.
    case limitExceeded(ReaderLimits.Name, value: UInt64, maximum: UInt64, offset: UInt64)
    case noSuchKeyframe(index: Int, count: Int)
    /// A full keyframe or a page that this needs is damaged or absent.
    case noSuchPage(PageHash)
    case unusableKeyframe(offset: UInt64)
    /// Pages of the trace stand in a store that many traces share, and it does not have them.
    case sharedPages(SharedPagesError)
    /// A journal beside the trace is not this trace's, or damaged at `position`; what precedes it is used.
    case damagedJournal(number: Int, position: Int)
}

/// What is wrong with bytes behind a good checksum.
public enum Malformation: Hashable, Sendable {
    /// More bytes were promised than there are.
    case shortOfBytes
    /// A variable-length integer of more than ten bytes or 64 bits.
    case overlongVarint
    /// Bytes were left over.
    case leftover
    /// A column that this frame needs is not there, or there twice.
    case missingColumn
    case duplicateColumn
    /// A number outside the set that the specification gives.
    case unknownValue
    /// An index outside its table.
    case indexOutOfRange
    case zstd
    case notUTF8
    /// Steps of one VCPU are not in ascending order, or frames contradict each other.
    case disorder
    /// A length or a count that contradicts another.
    case inconsistent
}

/// Failures of writing. After any but `invalid…` and `unknownPage` the writer takes no more events;
/// what it took before is in the trace and the journals beside it, for ``repairTrace(path:output:limits:)``.
public enum TraceWriteError: Error, Equatable, Sendable {
    /// A system call failed. `call` is its name, `errno` its error number (ENOSPC for a full disk, EPIPE for a reader
    /// that went away).
    case io(call: String, errno: Int32)
    /// A recording of this name was killed, or still runs: `journal` stands beside `trace` and holds steps that nothing
    /// else does. ``repairTrace(path:output:limits:)`` saves them under another name.
    case unrepaired(trace: String, journal: String)
    /// Compression failed; `code` is zstd's.
    case compression(code: Int)
    /// VCPU numbers are 0..<``TraceWriter/vcpusMax``.
    case invalidVCPU(id: UInt32)
    case invalidOptions
    /// Pages have 4,096 bytes.
    case invalidPage(byteCount: Int)
    /// A keyframe lists a page that was never stored.
    case unknownPage(PageHash)
    /// The header's text is too long for a frame.
    case headerTooLarge(byteCount: Int)
    /// ``TraceWriter/finish()`` was called before, or an earlier error ended the writing.
    case finished
    /// Repair could not make sense of a journal's own records.
    case journal(TraceError)
}
