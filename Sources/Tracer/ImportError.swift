// What can be wrong with a preloaded shim's records. They come from another process: nothing in them is trusted.

public import TraceFile

/// Failures of importing records.
public enum ImportError: Error, Equatable, Sendable {
    /// A system call failed. `call` is its name, `errno` its error number.
    case io(call: String, errno: Int32)
    /// Neither a ring nor a file of records.
    case notARecording
    /// Of another version of the protocol than this program speaks.
    case unsupportedVersion(UInt32)
    /// The file ends within its own header.
    case tooShort(byteCount: UInt64)
    /// What stands at this byte of the file is no record.
    case damagedFile(offset: UInt64)
    /// What stands in this lane is no record: the client wrote where it should not.
    case damagedRing(lane: Int)
    /// Record `sequence` contradicts itself, or what came before it.
    case damagedRecord(sequence: UInt64)
    /// Another layout of the comm page than this program knows.
    case foreignLayout(stateBytes: UInt32, commBytes: UInt32)
    /// The trace could not be written.
    case write(TraceWriteError)
}
