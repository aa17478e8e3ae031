// Completing a MEMORY exit by emulating the instruction: `nvmm_assist_mem`; SDM vol. 2.

import CZydis
public import NVMM

/// Emulates the instruction that a VCPU exited with for an access to closed memory, its loads and stores going to
/// guest memory or to the VMM's devices. What has changed is handed over at the next run. One iteration of a repeated
/// instruction is done per call.
///
/// - Parameter exit: the payload of the exit that the VCPU's last run gave.
/// - Throws: ``AssistError``; registers are then unchanged.
/// The corresponding C function is `nvmm_assist_mem`.
public func assistMemory(
    _ vcpu: any VCPU, _ machine: any Machine, exit: MemoryExit, callbacks: any AssistCallbacks
) throws(AssistError) {
    try vcpu.cache([.gprs, .segments, .crs, .msrs])
    let guest = GuestAccess(vcpu, machine, callbacks)
    let rip = vcpu.commPage.state[.rip]
    var bytes = exit.instruction.bytes
    let isBig = vcpu.commPage.state[.cs].attributes.contains(.defaultBig)
    if bytes.isEmpty { bytes = try fetch(guest, rip: rip) }
    guard let instruction = DecodedInstruction(bytes, is64Bit: guest.is64Bit, isBig: isBig) else {
        throw .undecodable(rip: rip, bytes: InstructionBytes(bytes))
    }
    var emulation = Emulation(guest: guest, instruction: instruction, state: vcpu.commPage.state)
    guard try emulation.execute() else {
        throw .unsupported(rip: rip, mnemonic: instruction.name, bytes: InstructionBytes(bytes))
    }
    vcpu.commPage.state.gprs = emulation.state.gprs
    vcpu.setState(.gprs)
}

/// Up to 15 bytes at RIP; fewer where the page after is not there.
private func fetch(_ guest: GuestAccess, rip: UInt64) throws(AssistError) -> [UInt8] {
    var bytes: [UInt8] = []
    for index in 0..<15 as Range<UInt64> {
        do {
            let address = try guest.linear(.cs, offset: rip &+ index, byteCount: 1)
            bytes.append(UInt8(truncatingIfNeeded: try guest.load(address, byteCount: 1)))
        } catch {
            if bytes.isEmpty { throw error }
            break
        }
    }
    return bytes
}

/// One instruction being emulated on a copy of the state.
struct Emulation {
    let guest: GuestAccess
    let instruction: DecodedInstruction
    var state: VCPUState

    private var rflags: UInt64 {
        get { state[.rflags] }
        set { state[.rflags] = newValue }
    }

    /// - Returns: false where the instruction is none that is emulated.
    mutating func execute() throws(AssistError) -> Bool {
        let done: Bool
        if instruction.operands.contains(where: { $0.type == ZYDIS_OPERAND_TYPE_MEMORY }) {
            switch instruction.mnemonic {
            case ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSQ,
                ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW, ZYDIS_MNEMONIC_STOSD, ZYDIS_MNEMONIC_STOSQ,
                ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD, ZYDIS_MNEMONIC_LODSQ,
                ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSQ,
                ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, ZYDIS_MNEMONIC_SCASD, ZYDIS_MNEMONIC_SCASQ:
                return try executeString()
            // MOVSD and CMPSD are SSE2 instructions too: those have no operand in [rSI].
            case ZYDIS_MNEMONIC_MOVSD where instruction.operands.count > 3,
                ZYDIS_MNEMONIC_CMPSD where instruction.operands.count > 3:
                return try executeString()
            case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_POP, ZYDIS_MNEMONIC_CALL, ZYDIS_MNEMONIC_JMP:
                done = try executeStack()
            default:
                done = try executeGeneral()
            }
        } else {
            // Touched closed memory without a memory operand: its code lies there. Harmless ones only.
            done = instruction.mnemonic == ZYDIS_MNEMONIC_NOP
        }
        return done
    }

    // MARK: - Operands

    private func operand(_ index: Int) -> ZydisDecodedOperand { instruction.operands[index] }

    private func byteCount(_ operand: ZydisDecodedOperand) -> Int { Int(operand.size) / 8 }

    private mutating func advance() {
        let next = state[.rip] &+ instruction.length
        let isBig = state[.cs].attributes.contains(.defaultBig)
        state[.rip] = guest.is64Bit ? next : isBig ? next & 0xFFFF_FFFF : next & 0xFFFF
        // As after every instruction that completes: RF is clear.
        rflags &= ~(1 << 16)
    }

    /// Linear address of a memory operand; `bias` is added to the offset before it is cut to the address size.
    private func address(
        _ operand: ZydisDecodedOperand, bias: UInt64 = 0, byteCount: Int
    ) throws(AssistError) -> UInt64? {
        let memory = operand.mem
        var offset = UInt64(bitPattern: memory.disp.value) &+ bias
        if memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP {
            offset &+= state[.rip] &+ instruction.length
        } else if memory.base != ZYDIS_REGISTER_NONE {
            guard let base = RegisterPart(memory.base) else { return nil }
            offset &+= base.read(state)
        }
        if memory.index != ZYDIS_REGISTER_NONE {
            guard let index = RegisterPart(memory.index) else { return nil }
            offset &+= index.read(state) &* UInt64(memory.scale)
        }
        offset &= lowMask(instruction.addressBytes)
        guard let segment = SegmentRegister(memory.segment) else { return nil }
        return try guest.linear(segment, offset: offset, byteCount: byteCount)
    }

    /// - Returns: nil where the operand is of no kind that is emulated.
    private func read(_ operand: ZydisDecodedOperand, bias: UInt64 = 0) throws(AssistError) -> UInt64? {
        let count = byteCount(operand)
        switch operand.type {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if let part = RegisterPart(operand.reg.value) { return part.read(state) }
            return SegmentRegister(operand.reg.value).map { UInt64(state[$0].selector) }
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            return unsafe operand.imm.value.u
        case ZYDIS_OPERAND_TYPE_MEMORY:
            guard (1...8).contains(count), let address = try address(operand, bias: bias, byteCount: count) else {
                return nil
            }
            return try guest.load(address, byteCount: count)
        default: return nil
        }
    }

    /// - Returns: false where the operand is of no kind that is emulated.
    private mutating func write(
        _ value: UInt64, _ operand: ZydisDecodedOperand, bias: UInt64 = 0
    ) throws(AssistError) -> Bool {
        let count = byteCount(operand)
        switch operand.type {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            guard let part = RegisterPart(operand.reg.value) else { return false }
            part.write(value, to: &state)
            return true
        case ZYDIS_OPERAND_TYPE_MEMORY:
            guard (1...8).contains(count), let address = try address(operand, bias: bias, byteCount: count) else {
                return false
            }
            try guest.store(value & lowMask(count), address, byteCount: count)
            return true
        default: return false
        }
    }

    private func condition(_ code: Int) -> Bool {
        let flags = rflags
        func has(_ flag: UInt64) -> Bool { flags & flag != 0 }
        let base: Bool =
            switch code >> 1 {
            case 0: has(Flag.overflow)
            case 1: has(Flag.carry)
            case 2: has(Flag.zero)
            case 3: has(Flag.carry) || has(Flag.zero)
            case 4: has(Flag.sign)
            case 5: has(Flag.parity)
            case 6: has(Flag.sign) != has(Flag.overflow)
            default: has(Flag.zero) || has(Flag.sign) != has(Flag.overflow)
            }
        return base != (code & 1 != 0)
    }

    // MARK: - One or two operands

    private mutating func executeGeneral() throws(AssistError) -> Bool {
        let destination = operand(0)
        let size = byteCount(destination)
        guard size >= 1, size <= 8 else { return false }
        let unit = Arithmetic(byteCount: size)

        // Stores and loads without arithmetic.
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_MOV, ZYDIS_MNEMONIC_MOVNTI, ZYDIS_MNEMONIC_MOVZX:
            guard let value = try read(operand(1)), try write(value, destination) else { return false }
            advance()
            return true
        case ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD:
            guard let value = try read(operand(1)) else { return false }
            guard try write(value.signExtended(from: byteCount(operand(1))), destination) else { return false }
            advance()
            return true
        case ZYDIS_MNEMONIC_MOVBE:
            guard let value = try read(operand(1)) else { return false }
            guard try write(value.byteSwapped >> UInt64(64 - size * 8), destination) else { return false }
            advance()
            return true
        case ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHNTA, ZYDIS_MNEMONIC_PREFETCHT1,
            ZYDIS_MNEMONIC_PREFETCHT2, ZYDIS_MNEMONIC_PREFETCHW, ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_CLFLUSH:
            advance()
            return true
        default: break
        }
        if let code = Self.setConditions[instruction.mnemonic.rawValue] {
            guard try write(condition(code) ? 1 : 0, destination) else { return false }
            advance()
            return true
        }
        if let code = Self.moveConditions[instruction.mnemonic.rawValue] {
            // The load happens whether the condition holds or not; a 32-bit destination is zero-extended anyway.
            guard let value = try read(operand(1)), let old = try read(destination) else { return false }
            guard try write(condition(code) ? value : old, destination) else { return false }
            advance()
            return true
        }

        // A bit index in a register reaches beyond the operand.
        var bias: UInt64 = 0
        if let change = Self.bitChanges[instruction.mnemonic.rawValue] {
            guard let index = try read(operand(1)) else { return false }
            let bits = UInt64(size * 8)
            if operand(1).type == ZYDIS_OPERAND_TYPE_REGISTER {
                let signed = Int64(bitPattern: index.signExtended(from: size))
                bias = UInt64(bitPattern: (signed >> Int64(bits.trailingZeroBitCount)) &* Int64(size))
            }
            guard let old = try read(destination, bias: bias) else { return false }
            let result = unit.bit(change, old, index: index & (bits - 1), rflags: rflags)
            if change != .test, !(try write(result.value, destination, bias: bias)) { return false }
            rflags = result.rflags
            advance()
            return true
        }

        // Nothing may be read for an instruction that turns out to be unknown: a load can have effects.
        guard Self.arithmetic.contains(instruction.mnemonic.rawValue), let left = try read(destination) else {
            return false
        }
        var flags = rflags
        let result: Computed
        var isWritten = true
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_INC: result = unit.increment(left, rflags: flags)
        case ZYDIS_MNEMONIC_DEC: result = unit.decrement(left, rflags: flags)
        case ZYDIS_MNEMONIC_NOT: result = Computed(value: ~left & unit.mask, rflags: flags)
        case ZYDIS_MNEMONIC_NEG: result = unit.subtract(0, left, rflags: flags)
        default:
            guard instruction.operands.count > 1, let raw = try read(operand(1)) else { return false }
            let right = raw & unit.mask
            switch instruction.mnemonic {
            case ZYDIS_MNEMONIC_ADD: result = unit.add(left, right, rflags: flags)
            case ZYDIS_MNEMONIC_ADC: result = unit.add(left, right, carry: flags & Flag.carry, rflags: flags)
            case ZYDIS_MNEMONIC_SUB: result = unit.subtract(left, right, rflags: flags)
            case ZYDIS_MNEMONIC_SBB: result = unit.subtract(left, right, borrow: flags & Flag.carry, rflags: flags)
            case ZYDIS_MNEMONIC_AND: result = unit.logic(left & right, rflags: flags)
            case ZYDIS_MNEMONIC_OR: result = unit.logic(left | right, rflags: flags)
            case ZYDIS_MNEMONIC_XOR: result = unit.logic(left ^ right, rflags: flags)
            case ZYDIS_MNEMONIC_CMP:
                result = unit.subtract(left, right, rflags: flags)
                isWritten = false
            case ZYDIS_MNEMONIC_TEST:
                result = unit.logic(left & right, rflags: flags)
                isWritten = false
            case ZYDIS_MNEMONIC_SHL: result = unit.shift(.left, left, by: raw, rflags: flags)
            case ZYDIS_MNEMONIC_SHR: result = unit.shift(.right, left, by: raw, rflags: flags)
            case ZYDIS_MNEMONIC_SAR: result = unit.shift(.arithmeticRight, left, by: raw, rflags: flags)
            case ZYDIS_MNEMONIC_ROL: result = unit.rotate(left: true, left, by: raw, rflags: flags)
            case ZYDIS_MNEMONIC_ROR: result = unit.rotate(left: false, left, by: raw, rflags: flags)
            case ZYDIS_MNEMONIC_XCHG:
                // The memory operand first: a fault there must leave the register as it was.
                let memoryFirst = destination.type == ZYDIS_OPERAND_TYPE_MEMORY
                guard try write(memoryFirst ? right : left, memoryFirst ? destination : operand(1)),
                    try write(memoryFirst ? left : right, memoryFirst ? operand(1) : destination)
                else { return false }
                advance()
                return true
            case ZYDIS_MNEMONIC_XADD:
                result = unit.add(left, right, rflags: flags)
                guard try write(result.value, destination), try write(left, operand(1)) else { return false }
                rflags = result.rflags
                advance()
                return true
            case ZYDIS_MNEMONIC_CMPXCHG:
                let accumulator = state[.rax] & unit.mask
                flags = unit.subtract(accumulator, left, rflags: flags).rflags
                // The destination is written in either case (SDM vol. 2, CMPXCHG).
                guard try write(accumulator == left ? right : left, destination) else { return false }
                if accumulator != left {
                    let kept = size == 4 ? 0 : state[.rax] & ~unit.mask
                    state[.rax] = kept | left
                }
                rflags = flags
                advance()
                return true
            default: return false
            }
        }
        if isWritten, !(try write(result.value, destination)) { return false }
        rflags = result.rflags
        advance()
        return true
    }

    private static let arithmetic: Set<UInt32> = [
        ZYDIS_MNEMONIC_INC.rawValue, ZYDIS_MNEMONIC_DEC.rawValue, ZYDIS_MNEMONIC_NOT.rawValue,
        ZYDIS_MNEMONIC_NEG.rawValue, ZYDIS_MNEMONIC_ADD.rawValue, ZYDIS_MNEMONIC_ADC.rawValue,
        ZYDIS_MNEMONIC_SUB.rawValue, ZYDIS_MNEMONIC_SBB.rawValue, ZYDIS_MNEMONIC_AND.rawValue,
        ZYDIS_MNEMONIC_OR.rawValue, ZYDIS_MNEMONIC_XOR.rawValue, ZYDIS_MNEMONIC_CMP.rawValue,
        ZYDIS_MNEMONIC_TEST.rawValue, ZYDIS_MNEMONIC_SHL.rawValue, ZYDIS_MNEMONIC_SHR.rawValue,
        ZYDIS_MNEMONIC_SAR.rawValue, ZYDIS_MNEMONIC_ROL.rawValue, ZYDIS_MNEMONIC_ROR.rawValue,
        ZYDIS_MNEMONIC_XCHG.rawValue, ZYDIS_MNEMONIC_XADD.rawValue, ZYDIS_MNEMONIC_CMPXCHG.rawValue,
    ]

    private static let setConditions: [UInt32: Int] = [
        ZYDIS_MNEMONIC_SETO.rawValue: 0, ZYDIS_MNEMONIC_SETNO.rawValue: 1, ZYDIS_MNEMONIC_SETB.rawValue: 2,
        ZYDIS_MNEMONIC_SETNB.rawValue: 3, ZYDIS_MNEMONIC_SETZ.rawValue: 4, ZYDIS_MNEMONIC_SETNZ.rawValue: 5,
        ZYDIS_MNEMONIC_SETBE.rawValue: 6, ZYDIS_MNEMONIC_SETNBE.rawValue: 7, ZYDIS_MNEMONIC_SETS.rawValue: 8,
        ZYDIS_MNEMONIC_SETNS.rawValue: 9, ZYDIS_MNEMONIC_SETP.rawValue: 10, ZYDIS_MNEMONIC_SETNP.rawValue: 11,
        ZYDIS_MNEMONIC_SETL.rawValue: 12, ZYDIS_MNEMONIC_SETNL.rawValue: 13, ZYDIS_MNEMONIC_SETLE.rawValue: 14,
        ZYDIS_MNEMONIC_SETNLE.rawValue: 15,
    ]

    private static let moveConditions: [UInt32: Int] = [
        ZYDIS_MNEMONIC_CMOVO.rawValue: 0, ZYDIS_MNEMONIC_CMOVNO.rawValue: 1, ZYDIS_MNEMONIC_CMOVB.rawValue: 2,
        ZYDIS_MNEMONIC_CMOVNB.rawValue: 3, ZYDIS_MNEMONIC_CMOVZ.rawValue: 4, ZYDIS_MNEMONIC_CMOVNZ.rawValue: 5,
        ZYDIS_MNEMONIC_CMOVBE.rawValue: 6, ZYDIS_MNEMONIC_CMOVNBE.rawValue: 7, ZYDIS_MNEMONIC_CMOVS.rawValue: 8,
        ZYDIS_MNEMONIC_CMOVNS.rawValue: 9, ZYDIS_MNEMONIC_CMOVP.rawValue: 10, ZYDIS_MNEMONIC_CMOVNP.rawValue: 11,
        ZYDIS_MNEMONIC_CMOVL.rawValue: 12, ZYDIS_MNEMONIC_CMOVNL.rawValue: 13, ZYDIS_MNEMONIC_CMOVLE.rawValue: 14,
        ZYDIS_MNEMONIC_CMOVNLE.rawValue: 15,
    ]

    private static let bitChanges: [UInt32: Arithmetic.BitChange] = [
        ZYDIS_MNEMONIC_BT.rawValue: .test, ZYDIS_MNEMONIC_BTS.rawValue: .set,
        ZYDIS_MNEMONIC_BTR.rawValue: .reset, ZYDIS_MNEMONIC_BTC.rawValue: .complement,
    ]

    // MARK: - Stack and jumps

    private func stackMask() -> UInt64 {
        guest.is64Bit ? .max : state[.ss].attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF
    }

    private mutating func setStackPointer(_ value: UInt64) {
        let mask = stackMask()
        state[.rsp] = state[.rsp] & ~mask | value & mask
    }

    /// PUSH and POP of memory, near CALL and JMP through memory.
    private mutating func executeStack() throws(AssistError) -> Bool {
        let memory = operand(0)
        let size = byteCount(memory)
        guard memory.type == ZYDIS_OPERAND_TYPE_MEMORY, size == 2 || size == 4 || size == 8 else { return false }
        let mask = stackMask()
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_JMP:
            guard instruction.operands.count <= 2, let target = try read(memory) else { return false }
            state[.rip] = target
            return true
        case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_CALL:
            let top = (state[.rsp] &- UInt64(size)) & mask
            let address = try guest.linear(.ss, offset: top, byteCount: size)
            try guest.probeWrite(address, byteCount: size)
            guard let value = try read(memory) else { return false }
            advance()
            let isCall = instruction.mnemonic == ZYDIS_MNEMONIC_CALL
            try guest.store(isCall ? state[.rip] : value, address, byteCount: size)
            if isCall { state[.rip] = value }
            setStackPointer(top)
            return true
        default:
            let top = state[.rsp] & mask
            let address = try guest.linear(.ss, offset: top, byteCount: size)
            let value = try guest.load(address, byteCount: size)
            // POP [rSP+n] uses the stack pointer after the pop (SDM vol. 2, POP).
            setStackPointer(top &+ UInt64(size))
            guard try write(value, memory) else { return false }
            advance()
            return true
        }
    }

    // MARK: - String instructions

    private mutating func executeString() throws(AssistError) -> Bool {
        let size = instruction.operands[0].size == 0 ? instruction.operandBytes : byteCount(operand(0))
        guard size == 1 || size == 2 || size == 4 || size == 8 else { return false }
        let addressMask = lowMask(instruction.addressBytes)
        var count: UInt64 = 1
        if instruction.repeats != .none {
            count = state[.rcx] & addressMask
            if count == 0 {
                advance()
                return true
            }
        }
        let step: UInt64 = rflags & Flag.direction != 0 ? 0 &- UInt64(size) : UInt64(size)
        let segment =
            instruction.operands.lazy
            .filter { $0.type == ZYDIS_OPERAND_TYPE_MEMORY && RegisterPart($0.mem.base)?.register == .rsi }
            .compactMap { SegmentRegister($0.mem.segment) }.first ?? .ds
        let source = state[.rsi] & addressMask
        let target = state[.rdi] & addressMask
        let unit = Arithmetic(byteCount: size)
        var usesSource = false
        var usesTarget = false
        var compares = false
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSD, ZYDIS_MNEMONIC_MOVSQ:
            let to = try guest.linear(.es, offset: target, byteCount: size)
            let from = try guest.linear(segment, offset: source, byteCount: size)
            try guest.probeWrite(to, byteCount: size)
            try guest.store(try guest.load(from, byteCount: size), to, byteCount: size)
            (usesSource, usesTarget) = (true, true)
        case ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW, ZYDIS_MNEMONIC_STOSD, ZYDIS_MNEMONIC_STOSQ:
            let to = try guest.linear(.es, offset: target, byteCount: size)
            try guest.store(state[.rax] & unit.mask, to, byteCount: size)
            usesTarget = true
        case ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD, ZYDIS_MNEMONIC_LODSQ:
            let from = try guest.linear(segment, offset: source, byteCount: size)
            let value = try guest.load(from, byteCount: size)
            state[.rax] = (size == 4 ? 0 : state[.rax] & ~unit.mask) | value
            usesSource = true
        case ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSD, ZYDIS_MNEMONIC_CMPSQ:
            let left = try guest.load(try guest.linear(segment, offset: source, byteCount: size), byteCount: size)
            let right = try guest.load(try guest.linear(.es, offset: target, byteCount: size), byteCount: size)
            rflags = unit.subtract(left, right, rflags: rflags).rflags
            (usesSource, usesTarget, compares) = (true, true, true)
        default:
            let right = try guest.load(try guest.linear(.es, offset: target, byteCount: size), byteCount: size)
            rflags = unit.subtract(state[.rax] & unit.mask, right, rflags: rflags).rflags
            (usesTarget, compares) = (true, true)
        }
        if usesSource { setAddress(.rsi, source &+ step, addressMask) }
        if usesTarget { setAddress(.rdi, target &+ step, addressMask) }
        var isFinished = true
        if instruction.repeats != .none {
            count -= 1
            setAddress(.rcx, count, addressMask)
            let equal = rflags & Flag.zero != 0
            let stops = compares && (instruction.repeats == .whileNotEqual ? equal : !equal)
            isFinished = count == 0 || stops
        }
        if isFinished { advance() }
        return true
    }

    private mutating func setAddress(_ register: GPR, _ value: UInt64, _ mask: UInt64) {
        let kept = mask == 0xFFFF ? state[register] & ~mask : 0
        state[register] = kept | value & mask
    }
}
