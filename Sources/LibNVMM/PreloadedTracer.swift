// A tracer that was preloaded into this process: the library tells it what happens, in the place of a trace of its own.
// The functions: <nvmm_publication.h>.

import CNVMM
import Glibc
import TraceFile
import Tracer

/// The two functions that such a tracer exports.
///
/// SAFETY: they are of the types that <nvmm_publication.h> gives them, and stay where they are: a preloaded library is
/// never unloaded.
@safe struct PreloadedTracer {
    private typealias Tell =
        @convention(c) (
            UInt32, UInt32, UInt32, UnsafeRawPointer?, Int, UnsafeRawPointer?, Int
        ) -> Int32

    let level: RecordLevel
    private let tellFunction: Tell

    /// The tracer that records in this process; nil where none does.
    static func find() -> PreloadedTracer? {
        guard let levelSymbol = unsafe dlsym(nil, NVMM_TRACER_LEVEL_SYMBOL),
            let tellSymbol = unsafe dlsym(nil, NVMM_TRACER_TELL_SYMBOL)
        else { return nil }
        let level = unsafe unsafeBitCast(levelSymbol, to: (@convention(c) () -> Int32).self)()
        guard level > 0 else { return nil }
        return unsafe PreloadedTracer(
            level: level == 1 ? .exits : level == 2 ? .replay : .client,
            tellFunction: unsafeBitCast(tellSymbol, to: Tell.self))
    }

    /// What a recorder writes to; nil where the tracer leaves the library out.
    func sink(_ header: TraceHeader) -> TellingSink? {
        let tell = unsafe tellFunction
        return TellingSink(header) { kind, head, body in
            unsafe body.withUnsafeBytes { bytes in
                guard let head else {
                    return unsafe tell(kind, .max, .max, nil, 0, bytes.baseAddress, bytes.count) != 0
                }
                return unsafe head.withUnsafeBytes { front in
                    unsafe tell(kind, .max, .max, front.baseAddress, front.count, bytes.baseAddress, bytes.count) != 0
                }
            }
        }
    }
}
