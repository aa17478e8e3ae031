// Instructions on XMM registers, by encoding: SDM vol. 2, under each mnemonic.

extension InstructionTable {
    static let vectorEither = InstructionForm.Shape.modRM(.operand, .either)
    static let vectorMemory = InstructionForm.Shape.modRM(.operand, .memory)
    static let vectorRegister = InstructionForm.Shape.modRM(.operand, .register)

    /// - Parameters:
    ///   - prefix: the mandatory one, 66, F2 or F3.
    ///   - bytes: that the memory operand has.
    ///   - floatBits: of the numbers, 0 for integers.
    static func form(
        _ name: String, _ prefix: UInt8?, _ opcode: UInt8, _ shape: InstructionForm.Shape = vectorEither,
        bytes: Int = 16, isAligned: Bool = true, sizes: [Int] = [128], immediate: InstructionForm.Immediate = .none,
        floatBits: Int = 0, feature: CPUFeature = .sse2
    ) -> InstructionForm {
        InstructionForm(
            mnemonic: name, opcode: (prefix == 0x66 ? [0x66] : []) + [0x0F, opcode],
            prefix: prefix == 0x66 ? nil : prefix, sizes: sizes, shape: shape, immediate: immediate,
            kind: .vector(memoryBytes: bytes, isAligned: isAligned, floatBits: floatBits), feature: feature)
    }

    static let vectors: [InstructionForm] =
        vectorMoves + vectorIntegers + vectorShuffles + vectorShifts + vectorFloats + approximations + conversions
        + fences

    private static let vectorMoves: [InstructionForm] = [
        form("MOVAPS", nil, 0x28, feature: .sse), form("MOVAPS", nil, 0x29, feature: .sse),
        form("MOVAPD", 0x66, 0x28), form("MOVAPD", 0x66, 0x29),
        form("MOVDQA", 0x66, 0x6F), form("MOVDQA", 0x66, 0x7F),
        form("MOVNTPS", nil, 0x2B, vectorMemory, feature: .sse), form("MOVNTPD", 0x66, 0x2B, vectorMemory),
        form("MOVNTDQ", 0x66, 0xE7, vectorMemory),
        form("MOVUPS", nil, 0x10, isAligned: false, feature: .sse),
        form("MOVUPS", nil, 0x11, isAligned: false, feature: .sse),
        form("MOVUPD", 0x66, 0x10, isAligned: false), form("MOVUPD", 0x66, 0x11, isAligned: false),
        form("MOVDQU", 0xF3, 0x6F, isAligned: false), form("MOVDQU", 0xF3, 0x7F, isAligned: false),
        form("MOVSS", 0xF3, 0x10, bytes: 4, feature: .sse), form("MOVSS", 0xF3, 0x11, bytes: 4, feature: .sse),
        form("MOVSD", 0xF2, 0x10, bytes: 8), form("MOVSD", 0xF2, 0x11, bytes: 8),
        form("MOVQ", 0xF3, 0x7E, bytes: 8), form("MOVQ", 0x66, 0xD6, bytes: 8),
        form("MOVD", 0x66, 0x6E, bytes: 4, sizes: [32, 64]), form("MOVD", 0x66, 0x7E, bytes: 4, sizes: [32, 64]),
        form("MOVNTI", nil, 0xC3, vectorMemory, bytes: 4, sizes: [32, 64]),
        form("MOVLPS", nil, 0x12, vectorMemory, bytes: 8, feature: .sse),
        form("MOVLPS", nil, 0x13, vectorMemory, bytes: 8, feature: .sse),
        form("MOVLPD", 0x66, 0x12, vectorMemory, bytes: 8), form("MOVLPD", 0x66, 0x13, vectorMemory, bytes: 8),
        form("MOVHPS", nil, 0x16, vectorMemory, bytes: 8, feature: .sse),
        form("MOVHPS", nil, 0x17, vectorMemory, bytes: 8, feature: .sse),
        form("MOVHPD", 0x66, 0x16, vectorMemory, bytes: 8), form("MOVHPD", 0x66, 0x17, vectorMemory, bytes: 8),
        form("MOVHLPS", nil, 0x12, vectorRegister, feature: .sse),
        form("MOVLHPS", nil, 0x16, vectorRegister, feature: .sse),
        form("MOVMSKPS", nil, 0x50, vectorRegister, feature: .sse), form("MOVMSKPD", 0x66, 0x50, vectorRegister),
        form("PMOVMSKB", 0x66, 0xD7, vectorRegister), form("PINSRW", 0x66, 0xC4, bytes: 2, immediate: .byte),
        form("PEXTRW", 0x66, 0xC5, vectorRegister, immediate: .byte), form("MASKMOVDQU", 0x66, 0xF7, vectorRegister),
    ]

    private static let vectorIntegers: [InstructionForm] =
        [
            ("PAND", 0xDB), ("PANDN", 0xDF), ("POR", 0xEB), ("PXOR", 0xEF), ("PADDB", 0xFC), ("PADDW", 0xFD),
            ("PADDD", 0xFE), ("PADDQ", 0xD4), ("PSUBB", 0xF8), ("PSUBW", 0xF9), ("PSUBD", 0xFA), ("PSUBQ", 0xFB),
            ("PADDSB", 0xEC), ("PADDSW", 0xED), ("PADDUSB", 0xDC), ("PADDUSW", 0xDD), ("PSUBSB", 0xE8),
            ("PSUBSW", 0xE9), ("PSUBUSB", 0xD8), ("PSUBUSW", 0xD9), ("PMULLW", 0xD5), ("PMULHW", 0xE5),
            ("PMULHUW", 0xE4), ("PMULUDQ", 0xF4), ("PMADDWD", 0xF5), ("PAVGB", 0xE0), ("PAVGW", 0xE3),
            ("PSADBW", 0xF6), ("PMINUB", 0xDA), ("PMINSW", 0xEA), ("PMAXUB", 0xDE), ("PMAXSW", 0xEE),
            ("PCMPEQB", 0x74), ("PCMPEQW", 0x75), ("PCMPEQD", 0x76), ("PCMPGTB", 0x64), ("PCMPGTW", 0x65),
            ("PCMPGTD", 0x66), ("PACKSSWB", 0x63), ("PACKSSDW", 0x6B), ("PACKUSWB", 0x67), ("ANDPD", 0x54),
            ("ANDNPD", 0x55), ("ORPD", 0x56), ("XORPD", 0x57),
        ].map { form($0.0, 0x66, $0.1) }
        + [("ANDPS", 0x54), ("ANDNPS", 0x55), ("ORPS", 0x56), ("XORPS", 0x57)].map {
            form($0.0, nil, $0.1, feature: .sse)
        }

    private static let vectorShuffles: [InstructionForm] =
        [
            ("PUNPCKLBW", 0x60), ("PUNPCKLWD", 0x61), ("PUNPCKLDQ", 0x62), ("PUNPCKLQDQ", 0x6C), ("PUNPCKHBW", 0x68),
            ("PUNPCKHWD", 0x69), ("PUNPCKHDQ", 0x6A), ("PUNPCKHQDQ", 0x6D), ("UNPCKLPD", 0x14), ("UNPCKHPD", 0x15),
        ].map { form($0.0, 0x66, $0.1) }
        + [
            form("UNPCKLPS", nil, 0x14, feature: .sse), form("UNPCKHPS", nil, 0x15, feature: .sse),
            form("PSHUFD", 0x66, 0x70, immediate: .byte), form("PSHUFHW", 0xF3, 0x70, immediate: .byte),
            form("PSHUFLW", 0xF2, 0x70, immediate: .byte),
            form("SHUFPS", nil, 0xC6, immediate: .byte, feature: .sse), form("SHUFPD", 0x66, 0xC6, immediate: .byte),
        ]

    private static let vectorShifts: [InstructionForm] =
        [
            ("PSLLW", 0xF1, 0x71, 6), ("PSLLD", 0xF2, 0x72, 6), ("PSLLQ", 0xF3, 0x73, 6), ("PSRLW", 0xD1, 0x71, 2),
            ("PSRLD", 0xD2, 0x72, 2), ("PSRLQ", 0xD3, 0x73, 2), ("PSRAW", 0xE1, 0x71, 4), ("PSRAD", 0xE2, 0x72, 4),
        ].flatMap { (name, byVector, byImmediate, digit) -> [InstructionForm] in
            [
                form(name, 0x66, byVector),
                form(name, 0x66, byImmediate, .modRM(.digit(digit), .register), immediate: .shiftCount),
            ]
        }
        + [("PSLLDQ", 7), ("PSRLDQ", 3)].map {
            form($0.0, 0x66, 0x73, .modRM(.digit($0.1), .register), immediate: .shiftCount)
        }

    /// The four forms of an operation on numbers: packed and scalar, single and double.
    private static func floats(
        _ name: String, _ opcode: UInt8, immediate: InstructionForm.Immediate = .none
    ) -> [InstructionForm] {
        [
            form(name + "PS", nil, opcode, immediate: immediate, floatBits: 32, feature: .sse),
            form(name + "PD", 0x66, opcode, immediate: immediate, floatBits: 64),
            form(name + "SS", 0xF3, opcode, bytes: 4, immediate: immediate, floatBits: 32, feature: .sse),
            form(name + "SD", 0xF2, opcode, bytes: 8, immediate: immediate, floatBits: 64),
        ]
    }

    private static let fences: [InstructionForm] = [("LFENCE", 5), ("MFENCE", 6), ("SFENCE", 7)].map { name, digit in
        InstructionForm(
            mnemonic: name, opcode: [0x0F, 0xAE], sizes: [0], shape: .modRM(.digit(digit), .register), feature: .sse2)
    }

    private static let approximations: [InstructionForm] =
        [("RCP", 0x53), ("RSQRT", 0x52)].flatMap { name, opcode in
            [
                form(name + "PS", nil, opcode, floatBits: 32, feature: .sse),
                form(name + "SS", 0xF3, opcode, bytes: 4, floatBits: 32, feature: .sse),
            ]
        }.map { form in
            var form = form
            form.undefined = .approximation
            return form
        }

    private static let vectorFloats: [InstructionForm] =
        [
            ("ADD", 0x58), ("SUB", 0x5C), ("MUL", 0x59), ("DIV", 0x5E), ("MIN", 0x5D), ("MAX", 0x5F), ("SQRT", 0x51),
        ].flatMap { floats($0.0, $0.1) } + floats("CMP", 0xC2, immediate: .byte)
        + [
            form("COMISS", nil, 0x2F, bytes: 4, floatBits: 32, feature: .sse),
            form("COMISD", 0x66, 0x2F, bytes: 8, floatBits: 64),
            form("UCOMISS", nil, 0x2E, bytes: 4, floatBits: 32, feature: .sse),
            form("UCOMISD", 0x66, 0x2E, bytes: 8, floatBits: 64),
        ]

    private static let conversions: [InstructionForm] = [
        form("CVTDQ2PS", nil, 0x5B), form("CVTPS2DQ", 0x66, 0x5B, floatBits: 32),
        form("CVTTPS2DQ", 0xF3, 0x5B, floatBits: 32), form("CVTDQ2PD", 0xF3, 0xE6, bytes: 8),
        form("CVTPD2DQ", 0xF2, 0xE6, floatBits: 64), form("CVTTPD2DQ", 0x66, 0xE6, floatBits: 64),
        form("CVTPS2PD", nil, 0x5A, bytes: 8, floatBits: 32), form("CVTPD2PS", 0x66, 0x5A, floatBits: 64),
        form("CVTSS2SD", 0xF3, 0x5A, bytes: 4, floatBits: 32), form("CVTSD2SS", 0xF2, 0x5A, bytes: 8, floatBits: 64),
        form("CVTSI2SS", 0xF3, 0x2A, bytes: 4, sizes: [32, 64], feature: .sse),
        form("CVTSI2SD", 0xF2, 0x2A, bytes: 4, sizes: [32, 64]),
        form("CVTSS2SI", 0xF3, 0x2D, bytes: 4, sizes: [32, 64], floatBits: 32, feature: .sse),
        form("CVTTSS2SI", 0xF3, 0x2C, bytes: 4, sizes: [32, 64], floatBits: 32, feature: .sse),
        form("CVTSD2SI", 0xF2, 0x2D, bytes: 8, sizes: [32, 64], floatBits: 64),
        form("CVTTSD2SI", 0xF2, 0x2C, bytes: 8, sizes: [32, 64], floatBits: 64),
    ]
}
