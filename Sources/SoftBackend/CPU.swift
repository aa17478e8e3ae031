// The processor: registers as the interpreter holds them, and what it needs to reach memory and code.

import NVMM
import Synchronization

/// Segment register as the memory path reads it: one comparison decides the common access.
struct SegmentCache: BitwiseCopyable {
    var base: UInt64 = 0
    /// One past the last byte that may be read (written) without a closer look; 0 where every access needs one.
    var readEnd: UInt64 = 0
    var writeEnd: UInt64 = 0
}

/// A page of guest physical memory that was looked up before.
@safe struct KnownPage {
    /// Of the page; no page's address where there is none.
    var gpa: UInt64 = .max
    var page: PhysicalPage?
}

/// One processor, driven by ``SoftVCPU``. Handlers of instructions are extensions, a file an instruction group.
///
/// Not copyable and never shared: all state is reached through `inout`, which costs neither reference counting nor
/// exclusivity checks.
struct CPU: ~Copyable {
    /// Gives the struct a place in memory that borrowing passes on. Without it a call that only reads is handed a copy
    /// of all 1,100 bytes.
    private let place = Atomic<Bool>(false)

    // Registers. 0...15 as encoded; 16 always reads zero; from 18 on what ``TranslatedFrame`` has.
    let gpr = RegisterArray<36, UInt64>(repeating: 0)
    var rip: UInt64 = 0
    var status = StatusFlags()
    /// RFLAGS without the six status flags, with the fixed bit.
    var systemFlags: UInt64 = RFLAGS.fixed
    let segments = RegisterArray<10, Segment>(repeating: Segment())
    let segmentCaches = RegisterArray<8, SegmentCache>(repeating: SegmentCache())
    var cr0: UInt64 = 0
    var cr2: UInt64 = 0
    var cr3: UInt64 = 0
    var cr4: UInt64 = 0
    /// Task priority, 0...15.
    var cr8: UInt64 = 0
    var xcr0: UInt64 = 1
    var dr = InlineArray<8, UInt64>(repeating: 0)
    var efer: UInt64 = 0
    /// `NVMM_X64_MSR_*` order; EFER and TSC live elsewhere.
    var msrs = InlineArray<11, UInt64>(repeating: 0)
    /// But for the registers, which follow.
    var fpu = FXSaveArea()
    /// In the order of their own numbers, whatever TOP is.
    let x87 = RegisterArray<8, Vector128>(repeating: Vector128(low: 0))
    let xmm = RegisterArray<16, Vector128>(repeating: Vector128(low: 0))
    /// Bits 128 to 255 of YMM0 to YMM15.
    let ymmHigh = RegisterArray<16, Vector128>(repeating: Vector128(low: 0))
    /// What ``avx(_:)`` makes of its instruction for the operation on one lane.
    let laneInstruction = RegisterArray<1, InstructionRecord>(repeating: InstructionRecord(.invalid))
    /// PDPTEs as MOV to CR3 loaded them: SDM vol. 3, section 4.4.1.
    var pdptes = InlineArray<4, UInt64>(repeating: 0)

    // Derived from the registers by ``updateMode()``.
    var cpl: UInt8 = 0
    var is64Bit = false
    /// log2 of the default operand bytes of code: 1 (16-bit), 2, or 3 in 64-bit mode.
    var codeWidth: UInt8 = 1
    var linearMask: UInt64 = 0xFFFF_FFFF
    var stackMask: UInt64 = 0xFFFF
    /// One past the last offset that may be fetched through CS.
    var codeEnd: UInt64 = 0x1_0000
    /// Distinguishes translations of the same bytes: code width and real segments, at bits 56 to 59.
    var modeKey: UInt64 = 0

    // Interrupt state.
    /// STI or a load of SS holds back interrupts for one instruction; a load of SS also holds back debug traps.
    var interruptShadow = false
    var shadowBlocksDebug = false
    var interruptWindow = false
    var nmiWindow = false
    var nmiBlocked = false
    /// An event whose delivery ended in an exit, to be delivered first at the next run.
    var pendingDelivery: VCPUEvent?
    var exitsOnTPRChange = false
    /// DR6 bits of a debug exception that is to be raised after the current instruction.
    var pendingDebug: UInt64 = 0
    /// The access under way is the processor's own, to a descriptor table or a TSS: SDM vol. 3, section 4.6.1.
    var accessIsImplicit = false
    /// A task switch went so far that the exception it raised belongs to the new task: RIP is already its own.
    var keepsRIP = false

    /// Reasons to stop between instructions: see CPU+Run.swift.
    var attention: Attention = []
    var pendingExit: ExitReason = .none

    // The clock: retired instructions of this machine.
    /// Machine clock when the run began, ticks.
    var clockAtEntry: UInt64 = 0
    /// Instructions retired in this run, up to the start of the current block.
    var retired: UInt64 = 0
    /// Instructions of this run that may still retire, counted from the start of the current block.
    var remaining: UInt64 = 0
    /// Iterations beyond the first of a repeated instruction in this block.
    var extraRetired: UInt64 = 0
    /// TSC = clock + offset.
    var tscOffset: UInt64 = 0

    /// RIP of the last instruction that left status flags undefined.
    var undefinedFlagsRIP: UInt64 = 0

    /// Reads of the TSC, RIP of the last one, and the number that moves what they give.
    var timestampReads: UInt64 = 0
    var timestampReadRIP: UInt64 = 0
    var timestampDistortion: UInt64 = 0

    // Position in the current block.
    var blockRIP: UInt64 = 0
    var cursor = InstructionPointer()
    var blockStart = InstructionPointer()
    var blockEnd = InstructionPointer()

    var tlb = TLB()
    let knownPages = RegisterArray<64, KnownPage>(repeating: KnownPage())
    let memory: GuestMemory
    let code: CodeCache
    let gate: RunGate
    /// Other VCPUs may run at the same time: see CPU+Concurrency.swift.
    var isConcurrent = false
    /// Looks at the others after which code is compared again.
    var looksUntilCode = 0
    /// The run ended since ``CodeCache`` is full and others may be using it.
    var wantsRoom = false
    var jumps = JumpCache()
    /// Counts flushes of the TLB.
    var translations: UInt64 = 0
    /// ``GuestMemory/generation`` that the TLB agrees with.
    var memoryGeneration: UInt64 = 0
    let commPage: CommPage
    let model: ProcessorModel
    let id: UInt32
    var cpuidRules: [UInt32: CPUIDRule] = [:]
    /// Instructions that were not executed since the model does not offer them, by mnemonic.
    var unsupported: [UInt16: UInt64] = [:]
    /// The deliberate error in force, if any: see FaultInjection.swift.
    var fault: InjectedFault = .none
    /// Where memory is not the machine's: see Emulation.swift.
    var emulation: Emulation?

    // Translated code: see CPU+Translated.swift.
    let translation: CodeTranslation
    /// There where this run translates code.
    var entrance: TranslatedEntrance?
    /// The block at ``blockStart``: its number, or -1, and where its translation begins, or 0.
    var foundBlock: Int32 = -1
    var foundTranslation: UInt64 = 0
    let chains = ChainTable()
    var chainStamp = ChainStamp()

    /// What exits leave in the comm page; nil for NVMM's own.
    let providing: CommPagePolicy?

    init(
        id: UInt32, memory: GuestMemory, code: CodeCache, gate: RunGate, commPage: CommPage, model: ProcessorModel,
        providing: CommPagePolicy, translation: CodeTranslation
    ) {
        self.translation = translation
        // NVMM's own is a switch, which costs less than a look at a table at every exit.
        self.providing = providing == .nvmm ? nil : providing
        self.id = id
        self.memory = memory
        self.code = code
        self.gate = gate
        self.commPage = commPage
        self.model = model
        status.auxiliaryAfterShift = model.setsAuxiliaryByShifts ? 1 : 0
    }
}

/// What must be looked at before the next instruction.
struct Attention: OptionSet {
    var rawValue: UInt32
    /// STI or a load of SS: the next instruction runs alone, then the shadow ends.
    static let shadow = Attention(rawValue: 1 << 0)
    /// RFLAGS.TF: a debug exception after each instruction.
    static let singleStep = Attention(rawValue: 1 << 1)
    /// An instruction breakpoint is enabled in DR7.
    static let breakpoints = Attention(rawValue: 1 << 2)
    /// An interrupt or NMI window is armed.
    static let windows = Attention(rawValue: 1 << 3)
    /// A debug exception is pending (data breakpoint, task switch with T).
    static let debug = Attention(rawValue: 1 << 4)
    /// RFLAGS.RF: cleared once an instruction completes.
    static let resumeFlag = Attention(rawValue: 1 << 5)
    /// An instruction that completed wants an exit (HLT, MOV to CR8): ``CPU/pendingExit``.
    static let exit = Attention(rawValue: 1 << 6)
    /// Somebody wants the run to end: worth a look at the comm page now.
    static let request = Attention(rawValue: 1 << 7)
    /// Reasons for which instructions run one at a time. The windows are not among them: whatever can open one ends its
    /// block.
    static let oneAtATime: Attention = [.shadow, .singleStep, .breakpoints, .debug, .resumeFlag]
}

// MARK: - Registers

/// The four operand widths.
protocol OperandWidth: FixedWidthInteger, UnsignedInteger, BitwiseCopyable, SendableMetatype {
    /// Replaces the value at an address that is a multiple of its size where it equals `expected`, in one.
    static func compareExchange(
        _ host: HostAddress, expected: Self, desired: Self
    ) -> (exchanged: Bool, original: Self)
}

extension CPU {
    @inline(__always) func read<T: OperandWidth>(_ register: UInt8, as: T.Type = T.self) -> T {
        if T.bitWidth == 8 && register & RegisterNumber.highByte != 0 {
            return T(truncatingIfNeeded: gpr[Int(register & 3)] >> 8)
        }
        return T(truncatingIfNeeded: gpr[Int(register & 31)])
    }

    /// Writing 32 bits clears the upper half; writing 8 or 16 leaves the rest.
    @inline(__always) mutating func write<T: OperandWidth>(_ register: UInt8, _ value: T) {
        if T.bitWidth >= 32 {
            gpr[Int(register & 31)] = UInt64(truncatingIfNeeded: value)
        } else if T.bitWidth == 16 {
            let slot = Int(register & 31)
            gpr[slot] = gpr[slot] & ~0xFFFF | UInt64(truncatingIfNeeded: value)
        } else if register & RegisterNumber.highByte != 0 {
            let slot = Int(register & 3)
            gpr[slot] = gpr[slot] & ~0xFF00 | UInt64(truncatingIfNeeded: value) << 8
        } else {
            let slot = Int(register & 31)
            gpr[slot] = gpr[slot] & ~0xFF | UInt64(truncatingIfNeeded: value)
        }
    }

    @inline(__always) subscript(register: GPR) -> UInt64 {
        get { gpr[register.rawValue] }
        set { gpr[register.rawValue] = newValue }
    }

    /// All of RFLAGS.
    var rflags: UInt64 {
        get { systemFlags | status.rflags }
        set {
            status.rflags = newValue
            systemFlags = newValue & RFLAGS.defined & ~RFLAGS.status | RFLAGS.fixed
            updateAttention()
        }
    }

    @inline(__always) var isProtected: Bool { cr0 & CR0.pe != 0 }
    @inline(__always) var isVirtual8086: Bool { systemFlags & RFLAGS.vm != 0 }
    /// Real mode or virtual-8086 mode: segment bases are selectors times 16.
    @inline(__always) var hasRealSegments: Bool { !isProtected || isVirtual8086 }
    @inline(__always) var isLongMode: Bool { efer & EFER.lma != 0 }
    @inline(__always) var iopl: UInt8 { UInt8(truncatingIfNeeded: systemFlags >> 12 & 3) }

    /// RIP of the instruction being executed, and of the next one.
    @inline(__always) func instructionRIP(_ i: borrowing DecodedInstruction) -> UInt64 {
        (blockRIP &+ UInt64(i.offset)) & ripMask
    }
    @inline(__always) func nextRIP(_ i: borrowing DecodedInstruction) -> UInt64 {
        (blockRIP &+ UInt64(i.nextOffset)) & ripMask
    }
    /// For instructions that leave status flags undefined.
    @inline(__always) mutating func noteUndefinedFlags(of i: borrowing DecodedInstruction) {
        undefinedFlagsRIP = blockRIP &+ UInt64(i.offset)
    }
    @inline(__always) var ripMask: UInt64 { is64Bit ? .max : 0xFFFF_FFFF }

    /// The machine's clock at the instruction being executed (it has not retired).
    var clockNow: UInt64 { clockAtEntry &+ retired &+ UInt64(blockStart.distance(to: cursor) - 1) &+ extraRetired }
}

// MARK: - Mode

extension CPU {
    /// Changes the privilege level. SS.DPL is the CPL always, as NVMM reports it.
    mutating func setCPL(_ level: UInt8) {
        cpl = level
        segments[SegmentRegister.ss.rawValue].attributes.dpl = level
    }

    /// Recomputes everything that follows from CR0, EFER, RFLAGS.VM, CS, SS and CPL. Call after changing one of them.
    mutating func updateMode() {
        let code = self.segments[SegmentRegister.cs.rawValue].attributes
        let stack = self.segments[SegmentRegister.ss.rawValue].attributes
        is64Bit = isLongMode && code.contains(.long)
        codeWidth = is64Bit ? 3 : code.contains(.defaultBig) && !isVirtual8086 ? 2 : 1
        linearMask = is64Bit ? .max : 0xFFFF_FFFF
        stackMask = is64Bit ? .max : stack.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF
        codeEnd = is64Bit ? .max : UInt64(self.segments[SegmentRegister.cs.rawValue].limit) + 1
        modeKey = UInt64(codeWidth) << 56 | (hasRealSegments ? 1 << 59 : 0)
        for register in 0..<6 { updateSegmentCache(register) }
        tlb.select(user: cpl == 3)
        updateAttention()
    }

    mutating func updateAttention() {
        var now = attention.intersection([.debug, .exit])
        if interruptShadow { now.insert(.shadow) }
        if systemFlags & RFLAGS.tf != 0 { now.insert(.singleStep) }
        if dr[7] & 0xFF != 0 { now.insert(.breakpoints) }
        if systemFlags & RFLAGS.rf != 0 { now.insert(.resumeFlag) }
        if interruptWindow || nmiWindow { now.insert(.windows) }
        attention = now
    }

    /// Works out the fast bounds of one segment register: SDM vol. 3, sections 5.3 and 5.4.
    mutating func updateSegmentCache(_ register: Int) {
        let segment = segments[register]
        var cache = SegmentCache()
        if is64Bit {
            // SDM vol. 3, section 3.4.4: only FS and GS have bases, and nothing has a limit.
            cache.base =
                register == SegmentRegister.fs.rawValue || register == SegmentRegister.gs.rawValue ? segment.base : 0
            cache.readEnd = .max
            cache.writeEnd = .max
        } else {
            cache.base = segment.base
            let type = segment.attributes.type
            let isCode = type & 8 != 0
            let end = UInt64(segment.limit) + 1
            if hasRealSegments {
                cache.readEnd = end
                cache.writeEnd = end
            } else if segment.attributes.contains([.present, .nonSystem]) {
                if isCode {
                    cache.readEnd = type & 2 != 0 ? end : 0
                } else if type & 4 == 0 {  // expands up
                    cache.readEnd = end
                    cache.writeEnd = type & 2 != 0 ? end : 0
                }
            }
        }
        segmentCaches[register] = cache
    }
}
