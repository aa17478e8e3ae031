// Encodings of an instruction, as data: which bytes, which operands, which sizes and modes (SDM vol. 2, appendix A).

/// Arithmetic flags, and those that user mode can change besides.
enum Flag {
    static let cf: UInt64 = 1, pf: UInt64 = 4, af: UInt64 = 0x10, zf: UInt64 = 0x40, sf: UInt64 = 0x80
    static let tf: UInt64 = 0x100, df: UInt64 = 0x400, of: UInt64 = 0x800, rf: UInt64 = 0x1_0000, ac: UInt64 = 0x4_0000
    static let arithmetic = cf | pf | af | zf | sf | of
    /// What a comparison looks at.
    static let compared = arithmetic | tf | df | rf | ac | 0x20_0000
}

/// One encoding.
struct InstructionForm: Sendable {
    var mnemonic: String
    /// Legacy opcode bytes, without prefixes.
    var opcode: [UInt8]
    /// F2 or F3 that belongs to the opcode.
    var prefix: UInt8?
    /// Operand sizes in bits; 0 alone where the instruction has none.
    var sizes: [Int]
    var modes: [CodeMode] = CodeMode.allCases
    var shape: Shape = .none
    var immediate: Immediate = .none
    var kind: Kind = .plain
    var undefined: UndefinedRule = .none
    var takesLock = false
    /// Without REX.W the operand has 64 bits in 64-bit mode, and never 32: pushes, pops, near branches.
    var defaults64 = false
    var vex: VEX?
    var feature: CPUFeature?
    /// In no manual: what it does was learned from processors of Intel, and is held against those alone.
    var isUnlisted = false

    enum Shape: Sendable, Equatable {
        case none
        /// ModRM with an operand in reg, or an opcode extension there.
        case modRM(Reg, RM)
        /// A register in the low three bits of the opcode.
        case opcodeRegister
        /// An address as wide as addresses are, no ModRM.
        case moffs
    }
    enum Reg: Sendable, Equatable {
        case operand, digit(UInt8), segment
        /// Any value does the same.
        case ignored
    }
    enum RM: Sendable, Equatable {
        case either, register, memory
        /// A part of the opcode.
        case fixed(UInt8)
    }
    enum Immediate: Sendable {
        case none, byte, signedByte, z, v, word, enter, rel8, relZ, farPointer, shiftCount, bitOffset
    }

    /// What the state must be like for the case to say something.
    enum Kind: Sendable, Equatable {
        case plain
        case divide
        case multiply
        /// Count in CL.
        case shiftByCL
        case bitString
        case string(StringOperation)
        case push, pop, pushAll, popAll, popFlags, pushSegment, popSegment
        case jump, jumpIndirect, call, callIndirect, ret, retImmediate, loop
        case farDirect, farIndirect, farReturn, interruptReturn
        case loadFarPointer
        case loadSegment
        case selectorCheck
        case enter, leave
        case bound
        case translate
        case compareExchange, compareExchange8, compareExchange16
        case adjustMultiply
        case load  // LEA: an address, no access
        case software  // INT n
        case bitScan
        case byteSwap16
        /// ModRM names an XMM register; bytes of the memory operand, whether it must be aligned to 16, and bits of the
        /// numbers that an instruction calculates with, 0 for integers.
        case vector(memoryBytes: Int, isAligned: Bool, floatBits: Int)
        /// With what its memory operand is, or ST0; and units in the last place by which results may differ.
        case x87(X87Operand, ulps: UInt64)
    }
    enum X87Operand: Sendable, Equatable {
        case single, double, extended, decimal
        /// Bits.
        case integer(Int)
        /// A number below 1.
        case fraction
        case environment
    }
    enum StringOperation: Sendable { case move, compare, store, load, scan }
}

/// Fields of a VEX prefix (SDM vol. 2, 2.3.5).
struct VEX: Sendable, Equatable {
    var map: UInt8
    /// 0 none, 1: 66, 2: F3, 3: F2.
    var pp: UInt8
    /// W; nil where the operand size says it.
    var isW: Bool?
    /// L: 256 bits.
    var isWide = false
    /// Whether vvvv names an operand; else it is 1111.
    var hasThird = true
    /// Whether ModRM's memory operand has a vector register for its index.
    var gathers: Gather?

    /// log2 of the bytes of elements and indices.
    struct Gather: Sendable, Equatable {
        var element: Int
        var index: Int
    }
}

/// Optional instructions, by the CPUID bit that offers them.
enum CPUFeature: Sendable, CaseIterable {
    case lahf64, popcnt, lzcnt, bmi1, bmi2, adx, movbe, cmpxchg16b, fpu, mmx, sse, sse2, sse3, ssse3, sse41, sse42, aes
    case pclmulqdq, sha, avx, avx2

    /// Leaf, register (0 EAX ... 3 EDX), bit.
    var place: (leaf: UInt32, register: Int, bit: Int) {
        switch self {
        case .lahf64: (0x8000_0001, 2, 0)
        case .popcnt: (1, 2, 23)
        case .lzcnt: (0x8000_0001, 2, 5)
        case .bmi1: (7, 1, 3)
        case .bmi2: (7, 1, 8)
        case .adx: (7, 1, 19)
        case .movbe: (1, 2, 22)
        case .cmpxchg16b: (1, 2, 13)
        case .fpu: (1, 3, 0)
        case .sse3: (1, 2, 0)
        case .pclmulqdq: (1, 2, 1)
        case .sha: (7, 1, 29)
        case .avx: (1, 2, 28)
        case .avx2: (7, 1, 5)
        case .ssse3: (1, 2, 9)
        case .sse41: (1, 2, 19)
        case .sse42: (1, 2, 20)
        case .aes: (1, 2, 25)
        case .mmx: (1, 3, 23)
        case .sse: (1, 3, 25)
        case .sse2: (1, 3, 26)
        }
    }
}

/// What the manual leaves undefined, by the section of SDM vol. 2 that says so.
enum UndefinedRule: Sendable, Equatable {
    case none
    /// The same flags always: AND, OR, XOR, TEST (AF), MUL, DIV, AAA and so on, "Flags Affected".
    case flags(UInt64)
    /// SAL/SAR/SHL/SHR: AF; OF for counts other than 1; CF of SHL and SHR for counts of the operand's width or more.
    case shift(losesCarry: Bool)
    /// RCL/RCR/ROL/ROR: OF for counts other than 1.
    case rotate
    /// SHLD/SHRD: AF; OF for counts other than 1; everything for counts above the operand's width.
    case doubleShift
    /// BSF, BSR: all but ZF; the destination where the source is 0.
    case bitScan
    /// RCPPS, RSQRTPS: all but that the relative error is below 1.5 * 2^-12.
    case approximation
    /// BSWAP: the result for 16-bit operands.
    case result
}
