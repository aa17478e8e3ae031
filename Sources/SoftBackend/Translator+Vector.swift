// Moves and integer arithmetic of XMM registers as translated code: what every host of this kind has (SSE2), and what
// leaves MXCSR alone.

import NVMM

/// How the host's instruction is encoded that does the same.
struct VectorEncoding {
    /// 66, F2, F3 or none (0).
    var prefix: UInt8 = 0x66
    /// Behind 0F.
    var opcode: UInt8
    var takesImmediate = false

    /// Of operations that combine the first operand with the second, or with all of a memory operand, which is aligned.
    init?(combining operation: VectorOperation) {
        switch operation {
        case .pand: opcode = 0xDB
        case .pandn: opcode = 0xDF
        case .por: opcode = 0xEB
        case .pxor: opcode = 0xEF
        case .paddb: opcode = 0xFC
        case .paddw: opcode = 0xFD
        case .paddd: opcode = 0xFE
        case .paddq: opcode = 0xD4
        case .psubb: opcode = 0xF8
        case .psubw: opcode = 0xF9
        case .psubd: opcode = 0xFA
        case .psubq: opcode = 0xFB
        case .paddsb: opcode = 0xEC
        case .paddsw: opcode = 0xED
        case .paddusb: opcode = 0xDC
        case .paddusw: opcode = 0xDD
        case .psubsb: opcode = 0xE8
        case .psubsw: opcode = 0xE9
        case .psubusb: opcode = 0xD8
        case .psubusw: opcode = 0xD9
        case .pmullw: opcode = 0xD5
        case .pmulhw: opcode = 0xE5
        case .pmulhuw: opcode = 0xE4
        case .pmuludq: opcode = 0xF4
        case .pmaddwd: opcode = 0xF5
        case .pavgb: opcode = 0xE0
        case .pavgw: opcode = 0xE3
        case .psadbw: opcode = 0xF6
        case .pminub: opcode = 0xDA
        case .pminsw: opcode = 0xEA
        case .pmaxub: opcode = 0xDE
        case .pmaxsw: opcode = 0xEE
        case .pcmpeqb: opcode = 0x74
        case .pcmpeqw: opcode = 0x75
        case .pcmpeqd: opcode = 0x76
        case .pcmpgtb: opcode = 0x64
        case .pcmpgtw: opcode = 0x65
        case .pcmpgtd: opcode = 0x66
        case .packsswb: opcode = 0x63
        case .packssdw: opcode = 0x6B
        case .packuswb: opcode = 0x67
        case .punpcklbw: opcode = 0x60
        case .punpcklwd: opcode = 0x61
        case .punpckldq: opcode = 0x62
        case .punpcklqdq: opcode = 0x6C
        case .punpckhbw: opcode = 0x68
        case .punpckhwd: opcode = 0x69
        case .punpckhdq: opcode = 0x6A
        case .punpckhqdq: opcode = 0x6D
        case .pshufd, .pshufhw, .pshuflw:
            prefix = operation == .pshufd ? 0x66 : operation == .pshufhw ? 0xF3 : 0xF2
            opcode = 0x70
            takesImmediate = true
        case .shufps, .shufpd:
            prefix = operation == .shufps ? 0 : 0x66
            opcode = 0xC6
            takesImmediate = true
        default: return nil
        }
    }
}

/// Shifts of a register by an immediate: SDM vol. 2, table A-6, groups 12 to 14.
private struct VectorShiftEncoding {
    var opcode: UInt8
    var digit: UInt8

    init?(_ operation: VectorOperation) {
        switch operation {
        case .psrlw: (opcode, digit) = (0x71, 2)
        case .psraw: (opcode, digit) = (0x71, 4)
        case .psllw: (opcode, digit) = (0x71, 6)
        case .psrld: (opcode, digit) = (0x72, 2)
        case .psrad: (opcode, digit) = (0x72, 4)
        case .pslld: (opcode, digit) = (0x72, 6)
        case .psrlq: (opcode, digit) = (0x73, 2)
        case .psrldq: (opcode, digit) = (0x73, 3)
        case .psllq: (opcode, digit) = (0x73, 6)
        case .pslldq: (opcode, digit) = (0x73, 7)
        default: return nil
        }
    }
}

extension Translator {
    static func translatesVector(_ i: InstructionRecord) -> Bool {
        switch i.vector {
        case .movaps, .movups, .movss, .movsd, .movq, .movdToVector, .movdFromVector, .movlps, .movhps, .movlhps,
            .movhlps, .pmovmskb:
            true
        case .psllw, .pslld, .psllq, .psrlw, .psrld, .psrlq, .psraw, .psrad, .pslldq, .psrldq:
            i.form == .registerImmediate
        default: VectorEncoding(combining: i.vector) != nil
        }
    }

    mutating func vector(_ i: InstructionRecord) {
        if !vectorsAreChecked {
            // SDM vol. 3, tables 14-1 and 14-2: whether the control registers allow any.
            code.arithmetic(.cmp, TranslatedFrame.slot(.vectorsAreOn), constant: 0, width: 3)
            flagsAreInPlace = false
            leaveLater(code.jump(HostCondition.zero))
            vectorsAreChecked = true
        }
        if let encoding = VectorEncoding(combining: i.vector) {
            combine(i, encoding)
        } else if let encoding = VectorShiftEncoding(i.vector) {
            let rdx = loadVectors()
            move(0, from: whole(i.register0, rdx))
            code.byte(0x66)
            code.byte(0x0F)
            code.byte(encoding.opcode)
            code.byte(0xC0 | encoding.digit << 3)
            code.byte(UInt8(truncatingIfNeeded: i.immediate))
            move(whole(i.register0, rdx), from: 0)
        } else {
            moveVector(i)
        }
    }

    private mutating func combine(_ i: InstructionRecord, _ encoding: VectorEncoding) {
        if i.usesMemory {
            accessVector(i, isAligned: true, .read)
            move(1, from: Self.found)
        }
        let rdx = loadVectors()
        if !i.usesMemory { move(1, from: whole(i.register1, rdx)) }
        move(0, from: whole(i.register0, rdx))
        if encoding.prefix != 0 { code.byte(encoding.prefix) }
        code.byte(0x0F)
        code.byte(encoding.opcode)
        code.byte(0xC1)  // XMM0, XMM1
        if encoding.takesImmediate { code.byte(UInt8(truncatingIfNeeded: i.immediate)) }
        move(whole(i.register0, rdx), from: 0)
    }

    // MARK: - Moves

    private mutating func moveVector(_ i: InstructionRecord) {
        let isStore = i.form == .memoryRegister
        switch i.vector {
        case .movaps, .movups:
            if i.usesMemory { accessVector(i, isAligned: i.vector == .movaps, isStore ? .write : .read) }
            let rdx = loadVectors()
            move(0, from: isStore || !i.usesMemory ? whole(source(i), rdx) : Self.found)
            move(isStore ? Self.found : whole(i.register0, rdx), from: 0)
        case .movdToVector:
            if i.usesMemory {
                loadHalf(i, width: i.width1)
            } else {
                code.load(HostRegister.rcx, place(i.register1), width: i.width1)
            }
            setLow(i.register0)
        case .movdFromVector:
            if isStore {
                storeHalf(i, offset: 0, width: i.width)
            } else {
                let rdx = loadVectors()
                code.load(HostRegister.rcx, half(i.register1, rdx, 0), width: i.width)
                write(i.register0, from: HostRegister.rcx, width: i.width)
            }
        case .movq, .movsd, .movss: moveLow(i, isStore: isStore)
        case .movlps, .movhps:
            let offset: Int32 = i.vector == .movhps ? 8 : 0
            if isStore { return storeHalf(i, offset: offset, width: 3) }
            loadHalf(i, width: 3)
            let rdx = loadVectors()
            code.store(half(i.register0, rdx, offset), HostRegister.rcx)
        case .movlhps, .movhlps:
            let rdx = loadVectors()
            let isLow = i.vector == .movhlps
            code.load(HostRegister.rcx, half(i.register1, rdx, isLow ? 8 : 0))
            code.store(half(i.register0, rdx, isLow ? 0 : 8), HostRegister.rcx)
        default:  // PMOVMSKB
            let rdx = loadVectors()
            move(0, from: whole(i.register1, rdx))
            code.byte(0x66)
            code.byte(0x0F)
            code.byte(0xD7)
            code.byte(0xC8)  // ECX, XMM0
            write(i.register0, from: HostRegister.rcx, width: 2)
        }
    }

    /// MOVQ, MOVSD and MOVSS: loads clear what is above; between registers only MOVQ does.
    private mutating func moveLow(_ i: InstructionRecord, isStore: Bool) {
        let width: UInt8 = i.vector == .movss ? 2 : 3
        if isStore { return storeHalf(i, offset: 0, width: width) }
        if i.usesMemory {
            loadHalf(i, width: width)
            return setLow(i.register0)
        }
        let rdx = loadVectors()
        code.load(HostRegister.rcx, half(i.register1, rdx, 0), width: width)
        if i.vector == .movq { return setLow(i.register0) }
        code.store(half(i.register0, rdx, 0), HostRegister.rcx, width: width)
    }

    private func source(_ i: InstructionRecord) -> UInt8 { i.form == .memoryRegister ? i.register0 : i.register1 }

    /// Memory of 4 or 8 bytes into RCX.
    private mutating func loadHalf(_ i: InstructionRecord, width: UInt8) {
        access(i, bytes: 1 << UInt64(width), .read)
        code.load(HostRegister.rcx, Self.found, width: width)
    }

    private mutating func storeHalf(_ i: InstructionRecord, offset: Int32, width: UInt8) {
        access(i, bytes: 1 << UInt64(width), .write)
        let rdx = loadVectors()
        code.load(HostRegister.rcx, half(i.register0, rdx, offset), width: width)
        code.store(Self.found, HostRegister.rcx, width: width)
    }

    /// RCX into the low half, and zero into the other.
    private mutating func setLow(_ register: UInt8) {
        let rdx = loadVectors()
        code.store(half(register, rdx, 0), HostRegister.rcx)
        code.store(half(register, rdx, 8), constant: 0, width: 3)
    }

    // MARK: - Operands

    /// Puts the address of XMM0's place into RDX.
    private mutating func loadVectors() -> UInt8 {
        code.load(HostRegister.rdx, TranslatedFrame.slot(.vectors))
        return HostRegister.rdx
    }

    private func half(_ register: UInt8, _ base: UInt8, _ offset: Int32) -> HostOperand {
        .memory(base: base, displacement: Int32(register & 15) * 16 + offset)
    }
    private func whole(_ register: UInt8, _ base: UInt8) -> HostOperand { half(register, base, 0) }

    /// MOVUPS to the host's XMM0 or XMM1.
    private mutating func move(_ vector: UInt8, from operand: HostOperand) {
        code.emit(0x0F10, width: 2, register: vector, operand)
    }
    private mutating func move(_ operand: HostOperand, from vector: UInt8) {
        code.emit(0x0F11, width: 2, register: vector, operand)
    }

    /// As ``access(_:bytes:_:)``, of 16 bytes.
    private mutating func accessVector(_ i: InstructionRecord, isAligned: Bool, _ kind: AccessKind) {
        linear(i)
        if isAligned {
            code.test(.register(HostRegister.rax), constant: 15, width: 0)
            leaveLater(code.jump(HostCondition.notZero))
        }
        look(bytes: 16, kind)
    }
}
