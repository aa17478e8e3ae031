// Near jumps, calls, returns and loops.

import NVMM

extension CPU {
    /// Moves RIP within the code segment.
    ///
    /// - Throws: #GP(0) where the target lies outside of the limit, or is not canonical.
    @inline(__always) mutating func jump(to target: UInt64, width: UInt8) throws(Interruption) {
        rip = try checked(target, width: width)
    }

    /// A near target as RIP takes it: SDM vol. 2, CALL and JMP, #GP(0) beyond the limit or not canonical.
    @inline(__always) private func checked(_ target: UInt64, width: UInt8) throws(Interruption) -> UInt64 {
        let masked = is64Bit ? target : width == 1 ? target & 0xFFFF : target & 0xFFFF_FFFF
        if is64Bit ? !masked.isCanonical : masked >= codeEnd { throw .generalProtection(0) }
        return masked
    }

    @inline(__always) mutating func jmpRelative(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try jump(to: nextRIP(i) &+ i.immediate, width: i.width)
    }

    /// Jcc does not end its block in the decoder: a branch that is taken ends it here.
    @inline(__always) mutating func branch(_ i: borrowing DecodedInstruction, if taken: Bool) throws(Interruption) {
        if taken {
            try jump(to: nextRIP(i) &+ i.immediate, width: i.width)
            blockEnd = cursor
        } else {
            rip = nextRIP(i)
        }
    }

    @inline(__always) mutating func jcc(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try branch(i, if: status.condition(i.condition))
    }

    /// CALL to a relative target with the operand size of the return address.
    @inline(__always) mutating func callRelative<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        let target = try calledTarget(nextRIP(i) &+ i.immediate, i, width: T.bitWidth == 64 ? 3 : 2)
        try push(T(truncatingIfNeeded: nextRIP(i)))
        rip = target
    }

    /// The target is checked before the return address is stored (SDM vol. 2, CALL). On Intel's processors it is stored
    /// all the same, or that faults.
    @inline(__always) private mutating func calledTarget(
        _ target: UInt64, _ i: borrowing DecodedInstruction, width: UInt8
    ) throws(Interruption) -> UInt64 {
        do {
            return try checked(target, width: width)
        } catch {
            if model.isIntel {
                let before = self[.rsp]
                try push(nextRIP(i), width: is64Bit ? 3 : i.width)
                self[.rsp] = before
            }
            throw error
        }
    }

    @inline(__always) mutating func returnNear<T: OperandWidth>(_ type: T.Type) throws(Interruption) {
        let target: T = try load(Self.ss, self[.rsp] & stackMask)
        try jump(to: UInt64(target), width: T.bitWidth == 64 ? 3 : 2)
        setStackPointer(self[.rsp] &+ UInt64(T.bitWidth / 8))
    }

    /// The target of a near JMP or CALL.
    @inline(__always) private mutating func target(_ i: borrowing DecodedInstruction) throws(Interruption) -> UInt64 {
        switch i.form {
        case .immediate: nextRIP(i) &+ i.immediate
        case .register: read(i.register0, width: is64Bit ? 3 : i.width)
        default: try load(i.segment, effectiveAddress(i), width: is64Bit ? 3 : i.width)
        }
    }

    @inline(never) mutating func jmp(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let target = try target(i)
        try jump(to: target, width: i.width)
    }

    @inline(never) mutating func call(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let target = try calledTarget(target(i), i, width: i.width)
        try push(nextRIP(i), width: is64Bit ? 3 : i.width)
        rip = target
    }

    @inline(never) mutating func ret(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let width = is64Bit ? 3 : i.width
        let target = try peek(0, width: width)
        try jump(to: target, width: i.width)
        setStackPointer(self[.rsp] &+ (1 << UInt64(width)) &+ (i.form == .immediate ? i.immediate & 0xFFFF : 0))
    }

    /// RCX within the address size.
    @inline(__always) func count(_ i: borrowing DecodedInstruction) -> UInt64 {
        truncate(self[.rcx], toAddressWidth: i.addressWidth)
    }

    @inline(never) mutating func jcxz(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if count(i) == 0 { try jump(to: nextRIP(i) &+ i.immediate, width: i.width) } else { rip = nextRIP(i) }
    }

    @inline(never) mutating func loop(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let left = truncate(self[.rcx] &- 1, toAddressWidth: i.addressWidth)
        let goesOn: Bool =
            switch i.operation {
            case .loope: left != 0 && status.zero
            case .loopne: left != 0 && !status.zero
            default: left != 0
            }
        if goesOn { try jump(to: nextRIP(i) &+ i.immediate, width: i.width) } else { rip = nextRIP(i) }
        write(1, left, width: i.addressWidth)
    }
}
