// Translates a block of decoded 64-bit code into code of the host, which does to the registers, the flags and memory
// what the interpreter's handlers do. Whatever is rare, or can fault, is left to them: translated code is left before
// the instruction, with everything as it was.

import NVMM

struct Translator {
    var code: HostAssembler
    /// RIP of the block.
    let rip: UInt64
    let block: Int32
    let count: Int
    /// AF after shifts: see ``ProcessorModel/setsAuxiliaryByShifts``.
    let setsAuxiliaryByShifts: Bool
    /// Ways out that every block shares.
    private let leave: UInt64
    private let leaveForTarget: UInt64
    /// Position of the block's own start, for loops.
    private let start: Int

    /// The instruction that is being translated.
    var position = 0
    /// Whether anybody may look at the flags after each instruction.
    var flagsAreWanted = InlineArray<32, Bool>(repeating: true)
    /// The host's flags are the guest's.
    var flagsAreInPlace = false
    /// ``TranslatedFrame/marks`` as they stand in memory, where that is known.
    var knownMarks: FlagMarks?

    /// Whether the block has found out that vectors may be used.
    var vectorsAreChecked = false

    private struct Pending {
        var jump: Int
        /// Instructions that have retired there.
        var retired: Int
        /// Where control goes, or nil: to the interpreter.
        var target: UInt64?
    }
    private var pending: [Pending] = []

    init(
        into memory: TranslatedCode, rip: UInt64, block: Int32, count: Int, setsAuxiliaryByShifts: Bool
    ) {
        code = memory.assembler
        start = code.count
        leave = memory.leave
        leaveForTarget = memory.leaveForTarget
        self.rip = rip
        self.block = block
        self.count = count
        self.setsAuxiliaryByShifts = setsAuxiliaryByShifts
    }

    /// Translates instructions from the first until one that is left to the interpreter.
    ///
    /// - Returns: whether any was.
    mutating func translate(from first: InstructionPointer) -> Bool {
        findWantedFlags(first)
        // Replaced by how many are translated, which are few enough for a byte.
        code.arithmetic(.cmp, TranslatedFrame.slot(.left), constant: 0, width: 3)
        let needed = code.count - 1
        leaveLater(code.jump(HostCondition.carry), retired: 0, target: rip)
        var isOpen = true
        while isOpen, position < count {
            let i = first.advanced(by: position).record
            guard Self.translates(i) else {
                if position == 0 { return false }
                retire(position)
                leaveToInterpreter(position)
                isOpen = false
                break
            }
            isOpen = translate(i)
            position += 1
        }
        if isOpen {
            retire(count)
            chain(to: rip &+ UInt64(first.advanced(by: count - 1).record.nextOffset))
        }
        code.replaceByte(at: needed, UInt8(position))
        finishPending()
        return code.isComplete
    }

    /// Backwards through the block.
    private mutating func findWantedFlags(_ first: InstructionPointer) {
        var wanted = true
        for index in stride(from: count - 1, through: 0, by: -1) {
            flagsAreWanted[index] = wanted
            let i = first.advanced(by: index).record
            guard Self.translates(i) else {
                wanted = true
                continue
            }
            let use = i.flagUse
            if use.effect == .replaces { wanted = false }
            if use.reads || use.mayLeave { wanted = true }
        }
    }

    /// - Returns: whether control comes out at the end.
    private mutating func translate(_ i: InstructionRecord) -> Bool {
        switch i.generalOperation {
        case .add: arithmetic(i, .add)
        case .or: arithmetic(i, .or)
        case .adc: arithmetic(i, .adc)
        case .sbb: arithmetic(i, .sbb)
        case .and: arithmetic(i, .and)
        case .sub: arithmetic(i, .sub)
        case .xor: arithmetic(i, .xor)
        case .cmp: arithmetic(i, .cmp)
        case .test: test(i)
        case .inc: step(i, digit: 0)
        case .dec: step(i, digit: 1)
        case .not: unary(i, digit: 2)
        case .neg: unary(i, digit: 3)
        case .shl: shift(i, .shl)
        case .shr: shift(i, .shr)
        case .sar: shift(i, .sar)
        case .rol: rotate(i, .rol)
        case .ror: rotate(i, .ror)
        case .imul2, .imul3: multiplyRegister(i)
        case .mul: multiplyAccumulator(i, digit: 4)
        case .imul: multiplyAccumulator(i, digit: 5)
        case .div: divide(i)
        case .bt, .bts, .btr, .btc: testBit(i)
        case .bsf: scan(i, opcode: 0x0FBC)
        case .bsr: scan(i, opcode: 0x0FBD)

        case .mov: move(i)
        case .movzx: extend(i, isSigned: false)
        case .movsx: extend(i, isSigned: true)
        case .lea: lea(i)
        case .xchg: exchange(i)
        case .xadd: exchangeAdd(i)
        case .cmpxchg: compareExchange(i)
        case .cmov: conditionalMove(i)
        case .setcc: setByte(i)
        case .bswap: swapBytes(i)
        case .cbw: extendAccumulator(i)
        case .cwd: extendAccumulatorIntoData(i)

        case .vector: vector(i)
        case .rdtsc: readTimestamp(i)

        case .push: push(i)
        case .pop: pop(i)
        case .leave: leaveFrame()

        case .jcc: branch(i)
        case .jmp: return jump(i)
        case .call: return call(i)
        case .ret: return returnNear(i)
        default: break  // NOP, fences
        }
        return true
    }

    func nextRIP(_ i: InstructionRecord) -> UInt64 { rip &+ UInt64(i.nextOffset) }

    // MARK: - Ways out

    /// Lets `jump` leave before the present instruction, or after it to where a branch goes.
    mutating func leaveLater(_ jump: Int, retired: Int, target: UInt64?) {
        pending.append(Pending(jump: jump, retired: retired, target: target))
    }

    /// Lets `jump` leave the present instruction to the interpreter.
    mutating func leaveLater(_ jump: Int) { leaveLater(jump, retired: position, target: nil) }

    mutating func retire(_ count: Int) {
        if count > 0 { code.arithmetic(.sub, TranslatedFrame.slot(.left), constant: UInt64(count), width: 3) }
    }

    mutating func leaveToInterpreter(_ instruction: Int) {
        code.move(HostRegister.rax, UInt64(TranslatedExit(block: block, instruction: instruction).rawValue))
        code.jump(toAddress: leave)
    }

    private mutating func finishPending() {
        let body = pending
        pending.removeAll(keepingCapacity: true)
        for way in body {
            code.land(way.jump)
            retire(way.retired)
            if let target = way.target {
                if way.retired == 0 {
                    leave(for: target)
                } else {
                    chain(to: target)
                }
            } else {
                leaveToInterpreter(way.retired)
            }
        }
        for way in pending {
            code.land(way.jump)
            leave(for: way.target ?? rip)
        }
    }

    private mutating func leave(for target: UInt64) {
        code.move(HostRegister.rax, target)
        code.jump(toAddress: leaveForTarget)
    }

    /// Goes on at a target that is known.
    mutating func chain(to target: UInt64) {
        if target == rip { return code.land(code.jump(), at: start) }
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        let offset = Int32(ChainTable.index(target) << UInt64(ChainTable.entryShift))
        code.move(rax, target)
        code.load(rdx, TranslatedFrame.slot(.chains))
        code.load(rcx, TranslatedFrame.slot(.stamp))
        code.arithmetic(.cmp, rax, .memory(base: rdx, displacement: offset), width: 3)
        leaveLater(code.jump(HostCondition.notZero), retired: 0, target: target)
        code.arithmetic(.cmp, rcx, .memory(base: rdx, displacement: offset + 8), width: 3)
        leaveLater(code.jump(HostCondition.notZero), retired: 0, target: target)
        code.jump(through: .memory(base: rdx, displacement: offset + 16))
    }

    /// Goes on at the canonical target in RAX.
    mutating func chainToRAX() {
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        code.load(rcx, .register(rax))
        code.shift(.shr, .register(rcx), by: 12, width: 3)
        code.arithmetic(.xor, rcx, .register(rax), width: 2)
        code.arithmetic(.and, .register(rcx), constant: ChainTable.entryCount - 1, width: 2)
        code.shift(.shl, .register(rcx), by: ChainTable.entryShift, width: 2)
        code.arithmetic(.add, rcx, TranslatedFrame.slot(.chains), width: 3)
        code.arithmetic(.cmp, rax, .memory(base: rcx, displacement: 0), width: 3)
        let misses = code.jump(HostCondition.notZero)
        code.load(rdx, TranslatedFrame.slot(.stamp))
        code.arithmetic(.cmp, rdx, .memory(base: rcx, displacement: 8), width: 3)
        let isStale = code.jump(HostCondition.notZero)
        code.jump(through: .memory(base: rcx, displacement: 16))
        code.land(misses)
        code.land(isStale)
        code.jump(toAddress: leaveForTarget)
    }
}
