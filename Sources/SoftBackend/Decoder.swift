// From machine code to DecodedInstruction: Zydis decodes, this file chooses the operation and its operands.

import CZydis
import NVMM

/// Decodes for one code width. Values of the three kinds are made once and kept by the machine.
struct Decoder {
    private var zydis = ZydisDecoder()
    /// log2 of the default operand bytes, as ``CPU/codeWidth``.
    let codeWidth: UInt8
    let extensions: InstructionExtensions

    init(codeWidth: UInt8, extensions: InstructionExtensions) {
        self.codeWidth = codeWidth
        self.extensions = extensions
        switch codeWidth {
        case 3: unsafe ZydisDecoderInit(&zydis, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
        case 2: unsafe ZydisDecoderInit(&zydis, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)
        // Not REAL_16 in real mode: it takes SYSENTER for invalid, which is #GP there. Handlers check the mode.
        default: unsafe ZydisDecoderInit(&zydis, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16)
        }
        // Extensions that reuse older encodings: without them the processor executes the older instruction
        // (LZCNT is BSR, ENDBR64 a NOP).
        var older = [
            ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_CLDEMOTE,
        ]
        if !extensions.contains(.lzcnt) { older.append(ZYDIS_DECODER_MODE_LZCNT) }
        if !extensions.contains(.bmi1) { older.append(ZYDIS_DECODER_MODE_TZCNT) }
        for mode in older { unsafe ZydisDecoderEnableMode(&zydis, mode, 0) }
    }

    /// What came of a decoding.
    enum Outcome {
        case decoded
        /// More bytes are needed than were given.
        case truncated
        /// Longer than 15 bytes: #GP(0).
        case tooLong
        /// No instruction: #UD.
        case invalid
    }

    /// What is needed of Zydis' description, without the pointers that make its struct unsafe.
    struct Encoding {
        var mnemonic: ZydisMnemonic
        var opcodeMap: ZydisOpcodeMap
        var opcode: UInt8
        var modRM: UInt8
        var hasREXW: Bool
        var isLegacy: Bool
        var isVEX: Bool
        var isaSet: ZydisISASet
        var isFarBranch: Bool
        var length: UInt16
        /// log2 of the bytes of operands and addresses.
        var operandWidth: UInt8
        var addressWidth: UInt8
        var attributes: UInt64
        var visibleOperands: UInt8
        /// Whether the first operand is an XMM register, and whether any is an MMX register.
        var firstIsXMM = false
        var usesMMX = false

        init(_ instruction: ZydisDecodedInstruction) {
            mnemonic = unsafe instruction.mnemonic
            opcodeMap = unsafe instruction.opcode_map
            opcode = unsafe instruction.opcode
            isVEX = unsafe instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX
            // A prefix of VEX has REX's bits inside, which 64-bit mode alone knows.
            let is64Bit = unsafe instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_64
            hasREXW = unsafe (isVEX ? instruction.raw.vex.W : instruction.raw.rex.W) != 0 && is64Bit
            modRM = unsafe instruction.raw.modrm.mod << 6 | instruction.raw.modrm.reg << 3 | instruction.raw.modrm.rm
            isLegacy = unsafe instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY
            isaSet = unsafe instruction.meta.isa_set
            isFarBranch = unsafe instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR
            length = unsafe UInt16(instruction.length)
            operandWidth = unsafe Decoder.log2(UInt8(truncatingIfNeeded: instruction.operand_width / 8))
            addressWidth = unsafe Decoder.log2(UInt8(truncatingIfNeeded: instruction.address_width / 8))
            attributes = unsafe instruction.attributes
            visibleOperands = unsafe instruction.operand_count_visible
        }
    }

    struct Decoding: ~Copyable {
        var outcome: Outcome
        var instruction: InstructionRecord
    }

    /// Decodes one instruction.
    ///
    /// - Parameters:
    ///   - bytes: code, 1 to 15 bytes.
    ///   - offset: of the instruction from the start of its block, bytes.
    /// - Returns: the outcome, and the instruction, which is ``Operation/invalid`` unless decoded.
    func decode(_ bytes: UnsafeRawBufferPointer, offset: UInt16) -> Decoding {
        var instruction = unsafe ZydisDecodedInstruction()
        var operands = InlineArray<10, ZydisDecodedOperand>(repeating: ZydisDecodedOperand())
        let status = unsafe withUnsafePointer(to: zydis) { decoder in
            unsafe withUnsafeMutablePointer(to: &operands) { storage in
                unsafe storage.withMemoryRebound(to: ZydisDecodedOperand.self, capacity: 10) { operands in
                    unsafe ZydisDecoderDecodeFull(
                        decoder, UnsafeRawPointer(bytes.baseAddress), ZyanUSize(bytes.count), &instruction, operands)
                }
            }
        }
        guard status & 0x8000_0000 == 0 else {
            var undecodable = InstructionRecord(.invalid)
            undecodable.offset = offset
            undecodable.nextOffset = offset &+ 1
            undecodable.flags = [.endsBlock]
            return Decoding(outcome: Self.outcome(status), instruction: undecodable)
        }
        var encoding = unsafe Encoding(instruction)
        for index in 0..<Int(encoding.visibleOperands) where operands[index].type == ZYDIS_OPERAND_TYPE_REGISTER {
            let register = operands[index].reg.value.rawValue
            if index == 0, Self.xmmRegisters.contains(register) { encoding.firstIsXMM = true }
            if Self.mmxRegisters.contains(register) { encoding.usesMMX = true }
        }
        return Decoding(outcome: .decoded, instruction: translate(encoding, operands, offset: offset))
    }

    private static let xmmRegisters = ZYDIS_REGISTER_XMM0.rawValue...ZYDIS_REGISTER_XMM15.rawValue
    private static let ymmRegisters = ZYDIS_REGISTER_YMM0.rawValue...ZYDIS_REGISTER_YMM15.rawValue
    private static let mmxRegisters = ZYDIS_REGISTER_MM0.rawValue...ZYDIS_REGISTER_MM7.rawValue

    private static func outcome(_ status: ZyanStatus) -> Outcome {
        switch status {
        case CZydisStatusNoMoreData: .truncated
        case CZydisStatusInstructionTooLong: .tooLong
        default: .invalid
        }
    }

    // MARK: - Operands

    private func translate(
        _ instruction: Encoding, _ operands: borrowing InlineArray<10, ZydisDecodedOperand>, offset: UInt16
    ) -> InstructionRecord {
        var result = InstructionRecord(.invalid)
        result.offset = offset
        result.nextOffset = offset &+ instruction.length
        result.mnemonic = UInt16(truncatingIfNeeded: instruction.mnemonic.rawValue)
        result.condition = instruction.opcode & 0xF
        result.addressWidth = instruction.addressWidth
        result.addressMask =
            switch instruction.addressWidth {
            case 1: 0xFFFF
            case 2: 0xFFFF_FFFF
            default: .max
            }
        result.width = instruction.operandWidth
        let attributes = instruction.attributes
        if attributes & CZydisAttributeRep != 0 { result.flags.insert(.rep) }
        if attributes & CZydisAttributeRepne != 0 { result.flags.insert(.repne) }
        if attributes & CZydisAttributeLock != 0 { result.flags.insert(.lock) }
        if attributes & CZydisAttributeRex != 0 { result.flags.insert(.rex) }
        if attributes & CZydisAttributeSegment != 0 { result.flags.insert(.segmentOverride) }

        var first: OperandForm?
        var second: OperandForm?
        func note(_ kind: OperandForm, at index: Int) {
            if index == 0 { first = kind } else if index == 1 { second = kind }
        }
        var registers = 0
        var immediates = 0
        for index in 0..<Int(instruction.visibleOperands) {
            let operand = operands[index]
            switch operand.type {
            case ZYDIS_OPERAND_TYPE_REGISTER:
                note(.register, at: index)
                let number = Self.number(of: operand.reg.value)
                if registers == 0 { result.register0 = number }
                if registers == 1 { result.register1 = number }
                if registers == 2 { result.register2 = number }
                if registers == 3 { result.immediate1 = UInt16(number) }
                if Self.ymmRegisters.contains(operand.reg.value.rawValue) { result.flags.insert(.wide) }
                registers += 1
            case ZYDIS_OPERAND_TYPE_MEMORY:
                note(.memory, at: index)
                setMemory(operand, &result)
                if instruction.isVEX { setVectorMemory(operand, &result) }
            case ZYDIS_OPERAND_TYPE_IMMEDIATE:
                note(.immediate, at: index)
                let value = unsafe operand.imm.value.u
                if immediates == 0 {
                    result.immediate = value
                } else {
                    result.immediate1 = UInt16(truncatingIfNeeded: value)
                }
                immediates += 1
            case ZYDIS_OPERAND_TYPE_POINTER:
                note(.other, at: index)
                result.immediate = UInt64(operand.ptr.offset)
                result.immediate1 = operand.ptr.segment
            default: break
            }
            let bytes = UInt8(truncatingIfNeeded: operand.size / 8)
            if index == 0, operand.type != ZYDIS_OPERAND_TYPE_POINTER, Self.hasPowerOfTwoWidth(operand.size) {
                result.width = Self.log2(bytes)
            }
            if index == 1, Self.hasPowerOfTwoWidth(operand.size) { result.width1 = Self.log2(bytes) }
        }
        let hidesMemory =
            first == nil || instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU
            || instruction.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU || instruction.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ
        if hidesMemory { setHiddenSegment(operands, &result) }
        switch (first, second) {
        case (nil, _): result.form = .none
        case (.register, nil): result.form = .register
        case (.memory, nil): result.form = .memory
        case (.immediate, nil): result.form = .immediate
        case (.register, .register): result.form = .registerRegister
        case (.register, .memory): result.form = .registerMemory
        case (.memory, .register): result.form = .memoryRegister
        case (.register, .immediate): result.form = .registerImmediate
        case (.memory, .immediate): result.form = .memoryImmediate
        default: result.form = .other
        }
        if instruction.hasREXW { result.flags.insert(.rexW) }
        selectOperation(instruction, &result, operandWidth: instruction.operandWidth)
        specialise(&result)
        return result
    }

    private static func hasPowerOfTwoWidth(_ bits: UInt16) -> Bool {
        bits == 8 || bits == 16 || bits == 32 || bits == 64
    }

    static func log2(_ bytes: UInt8) -> UInt8 { UInt8(truncatingIfNeeded: bytes.trailingZeroBitCount & 3) }

    /// String instructions and XLAT show no operands. Of their memory operands only one can have a segment other than
    /// ES.
    private func setHiddenSegment(
        _ operands: borrowing InlineArray<10, ZydisDecodedOperand>, _ result: inout InstructionRecord
    ) {
        for index in 0..<10 where operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY {
            result.segment = Self.number(ofSegment: operands[index].mem.segment)
            if result.segment != 0 { return }
        }
    }

    private func setMemory(_ operand: ZydisDecodedOperand, _ result: inout InstructionRecord) {
        let memory = operand.mem
        result.flags.insert(.memory)
        result.segment = Self.number(ofSegment: memory.segment)
        if memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP {
            result.base = RegisterNumber.blockRIP
            result.displacement = UInt64(result.nextOffset)
        } else {
            result.base = Self.number(of: memory.base)
        }
        result.index = Self.number(of: memory.index)
        result.scale = memory.scale > 1 ? UInt8(memory.scale.trailingZeroBitCount) : 0
        result.displacement &+= UInt64(bitPattern: memory.disp.value)
    }

    private func setVectorMemory(_ operand: ZydisDecodedOperand, _ result: inout InstructionRecord) {
        result.memoryBytes = UInt8(truncatingIfNeeded: operand.size / 8)
        if operand.size == 256 || Self.ymmRegisters.contains(operand.mem.index.rawValue) { result.flags.insert(.wide) }
    }

    /// The segment register's number in NVMM's order.
    private static func number(ofSegment register: ZydisRegister) -> UInt8 {
        switch register {
        case ZYDIS_REGISTER_ES: 0
        case ZYDIS_REGISTER_CS: 1
        case ZYDIS_REGISTER_SS: 2
        case ZYDIS_REGISTER_FS: 4
        case ZYDIS_REGISTER_GS: 5
        default: 3
        }
    }

    /// The register's number as ``RegisterNumber`` describes it; segment, control and debug registers by their
    /// encoding.
    private static func number(of register: ZydisRegister) -> UInt8 {
        let value = register.rawValue
        func distance(from first: ZydisRegister) -> UInt8 { UInt8(truncatingIfNeeded: value &- first.rawValue) }
        switch value {
        case ZYDIS_REGISTER_AL.rawValue...ZYDIS_REGISTER_BL.rawValue: return distance(from: ZYDIS_REGISTER_AL)
        case ZYDIS_REGISTER_AH.rawValue...ZYDIS_REGISTER_BH.rawValue:
            return RegisterNumber.highByte | distance(from: ZYDIS_REGISTER_AH)
        case ZYDIS_REGISTER_SPL.rawValue...ZYDIS_REGISTER_R15B.rawValue: return 4 + distance(from: ZYDIS_REGISTER_SPL)
        case ZYDIS_REGISTER_AX.rawValue...ZYDIS_REGISTER_R15W.rawValue: return distance(from: ZYDIS_REGISTER_AX)
        case ZYDIS_REGISTER_EAX.rawValue...ZYDIS_REGISTER_R15D.rawValue: return distance(from: ZYDIS_REGISTER_EAX)
        case ZYDIS_REGISTER_RAX.rawValue...ZYDIS_REGISTER_R15.rawValue: return distance(from: ZYDIS_REGISTER_RAX)
        case xmmRegisters: return distance(from: ZYDIS_REGISTER_XMM0)
        case ymmRegisters: return distance(from: ZYDIS_REGISTER_YMM0)
        case mmxRegisters: return distance(from: ZYDIS_REGISTER_MM0)
        case ZYDIS_REGISTER_ES.rawValue...ZYDIS_REGISTER_GS.rawValue: return distance(from: ZYDIS_REGISTER_ES)
        case ZYDIS_REGISTER_CR0.rawValue...ZYDIS_REGISTER_CR15.rawValue: return distance(from: ZYDIS_REGISTER_CR0)
        case ZYDIS_REGISTER_DR0.rawValue...ZYDIS_REGISTER_DR15.rawValue: return distance(from: ZYDIS_REGISTER_DR0)
        default: return RegisterNumber.none
        }
    }
}
