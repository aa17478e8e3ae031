// ADD to TEST, INC, DEC, NEG, NOT: the two-operand arithmetic of SDM vol. 2.

import NVMM

/// A two-operand operation on status flags.
protocol BinaryOperation {
    static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T
    /// CMP and TEST leave the first operand.
    static var keepsFirst: Bool { get }
}
extension BinaryOperation { static var keepsFirst: Bool { false } }

enum Add: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.add(a, b)
    }
}
enum Adc: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.add(a, b, carry: status.carry ? 1 : 0)
    }
}
enum Sub: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.subtract(a, b)
    }
}
enum Sbb: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.subtract(a, b, borrow: status.carry ? 1 : 0)
    }
}
enum Cmp: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.subtract(a, b)
    }
    static var keepsFirst: Bool { true }
}
enum And: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.setLogical(result: a & b)
        return a & b
    }
}
enum Or: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.setLogical(result: a | b)
        return a | b
    }
}
enum Xor: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.setLogical(result: a ^ b)
        return a ^ b
    }
}
enum Test: BinaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T) -> T {
        status.setLogical(result: a & b)
        return a
    }
    static var keepsFirst: Bool { true }
}

extension CPU {
    @inline(__always) private mutating func binary<Operation: BinaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        switch i.form {
        case .registerRegister:
            let result = Operation.apply(&status, read(i.register0, as: T.self), read(i.register1, as: T.self))
            if !Operation.keepsFirst { write(i.register0, result) }
        case .registerImmediate:
            let result = Operation.apply(&status, read(i.register0, as: T.self), T(truncatingIfNeeded: i.immediate))
            if !Operation.keepsFirst { write(i.register0, result) }
        case .registerMemory:
            let value: T = try loadOperand(i)
            let result = Operation.apply(&status, read(i.register0, as: T.self), value)
            if !Operation.keepsFirst { write(i.register0, result) }
        default:
            let b = i.form == .memoryRegister ? read(i.register0, as: T.self) : T(truncatingIfNeeded: i.immediate)
            if Operation.keepsFirst {
                _ = Operation.apply(&status, try loadOperand(i), b)
            } else {
                try modify(i, as: T.self) { (cpu: inout CPU, a: T) throws(Interruption) in
                    Operation.apply(&cpu.status, a, b)
                }
            }
        }
    }

    @inline(__always) private mutating func binary<Operation: BinaryOperation>(
        _ i: borrowing DecodedInstruction, _ operation: Operation.Type
    ) throws(Interruption) {
        switch i.width {
        case 0: try binary(i, operation, UInt8.self)
        case 1: try binary(i, operation, UInt16.self)
        case 2: try binary(i, operation, UInt32.self)
        default: try binary(i, operation, UInt64.self)
        }
    }

    @inline(never) mutating func add(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, Add.self) }
    @inline(never) mutating func or(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, Or.self) }
    @inline(never) mutating func adc(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if fault == .adcCarry { status.set(carry: false) }
        try binary(i, Adc.self)
    }
    @inline(never) mutating func sbb(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, Sbb.self) }
    @inline(never) mutating func and(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, And.self) }
    @inline(never) mutating func sub(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, Sub.self) }
    @inline(never) mutating func xor(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, Xor.self) }
    @inline(never) mutating func cmp(_ i: borrowing DecodedInstruction) throws(Interruption) { try binary(i, Cmp.self) }
    @inline(never) mutating func test(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try binary(i, Test.self)
    }
}

// MARK: - Forms of known width, for the loop

extension CPU {
    @inline(__always) mutating func registerImmediate<Operation: BinaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) {
        let result = Operation.apply(&status, read(i.register0, as: T.self), T(truncatingIfNeeded: i.immediate))
        if !Operation.keepsFirst { write(i.register0, result) }
    }

    @inline(__always) mutating func registerRegister<Operation: BinaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) {
        let result = Operation.apply(&status, read(i.register0, as: T.self), read(i.register1, as: T.self))
        if !Operation.keepsFirst { write(i.register0, result) }
    }

    @inline(__always) mutating func registerMemory<Operation: BinaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        let value: T = try loadOperand(i)
        let result = Operation.apply(&status, read(i.register0, as: T.self), value)
        if !Operation.keepsFirst { write(i.register0, result) }
    }

    /// CMP only: the operation must keep its first operand.
    @inline(__always) mutating func memoryRegister<Operation: BinaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        _ = Operation.apply(&status, try loadOperand(i), read(i.register0, as: T.self))
    }

    /// CMP only, as above.
    @inline(__always) mutating func memoryImmediate<Operation: BinaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        _ = Operation.apply(&status, try loadOperand(i), T(truncatingIfNeeded: i.immediate))
    }

    @inline(__always) mutating func register<Operation: UnaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) {
        write(i.register0, Operation.apply(&status, read(i.register0, as: T.self)))
    }
}

// MARK: - One operand

/// A one-operand operation on status flags.
protocol UnaryOperation {
    static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T) -> T
}
enum Inc: UnaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T) -> T {
        status.increment(a)
    }
}
enum Dec: UnaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T) -> T {
        status.decrement(a)
    }
}
enum Neg: UnaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T) -> T {
        status.subtract(0, a)
    }
}
enum Not: UnaryOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T) -> T { ~a }
}

extension CPU {
    @inline(__always) private mutating func unary<Operation: UnaryOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        if i.form == .register {
            write(i.register0, Operation.apply(&status, read(i.register0, as: T.self)))
        } else {
            try modify(i, as: T.self) { (cpu: inout CPU, a: T) throws(Interruption) in Operation.apply(&cpu.status, a) }
        }
    }

    @inline(__always) private mutating func unary<Operation: UnaryOperation>(
        _ i: borrowing DecodedInstruction, _ operation: Operation.Type
    ) throws(Interruption) {
        switch i.width {
        case 0: try unary(i, operation, UInt8.self)
        case 1: try unary(i, operation, UInt16.self)
        case 2: try unary(i, operation, UInt32.self)
        default: try unary(i, operation, UInt64.self)
        }
    }

    @inline(never) mutating func inc(_ i: borrowing DecodedInstruction) throws(Interruption) { try unary(i, Inc.self) }
    @inline(never) mutating func dec(_ i: borrowing DecodedInstruction) throws(Interruption) { try unary(i, Dec.self) }
    @inline(never) mutating func neg(_ i: borrowing DecodedInstruction) throws(Interruption) { try unary(i, Neg.self) }
    @inline(never) mutating func not(_ i: borrowing DecodedInstruction) throws(Interruption) { try unary(i, Not.self) }
}
