// Which operation executes a mnemonic with an MMX register, where the model offers its extension.

import CZydis
import NVMM

extension Decoder {
    /// Sets operation and vector operation; what is not offered stays invalid.
    func selectMMX(_ instruction: Encoding, _ i: inout InstructionRecord) {
        if instruction.mnemonic == ZYDIS_MNEMONIC_EMMS {
            if extensions.contains(.mmx) { i.operation = .emms }
            return
        }
        let (operation, needed) = Self.mmxOperation(instruction)
        guard operation != .none, extensions.contains(needed) else { return }
        i.operation = .mmx
        i.vector = operation
    }

    private static func mmxOperation(_ instruction: Encoding) -> (VectorOperation, InstructionExtensions) {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_MOVD: (instruction.opcode == 0x6E ? .movdToVector : .movdFromVector, .mmx)
        case ZYDIS_MNEMONIC_MOVQ where instruction.opcode == 0x6E: (.movdToVector, .mmx)
        case ZYDIS_MNEMONIC_MOVQ where instruction.opcode == 0x7E: (.movdFromVector, .mmx)
        case ZYDIS_MNEMONIC_MOVQ: (.movq, .mmx)
        case ZYDIS_MNEMONIC_MOVNTQ: (.movq, .sse)
        case ZYDIS_MNEMONIC_MASKMOVQ: (.maskmovdqu, .sse)
        case ZYDIS_MNEMONIC_PSHUFW: (.pshuflw, .sse)
        case ZYDIS_MNEMONIC_MOVQ2DQ: (.movq2dq, .sse2)
        case ZYDIS_MNEMONIC_MOVDQ2Q: (.movdq2q, .sse2)
        case ZYDIS_MNEMONIC_CVTPI2PS: (.cvtpi2ps, .sse)
        case ZYDIS_MNEMONIC_CVTPS2PI: (.cvtps2pi, .sse)
        case ZYDIS_MNEMONIC_CVTTPS2PI: (.cvttps2pi, .sse)
        case ZYDIS_MNEMONIC_CVTPI2PD: (.cvtpi2pd, .sse2)
        case ZYDIS_MNEMONIC_CVTPD2PI: (.cvtpd2pi, .sse2)
        case ZYDIS_MNEMONIC_CVTTPD2PI: (.cvttpd2pi, .sse2)
        default: (vectorOperation(instruction).0, extensionOfMMX(instruction))
        }
    }

    /// Which of the extensions brought the form with MMX registers of an instruction that has one with XMM registers.
    private static func extensionOfMMX(_ instruction: Encoding) -> InstructionExtensions {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_PHADDW, ZYDIS_MNEMONIC_PHADDD, ZYDIS_MNEMONIC_PHADDSW, ZYDIS_MNEMONIC_PHSUBW,
            ZYDIS_MNEMONIC_PHSUBD, ZYDIS_MNEMONIC_PHSUBSW, ZYDIS_MNEMONIC_PABSB, ZYDIS_MNEMONIC_PABSW,
            ZYDIS_MNEMONIC_PABSD, ZYDIS_MNEMONIC_PSIGNB, ZYDIS_MNEMONIC_PSIGNW, ZYDIS_MNEMONIC_PSIGND,
            ZYDIS_MNEMONIC_PMADDUBSW, ZYDIS_MNEMONIC_PMULHRSW, ZYDIS_MNEMONIC_PSHUFB, ZYDIS_MNEMONIC_PALIGNR:
            .ssse3
        case ZYDIS_MNEMONIC_PADDQ, ZYDIS_MNEMONIC_PSUBQ, ZYDIS_MNEMONIC_PMULUDQ: .sse2
        case ZYDIS_MNEMONIC_PAVGB, ZYDIS_MNEMONIC_PAVGW, ZYDIS_MNEMONIC_PEXTRW, ZYDIS_MNEMONIC_PINSRW,
            ZYDIS_MNEMONIC_PMAXSW, ZYDIS_MNEMONIC_PMAXUB, ZYDIS_MNEMONIC_PMINSW, ZYDIS_MNEMONIC_PMINUB,
            ZYDIS_MNEMONIC_PMOVMSKB, ZYDIS_MNEMONIC_PMULHUW, ZYDIS_MNEMONIC_PSADBW:
            .sse
        default: .mmx
        }
    }
}
