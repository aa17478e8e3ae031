// MOV and its relatives, exchanges, conditional moves, sign extensions: SDM vol. 1, section 7.3.1.

import NVMM
import Synchronization

extension CPU {
    @inline(__always) private mutating func mov<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        switch i.form {
        case .registerRegister: write(i.register0, read(i.register1, as: T.self))
        case .registerImmediate: write(i.register0, T(truncatingIfNeeded: i.immediate))
        case .registerMemory: write(i.register0, try loadOperand(i, as: T.self))
        case .memoryRegister: try storeOperand(i, read(i.register0, as: T.self))
        default: try storeOperand(i, T(truncatingIfNeeded: i.immediate))
        }
    }

    @inline(never) mutating func mov(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try mov(i, UInt8.self)
        case 1: try mov(i, UInt16.self)
        case 2: try mov(i, UInt32.self)
        default: try mov(i, UInt64.self)
        }
    }

    /// The second operand, zero-extended.
    @inline(__always) mutating func secondOperand(
        _ i: borrowing DecodedInstruction, width: UInt8
    ) throws(Interruption) -> UInt64 {
        let isRegister = i.form == .registerRegister
        switch width {
        case 0: return UInt64(isRegister ? read(i.register1, as: UInt8.self) : try loadOperand(i))
        case 1: return UInt64(isRegister ? read(i.register1, as: UInt16.self) : try loadOperand(i))
        case 2: return UInt64(isRegister ? read(i.register1, as: UInt32.self) : try loadOperand(i))
        default: return isRegister ? read(i.register1) : try loadOperand(i)
        }
    }

    /// Writes a register with the width that the instruction has at run time.
    @inline(__always) mutating func write(_ register: UInt8, _ value: UInt64, width: UInt8) {
        switch width {
        case 0: write(register, UInt8(truncatingIfNeeded: value))
        case 1: write(register, UInt16(truncatingIfNeeded: value))
        case 2: write(register, UInt32(truncatingIfNeeded: value))
        default: write(register, value)
        }
    }

    /// Reads a register with the width that the instruction has at run time, zero-extended.
    @inline(__always) func read(_ register: UInt8, width: UInt8) -> UInt64 {
        switch width {
        case 0: UInt64(read(register, as: UInt8.self))
        case 1: UInt64(read(register, as: UInt16.self))
        case 2: UInt64(read(register, as: UInt32.self))
        default: read(register)
        }
    }

    /// Reads or writes memory with a width known at run time.
    @inline(__always) mutating func load(_ segment: UInt8, _ offset: UInt64, width: UInt8) throws(Interruption)
        -> UInt64
    {
        switch width {
        case 0: UInt64(try load(segment, offset, as: UInt8.self))
        case 1: UInt64(try load(segment, offset, as: UInt16.self))
        case 2: UInt64(try load(segment, offset, as: UInt32.self))
        default: try load(segment, offset, as: UInt64.self)
        }
    }
    @inline(__always) mutating func store(
        _ segment: UInt8, _ offset: UInt64, _ value: UInt64, width: UInt8
    ) throws(Interruption) {
        switch width {
        case 0: try store(segment, offset, UInt8(truncatingIfNeeded: value))
        case 1: try store(segment, offset, UInt16(truncatingIfNeeded: value))
        case 2: try store(segment, offset, UInt32(truncatingIfNeeded: value))
        default: try store(segment, offset, value)
        }
    }

    @inline(never) mutating func movzx(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let value = try secondOperand(i, width: i.width1)
        write(i.register0, value, width: i.width)
    }

    @inline(never) mutating func movsx(_ i: borrowing DecodedInstruction) throws(Interruption) {
        // SDM vol. 2, MOVSXD: a 16-bit register takes a 16-bit operand; of AMD's processors, the half of a 32-bit one.
        let width = model.isIntel ? min(i.width1, i.width) : i.width1
        let value = try secondOperand(i, width: width)
        let extended: UInt64 =
            switch i.width1 {
            case 0: UInt8(truncatingIfNeeded: value).signExtended
            case 1: UInt16(truncatingIfNeeded: value).signExtended
            case 2: UInt32(truncatingIfNeeded: value).signExtended
            default: value
            }
        write(i.register0, extended, width: i.width)
    }

    @inline(__always) mutating func lea<T: OperandWidth>(_ i: borrowing DecodedInstruction, as type: T.Type) {
        var address = effectiveAddress(i)
        if fault == .leaIndex { address = truncate(address &- gpr[Int(i.index & 31)], toAddressWidth: i.addressWidth) }
        write(i.register0, T(truncatingIfNeeded: address))
    }

    @inline(__always) private mutating func xchg<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        if i.form == .registerRegister {
            let first: T = read(i.register0)
            write(i.register0, read(i.register1, as: T.self))
            write(i.register1, first)
            return
        }
        let register = i.register0
        let value: T = read(register)
        var old: T = 0
        // SDM vol. 2, XCHG: locked with or without the prefix.
        try modify(i, as: T.self, isLocked: true) { (_: inout CPU, memory: T) throws(Interruption) in
            old = memory
            return value
        }
        write(register, old)
    }

    @inline(never) mutating func xchg(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try xchg(i, UInt8.self)
        case 1: try xchg(i, UInt16.self)
        case 2: try xchg(i, UInt32.self)
        default: try xchg(i, UInt64.self)
        }
    }

    @inline(__always) private mutating func xadd<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        if i.form == .registerRegister {
            let first: T = read(i.register0)
            let sum = status.add(first, read(i.register1))
            write(i.register1, first)
            write(i.register0, sum)
            return
        }
        let addend: T = read(i.register0)
        var old: T = 0
        try modify(i, as: T.self) { (cpu: inout CPU, memory: T) throws(Interruption) in
            old = memory
            return cpu.status.add(memory, addend)
        }
        write(i.register0, old)
    }

    @inline(never) mutating func xadd(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try xadd(i, UInt8.self)
        case 1: try xadd(i, UInt16.self)
        case 2: try xadd(i, UInt32.self)
        default: try xadd(i, UInt64.self)
        }
    }

    @inline(__always) private mutating func cmpxchg<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        let accumulator: T = read(0)
        if i.form == .registerRegister {
            let destination: T = read(i.register0)
            _ = status.subtract(accumulator, destination)
            if status.zero { write(i.register0, read(i.register1, as: T.self)) } else { write(0, destination) }
            return
        }
        let replacement: T = read(i.register0)
        var found: T = 0
        // SDM vol. 2, CMPXCHG: the destination is written in either case.
        try modify(i, as: T.self) { (cpu: inout CPU, memory: T) throws(Interruption) in
            found = memory
            _ = cpu.status.subtract(accumulator, memory)
            return cpu.status.zero ? replacement : memory
        }
        if !status.zero { write(0, found) }
    }

    @inline(never) mutating func cmpxchg(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try cmpxchg(i, UInt8.self)
        case 1: try cmpxchg(i, UInt16.self)
        case 2: try cmpxchg(i, UInt32.self)
        default: try cmpxchg(i, UInt64.self)
        }
    }

    @inline(never) mutating func cmpxchg8b(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let expected = read(2, width: 2) << 32 | read(0, width: 2)
        let replacement = read(1, width: 2) << 32 | read(3, width: 2)
        var found: UInt64 = 0
        try modify(i, as: UInt64.self) { (_: inout CPU, memory: UInt64) throws(Interruption) in
            found = memory
            return memory == expected ? replacement : memory
        }
        setZero(found == expected)
        if found != expected {
            write(2, found >> 32, width: 2)
            write(0, found, width: 2)
        }
    }

    @inline(never) mutating func cmpxchg16b(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let offset = effectiveAddress(i)
        let address = try linear(i.segment, offset, byteCount: 16, .write)
        guard address & 0xF == 0 else { throw .generalProtection(0) }
        try checkWritable(address, byteCount: 8, segment: i.segment)
        if isConcurrent, i.isLocked {
            let expected = WordPair(first: UInt(self[.rax]), second: UInt(self[.rdx]))
            let desired = WordPair(first: UInt(self[.rbx]), second: UInt(self[.rcx]))
            let found = try compareExchange16(address, expected: expected, desired: desired)
            setZero(found == expected)
            self[.rax] = UInt64(found.first)
            self[.rdx] = UInt64(found.second)
            return
        }
        let low: UInt64 = try load(i.segment, offset)
        let high: UInt64 = try load(i.segment, offset &+ 8)
        let matches = low == self[.rax] && high == self[.rdx]
        try store(i.segment, offset, matches ? self[.rbx] : low)
        try store(i.segment, offset &+ 8, matches ? self[.rcx] : high)
        setZero(matches)
        if !matches {
            self[.rax] = low
            self[.rdx] = high
        }
    }

    /// Replaces ZF and leaves the other flags.
    mutating func setZero(_ zero: Bool) {
        status.rflags = status.rflags & ~RFLAGS.zf | (zero ? RFLAGS.zf : 0)
    }

    @inline(never) mutating func cmov(_ i: borrowing DecodedInstruction) throws(Interruption) {
        // The source is read, and may fault, whatever the condition; a 32-bit destination is zero-extended always.
        let value =
            i.form == .registerRegister
            ? read(i.register1, width: i.width) : try load(i.segment, effectiveAddress(i), width: i.width)
        write(i.register0, status.condition(i.condition) ? value : read(i.register0, width: i.width), width: i.width)
    }

    @inline(never) mutating func setcc(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let value: UInt8 = status.condition(i.condition) ? 1 : 0
        if i.form == .register { write(i.register0, value) } else { try storeOperand(i, value) }
    }

    mutating func bswap(_ i: borrowing DecodedInstruction) {
        switch i.width {
        // Undefined for 16 bits (SDM vol. 2, BSWAP); processors give zero.
        case 1: write(i.register0, UInt16(0))
        case 2: write(i.register0, read(i.register0, as: UInt32.self).byteSwapped)
        default: write(i.register0, read(i.register0, as: UInt64.self).byteSwapped)
        }
    }

    @inline(never) mutating func xlat(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let offset = truncate(self[.rbx] &+ UInt64(read(0, as: UInt8.self)), toAddressWidth: i.addressWidth)
        write(0, try load(i.segment, offset, as: UInt8.self))
    }

    mutating func cbw(_ i: borrowing DecodedInstruction) {
        switch i.width {
        case 1: write(0, UInt16(truncatingIfNeeded: read(0, as: UInt8.self).signExtended))
        case 2: write(0, UInt32(truncatingIfNeeded: read(0, as: UInt16.self).signExtended))
        default: write(0, read(0, as: UInt32.self).signExtended)
        }
    }

    mutating func cwd(_ i: borrowing DecodedInstruction) {
        switch i.width {
        case 1: write(2, read(0, as: UInt16.self) >> 15 != 0 ? UInt16.max : 0)
        case 2: write(2, read(0, as: UInt32.self) >> 31 != 0 ? UInt32.max : 0)
        default: write(2, read(0, as: UInt64.self) >> 63 != 0 ? UInt64.max : 0)
        }
    }

    mutating func lahf() { write(RegisterNumber.highByte, UInt8(truncatingIfNeeded: status.rflags | RFLAGS.fixed)) }

    mutating func sahf() {
        let low = UInt64(read(RegisterNumber.highByte, as: UInt8.self))
        status.rflags = status.rflags & RFLAGS.of | low & (RFLAGS.status & ~RFLAGS.of)
    }
}
