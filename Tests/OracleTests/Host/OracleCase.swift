// One case for the host oracle and what came of it: the Swift side of Tests/CHostOracle.

import CHostOracle
import NVMM

/// Width of code: what CS says.
enum CodeMode: Int, CaseIterable, Sendable {
    case bits16 = 16
    case bits32 = 32
    case bits64 = 64
}

/// User-mode registers of a case, before or after.
struct OracleState: Sendable {
    var gprs: InlineArray<16, UInt64> = .init(repeating: 0)
    /// Offset in CS.
    var rip: UInt64 = 0
    var rflags: UInt64 = 0x202
    var cs: UInt16 = 0
    var ss: UInt16 = 0
    var ds: UInt16 = 0
    var es: UInt16 = 0
    /// As FXSAVE gives it; MXCSR's reserved bits are clear, and its mask is no part of the state.
    var fpu = OracleState.initialFPU
    /// Bits 128 to 255 of YMM0 to YMM15.
    var ymm: InlineArray<16, SIMD16<UInt8>> = .init(repeating: .zero)

    /// As FNINIT and a reset of MXCSR leave it: nothing unmasked.
    static let initialFPU: FXSaveArea = {
        var fpu = FXSaveArea()
        fpu.controlWord = 0x37F
        return fpu
    }()
}

/// Bytes that a case wants in the data window. The whole patch lies in writable pages, at most 64 bytes.
struct OraclePatch: Sendable {
    var offset: UInt16
    var bytes: [UInt8]
}

/// One instruction, or a few, with the state and memory it starts from.
struct OracleCase: Sendable {
    var mode: CodeMode
    var state = OracleState()
    var code: [UInt8] = []
    var patches: [OraclePatch] = []
    /// A repeated string instruction retires once an iteration, so it runs to the HLT behind it.
    var runsToHalt = false
    /// What the manual leaves open in this case.
    var undefined = Undefined()
}

/// Parts of an outcome that the manual leaves undefined: left out of the comparison.
struct Undefined: Sendable, Equatable {
    var flags: UInt64 = 0
    /// Bit n: register n of the hardware's encoding order.
    var registers: UInt16 = 0
    /// Which bits of those registers.
    var registerBits: UInt64 = .max
    var memory = false
    /// Single numbers in XMM registers may differ by the error of an approximation on either side.
    var isApproximate = false
    /// Bits of the x87 status word.
    var statusWord: UInt16 = 0
    /// Units in the last place by which numbers in x87 registers may differ.
    var numberUlps: UInt64 = 0
}

/// State at the end of a case: at the exception that ended it, or where it ran to its end (`vector` nil).
struct OracleOutcome: Sendable {
    var state = OracleState()
    var vector: UInt32?
    var errorCode: UInt32 = 0
    var cr2: UInt64 = 0
    var changes: [OracleChange] = []
    /// All of them; `changes` holds the first 96.
    var changeCount = 0
    /// Of a backend: ``VCPU/undefinedFlags`` and where they come from.
    var undefinedFlags: UInt64 = 0
    var undefinedFlagsRIP: UInt64 = 0
}

struct OracleChange: Equatable, Sendable {
    var offset: UInt16
    var value: UInt8
}

/// Where things lie in the two windows, as constants of Swift's own types.
enum Window {
    static let dataBase = UInt64(HOST_DATA_BASE)
    static let codeBase = UInt64(HOST_CODE_BASE)
    static let byteCount = Int(HOST_WINDOW_BYTES)
    static let slotBytes = Int(HOST_SLOT_BYTES)
    static let slotEntry = Int(HOST_SLOT_ENTRY)
    static let casesMax = Int(HOST_CASES_MAX)

    /// CS-relative address of the first byte of the code of the case in `slot`.
    static func entry(slot: Int, cs: UInt16) -> UInt64 {
        let offset = UInt64(slot * slotBytes + slotEntry)
        return isCodeBased(cs) ? offset : codeBase + offset
    }

    /// Whether CS starts at the code window rather than at 0.
    static func isCodeBased(_ cs: UInt16) -> Bool { cs & 4 != 0 }
}
