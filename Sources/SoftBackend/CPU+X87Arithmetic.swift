// Arithmetic and comparison of x87 registers: SDM vol. 1, sections 8.3.5 to 8.3.9.

import NVMM

extension CPU {
    /// FADD and its like: ST0 with memory or ST(i), into either.
    mutating func calculate(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let x87 = i.x87
        let isRegister = x87.operand == .register
        let index = Int(i.register0)
        let other = isRegister ? ExtendedOperand(readST(index)) : try loadX87Operand(i)
        let destination = x87.writesRegister ? index : 0
        guard !isEmpty(0), !isRegister || !isEmpty(index) else {
            if stackFault(isOverflow: false) {
                writeST(destination, .indefinite)
                pop(x87.pops)
            }
            return
        }
        let top = ExtendedOperand(readST(0))
        let first = x87.writesRegister ? other : top, second = x87.writesRegister ? top : other
        var environment = x87Environment
        let result =
            switch x87.operation {
            case .fadd: environment.sum(first, second)
            case .fmul: environment.product(first, second)
            case .fsub: environment.sum(first, second, negating: true)
            case .fsubr: environment.sum(second, first, negating: true)
            case .fdiv: environment.quotient(first, second)
            default: environment.quotient(second, first)
            }
        guard note(environment) else { return }
        writeST(destination, result)
        pop(x87.pops)
    }

    // MARK: Comparison

    mutating func compare(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let x87 = i.x87
        let index = Int(i.register0)
        let isRegister = x87.operand == .register
        let other =
            x87.operation == .ftst
            ? ExtendedOperand(integer: 0) : isRegister ? ExtendedOperand(readST(index)) : try loadX87Operand(i)
        let setsFlags = x87.operation == .fcomi || x87.operation == .fucomi
        guard !isEmpty(0), !isRegister || !isEmpty(index) else {
            setOrder(.unordered, inFlags: setsFlags)
            if stackFault(isOverflow: false) { pop(x87.pops) }
            return
        }
        var environment = x87Environment
        let isQuiet = x87.operation == .fucom || x87.operation == .fucomi
        let order = environment.order(ExtendedOperand(readST(0)), other, quietIsInvalid: !isQuiet)
        // Told also where an exception keeps the stack as it is.
        setOrder(order, inFlags: setsFlags)
        let c1 = fpu.statusWord & X87Status.c1
        let hasResult = note(environment)
        if setsFlags { fpu.statusWord |= c1 }
        if hasResult { pop(x87.pops) }
    }

    private mutating func setOrder(_ order: FloatEnvironment.Order, inFlags: Bool) {
        if inFlags { return setFlags(order) }
        let conditions: UInt16 =
            switch order {
            case .greater: 0
            case .less: X87Status.c0
            case .equal: X87Status.c3
            case .unordered: X87Status.c0 | X87Status.c2 | X87Status.c3
            }
        setConditions(conditions)
    }

    private mutating func setConditions(_ conditions: UInt16) {
        fpu.statusWord = fpu.statusWord & ~(X87Status.conditions & ~X87Status.c1) | conditions
    }

    /// FXAM: SDM vol. 2, table 3-47.
    mutating func examine() {
        let number = readST(0)
        let value = ExtendedOperand(number)
        let conditions: UInt16 =
            switch value.kind {
            case _ where isEmpty(0): X87Status.c0 | X87Status.c3
            case .unsupported: 0
            case .quietNaN, .signalingNaN: X87Status.c0
            case .infinite: X87Status.c0 | X87Status.c2
            case .zero: X87Status.c3
            case .finite: value.isDenormal ? X87Status.c2 | X87Status.c3 : X87Status.c2
            }
        setConditions(conditions)
        setC1(number.isNegative)
    }

    // MARK: One operand, or two that are always ST0 and ST1

    mutating func changeSign(_ operation: X87Operation) {
        guard !isEmpty(0) else {
            if stackFault(isOverflow: false) { writeST(0, .indefinite) }
            return
        }
        setC1(false)
        var number = readST(0)
        if operation == .fabs { number.signExponent &= 0x7FFF } else { number.signExponent ^= 0x8000 }
        writeST(0, number)
    }

    mutating func calculateST0(_ operation: X87Operation) {
        switch operation {
        case .fprem, .fprem1, .fsin, .fcos, .fsincos, .fptan: fpu.statusWord &= ~X87Status.c2
        default: break
        }
        switch operation {
        case .fyl2x, .fyl2xp1, .fpatan, .fscale, .fprem, .fprem1:
            guard !isEmpty(0), !isEmpty(1) else { return underflow(operation) }
        default:
            guard !isEmpty(0) else { return underflow(operation) }
        }
        let first = ExtendedOperand(readST(0)), second = ExtendedOperand(readST(1))
        var environment = x87Environment
        switch operation {
        case .fyl2x, .fyl2xp1, .fpatan:
            let result =
                switch operation {
                case .fyl2x: environment.logarithm(of: first, times: second)
                case .fyl2xp1: environment.logarithm(of1Plus: first, times: second)
                default: environment.angle(y: second, x: first)
                }
            guard note(environment) else { return }
            writeST(1, result)
            pop(1)
        case .fprem, .fprem1:
            let result = environment.remainder(first, second, toNearest: operation == .fprem1)
            guard note(environment) else { return }
            if let quotient = result.quotient {
                setConditions((quotient & 4 != 0 ? X87Status.c0 : 0) | (quotient & 2 != 0 ? X87Status.c3 : 0))
                setC1(quotient & 1 != 0)
            } else if !result.isComplete {
                setConditions(X87Status.c2)
                setC1(false)
            }
            writeST(0, result.number)
        case .fsin, .fcos, .fsincos, .fptan: calculateAngle(operation, first, &environment)
        case .fxtract: extract(first, &environment)
        default:
            let result =
                switch operation {
                case .fsqrt: environment.squareRoot(first)
                case .fscale: environment.scaled(first, by: second)
                case .frndint: environment.roundedToInteger(first)
                default: environment.powerOf2Less1(first)
                }
            if note(environment) { writeST(0, result) }
        }
    }

    private mutating func underflow(_ operation: X87Operation) {
        guard stackFault(isOverflow: false) else { return }
        switch operation {
        case .fyl2x, .fyl2xp1, .fpatan:
            writeST(1, .indefinite)
            pop(1)
        case .fsincos, .fptan, .fxtract:
            writeST(0, .indefinite)
            push(.indefinite)
        default: writeST(0, .indefinite)
        }
    }

    /// Two results in the place of one need a register more.
    private mutating func pushSecond(
        _ first: ExtendedFloat, _ second: ExtendedFloat, _ environment: FloatEnvironment
    ) {
        guard note(environment) else { return }
        writeST(0, first)
        push(second)
    }

    private mutating func hasRoomForSecond() -> Bool {
        if isEmpty(-1) { return true }
        if stackFault(isOverflow: true) {
            writeST(0, .indefinite)
            push(.indefinite)
        }
        return false
    }

    private mutating func calculateAngle(
        _ operation: X87Operation, _ angle: ExtendedOperand, _ environment: inout FloatEnvironment
    ) {
        let isPair = operation == .fsincos || operation == .fptan
        if isPair, !hasRoomForSecond() { return }
        let found =
            operation == .fptan
            ? environment.tangent(angle)
            : environment.sineAndCosine(
                angle, wantsSine: operation != .fcos, wantsCosine: operation != .fsin)
        guard let found else {
            note(environment)
            fpu.statusWord |= X87Status.c2
            return
        }
        if environment.hasNoResult {
            note(environment)
            return
        }
        if isPair {
            let second = operation == .fptan && (angle.isNaN || angle.kind == .infinite || angle.kind == .unsupported)
            return pushSecond(found.sine, second ? found.sine : found.cosine, environment)
        }
        if note(environment) { writeST(0, operation == .fsin ? found.sine : found.cosine) }
    }

    /// FXTRACT: the exponent as a number, and the significand with an exponent of zero.
    private mutating func extract(_ value: ExtendedOperand, _ environment: inout FloatEnvironment) {
        guard hasRoomForSecond() else { return }
        if let nan = environment.propagated(value) { return pushSecond(nan, nan, environment) }
        switch value.kind {
        case .infinite:
            pushSecond(.infinity(isNegative: false), .infinity(isNegative: value.isNegative), environment)
        case .zero:
            environment.raise(FloatException.zeroDivide)
            pushSecond(.infinity(isNegative: true), value.register, environment)
        default:
            environment.noteDenormals(value, value)
            let significand = ExtendedFloat(
                isNegative: value.isNegative, exponent: ExtendedFloat.bias, significand: value.significand)
            pushSecond(
                ExtendedOperand(integer: Int64(value.exponent)).register, significand, environment)
        }
    }
}
