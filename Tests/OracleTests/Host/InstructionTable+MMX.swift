// Instructions on MMX registers, by encoding: SDM vol. 2, under each mnemonic. Those that have a form with XMM
// registers too are told apart by "mm".

extension InstructionTable {
    private static func mmx(
        _ name: String, _ opcode: UInt8, _ shape: InstructionForm.Shape = vectorEither, prefix: UInt8? = nil,
        bytes: Int = 8, isAligned: Bool = false, sizes: [Int] = [0], immediate: InstructionForm.Immediate = .none,
        floatBits: Int = 0, feature: CPUFeature = .mmx
    ) -> InstructionForm {
        form(
            name, prefix, opcode, shape, bytes: bytes, isAligned: isAligned, sizes: sizes, immediate: immediate,
            floatBits: floatBits, feature: feature)
    }

    static let mmx: [InstructionForm] = mmxArithmetic + mmxOfSSE + mmxMoves + mmxShifts + mmxConversions

    private static let mmxArithmetic: [InstructionForm] =
        [
            ("PAND", 0xDB), ("PANDN", 0xDF), ("POR", 0xEB), ("PXOR", 0xEF), ("PADDB", 0xFC), ("PADDW", 0xFD),
            ("PADDD", 0xFE), ("PSUBB", 0xF8), ("PSUBW", 0xF9), ("PSUBD", 0xFA), ("PADDSB", 0xEC), ("PADDSW", 0xED),
            ("PADDUSB", 0xDC), ("PADDUSW", 0xDD), ("PSUBSB", 0xE8), ("PSUBSW", 0xE9), ("PSUBUSB", 0xD8),
            ("PSUBUSW", 0xD9), ("PMULLW", 0xD5), ("PMULHW", 0xE5), ("PMADDWD", 0xF5), ("PCMPEQB", 0x74),
            ("PCMPEQW", 0x75), ("PCMPEQD", 0x76), ("PCMPGTB", 0x64), ("PCMPGTW", 0x65), ("PCMPGTD", 0x66),
            ("PACKSSWB", 0x63), ("PACKSSDW", 0x6B), ("PACKUSWB", 0x67), ("PUNPCKHBW", 0x68), ("PUNPCKHWD", 0x69),
            ("PUNPCKHDQ", 0x6A),
        ].map { mmx($0.0 + " mm", $0.1) }
        + [("PUNPCKLBW", 0x60), ("PUNPCKLWD", 0x61), ("PUNPCKLDQ", 0x62)].map { mmx($0.0 + " mm", $0.1, bytes: 4) }

    private static let mmxOfSSE: [InstructionForm] =
        [
            ("PAVGB", 0xE0), ("PAVGW", 0xE3), ("PMINUB", 0xDA), ("PMINSW", 0xEA), ("PMAXUB", 0xDE), ("PMAXSW", 0xEE),
            ("PMULHUW", 0xE4), ("PSADBW", 0xF6),
        ].map { mmx($0.0 + " mm", $0.1, feature: .sse) }
        + [("PADDQ", 0xD4), ("PSUBQ", 0xFB), ("PMULUDQ", 0xF4)].map { mmx($0.0 + " mm", $0.1, feature: .sse2) }
        + [
            mmx("PSHUFW", 0x70, immediate: .byte, feature: .sse),
            mmx("PINSRW mm", 0xC4, bytes: 2, immediate: .byte, feature: .sse),
            mmx("PEXTRW mm", 0xC5, vectorRegister, immediate: .byte, feature: .sse),
            mmx("PMOVMSKB mm", 0xD7, vectorRegister, feature: .sse),
            mmx("MOVNTQ", 0xE7, vectorMemory, feature: .sse), mmx("MASKMOVQ", 0xF7, vectorRegister, feature: .sse),
        ]

    private static let mmxMoves: [InstructionForm] = [
        mmx("MOVD mm", 0x6E, bytes: 4, sizes: [32, 64]), mmx("MOVD mm", 0x7E, bytes: 4, sizes: [32, 64]),
        mmx("MOVQ mm", 0x6F), mmx("MOVQ mm", 0x7F), mmx("EMMS", 0x77, .none),
        mmx("MOVQ2DQ", 0xD6, vectorRegister, prefix: 0xF3, feature: .sse2),
        mmx("MOVDQ2Q", 0xD6, vectorRegister, prefix: 0xF2, feature: .sse2),
    ]

    private static let mmxShifts: [InstructionForm] = [
        ("PSLLW", 0xF1, 0x71, 6), ("PSLLD", 0xF2, 0x72, 6), ("PSLLQ", 0xF3, 0x73, 6), ("PSRLW", 0xD1, 0x71, 2),
        ("PSRLD", 0xD2, 0x72, 2), ("PSRLQ", 0xD3, 0x73, 2), ("PSRAW", 0xE1, 0x71, 4), ("PSRAD", 0xE2, 0x72, 4),
    ].flatMap { (name, byRegister, byImmediate, digit) -> [InstructionForm] in
        [
            mmx(name + " mm", byRegister),
            mmx(name + " mm", byImmediate, .modRM(.digit(digit), .register), immediate: .shiftCount),
        ]
    }

    private static let mmxConversions: [InstructionForm] = [
        mmx("CVTPI2PS", 0x2A, feature: .sse), mmx("CVTPI2PD", 0x2A, prefix: 0x66, feature: .sse2),
        mmx("CVTPS2PI", 0x2D, floatBits: 32, feature: .sse), mmx("CVTTPS2PI", 0x2C, floatBits: 32, feature: .sse),
        mmx("CVTPD2PI", 0x2D, prefix: 0x66, bytes: 16, isAligned: true, floatBits: 64, feature: .sse2),
        mmx("CVTTPD2PI", 0x2C, prefix: 0x66, bytes: 16, isAligned: true, floatBits: 64, feature: .sse2),
    ]
}
