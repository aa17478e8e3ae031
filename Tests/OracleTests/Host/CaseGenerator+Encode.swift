// The bytes of a case: prefixes, opcode, ModRM, SIB, displacement, immediates (SDM vol. 2, chapter 2).

import CHostOracle
import TestSupport

extension CaseGenerator {
    mutating func encode() {
        var legacy: [UInt8] = []
        var rex: UInt8 = 0
        let default32 = mode != .bits16
        let operand16 = size == 16
        let usesSize =
            form.sizes.contains { $0 == 16 || $0 == 32 || $0 == 64 } && size != 8 && size != 128
            && !(form.mnemonic == "CMPXCHG8B") && !form.isVector && form.vex?.isW == nil
            && !form.mnemonic.hasSuffix("CXZ")
        if usesSize {
            if operand16 == default32 || size == 32 && !default32 { legacy.append(0x66) }
            if size == 64 && !form.defaults64 { rex |= 0x48 }
            if size == 64 && form.defaults64 && chance(10) { rex |= 0x48 }
            // ARPL, VERR and so on have one size; a prefix changes nothing.
            if form.sizes == [16], oneSizeOnly { legacy.removeAll() }
        }
        if form.mnemonic == "JCXZ" { addressBits = 16 }
        if form.mnemonic == "JECXZ" { addressBits = 32 }
        if form.mnemonic == "JRCXZ" { addressBits = 64 }
        if form.kind == .compareExchange16 || form.isVector && size == 64 { rex |= 0x48 }
        if addressBits != mode.rawValue { legacy.append(0x67) }
        if form.takesLock, chance(4) { legacy.append(0xF0) }
        if let prefix = form.prefix { legacy.append(prefix) }

        var modrm: [UInt8] = []
        var opcode = form.opcode
        if opcode.count > 1, opcode[0] == 0x66 {
            legacy.append(0x66)
            opcode.removeFirst()
        }
        switch form.shape {
        case .none: break
        case .moffs: break
        case .opcodeRegister:
            let register = chooseRegister()
            opcode[opcode.count - 1] |= UInt8(register & 7)
            if register > 7 { rex |= 0x41 }
            operandRegister = register
            byteRegisterNeedsREX(register, &rex)
        case .modRM(let reg, let rm):
            let register: Int
            switch reg {
            case .digit(let digit): register = Int(digit)
            case .ignored: register = below(8)
            case .segment: register = chooseSegmentRegister()
            case .operand:
                register = chooseRegister()
                byteRegisterNeedsREX(register, &rex)
            }
            if case .operand = reg { operandRegister = register }
            if register > 7 { rex |= 0x44 }
            let useMemory = rm == .memory || rm == .either && chance(55)
            if useMemory, form.vex?.gathers != nil {
                modrm = gatherOperand(reg: register, &rex)
            } else if useMemory {
                modrm = memoryOperand(reg: register, &legacy, &rex)
            } else if case .fixed(let other) = rm {
                modrm = [0xC0 | UInt8(register & 7) << 3 | other]
            } else {
                let other = chooseRegister()
                rmRegister = other
                byteRegisterNeedsREX(other, &rex)
                if other > 7 { rex |= 0x41 }
                modrm = [0xC0 | UInt8(register & 7) << 3 | UInt8(other & 7)]
            }
        }
        var bytes = legacy
        if let vex = form.vex {
            // R, X, B inverted; W for 64 bits; vvvv inverted, or 1111 where there is no third operand.
            var third = vex.hasThird ? chooseRegister() : 0
            if let indexRegister {
                while third == operandRegister || third == indexRegister { third = chooseRegister() }
            }
            if mode != .bits64 { rex = 0 }
            bytes = legacy.filter { $0 != 0x66 && $0 != 0xF3 && $0 != 0xF2 }
            let inverted = (~rex & 7) << 5
            let w: UInt8 = vex.isW ?? (size == 64) ? 0x80 : 0
            let fields = UInt8(~third & 0xF) << 3 | (vex.isWide ? 4 : 0) | vex.pp
            // The short prefix has R alone, and the first map.
            let isShort = vex.map == 1 && w | rex & 3 == 0 && chance(50)
            bytes += isShort ? [0xC5, inverted & 0x80 | fields] : [0xC4, inverted | vex.map, w | fields]
            thirdRegister = third
        } else if rex != 0, mode == .bits64 {
            bytes.append(rex)
        }
        bytes += opcode
        bytes += modrm
        let operandEnd = bytes.count
        bytes += immediateBytes(soFar: bytes.count)
        if let linear = ripRelative {
            // Counted from the end of the instruction, whose RIP is linear in 64-bit mode.
            let end = Window.entry(slot: slot, cs: test.state.cs) + UInt64(bytes.count)
            bytes.replaceSubrange(operandEnd - 4..<operandEnd, with: Self.little(linear &- end, 4))
        }
        test.code = bytes
    }

    private var oneSizeOnly: Bool {
        ["VERR", "VERW", "ARPL", "MOV to Sreg"].contains(form.mnemonic)
    }

    // MARK: - Registers

    mutating func chooseRegister() -> Int { below(mode == .bits64 ? 16 : 8) }

    private mutating func chooseSegmentRegister() -> Int {
        // ES, SS, DS can be loaded without harm to the host's own process; reading may name CS too.
        form.mnemonic == "MOV to Sreg" ? pick([0, 2, 3]) : pick([0, 1, 2, 3])
    }

    /// SPL, BPL, SIL and DIL need a REX prefix; without one the same numbers are AH to BH. Both are wanted.
    private mutating func byteRegisterNeedsREX(_ register: Int, _ rex: inout UInt8) {
        if size == 8, mode == .bits64, (4...7).contains(register), chance(50) { rex |= 0x40 }
    }

    // MARK: - Memory operands

    /// Bytes that the instruction touches at its memory operand.
    var memoryBytes: Int {
        switch form.kind {
        case .compareExchange8: 8
        case .compareExchange16: 16
        case .vector(let bytes, _, _): size == 64 ? 8 : bytes
        case .x87(let operand, _): x87Bytes(operand)
        case .bound: size / 4
        case .farIndirect, .loadFarPointer: size / 8 + 2
        case .selectorCheck, .loadSegment: 2
        default:
            form.mnemonic.hasPrefix("MOV") && form.opcode.count == 2
                ? (form.opcode[1] & 1 == 0 ? 1 : 2) : max(size / 8, 1)
        }
    }

    /// ModRM, SIB and displacement of a memory operand whose address registers are then set to meet the target.
    private mutating func memoryOperand(reg: Int, _ legacy: inout [UInt8], _ rex: inout UInt8) -> [UInt8] {
        hasMemoryOperand = true
        let target = operandTarget()
        self.target = target
        if chance(8) {
            // In 64-bit mode these four are ignored; elsewhere they choose the segment.
            legacy.insert(pick(mode == .bits64 ? [0x26, 0x2E, 0x36, 0x3E] : [0x26, 0x36, 0x3E]), at: 0)
        }
        let linear = UInt64(target) &+ (isFlat ? Window.dataBase : 0)
        let regBits = UInt8(reg & 7) << 3
        return addressBits == 16
            ? address16(linear, regBits) : address32(linear, regBits, &rex)
    }

    /// A base in a general register, an index in a vector register.
    private mutating func gatherOperand(reg: Int, _ rex: inout UInt8) -> [UInt8] {
        hasMemoryOperand = true
        // Now and then some of the elements are not there.
        let target = chance(90) ? 0x400 + below(0x800) : pick([0x1F80, 0x2000, 0x2FC0])
        let linear = UInt64(target) &+ (isFlat ? Window.dataBase : 0)
        let mod = pick([0, 1, 2])
        let displacement = mod == 0 ? 0 : Int64(below(256) - 128)
        var base = chooseRegister()
        if base & 7 == 4 || base & 7 == 5 { base = base & 8 | 3 }
        test.state.gprs[base] = linear &- UInt64(bitPattern: displacement)
        addressRegisters = [base]
        // The three must differ: what is no instruction otherwise has a test of its own.
        var index = chooseRegister()
        while index == reg { index = chooseRegister() }
        indexRegister = index
        if base > 7 { rex |= 0x41 }
        if index > 7 { rex |= 0x42 }
        let bytes = [UInt8(mod << 6 | (reg & 7) << 3 | 4), UInt8(below(4) << 6 | (index & 7) << 3 | base & 7)]
        return bytes + Self.little(UInt64(bitPattern: displacement), [0, 1, 4][mod])
    }

    private mutating func operandTarget() -> Int {
        switch form.kind {
        case .bitString: 0x800 + below(0x1000)
        case .compareExchange16: chance(5) ? below(0x1FC0) : below(0x100) * 16 + 0x200
        case .vector(let bytes, let isAligned, _) where bytes >= 16:
            vectorTarget(bytes: bytes, isAligned: isAligned)
        // Which part of an operand of several is touched first is the processor's choice.
        case .x87(.environment, _), .x87(.extended, _), .x87(.decimal, _):
            0x400 + below(0xB00)
        case .load where form.mnemonic == "NOP": chooseTarget(bytes: 1)
        default: chooseTarget(bytes: memoryBytes)
        }
    }

    /// Which is told of an operand that is misaligned and not there, or beyond the limit, is the processor's choice.
    private mutating func vectorTarget(bytes: Int, isAligned: Bool) -> Int {
        let target = chooseTarget(bytes: bytes)
        if isAligned { return chance(85) ? target & ~(bytes - 1) : below(0x1FC0) }
        return chance(40) ? target & ~(bytes - 1) : target
    }

    private mutating func address16(_ linear: UInt64, _ regBits: UInt8) -> [UInt8] {
        addressRegisters = [3, 5, 6, 7]
        let displacement16 = UInt64(below(0x10000))
        let displacement8 = UInt64(bitPattern: Int64(below(256) - 128))
        let rm = below(8)
        let mod = pick([0, 1, 2])
        func set(_ register: Int, _ value: UInt64) {
            test.state.gprs[register] = test.state.gprs[register] & ~0xFFFF | value & 0xFFFF
        }
        if mod == 0 && rm == 6 {
            return [regBits | 6, UInt8(linear & 0xFF), UInt8(linear >> 8 & 0xFF)]
        }
        let displacement = mod == 0 ? 0 : mod == 1 ? displacement8 : displacement16
        switch rm {
        case 0, 1: set(3, linear &- displacement &- test.state.gprs[rm == 0 ? 6 : 7])
        case 2, 3: set(5, linear &- displacement &- test.state.gprs[rm == 2 ? 6 : 7])
        case 4: set(6, linear &- displacement)
        case 5: set(7, linear &- displacement)
        case 6: set(5, linear &- displacement)
        default: set(3, linear &- displacement)
        }
        let modrm = UInt8(mod << 6) | regBits | UInt8(rm)
        switch mod {
        case 1: return [modrm, UInt8(truncatingIfNeeded: displacement)]
        case 2: return [modrm, UInt8(displacement & 0xFF), UInt8(displacement >> 8 & 0xFF)]
        default: return [modrm]
        }
    }

    private mutating func address32(_ linear: UInt64, _ regBits: UInt8, _ rex: inout UInt8) -> [UInt8] {
        let mod = pick([0, 1, 2])
        var displacement =
            mod == 0 ? 0 : mod == 1 ? Int64(below(256) - 128) : Int64(Int32(truncatingIfNeeded: random.next()))
        var base = chooseRegister()
        let style = below(10)
        if style == 0 {
            // No base and no index; in 64-bit mode that needs a SIB byte, since ModRM alone means RIP-relative.
            let bytes = Self.little(linear, 4)
            return mode == .bits64 ? [regBits | 4, 0x25] + bytes : [regBits | 5] + bytes
        }
        if style == 1, mode == .bits64 {
            ripRelative = linear
            return [regBits | 5, 0, 0, 0, 0]
        }
        // RBP and R13 have no form without displacement.
        if mod == 0, base & 7 == 5 { base = base & 8 | 3 }
        if base == 4 && usesStackPointer { base = 3 }
        if forbiddenBases.contains(base) { base = 6 }
        var index = -1
        if style >= 6 || base & 7 == 4 {
            index = chooseRegister()
            if index == base { index = -1 }
            if index == 4 || forbiddenBases.contains(index) { index = -1 }
        }
        let scale = below(4)
        var offset: UInt64 = 0
        if index >= 0 { offset = test.state.gprs[index] << UInt64(scale) }
        var address = linear &- UInt64(bitPattern: displacement) &- offset
        if mode == .bits64, addressBits == 64, chance(1), base != 4 {
            address = 0x8000_0000_0000 &+ random.next() >> 20  // not canonical
            displacement = 0
        }
        if addressBits == 32 {
            let high = mode == .bits64 ? random.next() & 0xFFFF_FFFF_0000_0000 : 0
            address = address & 0xFFFF_FFFF | high
        }
        test.state.gprs[base] = address
        addressRegisters = index >= 0 ? [base, index] : [base]
        if base > 7 { rex |= 0x41 }
        var bytes: [UInt8]
        if index >= 0 || base & 7 == 4 {
            let indexBits = index < 0 ? 4 : index & 7
            let sib = scale << 6 | indexBits << 3 | base & 7
            if index > 7 { rex |= 0x42 }
            bytes = [UInt8(mod << 6) | regBits | 4, UInt8(sib)]
        } else {
            bytes = [UInt8(mod << 6) | regBits | UInt8(base & 7)]
        }
        if mod == 1 { bytes += Self.little(UInt64(bitPattern: displacement), 1) }
        if mod == 2 { bytes += Self.little(UInt64(bitPattern: displacement), 4) }
        return bytes
    }

    /// Registers that the case needs for other values than an address.
    private var forbiddenBases: Set<Int> {
        switch form.kind {
        case .divide: [0, 2]
        case .compareExchange: [0]
        case .compareExchange8, .compareExchange16: [0, 1, 2, 3]
        case .bitString: operandRegister.map { [$0] } ?? []
        default: []
        }
    }

    /// Whether RSP must stay where the stack is.
    private var usesStackPointer: Bool {
        switch form.kind {
        case .push, .pop, .callIndirect, .farIndirect: true
        default: false
        }
    }

    static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
        value.littleEndianBytes(count)
    }

    // MARK: - Immediates

    private mutating func immediateBytes(soFar: Int) -> [UInt8] {
        let z = size == 16 ? 2 : 4
        switch form.immediate {
        case .none:
            if case .moffs = form.shape {
                let offset = chooseTarget(bytes: memoryBytes)
                target = offset
                hasMemoryOperand = true
                return Self.little(UInt64(offset) + (isFlat ? Window.dataBase : 0), addressBits / 8)
            }
            return []
        case .byte:
            switch form.kind {
            case .adjustMultiply: return [chance(80) ? 10 : UInt8(below(256))]
            // 0x80 would be a system call of the host.
            case .software: return [pick([0, 1, 2, 3, 4, 5, 6, 13, 14, 0x20, 0x7F, 0x81, 0xFF])]
            default: return Self.little(value(bits: 8), 1)
            }
        case .signedByte: return Self.little(value(bits: 8), 1)
        case .z: return Self.little(value(bits: z * 8), z)
        case .v: return Self.little(value(bits: size), size / 8)
        case .word: return Self.little(UInt64(pick([0, 2, 4, 8, 16, 0x100])), 2)
        case .enter: return Self.little(UInt64(below(0x80)), 2) + [UInt8(pick([0, 0, 1, 2, 3, 5, 33]))]
        case .shiftCount: return [shiftCount()]
        case .bitOffset: return [UInt8(below(256))]
        case .rel8:
            let next = Window.slotEntry + soFar + 1
            return Self.little(UInt64(bitPattern: Int64(chooseLanding(codeEnd: next) - next)), 1)
        case .relZ:
            let bytes = size == 16 ? 2 : 4
            let next = Window.slotEntry + soFar + bytes
            let distance = chooseLanding(codeEnd: next) - next
            return Self.little(UInt64(bitPattern: Int64(distance)), bytes)
        case .farPointer:
            let (offset, selector) = farTarget(codeEnd: Window.slotEntry + soFar + z + 2)
            return Self.little(offset, z) + Self.little(UInt64(selector), 2)
        }
    }

    mutating func shiftCount() -> UInt8 {
        let width = max(size, 8)
        return UInt8(
            pick([
                0, 1, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, width - 1, width, width + 1, below(256), below(32),
            ]) & 0xFF)
    }

    /// A place in the case's own slot where only HLT stands.
    mutating func chooseLanding(codeEnd: Int) -> Int {
        chance(50) ? below(Window.slotEntry - 4) : codeEnd + below(Window.slotBytes - codeEnd)
    }

    /// An offset and selector for a far transfer, mostly to a HLT of this slot.
    mutating func farTarget(codeEnd: Int) -> (offset: UInt64, selector: UInt16) {
        let landing = UInt64(slot * Window.slotBytes + chooseLanding(codeEnd: codeEnd))
        if chance(20) {
            return (
                landing,
                pick([
                    0, 3, HOST_DATA.selector, 0x10, 0x0B, HOST_LDT_NOT_PRESENT.selector, 0xFFFB, 0x20,
                    HOST_LDT_CODE32.selector & ~3,
                ])
            )
        }
        let flat = landing + Window.codeBase
        switch below(mode == .bits64 ? 6 : 4) {
        case 0: return (size == 16 ? landing : flat, size == 16 ? HOST_LDT_CODE32.selector : HOST_CODE32.selector)
        case 1: return (landing, HOST_LDT_CODE16.selector)
        case 2: return (landing, HOST_LDT_CODE32.selector)
        case 3: return (landing, HOST_LDT_EXECUTE_ONLY.selector)
        default: return (flat, HOST_CODE64.selector)
        }
    }
}
