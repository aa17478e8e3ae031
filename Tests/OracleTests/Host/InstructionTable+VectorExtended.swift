// Instructions of SSE3 to SSE4.2, AES, PCLMULQDQ and SHA, by encoding: SDM vol. 2, under each mnemonic.

extension InstructionTable {
    /// Behind 0F 38, or 0F 3A where there is an immediate; with 66 before it.
    private static func long(
        _ name: String, _ opcode: UInt8, _ shape: InstructionForm.Shape = vectorEither, bytes: Int = 16,
        isAligned: Bool = true, sizes: [Int] = [128], hasImmediate: Bool = false, floatBits: Int = 0,
        feature: CPUFeature = .sse41
    ) -> InstructionForm {
        InstructionForm(
            mnemonic: name, opcode: [0x66, 0x0F, hasImmediate ? 0x3A : 0x38, opcode], sizes: sizes, shape: shape,
            immediate: hasImmediate ? .byte : .none,
            kind: .vector(memoryBytes: bytes, isAligned: isAligned, floatBits: floatBits), feature: feature)
    }

    static let extendedVectors: [InstructionForm] =
        sse3 + ssse3 + integersOfSSE4 + lanesOfSSE4 + floatsOfSSE4 + sse42 + ciphers + hashes

    private static let sse3: [InstructionForm] = [
        form("ADDSUBPS", 0xF2, 0xD0, floatBits: 32, feature: .sse3),
        form("ADDSUBPD", 0x66, 0xD0, floatBits: 64, feature: .sse3),
        form("HADDPS", 0xF2, 0x7C, floatBits: 32, feature: .sse3),
        form("HADDPD", 0x66, 0x7C, floatBits: 64, feature: .sse3),
        form("HSUBPS", 0xF2, 0x7D, floatBits: 32, feature: .sse3),
        form("HSUBPD", 0x66, 0x7D, floatBits: 64, feature: .sse3),
        form("LDDQU", 0xF2, 0xF0, vectorMemory, isAligned: false, feature: .sse3),
        form("MOVDDUP", 0xF2, 0x12, bytes: 8, feature: .sse3), form("MOVSLDUP", 0xF3, 0x12, feature: .sse3),
        form("MOVSHDUP", 0xF3, 0x16, feature: .sse3),
    ]

    private static let namesOfSSSE3: [(String, UInt8)] = [
        ("PSHUFB", 0x00), ("PHADDW", 0x01), ("PHADDD", 0x02), ("PHADDSW", 0x03), ("PMADDUBSW", 0x04),
        ("PHSUBW", 0x05), ("PHSUBD", 0x06), ("PHSUBSW", 0x07), ("PSIGNB", 0x08), ("PSIGNW", 0x09), ("PSIGND", 0x0A),
        ("PMULHRSW", 0x0B), ("PABSB", 0x1C), ("PABSW", 0x1D), ("PABSD", 0x1E),
    ]

    private static let ssse3: [InstructionForm] =
        namesOfSSSE3.map { long($0.0, $0.1, feature: .ssse3) } + namesOfSSSE3.map { ofMMX($0.0, 0x38, $0.1) }
        + [
            long("PALIGNR", 0x0F, hasImmediate: true, feature: .ssse3),
            ofMMX("PALIGNR", 0x3A, 0x0F, immediate: .byte),
        ]

    private static func ofMMX(
        _ name: String, _ map: UInt8, _ opcode: UInt8, immediate: InstructionForm.Immediate = .none
    ) -> InstructionForm {
        InstructionForm(
            mnemonic: name + " mm", opcode: [0x0F, map, opcode], sizes: [0], shape: vectorEither, immediate: immediate,
            kind: .vector(memoryBytes: 8, isAligned: false, floatBits: 0), feature: .ssse3)
    }

    private static let integersOfSSE4: [InstructionForm] =
        [
            ("PMULDQ", 0x28), ("PCMPEQQ", 0x29), ("PACKUSDW", 0x2B), ("PMINSB", 0x38), ("PMINSD", 0x39),
            ("PMINUW", 0x3A), ("PMINUD", 0x3B), ("PMAXSB", 0x3C), ("PMAXSD", 0x3D), ("PMAXUW", 0x3E), ("PMAXUD", 0x3F),
            ("PMULLD", 0x40), ("PHMINPOSUW", 0x41), ("PTEST", 0x17), ("PBLENDVB", 0x10), ("BLENDVPS", 0x14),
            ("BLENDVPD", 0x15),
        ].map { long($0.0, $0.1) }
        + [long("MOVNTDQA", 0x2A, vectorMemory), long("MPSADBW", 0x42, hasImmediate: true)]
        + [("BLENDPS", 0x0C), ("BLENDPD", 0x0D), ("PBLENDW", 0x0E)].map { long($0.0, $0.1, hasImmediate: true) }

    private static let lanesOfSSE4: [InstructionForm] =
        [("BW", 0, 8), ("BD", 1, 4), ("BQ", 2, 2), ("WD", 3, 8), ("WQ", 4, 4), ("DQ", 5, 8)].flatMap {
            (lanes, number, bytes) -> [InstructionForm] in
            [
                long("PMOVSX" + lanes, 0x20 + number, bytes: bytes, isAligned: false),
                long("PMOVZX" + lanes, 0x30 + number, bytes: bytes, isAligned: false),
            ]
        }
        + [
            long("PEXTRB", 0x14, bytes: 1, isAligned: false, hasImmediate: true),
            long("PEXTRW", 0x15, bytes: 2, isAligned: false, hasImmediate: true),
            long("PEXTRD", 0x16, bytes: 4, isAligned: false, sizes: [32, 64], hasImmediate: true),
            long("EXTRACTPS", 0x17, bytes: 4, isAligned: false, hasImmediate: true),
            long("PINSRB", 0x20, bytes: 1, isAligned: false, hasImmediate: true),
            long("INSERTPS", 0x21, bytes: 4, isAligned: false, hasImmediate: true),
            long("PINSRD", 0x22, bytes: 4, isAligned: false, sizes: [32, 64], hasImmediate: true),
        ]

    private static let floatsOfSSE4: [InstructionForm] = [
        long("ROUNDPS", 0x08, hasImmediate: true, floatBits: 32),
        long("ROUNDPD", 0x09, hasImmediate: true, floatBits: 64),
        long("ROUNDSS", 0x0A, bytes: 4, isAligned: false, hasImmediate: true, floatBits: 32),
        long("ROUNDSD", 0x0B, bytes: 8, isAligned: false, hasImmediate: true, floatBits: 64),
        long("DPPS", 0x40, hasImmediate: true, floatBits: 32), long("DPPD", 0x41, hasImmediate: true, floatBits: 64),
    ]

    private static let sse42: [InstructionForm] =
        [("PCMPESTRM", 0x60), ("PCMPESTRI", 0x61), ("PCMPISTRM", 0x62), ("PCMPISTRI", 0x63)].map {
            long($0.0, $0.1, isAligned: false, hasImmediate: true, feature: .sse42)
        }
        + [
            long("PCMPGTQ", 0x37, feature: .sse42),
            InstructionForm(
                mnemonic: "CRC32", opcode: [0x0F, 0x38, 0xF0], prefix: 0xF2, sizes: [8], shape: vectorEither,
                feature: .sse42),
            InstructionForm(
                mnemonic: "CRC32", opcode: [0x0F, 0x38, 0xF1], prefix: 0xF2, sizes: [16, 32, 64], shape: vectorEither,
                feature: .sse42),
        ]

    private static let ciphers: [InstructionForm] =
        [("AESIMC", 0xDB), ("AESENC", 0xDC), ("AESENCLAST", 0xDD), ("AESDEC", 0xDE), ("AESDECLAST", 0xDF)].map {
            long($0.0, $0.1, feature: .aes)
        }
        + [
            long("AESKEYGENASSIST", 0xDF, hasImmediate: true, feature: .aes),
            long("PCLMULQDQ", 0x44, hasImmediate: true, feature: .pclmulqdq),
        ]

    private static let hashes: [InstructionForm] =
        [
            ("SHA1NEXTE", 0xC8), ("SHA1MSG1", 0xC9), ("SHA1MSG2", 0xCA), ("SHA256RNDS2", 0xCB), ("SHA256MSG1", 0xCC),
            ("SHA256MSG2", 0xCD),
        ].map { hash($0.0, [0x0F, 0x38, $0.1]) } + [hash("SHA1RNDS4", [0x0F, 0x3A, 0xCC], immediate: .byte)]

    private static func hash(
        _ name: String, _ opcode: [UInt8], immediate: InstructionForm.Immediate = .none
    ) -> InstructionForm {
        InstructionForm(
            mnemonic: name, opcode: opcode, sizes: [128], shape: vectorEither, immediate: immediate,
            kind: .vector(memoryBytes: 16, isAligned: true, floatBits: 0), feature: .sha)
    }
}
