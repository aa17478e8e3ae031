// Loads, stores and exchanges of x87 registers: SDM vol. 1, sections 8.3.1 and 8.3.3.

import NVMM

extension CPU {
    // MARK: Loads

    /// Pushes; onto a register that is not empty the indefinite number.
    mutating func pushResult(_ value: ExtendedFloat) {
        guard isEmpty(-1) else {
            if stackFault(isOverflow: true) { push(.indefinite) }
            return
        }
        setC1(false)
        push(value)
    }

    mutating func loadRegister(_ index: Int) {
        guard isEmpty(index) else { return pushResult(readST(index)) }
        if stackFault(isOverflow: false) { push(.indefinite) }
    }

    /// The memory operand of an instruction that calculates with it.
    mutating func loadX87Operand(_ i: borrowing DecodedInstruction) throws(Interruption) -> ExtendedOperand {
        switch i.x87.operand {
        case .single: ExtendedOperand(try loadOperand(i, as: UInt32.self), SingleFormat.self)
        case .double: ExtendedOperand(try loadOperand(i, as: UInt64.self), DoubleFormat.self)
        case .integer16: ExtendedOperand(integer: Int64(Int16(bitPattern: try loadOperand(i))))
        case .integer32: ExtendedOperand(integer: Int64(Int32(bitPattern: try loadOperand(i))))
        default: ExtendedOperand(integer: Int64(bitPattern: try loadOperand(i)))
        }
    }

    mutating func loadMemory(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.x87.operand {
        case .extended, .decimal:
            let offset = effectiveAddress(i)
            let significand: UInt64 = try load(i.segment, offset)
            let high: UInt16 = try load(i.segment, (offset &+ 8) & i.addressMask)
            guard i.x87.operand == .decimal else {
                return pushResult(ExtendedFloat(significand: significand, signExponent: high))
            }
            pushResult(Self.number(ofDecimal: significand, high))
        default:
            let operand = try loadX87Operand(i)
            guard isEmpty(-1) else { return pushResult(.indefinite) }
            var environment = x87Environment
            environment.noteDenormals(operand, operand)
            let value = environment.propagated(operand) ?? operand.register
            note(environment)
            // A denormal number is loaded all the same.
            let isInvalid = environment.exceptions & FloatException.invalid & ~environment.masks != 0
            if !isInvalid { push(value) }
        }
    }

    /// Eighteen decimal digits and a sign: SDM vol. 1, section 4.7.
    private static func number(ofDecimal low: UInt64, _ high: UInt16) -> ExtendedFloat {
        var magnitude: Int64 = 0
        for digit in 0..<18 {
            let position = UInt64(17 - digit)
            let value = position >= 16 ? UInt64(high) >> ((position - 16) * 4) & 15 : low >> (position * 4) & 15
            magnitude = magnitude * 10 + Int64(value)
        }
        var number = ExtendedOperand(integer: magnitude).register
        number.signExponent |= high & 0x8000
        return number
    }

    // MARK: Stores

    mutating func storeRegister(_ index: Int, pops: UInt8) {
        var value = readST(0)
        if isEmpty(0) {
            guard stackFault(isOverflow: false) else { return }
            value = .indefinite
        } else {
            setC1(false)
        }
        writeST(index, value)
        pop(pops)
    }

    /// D9 D8 to D9 DF: nothing to store is no fault there.
    mutating func storeRegisterQuietly(_ index: Int) {
        if !isEmpty(0) { return storeRegister(index, pops: 1) }
        setC1(false)
        pop(1)
    }

    /// FST, FSTP, FIST, FISTP, FISTTP and FBSTP. Memory comes first: where it faults nothing has changed. Where an
    /// exception that is not masked leaves nothing to store, processors of AMD look at memory all the same.
    mutating func storeMemory(_ i: borrowing DecodedInstruction) throws(Interruption) {
        var environment = x87Environment
        let isUnderflow = isEmpty(0)
        if isUnderflow { environment.raise(FloatException.invalid) }
        let value = isUnderflow ? ExtendedFloat.indefinite : readST(0)
        let isStored =
            switch i.x87.operand {
            case .single: try storeFloat(i, value, &environment, SingleFormat.self)
            case .double: try storeFloat(i, value, &environment, DoubleFormat.self)
            case .extended: try storeTenBytes(i, value.significand, value.signExponent, environment)
            case .decimal: try storeDecimal(i, value, &environment)
            case .integer16: try storeInteger(i, value, &environment, UInt16.self)
            case .integer32: try storeInteger(i, value, &environment, UInt32.self)
            default: try storeInteger(i, value, &environment, UInt64.self)
            }
        if !isStored, !model.isIntel { try checkTarget(i) }
        if isUnderflow {
            if stackFault(isOverflow: false) { pop(i.x87.pops) }
        } else {
            note(environment)
            if isStored { pop(i.x87.pops) }
        }
    }

    private mutating func storeFloat<F: FloatFormat>(
        _ i: borrowing DecodedInstruction, _ value: ExtendedFloat, _ environment: inout FloatEnvironment,
        _ format: F.Type
    ) throws(Interruption) -> Bool {
        guard let narrow = environment.narrowed(value, F.self), !environment.hasNoResult else { return false }
        try storeOperand(i, narrow)
        return true
    }

    private mutating func storeInteger<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ value: ExtendedFloat, _ environment: inout FloatEnvironment,
        _ width: T.Type
    ) throws(Interruption) -> Bool {
        let integer = environment.integer(
            ExtendedOperand(value), bits: T.bitWidth, truncating: i.x87.operation == .fisttp)
        if environment.hasNoResult { return false }
        // The integer indefinite: SDM vol. 1, table 4-1.
        try storeOperand(i, integer.map { T(truncatingIfNeeded: $0) } ?? 1 << T(T.bitWidth - 1))
        return true
    }

    private mutating func storeDecimal(
        _ i: borrowing DecodedInstruction, _ value: ExtendedFloat, _ environment: inout FloatEnvironment
    ) throws(Interruption) -> Bool {
        let before = environment
        let integer = environment.integer(ExtendedOperand(value), bits: 64)
        guard let integer, integer.magnitude < 1_000_000_000_000_000_000 else {
            environment = before
            environment.raise(FloatException.invalid)
            // The packed decimal indefinite: SDM vol. 1, table 4-4.
            return try storeTenBytes(i, 0xC000 << 48, 0xFFFF, environment)
        }
        var magnitude = integer.magnitude
        var digits: UInt128 = 0
        for position in 0..<18 {
            digits |= UInt128(magnitude % 10) << UInt128(position * 4)
            magnitude /= 10
        }
        let sign: UInt16 = value.isNegative ? 0x8000 : 0
        return try storeTenBytes(
            i, UInt64(truncatingIfNeeded: digits), UInt16(truncatingIfNeeded: digits >> 64) | sign, environment)
    }

    private mutating func storeTenBytes(
        _ i: borrowing DecodedInstruction, _ low: UInt64, _ high: UInt16, _ environment: FloatEnvironment
    ) throws(Interruption) -> Bool {
        if environment.hasNoResult { return false }
        try checkTarget(i)
        let offset = effectiveAddress(i)
        try store(i.segment, offset, low)
        try store(i.segment, (offset &+ 8) & i.addressMask, high)
        return true
    }

    /// Faults as a store to the operand would, before its first byte changes.
    private mutating func checkTarget(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let offset = effectiveAddress(i)
        let byteCount: UInt64 =
            switch i.x87.operand {
            case .integer16: 2
            case .single, .integer32: 4
            default: 8
            }
        try checkWritable(
            try linear(i.segment, offset, byteCount: byteCount, .write), byteCount: byteCount, segment: i.segment)
        guard i.x87.operand == .extended || i.x87.operand == .decimal else { return }
        let upper = (offset &+ 8) & i.addressMask
        try checkWritable(try linear(i.segment, upper, byteCount: 2, .write), byteCount: 2, segment: i.segment)
    }

    // MARK: Between registers

    mutating func exchange(_ index: Int) {
        var (first, second) = (readST(0), readST(index))
        if isEmpty(0) || isEmpty(index) {
            let (isFirstEmpty, isSecondEmpty) = (isEmpty(0), isEmpty(index))
            guard stackFault(isOverflow: false) else { return }
            if isFirstEmpty { first = .indefinite }
            if isSecondEmpty { second = .indefinite }
        } else {
            setC1(false)
        }
        writeST(0, second)
        writeST(index, first)
    }

    mutating func moveConditionally(_ operation: X87Operation, _ index: Int) {
        guard !isEmpty(0), !isEmpty(index) else {
            if stackFault(isOverflow: false) { writeST(0, .indefinite) }
            return
        }
        let flags = status.rflags
        let carry = flags & RFLAGS.cf != 0, zero = flags & RFLAGS.zf != 0, parity = flags & RFLAGS.pf != 0
        let moves =
            switch operation {
            case .fcmovb: carry
            case .fcmove: zero
            case .fcmovbe: carry || zero
            case .fcmovu: parity
            case .fcmovnb: !carry
            case .fcmovne: !zero
            case .fcmovnbe: !carry && !zero
            default: !parity
            }
        if moves { writeST(0, readST(index)) }
    }
}
