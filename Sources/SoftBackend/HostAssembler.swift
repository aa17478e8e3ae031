// Encodes instructions of the host's processor: SDM vol. 2, chapter 2.

/// Registers of the host by their number.
enum HostRegister {
    static let rax: UInt8 = 0
    static let rcx: UInt8 = 1
    static let rdx: UInt8 = 2
    static let rbx: UInt8 = 3
    static let rsi: UInt8 = 6
    static let rdi: UInt8 = 7
}

/// What a ModRM byte names besides its register.
enum HostOperand {
    case register(UInt8)
    case memory(base: UInt8, displacement: Int32)
    /// `base` nil: the index alone.
    case indexed(base: UInt8?, index: UInt8, scale: UInt8, displacement: Int32)
}

/// Operations whose encodings differ in three bits: SDM vol. 2, table A-6.
enum HostArithmetic: UInt8 {
    case add, or, adc, sbb, and, sub, xor, cmp
}

/// Conditions of Jcc and SETcc by the low four bits of their opcodes: SDM vol. 1, appendix B.
enum HostCondition {
    static let overflow: UInt8 = 0
    static let carry: UInt8 = 2
    static let noCarry: UInt8 = 3
    static let zero: UInt8 = 4
    static let notZero: UInt8 = 5
    static let sign: UInt8 = 8
}

enum HostShift: UInt8 {
    case rol = 0
    case ror = 1
    case shl = 4
    case shr = 5
    case sar = 7
}

/// Appends encodings to a piece of memory.
///
/// SAFETY: `start` has room for `capacity` bytes; what does not fit is counted and not written, see ``isComplete``.
@safe struct HostAssembler {
    private let start: UnsafeMutablePointer<UInt8>
    private let capacity: Int
    private(set) var count = 0

    init(_ start: UnsafeMutablePointer<UInt8>, capacity: Int) {
        unsafe self.start = start
        self.capacity = capacity
    }

    /// All that was appended stands in memory.
    var isComplete: Bool { count <= capacity }
    /// Address of the next byte.
    var here: UInt64 { unsafe UInt64(UInt(bitPattern: start)) &+ UInt64(count) }

    mutating func byte(_ value: UInt8) {
        if count < capacity { unsafe start[count] = value }
        count += 1
    }

    mutating func value<T: FixedWidthInteger>(_ value: T) {
        for index in 0..<T.bitWidth / 8 { byte(UInt8(truncatingIfNeeded: value >> T(index * 8))) }
    }

    /// Replaces a byte that was appended.
    mutating func replaceByte(at place: Int, _ value: UInt8) {
        if place < capacity { unsafe start[place] = value }
    }

    // MARK: - Operands

    /// One instruction with a ModRM byte.
    ///
    /// - Parameters:
    ///   - opcode: one to three bytes, the first in the highest place.
    ///   - width: log2 of the operand's bytes; the opcode is that of the width already.
    ///   - register: register, or the digit that extends the opcode.
    ///   - operandIsByte: the register of `operand` is a byte, though the width is another.
    mutating func emit(
        _ opcode: UInt32, width: UInt8, register: UInt8, _ operand: HostOperand,
        operandIsByte: Bool = false, registerIsDigit: Bool = false
    ) {
        if width == 1 { byte(0x66) }
        var rex: UInt8 = width == 3 ? 0x48 : 0
        if register > 7 { rex |= 0x44 }
        switch operand {
        case .register(let number):
            if number > 7 { rex |= 0x41 }
            if width == 0 || operandIsByte, number > 3 { rex |= 0x40 }
        case .memory(let base, _):
            if base > 7 { rex |= 0x41 }
        case .indexed(let base, let index, _, _):
            if let base, base > 7 { rex |= 0x41 }
            if index > 7 { rex |= 0x42 }
        }
        if width == 0, !registerIsDigit, register > 3 { rex |= 0x40 }
        if rex != 0 { byte(rex) }
        if opcode > 0xFFFF { byte(UInt8(truncatingIfNeeded: opcode >> 16)) }
        if opcode > 0xFF { byte(UInt8(truncatingIfNeeded: opcode >> 8)) }
        byte(UInt8(truncatingIfNeeded: opcode))
        modRM((register & 7) << 3, operand)
    }

    private mutating func modRM(_ middle: UInt8, _ operand: HostOperand) {
        switch operand {
        case .register(let number): byte(0xC0 | middle | number & 7)
        case .memory(let base, let displacement):
            let mode = Self.mode(base, displacement)
            byte(mode | middle | base & 7)
            if base & 7 == 4 { byte(0x24) }
            append(displacement, mode)
        case .indexed(let base, let index, let scale, let displacement):
            let sib = scale << 6 | (index & 7) << 3
            guard let base else {
                byte(middle | 4)
                byte(sib | 5)
                return value(displacement)
            }
            let mode = Self.mode(base, displacement)
            byte(mode | middle | 4)
            byte(sib | base & 7)
            append(displacement, mode)
        }
    }

    private static func mode(_ base: UInt8, _ displacement: Int32) -> UInt8 {
        if displacement == 0, base & 7 != 5 { return 0 }
        return Int32(Int8(truncatingIfNeeded: displacement)) == displacement ? 0x40 : 0x80
    }

    private mutating func append(_ displacement: Int32, _ mode: UInt8) {
        if mode == 0x40 { value(Int8(truncatingIfNeeded: displacement)) }
        if mode == 0x80 { value(displacement) }
    }

    // MARK: - Moves

    mutating func load(_ register: UInt8, _ operand: HostOperand, width: UInt8 = 3) {
        emit(width == 0 ? 0x8A : 0x8B, width: width, register: register, operand)
    }

    mutating func store(_ operand: HostOperand, _ register: UInt8, width: UInt8 = 3) {
        emit(width == 0 ? 0x88 : 0x89, width: width, register: register, operand)
    }

    /// The shortest that leaves `value` in all 64 bits. Flags stay.
    mutating func move(_ register: UInt8, _ constant: UInt64) {
        if constant <= UInt64(UInt32.max) {
            if register > 7 { byte(0x41) }
            byte(0xB8 | register & 7)
            return value(UInt32(truncatingIfNeeded: constant))
        }
        if let short = Int32(exactly: Int64(bitPattern: constant)) {
            emit(0xC7, width: 3, register: 0, .register(register), registerIsDigit: true)
            return value(short)
        }
        byte(register > 7 ? 0x49 : 0x48)
        byte(0xB8 | register & 7)
        value(constant)
    }

    /// - Parameter constant: as the width has it; of 64 bits, what 32 extend to.
    mutating func store(_ operand: HostOperand, constant: UInt64, width: UInt8) {
        emit(width == 0 ? 0xC6 : 0xC7, width: width, register: 0, operand, registerIsDigit: true)
        immediate(constant, width: width)
    }

    /// - Parameter sourceWidth: 0 or 1.
    mutating func extendZero(_ register: UInt8, _ operand: HostOperand, sourceWidth: UInt8) {
        emit(
            sourceWidth == 0 ? 0x0FB6 : 0x0FB7, width: 2, register: register, operand, operandIsByte: sourceWidth == 0)
    }

    /// - Parameter sourceWidth: 0, 1, or 2 where `width` is 3.
    mutating func extendSign(_ register: UInt8, _ operand: HostOperand, sourceWidth: UInt8, width: UInt8) {
        let opcode: UInt32 = sourceWidth == 0 ? 0x0FBE : sourceWidth == 1 ? 0x0FBF : 0x63
        emit(opcode, width: width, register: register, operand, operandIsByte: sourceWidth == 0)
    }

    mutating func lea(_ register: UInt8, _ operand: HostOperand, width: UInt8 = 3) {
        emit(0x8D, width: width, register: register, operand)
    }

    // MARK: - Arithmetic

    mutating func arithmetic(_ operation: HostArithmetic, _ register: UInt8, _ operand: HostOperand, width: UInt8) {
        emit(UInt32(operation.rawValue << 3 | (width == 0 ? 2 : 3)), width: width, register: register, operand)
    }

    mutating func arithmetic(_ operation: HostArithmetic, _ operand: HostOperand, _ register: UInt8, width: UInt8) {
        emit(UInt32(operation.rawValue << 3 | (width == 0 ? 0 : 1)), width: width, register: register, operand)
    }

    /// - Parameter constant: as the width has it; of 64 bits, what 32 extend to.
    mutating func arithmetic(_ operation: HostArithmetic, _ operand: HostOperand, constant: UInt64, width: UInt8) {
        let fitsByte = width > 0 && UInt64(bitPattern: Int64(Int8(truncatingIfNeeded: constant))) == constant
        emit(
            width == 0 ? 0x80 : fitsByte ? 0x83 : 0x81, width: width, register: operation.rawValue, operand,
            registerIsDigit: true)
        immediate(constant, width: fitsByte ? 0 : width)
    }

    mutating func test(_ operand: HostOperand, _ register: UInt8, width: UInt8) {
        emit(width == 0 ? 0x84 : 0x85, width: width, register: register, operand)
    }

    mutating func test(_ operand: HostOperand, constant: UInt64, width: UInt8) {
        emit(width == 0 ? 0xF6 : 0xF7, width: width, register: 0, operand, registerIsDigit: true)
        immediate(constant, width: width)
    }

    /// NOT (2), NEG (3), MUL (4), IMUL (5), DIV (6) by their digits.
    mutating func unary(_ digit: UInt8, _ operand: HostOperand, width: UInt8) {
        emit(width == 0 ? 0xF6 : 0xF7, width: width, register: digit, operand, registerIsDigit: true)
    }

    /// INC (0) or DEC (1).
    mutating func step(_ digit: UInt8, _ operand: HostOperand, width: UInt8) {
        emit(width == 0 ? 0xFE : 0xFF, width: width, register: digit, operand, registerIsDigit: true)
    }

    mutating func shift(_ operation: HostShift, _ operand: HostOperand, by count: UInt8, width: UInt8) {
        emit(width == 0 ? 0xC0 : 0xC1, width: width, register: operation.rawValue, operand, registerIsDigit: true)
        byte(count)
    }

    mutating func shiftByCL(_ operation: HostShift, _ operand: HostOperand, width: UInt8) {
        emit(width == 0 ? 0xD2 : 0xD3, width: width, register: operation.rawValue, operand, registerIsDigit: true)
    }

    private mutating func immediate(_ constant: UInt64, width: UInt8) {
        switch width {
        case 0: value(UInt8(truncatingIfNeeded: constant))
        case 1: value(UInt16(truncatingIfNeeded: constant))
        default: value(UInt32(truncatingIfNeeded: constant))
        }
    }

    // MARK: - Flags

    mutating func lahf() { byte(0x9F) }
    mutating func sahf() { byte(0x9E) }

    /// - Parameter condition: low four bits of the opcode.
    mutating func setByte(_ condition: UInt8, _ operand: HostOperand) {
        emit(0x0F90 | UInt32(condition), width: 0, register: 0, operand, registerIsDigit: true)
    }

    // MARK: - Jumps

    /// JMP, or Jcc where there is a condition, to a place that ``land(_:)`` names later.
    mutating func jump(_ condition: UInt8? = nil) -> Int {
        if let condition {
            byte(0x0F)
            byte(0x80 | condition)
        } else {
            byte(0xE9)
        }
        value(UInt32(0))
        return count
    }

    /// Lets the jump that `jump(_:)` returned go to here.
    mutating func land(_ jump: Int) { land(jump, at: count) }

    mutating func land(_ jump: Int, at target: Int) {
        let distance = Int32(truncatingIfNeeded: target - jump)
        guard jump <= capacity else { return }
        for index in 0..<4 { unsafe start[jump - 4 + index] = UInt8(truncatingIfNeeded: distance >> Int32(index * 8)) }
    }

    mutating func jump(toAddress address: UInt64) {
        byte(0xE9)
        value(Int32(truncatingIfNeeded: Int64(bitPattern: address &- (here &+ 4))))
    }

    mutating func jump(through operand: HostOperand) {
        emit(0xFF, width: 2, register: 4, operand, registerIsDigit: true)
    }
}
