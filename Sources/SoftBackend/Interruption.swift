// What stops an instruction before it completes: a processor exception, or an exit to the VMM.

import NVMM

/// Thrown by instruction handlers. Nothing of the instruction has been committed, except where the manual says so
/// (iterations of a repeated string instruction that completed).
enum Interruption: Error {
    case exception(ProcessorException)
    /// The reason stands in ``CPU/pendingExit``.
    case exit
}

/// An exception with its error code: SDM vol. 3, table 6-1.
struct ProcessorException: Equatable {
    var vector: UInt8
    /// Pushed for the vectors that have one.
    var errorCode: UInt32?

    static let divideError = ProcessorException(vector: 0)
    static let debug = ProcessorException(vector: 1)
    static let breakpoint = ProcessorException(vector: 3)
    static let overflow = ProcessorException(vector: 4)
    static let boundRange = ProcessorException(vector: 5)
    static let invalidOpcode = ProcessorException(vector: 6)
    static let deviceNotAvailable = ProcessorException(vector: 7)
    static let doubleFault = ProcessorException(vector: 8, errorCode: 0)
    static func invalidTSS(_ errorCode: UInt32) -> Self { Self(vector: 10, errorCode: errorCode) }
    static func segmentNotPresent(_ errorCode: UInt32) -> Self { Self(vector: 11, errorCode: errorCode) }
    static func stackFault(_ errorCode: UInt32) -> Self { Self(vector: 12, errorCode: errorCode) }
    static func generalProtection(_ errorCode: UInt32) -> Self { Self(vector: 13, errorCode: errorCode) }
    static func pageFault(_ errorCode: UInt32) -> Self { Self(vector: 14, errorCode: errorCode) }
    static let floatingPointError = ProcessorException(vector: 16)
    static let simdFloatingPoint = ProcessorException(vector: 19)
    static let alignmentCheck = ProcessorException(vector: 17, errorCode: 0)
}

extension Interruption {
    static let invalidOpcode = Interruption.exception(.invalidOpcode)
    static func generalProtection(_ errorCode: UInt32) -> Interruption { .exception(.generalProtection(errorCode)) }
    static func stackFault(_ errorCode: UInt32) -> Interruption { .exception(.stackFault(errorCode)) }
    static func notPresent(_ errorCode: UInt32) -> Interruption { .exception(.segmentNotPresent(errorCode)) }
    static func invalidTSS(_ errorCode: UInt32) -> Interruption { .exception(.invalidTSS(errorCode)) }
}
