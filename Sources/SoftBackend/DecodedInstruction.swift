// One instruction as the interpreter executes it: decoded once, kept in a block.

/// How the first two operands of an instruction stand: register, memory or immediate.
enum OperandForm: UInt8 {
    case none
    case register, memory, immediate
    case registerRegister, registerMemory, memoryRegister
    case registerImmediate, memoryImmediate
    /// Anything else (far pointers, control registers): the operation knows.
    case other
}

/// Prefixes and properties of an instruction.
struct InstructionFlags: OptionSet, BitwiseCopyable {
    var rawValue: UInt16
    /// F3 on an instruction that repeats.
    static let rep = InstructionFlags(rawValue: 1 << 0)
    /// F2 on an instruction that repeats.
    static let repne = InstructionFlags(rawValue: 1 << 1)
    static let lock = InstructionFlags(rawValue: 1 << 2)
    /// One of the operands is in memory.
    static let memory = InstructionFlags(rawValue: 1 << 3)
    /// The handler stores RIP itself.
    static let writesRIP = InstructionFlags(rawValue: 1 << 4)
    /// The block ends here: control transfers, and whatever may change mode, mappings or the interrupt flag.
    static let endsBlock = InstructionFlags(rawValue: 1 << 5)
    /// The segment of the memory operand was named by a prefix.
    static let segmentOverride = InstructionFlags(rawValue: 1 << 6)
    /// A REX prefix is present: byte registers 4 to 7 are SPL to DIL.
    static let rex = InstructionFlags(rawValue: 1 << 7)
    /// REX.W, where it widens a register that no operand shows.
    static let rexW = InstructionFlags(rawValue: 1 << 8)
    /// An operand has 256 bits.
    static let wide = InstructionFlags(rawValue: 1 << 9)
}

/// Register numbers: 0 to 15 as the processor encodes them.
enum RegisterNumber {
    /// Reads as zero: stands for an absent base or index.
    static let none: UInt8 = 16
    /// RIP of the start of the block: the base of operands relative to RIP.
    static let blockRIP: UInt8 = 17
    /// Added to 0...3 for AH, CH, DH and BH.
    static let highByte: UInt8 = 0x20
}

/// A decoded instruction as it stands in its block.
struct InstructionRecord: BitwiseCopyable {
    var operation: Operation
    /// log2 of the bytes of the operands: 0...3 (for a few operations, of the first operand).
    var width: UInt8 = 0
    var form: OperandForm = .none
    /// First, second and third register operand, in the order of the manual's operands.
    var register0: UInt8 = RegisterNumber.none
    var register1: UInt8 = RegisterNumber.none
    var register2: UInt8 = RegisterNumber.none
    /// log2 of the bytes of the second operand where it differs (MOVZX, MOVSX, shifts by CL).
    var width1: UInt8 = 0
    /// log2 of the bytes of an address: 1...3.
    var addressWidth: UInt8 = 3
    /// Memory operand: `segment` is 0...5 in NVMM's order.
    var segment: UInt8 = 3
    var base: UInt8 = RegisterNumber.none
    var index: UInt8 = RegisterNumber.none
    /// log2 of the scale: 0...3.
    var scale: UInt8 = 0
    /// Low four bits of the opcode: the condition of Jcc, SETcc, CMOVcc.
    var condition: UInt8 = 0
    var flags: InstructionFlags = []
    /// Bytes from the start of the block to this instruction, and to the next.
    var offset: UInt16 = 0
    var nextOffset: UInt16 = 0
    /// `ZydisMnemonic`.
    var mnemonic: UInt16 = 0
    /// Added to base and index; where the base is ``RegisterNumber/blockRIP``, it includes the distance from there to
    /// the next instruction.
    var displacement: UInt64 = 0
    /// What an address is cut to.
    var addressMask: UInt64 = .max
    /// Immediate, extended to 64 bits as the instruction wants it; a branch's displacement; a far pointer's offset.
    var immediate: UInt64 = 0
    /// Second immediate: ENTER's level, a far pointer's selector, the 8-bit count of SHLD with memory; of x87, the
    /// opcode as its environment keeps it; of VBLENDVPS and its like with four registers, the fourth.
    var immediate1: UInt16 = 0
    /// Of ``Operation/vector``.
    var vector = VectorOperation.none
    /// Of ``Operation/x87``.
    var x87 = X87Instruction()
    /// Bytes of the memory operand, where VEX encodes a vector operation.
    var memoryBytes: UInt8 = 0
    /// Makes 64 bytes of the record: a cache line.
    private var padding: (UInt8, UInt16) = (0, 0)

    init(_ operation: Operation) { self.operation = operation }
}

/// A decoded instruction as handlers see it: the record's fields, read from where it stands. Passing the record itself
/// would copy it for each instruction executed.
///
/// SAFETY: made by ``InstructionPointer/instruction`` only, whose conditions hold: the record neither moves nor changes
/// while its block is executed. Not copyable, so that handlers cannot keep it.
@safe struct DecodedInstruction: ~Copyable {
    private let record: UnsafePointer<InstructionRecord>
    @inline(__always) init(_ record: UnsafePointer<InstructionRecord>) { unsafe self.record = record }

    @inline(__always) var operation: Operation { unsafe record.pointee.operation }
    @inline(__always) var width: UInt8 { unsafe record.pointee.width }
    @inline(__always) var form: OperandForm { unsafe record.pointee.form }
    @inline(__always) var register0: UInt8 { unsafe record.pointee.register0 }
    @inline(__always) var register1: UInt8 { unsafe record.pointee.register1 }
    @inline(__always) var register2: UInt8 { unsafe record.pointee.register2 }
    @inline(__always) var width1: UInt8 { unsafe record.pointee.width1 }
    @inline(__always) var addressWidth: UInt8 { unsafe record.pointee.addressWidth }
    @inline(__always) var segment: UInt8 { unsafe record.pointee.segment }
    @inline(__always) var base: UInt8 { unsafe record.pointee.base }
    @inline(__always) var index: UInt8 { unsafe record.pointee.index }
    @inline(__always) var scale: UInt8 { unsafe record.pointee.scale }
    @inline(__always) var condition: UInt8 { unsafe record.pointee.condition }
    @inline(__always) var flags: InstructionFlags { unsafe record.pointee.flags }
    @inline(__always) var offset: UInt16 { unsafe record.pointee.offset }
    @inline(__always) var nextOffset: UInt16 { unsafe record.pointee.nextOffset }
    @inline(__always) var mnemonic: UInt16 { unsafe record.pointee.mnemonic }
    @inline(__always) var displacement: UInt64 { unsafe record.pointee.displacement }
    @inline(__always) var addressMask: UInt64 { unsafe record.pointee.addressMask }
    @inline(__always) var immediate: UInt64 { unsafe record.pointee.immediate }
    @inline(__always) var vector: VectorOperation { unsafe record.pointee.vector }
    @inline(__always) var x87: X87Instruction { unsafe record.pointee.x87 }
    @inline(__always) var immediate1: UInt16 { unsafe record.pointee.immediate1 }
    @inline(__always) var memoryBytes: UInt8 { unsafe record.pointee.memoryBytes }
    /// For who changes some of it.
    @inline(__always) var copy: InstructionRecord { unsafe record.pointee }

    /// Asked after every block, hence not through OptionSet's generic code.
    @inline(__always) var writesRIP: Bool { flags.rawValue & InstructionFlags.writesRIP.rawValue != 0 }
    @inline(__always) var hasREXW: Bool { flags.rawValue & InstructionFlags.rexW.rawValue != 0 }
    @inline(__always) var isLocked: Bool { flags.rawValue & InstructionFlags.lock.rawValue != 0 }
    @inline(__always) var bytes: UInt64 { 1 &<< UInt64(width) }
    @inline(__always) var length: UInt16 { nextOffset &- offset }
}

/// What an instruction does. Operations stand in the order of the files that hold their handlers.
enum Operation: UInt16 {
    /// Not offered or not an instruction: #UD.
    case invalid

    // CPU+Arithmetic.swift
    case add, or, adc, sbb, and, sub, xor, cmp, test
    case inc, dec, neg, not
    // Forms that make up most of what guests execute, without the second dispatch.
    // Decoder+Specialised.swift chooses them.
    case addRegisterImmediate32, subRegisterImmediate32, andRegisterImmediate32, orRegisterImmediate32
    case cmpRegisterImmediate32, testRegisterImmediate32, incRegister32, decRegister32
    case addRegisterRegister32, subRegisterRegister32, andRegisterRegister32, orRegisterRegister32
    case xorRegisterRegister32, cmpRegisterRegister32, testRegisterRegister32
    case addRegisterImmediate64, subRegisterImmediate64, andRegisterImmediate64, orRegisterImmediate64
    case cmpRegisterImmediate64, testRegisterImmediate64, incRegister64, decRegister64
    case addRegisterRegister64, subRegisterRegister64, andRegisterRegister64, orRegisterRegister64
    case xorRegisterRegister64, cmpRegisterRegister64, testRegisterRegister64
    case cmpRegisterImmediate8, testRegisterImmediate8, testRegisterRegister8, cmpRegisterRegister8
    case addRegisterMemory32, cmpRegisterMemory32, addRegisterMemory64, cmpRegisterMemory64
    case cmpMemoryImmediate8, cmpMemoryImmediate32, cmpMemoryRegister32, cmpMemoryRegister64

    // CPU+DataMovement.swift
    case mov
    case movRegisterRegister32, movRegisterMemory32, movMemoryRegister32, movRegisterImmediate32, movMemoryImmediate32
    case movRegisterRegister64, movRegisterMemory64, movMemoryRegister64, movRegisterImmediate64, movMemoryImmediate64
    case movRegisterRegister8, movRegisterMemory8, movMemoryRegister8, movRegisterImmediate8, movMemoryImmediate8
    case movzxRegister8, movzxMemory8, movzxRegister16, movzxMemory16, movsxdRegister, movsxdMemory
    case lea32, lea64
    case movzx, movsx, lea, xchg, xadd, cmpxchg, cmpxchg8b, cmpxchg16b, cmov, setcc, bswap, xlat, nop
    case cbw, cwd  // with width: CBW CWDE CDQE, CWD CDQ CQO
    case lahf, sahf, clc, stc, cmc, cld, std, salc

    // CPU+Stack.swift
    case pushRegister32, popRegister32, pushRegister64, popRegister64
    case push, pop, pusha, popa, pushf, popf, enter, leave

    // CPU+ControlTransfer.swift
    case jmpRelative, callRelative32, callRelative64, ret32, ret64
    case jc, jnc, jz, jnz, jbe, jnbe, js, jns, jl, jnl, jle, jnle
    case jmp, jcc, call, ret, jcxz, loop, loope, loopne

    // CPU+Shift.swift, CPU+MultiplyDivide.swift, CPU+Bit.swift, CPU+Decimal.swift
    case shlRegisterImmediate32, shrRegisterImmediate32, sarRegisterImmediate32
    case shlRegisterImmediate64, shrRegisterImmediate64, sarRegisterImmediate64
    case rol, ror, rcl, rcr, shl, shr, sar, shld, shrd
    case mul, imul, imul2, imul3, div, idiv
    case bt, bts, btr, btc, bsf, bsr
    case daa, das, aaa, aas, aam, aad, bound

    // CPU+BitManipulation.swift
    case movbe, popcnt, lzcnt, tzcnt, adcx, adox
    case andn, bextr, blsi, blsmsk, blsr, bzhi, mulx, pdep, pext, rorx, sarx, shlx, shrx
    case crc32
    case rdfsbase, rdgsbase, wrfsbase, wrgsbase

    // CPU+Vector.swift, CPU+MMX.swift
    case vector, mmx, emms, fence

    // CPU+String.swift
    case movs, cmps, stos, lods, scas

    // CPU+InputOutput.swift
    case `in`, out, ins, outs

    // CPU+FarTransfer.swift
    case callFar, jmpFar, retFar, iret, int, int3, into, int1

    // CPU+SegmentLoad.swift
    case movToSegment, movFromSegment, pushSegment, popSegment, loadFarPointer
    case lldt, ltr, sldt, str, lar, lsl, verr, verw, arpl

    // CPU+SystemCall.swift
    case syscall, sysret, sysenter, sysexit

    // CPU+System.swift
    case movToCR, movFromCR, movToDR, movFromDR, lmsw, smsw, clts
    case lgdt, lidt, sgdt, sidt, invlpg, invpcid, invd, wbinvd
    case cli, sti, hlt, cpuid, rdtsc, rdmsr, wrmsr, swapgs, stac, clac, monitor, mwait, ud

    // CPU+X87.swift
    case x87

    // CPU+FPU.swift
    case fxsave, fxrstor, fninit, fnstcw, fldcw, fnstsw, fnclex, fwait, ldmxcsr, stmxcsr

    // CPU+XSAVE.swift
    case xsave, xrstor, xgetbv, xsetbv

    // CPU+AVX.swift
    case avx
}
