// The x87 unit: its stack of registers, its exceptions, and which handler an instruction has. SDM vol. 1, chapter 8.

import NVMM

/// The status word: SDM vol. 1, figure 8-4. Its lowest six bits are ``FloatException``.
enum X87Status {
    static let stackFault: UInt16 = 1 << 6
    static let errorSummary: UInt16 = 1 << 7
    static let c0: UInt16 = 1 << 8
    static let c1: UInt16 = 1 << 9
    static let c2: UInt16 = 1 << 10
    static let c3: UInt16 = 1 << 14
    static let busy: UInt16 = 1 << 15
    static let conditions = c0 | c1 | c2 | c3
    static let top: UInt16 = 7 << 11
}

extension CPU {
    // MARK: The stack

    /// The physical register that is ST0.
    @inline(__always) var stackTop: Int { Int(fpu.statusWord >> 11 & 7) }
    private func slot(_ index: Int) -> Int { (stackTop + index) & 7 }

    func isEmpty(_ index: Int) -> Bool { fpu.tagByte & 1 << UInt8(slot(index)) == 0 }

    func readST(_ index: Int) -> ExtendedFloat {
        let image = x87[slot(index)]
        return ExtendedFloat(significand: image.low, signExponent: UInt16(truncatingIfNeeded: image.high))
    }

    mutating func writeST(_ index: Int, _ value: ExtendedFloat) {
        x87[slot(index)] = Vector128(low: value.significand, high: UInt64(value.signExponent))
        fpu.tagByte |= 1 << UInt8(slot(index))
    }

    mutating func free(_ index: Int) { fpu.tagByte &= ~(1 << UInt8(slot(index))) }

    mutating func moveTop(by count: Int) {
        fpu.statusWord = fpu.statusWord & ~X87Status.top | UInt16((stackTop + count) & 7) << 11
    }

    mutating func pop(_ count: UInt8) {
        for _ in 0..<count {
            free(0)
            moveTop(by: 1)
        }
    }

    mutating func push(_ value: ExtendedFloat) {
        moveTop(by: -1)
        writeST(0, value)
    }

    // MARK: Exceptions

    /// What an instruction that waits looks at first: SDM vol. 3, section 2.5, and vol. 1, section 8.7. With CR0.NE
    /// clear the error goes to a pin that leads nowhere here.
    func checkX87() throws(Interruption) {
        try checkFPU()
        try checkPendingX87()
    }

    func checkPendingX87() throws(Interruption) {
        if fpu.statusWord & X87Status.errorSummary != 0, cr0 & CR0.ne != 0 { throw .exception(.floatingPointError) }
    }

    /// Whether the control word lets an exception be handled by its result alone.
    private func isMasked(_ exception: UInt32) -> Bool { UInt32(fpu.controlWord) & exception != 0 }

    /// ES and B as flags and masks have them.
    mutating func updateErrorSummary() {
        let isPending = fpu.statusWord & ~fpu.controlWord & UInt16(FloatException.all) != 0
        let summary = X87Status.errorSummary | X87Status.busy
        fpu.statusWord = isPending ? fpu.statusWord | summary : fpu.statusWord & ~summary
    }

    var x87Environment: FloatEnvironment {
        FloatEnvironment(controlWord: fpu.controlWord, isIntel: model.isIntel)
    }

    /// Puts the exceptions of an operation into the status word, C1 too.
    ///
    /// - Returns: whether there is a result: none where an exception that is known before is not masked.
    @discardableResult
    mutating func note(_ environment: FloatEnvironment) -> Bool {
        let early = environment.exceptions & FloatException.preComputation
        let hasResult = !environment.hasNoResult
        fpu.statusWord |= UInt16(hasResult ? environment.exceptions : early)
        setC1(hasResult && environment.roundedUp)
        updateErrorSummary()
        return hasResult
    }

    mutating func setC1(_ isSet: Bool) {
        fpu.statusWord = isSet ? fpu.statusWord | X87Status.c1 : fpu.statusWord & ~X87Status.c1
    }

    /// A register that is empty and should not be, or the other way round: SDM vol. 1, section 8.5.1.1.
    ///
    /// - Returns: whether the masked response, an indefinite number, is wanted.
    mutating func stackFault(isOverflow: Bool) -> Bool {
        fpu.statusWord |= UInt16(FloatException.invalid) | X87Status.stackFault
        setC1(isOverflow)
        updateErrorSummary()
        return isMasked(FloatException.invalid)
    }

    // MARK: Execution

    /// Everything of D8 to DF but what CPU+FPU.swift has.
    @inline(never) mutating func executeX87(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let x87 = i.x87
        switch x87.operation {
        case .ignored: return try checkFPU()
        case .fnstenv, .fnsave:
            try checkFPU()
            return try storeEnvironment(i)
        case .fldenv, .frstor:
            try checkX87()
            return try loadEnvironment(i)
        default: try checkX87()
        }
        switch x87.operation {
        case .fld where x87.operand == .register: loadRegister(Int(i.register0))
        case .fld: try loadMemory(i)
        case .fst where x87.operand == .register: storeRegister(Int(i.register0), pops: x87.pops)
        case .fstpnce: storeRegisterQuietly(Int(i.register0))
        case .fst, .fisttp: try storeMemory(i)
        case .fld1, .fldl2t, .fldl2e, .fldpi, .fldlg2, .fldln2, .fldz:
            pushResult(FloatEnvironment.constant(x87.operation, rounding: x87Environment.rounding))
        case .fxch: exchange(Int(i.register0))
        case .fcmovb, .fcmove, .fcmovbe, .fcmovu, .fcmovnb, .fcmovne, .fcmovnbe, .fcmovnu:
            moveConditionally(x87.operation, Int(i.register0))
        case .fadd, .fmul, .fsub, .fsubr, .fdiv, .fdivr: try calculate(i)
        case .fcom, .fucom, .fcomi, .fucomi, .ftst: try compare(i)
        case .fxam: examine()
        case .fchs, .fabs: changeSign(x87.operation)
        case .fincstp, .fdecstp:
            moveTop(by: x87.operation == .fincstp ? 1 : -1)
            setC1(false)
        case .ffree:
            free(Int(i.register0))
            pop(x87.pops)
            setC1(false)
        case .fnop: break
        default: calculateST0(x87.operation)
        }
        // After an operand in memory that could fault: SDM vol. 1, section 8.1.8.
        fpu.instructionPointer = instructionRIP(i)
        if fpu.statusWord & X87Status.errorSummary != 0 {
            // Both are kept for handlers alone: SDM vol. 1, sections 8.1.8 and 8.1.9.
            fpu.lastOpcode = i.immediate1
            if i.flags.contains(.memory) { fpu.dataPointer = effectiveAddress(i) }
        }
    }
}
