// ADD to BSR as translated code.

import NVMM

extension Translator {
    // MARK: - Two operands

    mutating func arithmetic(_ i: InstructionRecord, _ operation: HostArithmetic) {
        let marks: FlagMarks = operation == .and || operation == .or || operation == .xor ? .logical : []
        let takesCarry = operation == .adc || operation == .sbb
        let keepsFirst = operation == .cmp
        let rcx = HostRegister.rcx
        switch i.form {
        case .memoryRegister, .memoryImmediate:
            access(i, bytes: 1 << UInt64(i.width), keepsFirst ? .read : .write)
            let operand = takesCarry ? foundWithFlags() : Self.found
            if i.form == .memoryRegister {
                code.arithmetic(operation, operand, source(i.register0, width: i.width, scratch: rcx), width: i.width)
            } else {
                code.arithmetic(operation, operand, constant: i.immediate, width: i.width)
            }
        case .registerMemory:
            access(i, bytes: 1 << UInt64(i.width), .read)
            let operand = takesCarry ? foundWithFlags() : Self.found
            if let host = direct(i.register0, width: i.width) {
                code.arithmetic(operation, host, operand, width: i.width)
            } else {
                read(i.register0, into: rcx, width: i.width)
                code.arithmetic(operation, rcx, operand, width: i.width)
                return finish(i, from: rcx, keepsFirst: keepsFirst, marks)
            }
        default:
            if takesCarry { placeFlags() }
            if let host = direct(i.register0, width: i.width) {
                arithmetic(operation, i, on: host)
            } else {
                read(i.register0, into: rcx, width: i.width)
                arithmetic(operation, i, on: rcx)
                return finish(i, from: rcx, keepsFirst: keepsFirst, marks)
            }
        }
        keepFlags(marks)
    }

    private mutating func arithmetic(_ operation: HostArithmetic, _ i: InstructionRecord, on host: UInt8) {
        if i.form == .registerImmediate {
            code.arithmetic(operation, .register(host), constant: i.immediate, width: i.width)
        } else if isHighByte(i.register1, i.width) {
            read(i.register1, into: HostRegister.rdx, width: 0)
            code.arithmetic(operation, .register(host), HostRegister.rdx, width: 0)
        } else {
            code.arithmetic(operation, host, place(i.register1), width: i.width)
        }
    }

    /// Keeps flags, then writes the result from RCX or RDX.
    private mutating func finish(_ i: InstructionRecord, from host: UInt8, keepsFirst: Bool, _ marks: FlagMarks) {
        keepFlags(marks)
        if !keepsFirst { write(i.register0, from: host, width: i.width) }
    }

    mutating func test(_ i: InstructionRecord) {
        let (rcx, rdx) = (HostRegister.rcx, HostRegister.rdx)
        var operand = Self.found
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .read)
        } else if isHighByte(i.register0, i.width) {
            read(i.register0, into: rdx, width: 0)
            operand = .register(rdx)
        } else {
            operand = place(i.register0)
        }
        switch i.form {
        case .registerImmediate, .memoryImmediate: code.test(operand, constant: i.immediate, width: i.width)
        case .memoryRegister, .registerMemory:
            code.test(operand, source(i.register0, width: i.width, scratch: rcx), width: i.width)
        default: code.test(operand, source(i.register1, width: i.width, scratch: rcx), width: i.width)
        }
        keepFlags(.logical)
    }

    // MARK: - One operand

    /// INC and DEC, which keep CF.
    mutating func step(_ i: InstructionRecord, digit: UInt8) {
        modify(i, readsFlags: flagsAreWanted[position]) { translator, operand in
            translator.code.step(digit, operand, width: i.width)
        } finish: {
            $0.keepFlags([])
        }
    }

    /// NOT (2) and NEG (3).
    mutating func unary(_ i: InstructionRecord, digit: UInt8) {
        modify(i, readsFlags: false) { translator, operand in
            translator.code.unary(digit, operand, width: i.width)
        } finish: {
            if digit == 3 { $0.keepFlags([]) }
        }
    }

    /// Changes the one operand in place, or in RCX where a register is not where it can be changed.
    ///
    /// - Parameter readsFlags: the guest's flags are to be in place before.
    private mutating func modify(
        _ i: InstructionRecord, readsFlags: Bool, _ change: (inout Translator, HostOperand) -> Void,
        finish: (inout Translator) -> Void
    ) {
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .write)
            change(&self, readsFlags ? foundWithFlags() : Self.found)
            return finish(&self)
        }
        if readsFlags { placeFlags() }
        if let host = direct(i.register0, width: i.width) {
            change(&self, .register(host))
            return finish(&self)
        }
        read(i.register0, into: HostRegister.rcx, width: i.width)
        change(&self, .register(HostRegister.rcx))
        finish(&self)
        write(i.register0, from: HostRegister.rcx, width: i.width)
    }

    // MARK: - Shifts

    private func countMask(_ i: InstructionRecord) -> UInt64 { i.width == 3 ? 63 : 31 }

    private var auxiliaryAfterShift: FlagMarks {
        var marks = FlagMarks.logical
        if setsAuxiliaryByShifts { marks.insert(.auxiliary) }
        return marks
    }

    mutating func shift(_ i: InstructionRecord, _ operation: HostShift) {
        if i.form == .registerRegister { return shiftByCL(i, operation) }
        let count = UInt8(truncatingIfNeeded: i.immediate & countMask(i))
        modify(i, readsFlags: false) { translator, operand in
            translator.code.shift(operation, operand, by: count, width: i.width)
        } finish: {
            $0.keepShiftFlags(operation, isByOne: count == 1)
            $0.noteUndefinedFlags(i)
        }
    }

    /// OF is the host's for shifts by one, and follows the same formula for all others, which the manual leaves
    /// undefined: of SHL the carry and the sign differ, of SHR and SAR no bit can.
    private mutating func keepShiftFlags(_ operation: HostShift, isByOne: Bool) {
        var marks = auxiliaryAfterShift
        if isByOne { return keepFlags(marks) }
        guard flagsAreWanted[position] else { return flagsAreInPlace = false }
        marks.insert(FlagMarks(undefined: RFLAGS.of))
        let (rax, rdx) = (HostRegister.rax, HostRegister.rdx)
        code.lahf()
        if operation == .shl {
            code.setByte(HostCondition.sign, .register(rax))
            code.setByte(HostCondition.carry, .register(rdx))
            code.arithmetic(.xor, rax, .register(rdx), width: 0)
        } else {
            code.store(.register(rax), constant: 0, width: 0)
        }
        flagsAreInPlace = false
        code.store(TranslatedFrame.slot(.flags), rax, width: 1)
        keepMarks(marks)
    }

    /// By CL: a count of zero leaves everything, but for the upper half of a 32-bit register.
    private mutating func shiftByCL(_ i: InstructionRecord, _ operation: HostShift) {
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        let width = i.width
        code.load(rcx, place(1), width: 2)
        code.load(rdx, place(i.register0), width: width)
        code.arithmetic(.and, .register(rcx), constant: countMask(i), width: 2)
        let isZero = code.jump(HostCondition.zero)
        code.shiftByCL(operation, .register(rdx), width: width)
        if flagsAreWanted[position] {
            code.lahf()
            switch operation {
            case .shl:
                // The carry and the sign, of which a write to memory would need a third register.
                code.setByte(HostCondition.sign, .register(rax))
                code.store(TranslatedFrame.slot(.flags), rax, width: 1)
                code.setByte(HostCondition.carry, .register(rax))
                code.arithmetic(.xor, TranslatedFrame.slot(.flags), rax, width: 0)
            case .shr:
                // The two top bits differ: only where the count is one.
                code.store(TranslatedFrame.slot(.flags), rax, width: 1)
                code.load(rax, .register(rdx), width: width)
                code.arithmetic(.add, .register(rax), rdx, width: width)
                code.arithmetic(.xor, rax, .register(rdx), width: width)
                code.shift(.shr, .register(rax), by: width == 3 ? 63 : 31, width: width)
                code.store(TranslatedFrame.slot(.flags), rax, width: 0)
            default:
                code.store(.register(rax), constant: 0, width: 0)
                code.store(TranslatedFrame.slot(.flags), rax, width: 1)
            }
            let marks = auxiliaryAfterShift
            let byMore = marks.union(FlagMarks(undefined: RFLAGS.of))
            code.store(TranslatedFrame.marks, constant: UInt64(byMore.rawValue), width: 1)
            code.arithmetic(.cmp, .register(rcx), constant: 1, width: 2)
            let isMore = code.jump(HostCondition.notZero)
            code.store(TranslatedFrame.marks, constant: UInt64(marks.rawValue), width: 1)
            code.land(isMore)
            knownMarks = nil
        }
        noteUndefinedFlags(i)
        code.land(isZero)
        flagsAreInPlace = false
        write(i.register0, from: rdx, width: width)
    }

    /// ROL and ROR of a register by an immediate change CF and OF.
    mutating func rotate(_ i: InstructionRecord, _ operation: HostShift) {
        let count = UInt8(truncatingIfNeeded: i.immediate & countMask(i))
        let isWanted = flagsAreWanted[position]
        let result = TranslatedFrame.hostRegister(i.register0) ?? HostRegister.rcx
        modify(i, readsFlags: isWanted) { translator, operand in
            translator.code.shift(operation, operand, by: count, width: i.width)
        } finish: {
            if isWanted { $0.keepRotateFlags(operation, result, isByOne: count == 1, width: i.width) }
            $0.flagsAreInPlace = false
            $0.noteUndefinedFlags(i)
        }
    }

    /// OF of counts other than one is the host's own choice, and here what the formula of one bit gives: of ROL, the
    /// carry, which is the lowest bit, and the top bit differ; of ROR, the two top bits.
    private mutating func keepRotateFlags(_ operation: HostShift, _ result: UInt8, isByOne: Bool, width: UInt8) {
        let rax = HostRegister.rax
        code.lahf()
        code.setByte(HostCondition.overflow, .register(rax))
        code.store(TranslatedFrame.slot(.flags), rax, width: 1)
        if !isByOne {
            code.load(rax, .register(result), width: width)
            code.shift(operation == .rol ? .rol : .shl, .register(rax), by: 1, width: width)
            code.arithmetic(.xor, rax, .register(result), width: width)
            if operation == .ror { code.shift(.shr, .register(rax), by: width == 3 ? 63 : 31, width: width) }
            code.arithmetic(.and, .register(rax), constant: 1, width: 2)
            code.store(TranslatedFrame.slot(.flags), rax, width: 0)
        }
        changeMarks(
            clear: FlagMarks(undefined: RFLAGS.cf | RFLAGS.of), set: isByOne ? [] : FlagMarks(undefined: RFLAGS.of))
    }

    // MARK: - Products and quotients

    /// SF, ZF and PF, which the manual leaves undefined, are those of the low half, which is in `low`; CF and OF are in
    /// the host's flags.
    private mutating func keepProductFlags(_ low: HostOperand, scratch: UInt8, width: UInt8) {
        flagsAreInPlace = false
        guard flagsAreWanted[position] else { return }
        let rax = HostRegister.rax
        code.setByte(HostCondition.overflow, .register(scratch))
        if case .register(let register) = low {
            code.test(low, register, width: width)
        } else {
            code.arithmetic(.cmp, low, constant: 0, width: width)
        }
        code.lahf()
        code.load(rax, .register(scratch), width: 0)
        code.store(TranslatedFrame.slot(.flags), rax, width: 1)
        // CF stands in bit 8, and is clear so far.
        code.arithmetic(.or, TranslatedFrame.highFlags, scratch, width: 0)
        keepMarks([.replacesAuxiliary, FlagMarks(undefined: RFLAGS.sf | RFLAGS.zf | RFLAGS.af | RFLAGS.pf)])
    }

    /// IMUL with two or three operands.
    mutating func multiplyRegister(_ i: InstructionRecord) {
        let (rcx, rdx) = (HostRegister.rcx, HostRegister.rdx)
        var factor = place(i.register1)
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .read)
            factor = Self.found
        }
        let direct = TranslatedFrame.hostRegister(i.register0)
        let result = direct ?? rdx
        if i.operation == .imul3 {
            code.emit(0x69, width: i.width, register: result, factor)
            code.value(UInt32(truncatingIfNeeded: i.immediate))
        } else {
            if direct == nil { code.load(rdx, place(i.register0), width: i.width) }
            code.emit(0x0FAF, width: i.width, register: result, factor)
        }
        keepProductFlags(.register(result), scratch: rcx, width: i.width)
        noteUndefinedFlags(i)
        if direct == nil { write(i.register0, from: rdx, width: i.width) }
    }

    /// MUL (4) and IMUL (5) into RDX:RAX.
    mutating func multiplyAccumulator(_ i: InstructionRecord, digit: UInt8) {
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        loadFactor(i)
        code.load(rax, place(0), width: i.width)
        code.unary(digit, .register(rcx), width: i.width)
        write(0, from: rax, width: i.width)
        write(2, from: rdx, width: i.width)
        keepProductFlags(place(0), scratch: rcx, width: i.width)
        noteUndefinedFlags(i)
    }

    /// The operand of MUL, IMUL and DIV, into RCX.
    private mutating func loadFactor(_ i: InstructionRecord) {
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .read)
            code.load(HostRegister.rcx, Self.found, width: i.width)
        } else {
            code.load(HostRegister.rcx, place(i.register0), width: i.width)
        }
    }

    /// DIV: the interpreter raises what there is to raise.
    mutating func divide(_ i: InstructionRecord) {
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        loadFactor(i)
        code.load(rdx, place(2), width: i.width)
        code.arithmetic(.cmp, rdx, .register(rcx), width: i.width)
        flagsAreInPlace = false
        leaveLater(code.jump(HostCondition.noCarry))
        code.load(rax, place(0), width: i.width)
        code.unary(6, .register(rcx), width: i.width)
        write(0, from: rax, width: i.width)
        write(2, from: rdx, width: i.width)
        if flagsAreWanted[position] { changeMarks(clear: [], set: FlagMarks(undefined: RFLAGS.status)) }
        noteUndefinedFlags(i)
    }

    // MARK: - Bits

    /// BT (4), BTS (5), BTR (6) and BTC (7): CF changes; the others but ZF are undefined, and stay.
    mutating func testBit(_ i: InstructionRecord) {
        let (rcx, rdx) = (HostRegister.rcx, HostRegister.rdx)
        let digit: UInt8 =
            switch i.operation {
            case .bt: 4
            case .bts: 5
            case .btr: 6
            default: 7
            }
        var operand = place(i.register0)
        var isCopy = false
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), digit == 4 ? .read : .write)
            operand = Self.found
        } else if TranslatedFrame.hostRegister(i.register0) == nil {
            code.load(rdx, operand, width: i.width)
            operand = .register(rdx)
            isCopy = digit != 4
        }
        if i.form == .registerRegister {
            let index = source(i.register1, width: i.width, scratch: rcx)
            code.emit(0x0F83 | UInt32(digit) << 3, width: i.width, register: index, operand)
        } else {
            code.emit(0x0FBA, width: i.width, register: digit, operand, registerIsDigit: true)
            code.byte(UInt8(truncatingIfNeeded: i.immediate) & (i.width == 3 ? 63 : 31))
        }
        flagsAreInPlace = false
        if flagsAreWanted[position] {
            code.setByte(HostCondition.carry, .register(rcx))
            code.arithmetic(.and, TranslatedFrame.highFlags, constant: 0xFE, width: 0)
            code.arithmetic(.or, TranslatedFrame.highFlags, rcx, width: 0)
            changeMarks(
                clear: FlagMarks(undefined: RFLAGS.cf),
                set: FlagMarks(undefined: RFLAGS.of | RFLAGS.sf | RFLAGS.af | RFLAGS.pf))
        }
        noteUndefinedFlags(i)
        if isCopy { write(i.register0, from: rdx, width: i.width) }
    }

    /// BSF and BSR: the destination stays where the source is zero.
    mutating func scan(_ i: InstructionRecord, opcode: UInt32) {
        let (rcx, rdx) = (HostRegister.rcx, HostRegister.rdx)
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .read)
            code.load(rdx, Self.found, width: i.width)
        } else {
            code.load(rdx, place(i.register1), width: i.width)
        }
        // The interpreter's flags are those of the operand, extended.
        code.test(.register(rdx), rdx, width: 3)
        keepFlags([.replacesAuxiliary, FlagMarks(undefined: RFLAGS.status & ~RFLAGS.zf)])
        noteUndefinedFlags(i)
        let isZero = code.jump(HostCondition.zero)
        code.emit(opcode, width: i.width, register: rcx, .register(rdx))
        write(i.register0, from: rcx, width: i.width)
        code.land(isZero)
        flagsAreInPlace = false
    }
}
