// Instructions of AVX and AVX2: every encoding that Zydis' tables have of them.

import CZydis

extension InstructionTable {
    static let avx: [InstructionForm] = {
        var forms: [InstructionForm] = []
        for map in UInt8(1)...3 {
            for opcode in UInt8(0)...255 {
                for field in UInt8(0)..<16 {
                    forms +=
                        AVXEncoding(
                            map: map, opcode: opcode, pp: field & 3, isWide: field & 4 != 0, isW: field & 8 != 0
                        ).forms
                }
            }
        }
        return forms
    }()

    /// Those of SSE, by name, for what their numbers are.
    fileprivate static let floatBits: [String: Int] = {
        var bits: [String: Int] = [:]
        for form in vectors + extendedVectors {
            if case .vector(_, _, let floatBits) = form.kind { bits[form.mnemonic] = floatBits }
        }
        return bits
    }()
}

/// An opcode under one VEX prefix.
private struct AVXEncoding {
    var map: UInt8
    var opcode: UInt8
    var pp: UInt8
    var isWide: Bool
    var isW: Bool

    /// What the tables say of one ModRM.
    private struct Meaning {
        var mnemonic: String
        var isAVX2: Bool
        var hasThird: Bool
        var hasModRM: Bool
        var hasImmediate: Bool
        var memoryBytes: Int?
        /// Bits of a general register; nil where there is none.
        var generalBits: Int?
    }

    private func meaning(_ modRM: [UInt8], third: Bool) -> Meaning? {
        let fields: UInt8 = (isW ? 0x80 : 0) | (third ? 0x50 : 0x78) | (isWide ? 4 : 0) | pp
        let code: [UInt8] = [0xC4, 0xE0 | map, fields, opcode] + modRM + [0, 0, 0, 0, 0]
        var decoder = ZydisDecoder()
        unsafe ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
        var instruction = unsafe ZydisDecodedInstruction()
        var operands = [ZydisDecodedOperand](repeating: ZydisDecodedOperand(), count: 10)
        // SAFETY: ten operands are what Zydis asks for at most.
        let status = unsafe code.withUnsafeBytes { bytes in
            unsafe operands.withUnsafeMutableBufferPointer { storage in
                unsafe ZydisDecoderDecodeFull(
                    &decoder, bytes.baseAddress, ZyanUSize(bytes.count), &instruction, storage.baseAddress)
            }
        }
        guard status & 0x8000_0000 == 0 else { return nil }
        let set = unsafe instruction.meta.isa_set
        let sets = [ZYDIS_ISA_SET_AVX, ZYDIS_ISA_SET_AVXAES, ZYDIS_ISA_SET_AVX2, ZYDIS_ISA_SET_AVX2GATHER]
        guard sets.contains(set), let text = unsafe ZydisMnemonicGetString(instruction.mnemonic) else { return nil }
        let name = unsafe String(cString: text).uppercased()
        // The host may have a bit of MXCSR that no model offers; of what W says to VPCMPESTRI the manual is silent.
        if ["VLDMXCSR", "VSTMXCSR"].contains(name) || isW && name.hasPrefix("VPCMPESTR") { return nil }
        let visible = operands.prefix(unsafe Int(instruction.operand_count_visible))
        let registers = visible.filter { $0.type == ZYDIS_OPERAND_TYPE_REGISTER }.map(\.reg.value)
        func isGeneral(_ kind: ZydisRegisterClass) -> Bool { registers.contains { ZydisRegisterGetClass($0) == kind } }
        return Meaning(
            mnemonic: name,
            isAVX2: set == ZYDIS_ISA_SET_AVX2 || set == ZYDIS_ISA_SET_AVX2GATHER, hasThird: third,
            hasModRM: unsafe instruction.raw.modrm.offset != 0,
            hasImmediate: visible.contains {
                $0.type == ZYDIS_OPERAND_TYPE_IMMEDIATE || $0.encoding == ZYDIS_OPERAND_ENCODING_IS4
            },
            memoryBytes: visible.first { $0.type == ZYDIS_OPERAND_TYPE_MEMORY }.map { Int($0.size / 8) },
            generalBits: isGeneral(ZYDIS_REGCLASS_GPR64) ? 64 : isGeneral(ZYDIS_REGCLASS_GPR32) ? 32 : nil)
    }

    /// With a third operand where there may be one.
    private func meaning(_ modRM: [UInt8]) -> Meaning? { meaning(modRM, third: true) ?? meaning(modRM, third: false) }

    var forms: [InstructionForm] {
        let inRegister = (UInt8(0)..<8).map { meaning([0xC1 | $0 << 3]) }
        // RBX and no index, or RBX and XMM1.
        let inMemory = (UInt8(0)..<8).map { meaning([0x03 | $0 << 3]) ?? meaning([0x04 | $0 << 3, 0x0B]) }
        if let first = inRegister.compactMap(\.self).first, !first.hasModRM { return [form(first, nil, shape: .none)] }
        func name(_ meaning: Meaning?) -> String? { meaning?.mnemonic }
        // A gather's registers must differ, so that one of its eight may be no instruction.
        func isWhole(_ all: [Meaning?]) -> Bool {
            all.count { $0 != nil } >= 7 && Set(all.compactMap { name($0) }).count == 1
        }
        let digits = 0..<8
        var forms: [InstructionForm] = []
        for (meanings, rm) in [(inRegister, InstructionForm.RM.register), (inMemory, .memory)] {
            if isWhole(meanings), let first = meanings.compactMap(\.self).first {
                forms.append(form(first, inRegister.compactMap(\.self).first, shape: .modRM(.operand, rm)))
            } else {
                for digit in digits {
                    guard let one = meanings[digit] else { continue }
                    forms.append(form(one, inRegister[digit], shape: .modRM(.digit(UInt8(digit)), rm)))
                }
            }
        }
        return forms
    }

    /// - Parameter register: the same with a register, which tells the operand size.
    private func form(_ meaning: Meaning, _ register: Meaning?, shape: InstructionForm.Shape) -> InstructionForm {
        let name = meaning.mnemonic
        let general = register?.mnemonic == name ? register?.generalBits : meaning.generalBits
        let aligned: Set<String> = ["VMOVAPS", "VMOVAPD", "VMOVDQA", "VMOVNTPS", "VMOVNTPD", "VMOVNTDQ", "VMOVNTDQA"]
        var form = InstructionForm(
            mnemonic: name, opcode: [opcode], sizes: [general ?? (isWide ? 256 : 128)],
            modes: general == 64 ? [.bits64] : [.bits32, .bits64], shape: shape,
            immediate: meaning.hasImmediate ? .byte : .none,
            kind: .vector(
                memoryBytes: meaning.memoryBytes ?? 0, isAligned: aligned.contains(name),
                floatBits: InstructionTable.floatBits[String(name.dropFirst())] ?? 0),
            vex: VEX(
                map: map, pp: pp, isW: isW, isWide: isWide, hasThird: meaning.hasThird, gathers: Self.gather(name)),
            feature: meaning.isAVX2 ? .avx2 : .avx)
        if name.hasPrefix("VRCP") || name.hasPrefix("VRSQRT") { form.undefined = .approximation }
        return form
    }

    /// VGATHERDPS: indices of four bytes, single numbers.
    private static func gather(_ name: String) -> VEX.Gather? {
        for prefix in ["VGATHER", "VPGATHER"] where name.hasPrefix(prefix) {
            let rest = name.dropFirst(prefix.count)
            let isDouble = rest.hasSuffix("PD") || prefix == "VPGATHER" && rest.hasSuffix("Q")
            return VEX.Gather(element: isDouble ? 3 : 2, index: rest.hasPrefix("Q") ? 3 : 2)
        }
        return nil
    }
}
