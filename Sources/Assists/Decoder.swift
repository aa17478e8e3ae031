// Decoding one guest instruction with Zydis: the door to the C library.

import CZydis
import NVMM

/// What the assist needs to know of a decoded instruction.
struct DecodedInstruction {
    let mnemonic: ZydisMnemonic
    let length: UInt64
    /// Bytes of the operand size: 1, 2, 4 or 8.
    let operandBytes: Int
    /// Bytes of an address: 2, 4 or 8.
    let addressBytes: Int
    let repeats: Repeat
    /// Explicit operands first, as in the manuals; then the implicit ones.
    let operands: [ZydisDecodedOperand]

    enum Repeat { case none, whileCount, whileEqual, whileNotEqual }

    var name: String {
        guard let text = unsafe ZydisMnemonicGetString(mnemonic) else { return "?" }
        return unsafe String(cString: text)
    }

    /// - Returns: nil where the bytes are no instruction.
    init?(_ bytes: [UInt8], is64Bit: Bool, isBig: Bool) {
        let mode =
            is64Bit ? ZYDIS_MACHINE_MODE_LONG_64 : isBig ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16
        let stack = is64Bit ? ZYDIS_STACK_WIDTH_64 : isBig ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16
        var decoder = ZydisDecoder()
        var instruction = unsafe ZydisDecodedInstruction()
        var operands = [ZydisDecodedOperand](
            repeating: ZydisDecodedOperand(), count: Int(ZYDIS_MAX_OPERAND_COUNT))
        // SAFETY: Zydis reads at most bytes.count bytes and writes at most ZYDIS_MAX_OPERAND_COUNT operands.
        guard unsafe ZydisDecoderInit(&decoder, mode, stack) & 0x8000_0000 == 0,
            unsafe ZydisDecoderDecodeFull(&decoder, bytes, bytes.count, &instruction, &operands) & 0x8000_0000 == 0
        else { return nil }
        mnemonic = unsafe instruction.mnemonic
        length = UInt64(unsafe instruction.length)
        operandBytes = Int(unsafe instruction.operand_width) / 8
        addressBytes = Int(unsafe instruction.address_width) / 8
        let attributes = unsafe instruction.attributes
        repeats =
            attributes & Self.hasREP != 0
            ? .whileCount
            : attributes & Self.hasREPE != 0 ? .whileEqual : attributes & Self.hasREPNE != 0 ? .whileNotEqual : .none
        self.operands = Array(operands.prefix(Int(unsafe instruction.operand_count)))
    }

    // ZYDIS_ATTRIB_HAS_REP, _REPE and _REPNE: macros with casts, which Swift does not import.
    // Held by the REP cases of MemoryAssistTests.
    static let hasREP: UInt64 = 1 << 28
    static let hasREPE: UInt64 = 1 << 29
    static let hasREPNE: UInt64 = 1 << 30
}

/// A general register or a part of one.
struct RegisterPart {
    let register: GPR
    let byteCount: Int
    /// AH, CH, DH or BH.
    var isHighByte = false

    init?(_ register: ZydisRegister) {
        let value = register.rawValue
        func part(_ first: ZydisRegister, _ byteCount: Int) -> RegisterPart? {
            guard value >= first.rawValue, value < first.rawValue + 16 else { return nil }
            return GPR(rawValue: Int(value - first.rawValue)).map { RegisterPart(register: $0, byteCount: byteCount) }
        }
        if let part = part(ZYDIS_REGISTER_RAX, 8) ?? part(ZYDIS_REGISTER_EAX, 4) ?? part(ZYDIS_REGISTER_AX, 2) {
            self = part
            return
        }
        guard value >= ZYDIS_REGISTER_AL.rawValue, value <= ZYDIS_REGISTER_R15B.rawValue else { return nil }
        // Zydis counts AL CL DL BL, AH CH DH BH, SPL BPL SIL DIL, R8B...
        let index = Int(value - ZYDIS_REGISTER_AL.rawValue)
        let isHigh = (4..<8).contains(index)
        guard let register = GPR(rawValue: index < 4 ? index : index - 4) else { return nil }
        self.init(register: register, byteCount: 1, isHighByte: isHigh)
    }

    private init(register: GPR, byteCount: Int, isHighByte: Bool = false) {
        self.register = register
        self.byteCount = byteCount
        self.isHighByte = isHighByte
    }

    func read(_ state: borrowing VCPUState) -> UInt64 {
        (state[register] >> (isHighByte ? 8 : 0)) & lowMask(byteCount)
    }

    /// A 32-bit write clears the upper half, shorter ones keep it (SDM vol. 1, section 3.4.1.1).
    func write(_ value: UInt64, to state: inout VCPUState) {
        let shift: UInt64 = isHighByte ? 8 : 0
        let mask = lowMask(byteCount) << shift
        let kept = byteCount == 4 ? 0 : state[register] & ~mask
        state[register] = kept | value << shift & mask
    }
}

extension SegmentRegister {
    init?(_ register: ZydisRegister) {
        switch register {
        case ZYDIS_REGISTER_ES: self = .es
        case ZYDIS_REGISTER_CS: self = .cs
        case ZYDIS_REGISTER_SS: self = .ss
        case ZYDIS_REGISTER_DS: self = .ds
        case ZYDIS_REGISTER_FS: self = .fs
        case ZYDIS_REGISTER_GS: self = .gs
        default: return nil
        }
    }
}
