// Which vector operation executes a mnemonic, where the model offers its extension.

import CZydis
import NVMM

extension Decoder {
    /// Sets operation and vector operation; what is not offered stays invalid.
    func selectVector(_ instruction: Encoding, _ i: inout InstructionRecord) {
        guard instruction.isLegacy, instruction.opcodeMap != ZYDIS_OPCODE_MAP_DEFAULT else { return }
        // The last two also where the operand is in memory.
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_EMMS, ZYDIS_MNEMONIC_CVTPI2PS, ZYDIS_MNEMONIC_CVTPI2PD: return selectMMX(instruction, &i)
        default: if instruction.usesMMX { return selectMMX(instruction, &i) }
        }
        let (operation, needed) = Self.vectorOperation(instruction)
        guard operation != .none, extensions.contains(needed) else { return }
        i.operation = .vector
        i.vector = operation
    }

    static func vectorOperation(_ instruction: Encoding) -> (VectorOperation, InstructionExtensions) {
        let move = vectorMove(instruction)
        if move.0 != .none { return move }
        let shuffle = vectorShuffle(instruction)
        if shuffle.0 != .none { return shuffle }
        let arithmetic = vectorArithmetic(instruction)
        if arithmetic.0 != .none { return arithmetic }
        let float = vectorFloat(instruction)
        return float.0 != .none ? float : extendedVector(instruction)
    }

    private static func vectorMove(_ instruction: Encoding) -> (VectorOperation, InstructionExtensions) {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_MOVAPS, ZYDIS_MNEMONIC_MOVNTPS: (.movaps, .sse)
        case ZYDIS_MNEMONIC_MOVAPD, ZYDIS_MNEMONIC_MOVDQA, ZYDIS_MNEMONIC_MOVNTPD, ZYDIS_MNEMONIC_MOVNTDQ:
            (.movaps, .sse2)
        case ZYDIS_MNEMONIC_MOVUPS: (.movups, .sse)
        case ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU: (.movups, .sse2)
        case ZYDIS_MNEMONIC_MOVSS: (.movss, .sse)
        case ZYDIS_MNEMONIC_MOVSD: (.movsd, .sse2)
        case ZYDIS_MNEMONIC_MOVD: (instruction.opcode == 0x6E ? .movdToVector : .movdFromVector, .sse2)
        // 0F 6E and 0F 7E move from and to a general register or memory, but for F3 0F 7E.
        case ZYDIS_MNEMONIC_MOVQ where instruction.opcode == 0x6E: (.movdToVector, .sse2)
        case ZYDIS_MNEMONIC_MOVQ where instruction.opcode == 0x7E && !instruction.firstIsXMM: (.movdFromVector, .sse2)
        case ZYDIS_MNEMONIC_MOVQ: (.movq, .sse2)
        case ZYDIS_MNEMONIC_MOVNTI: (.movnti, .sse2)
        case ZYDIS_MNEMONIC_MOVLPS: (.movlps, .sse)
        case ZYDIS_MNEMONIC_MOVLPD: (.movlps, .sse2)
        case ZYDIS_MNEMONIC_MOVHPS: (.movhps, .sse)
        case ZYDIS_MNEMONIC_MOVHPD: (.movhps, .sse2)
        case ZYDIS_MNEMONIC_MOVLHPS: (.movlhps, .sse)
        case ZYDIS_MNEMONIC_MOVHLPS: (.movhlps, .sse)
        case ZYDIS_MNEMONIC_MOVMSKPS: (.movmskps, .sse)
        case ZYDIS_MNEMONIC_MOVMSKPD: (.movmskpd, .sse2)
        case ZYDIS_MNEMONIC_PMOVMSKB: (.pmovmskb, .sse2)
        case ZYDIS_MNEMONIC_PINSRW: (.pinsrw, .sse2)
        // The form that stores to memory is SSE4.1's.
        case ZYDIS_MNEMONIC_PEXTRW: (instruction.opcodeMap == ZYDIS_OPCODE_MAP_0F ? .pextrw : .none, .sse2)
        case ZYDIS_MNEMONIC_MASKMOVDQU: (.maskmovdqu, .sse2)
        default: (.none, [])
        }
    }

    private static func vectorShuffle(_ instruction: Encoding) -> (VectorOperation, InstructionExtensions) {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_PUNPCKLBW: (.punpcklbw, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKLWD: (.punpcklwd, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKLDQ: (.punpckldq, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKLQDQ, ZYDIS_MNEMONIC_UNPCKLPD: (.punpcklqdq, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKHBW: (.punpckhbw, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKHWD: (.punpckhwd, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKHDQ: (.punpckhdq, .sse2)
        case ZYDIS_MNEMONIC_PUNPCKHQDQ, ZYDIS_MNEMONIC_UNPCKHPD: (.punpckhqdq, .sse2)
        case ZYDIS_MNEMONIC_UNPCKLPS: (.punpckldq, .sse)
        case ZYDIS_MNEMONIC_UNPCKHPS: (.punpckhdq, .sse)
        case ZYDIS_MNEMONIC_PSHUFD: (.pshufd, .sse2)
        case ZYDIS_MNEMONIC_PSHUFHW: (.pshufhw, .sse2)
        case ZYDIS_MNEMONIC_PSHUFLW: (.pshuflw, .sse2)
        case ZYDIS_MNEMONIC_SHUFPS: (.shufps, .sse)
        case ZYDIS_MNEMONIC_SHUFPD: (.shufpd, .sse2)
        case ZYDIS_MNEMONIC_PSLLW: (.psllw, .sse2)
        case ZYDIS_MNEMONIC_PSLLD: (.pslld, .sse2)
        case ZYDIS_MNEMONIC_PSLLQ: (.psllq, .sse2)
        case ZYDIS_MNEMONIC_PSRLW: (.psrlw, .sse2)
        case ZYDIS_MNEMONIC_PSRLD: (.psrld, .sse2)
        case ZYDIS_MNEMONIC_PSRLQ: (.psrlq, .sse2)
        case ZYDIS_MNEMONIC_PSRAW: (.psraw, .sse2)
        case ZYDIS_MNEMONIC_PSRAD: (.psrad, .sse2)
        case ZYDIS_MNEMONIC_PSLLDQ: (.pslldq, .sse2)
        case ZYDIS_MNEMONIC_PSRLDQ: (.psrldq, .sse2)
        default: (.none, [])
        }
    }

    private static func vectorArithmetic(_ instruction: Encoding) -> (VectorOperation, InstructionExtensions) {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_PAND, ZYDIS_MNEMONIC_ANDPD: (.pand, .sse2)
        case ZYDIS_MNEMONIC_PANDN, ZYDIS_MNEMONIC_ANDNPD: (.pandn, .sse2)
        case ZYDIS_MNEMONIC_POR, ZYDIS_MNEMONIC_ORPD: (.por, .sse2)
        case ZYDIS_MNEMONIC_PXOR, ZYDIS_MNEMONIC_XORPD: (.pxor, .sse2)
        case ZYDIS_MNEMONIC_ANDPS: (.pand, .sse)
        case ZYDIS_MNEMONIC_ANDNPS: (.pandn, .sse)
        case ZYDIS_MNEMONIC_ORPS: (.por, .sse)
        case ZYDIS_MNEMONIC_XORPS: (.pxor, .sse)
        case ZYDIS_MNEMONIC_PADDB: (.paddb, .sse2)
        case ZYDIS_MNEMONIC_PADDW: (.paddw, .sse2)
        case ZYDIS_MNEMONIC_PADDD: (.paddd, .sse2)
        case ZYDIS_MNEMONIC_PADDQ: (.paddq, .sse2)
        case ZYDIS_MNEMONIC_PSUBB: (.psubb, .sse2)
        case ZYDIS_MNEMONIC_PSUBW: (.psubw, .sse2)
        case ZYDIS_MNEMONIC_PSUBD: (.psubd, .sse2)
        case ZYDIS_MNEMONIC_PSUBQ: (.psubq, .sse2)
        case ZYDIS_MNEMONIC_PADDSB: (.paddsb, .sse2)
        case ZYDIS_MNEMONIC_PADDSW: (.paddsw, .sse2)
        case ZYDIS_MNEMONIC_PADDUSB: (.paddusb, .sse2)
        case ZYDIS_MNEMONIC_PADDUSW: (.paddusw, .sse2)
        case ZYDIS_MNEMONIC_PSUBSB: (.psubsb, .sse2)
        case ZYDIS_MNEMONIC_PSUBSW: (.psubsw, .sse2)
        case ZYDIS_MNEMONIC_PSUBUSB: (.psubusb, .sse2)
        case ZYDIS_MNEMONIC_PSUBUSW: (.psubusw, .sse2)
        case ZYDIS_MNEMONIC_PMULLW: (.pmullw, .sse2)
        case ZYDIS_MNEMONIC_PMULHW: (.pmulhw, .sse2)
        case ZYDIS_MNEMONIC_PMULHUW: (.pmulhuw, .sse2)
        case ZYDIS_MNEMONIC_PMULUDQ: (.pmuludq, .sse2)
        case ZYDIS_MNEMONIC_PMADDWD: (.pmaddwd, .sse2)
        case ZYDIS_MNEMONIC_PAVGB: (.pavgb, .sse2)
        case ZYDIS_MNEMONIC_PAVGW: (.pavgw, .sse2)
        case ZYDIS_MNEMONIC_PSADBW: (.psadbw, .sse2)
        case ZYDIS_MNEMONIC_PMINUB: (.pminub, .sse2)
        case ZYDIS_MNEMONIC_PMINSW: (.pminsw, .sse2)
        case ZYDIS_MNEMONIC_PMAXUB: (.pmaxub, .sse2)
        case ZYDIS_MNEMONIC_PMAXSW: (.pmaxsw, .sse2)
        case ZYDIS_MNEMONIC_PCMPEQB: (.pcmpeqb, .sse2)
        case ZYDIS_MNEMONIC_PCMPEQW: (.pcmpeqw, .sse2)
        case ZYDIS_MNEMONIC_PCMPEQD: (.pcmpeqd, .sse2)
        case ZYDIS_MNEMONIC_PCMPGTB: (.pcmpgtb, .sse2)
        case ZYDIS_MNEMONIC_PCMPGTW: (.pcmpgtw, .sse2)
        case ZYDIS_MNEMONIC_PCMPGTD: (.pcmpgtd, .sse2)
        case ZYDIS_MNEMONIC_PACKSSWB: (.packsswb, .sse2)
        case ZYDIS_MNEMONIC_PACKSSDW: (.packssdw, .sse2)
        case ZYDIS_MNEMONIC_PACKUSWB: (.packuswb, .sse2)
        default: (.none, [])
        }
    }

    private static func vectorFloat(_ instruction: Encoding) -> (VectorOperation, InstructionExtensions) {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_ADDPS: (.addps, .sse)
        case ZYDIS_MNEMONIC_ADDPD: (.addpd, .sse2)
        case ZYDIS_MNEMONIC_ADDSS: (.addss, .sse)
        case ZYDIS_MNEMONIC_ADDSD: (.addsd, .sse2)
        case ZYDIS_MNEMONIC_SUBPS: (.subps, .sse)
        case ZYDIS_MNEMONIC_SUBPD: (.subpd, .sse2)
        case ZYDIS_MNEMONIC_SUBSS: (.subss, .sse)
        case ZYDIS_MNEMONIC_SUBSD: (.subsd, .sse2)
        case ZYDIS_MNEMONIC_MULPS: (.mulps, .sse)
        case ZYDIS_MNEMONIC_MULPD: (.mulpd, .sse2)
        case ZYDIS_MNEMONIC_MULSS: (.mulss, .sse)
        case ZYDIS_MNEMONIC_MULSD: (.mulsd, .sse2)
        case ZYDIS_MNEMONIC_DIVPS: (.divps, .sse)
        case ZYDIS_MNEMONIC_DIVPD: (.divpd, .sse2)
        case ZYDIS_MNEMONIC_DIVSS: (.divss, .sse)
        case ZYDIS_MNEMONIC_DIVSD: (.divsd, .sse2)
        case ZYDIS_MNEMONIC_MINPS: (.minps, .sse)
        case ZYDIS_MNEMONIC_MINPD: (.minpd, .sse2)
        case ZYDIS_MNEMONIC_MINSS: (.minss, .sse)
        case ZYDIS_MNEMONIC_MINSD: (.minsd, .sse2)
        case ZYDIS_MNEMONIC_MAXPS: (.maxps, .sse)
        case ZYDIS_MNEMONIC_MAXPD: (.maxpd, .sse2)
        case ZYDIS_MNEMONIC_MAXSS: (.maxss, .sse)
        case ZYDIS_MNEMONIC_MAXSD: (.maxsd, .sse2)
        case ZYDIS_MNEMONIC_SQRTPS: (.sqrtps, .sse)
        case ZYDIS_MNEMONIC_RCPPS: (.rcpps, .sse)
        case ZYDIS_MNEMONIC_RCPSS: (.rcpss, .sse)
        case ZYDIS_MNEMONIC_RSQRTPS: (.rsqrtps, .sse)
        case ZYDIS_MNEMONIC_RSQRTSS: (.rsqrtss, .sse)
        case ZYDIS_MNEMONIC_SQRTPD: (.sqrtpd, .sse2)
        case ZYDIS_MNEMONIC_SQRTSS: (.sqrtss, .sse)
        case ZYDIS_MNEMONIC_SQRTSD: (.sqrtsd, .sse2)
        case ZYDIS_MNEMONIC_CMPPS: (.cmpps, .sse)
        case ZYDIS_MNEMONIC_CMPPD: (.cmppd, .sse2)
        case ZYDIS_MNEMONIC_CMPSS: (.cmpss, .sse)
        case ZYDIS_MNEMONIC_CMPSD: (.cmpsd, .sse2)
        case ZYDIS_MNEMONIC_COMISS: (.comiss, .sse)
        case ZYDIS_MNEMONIC_COMISD: (.comisd, .sse2)
        case ZYDIS_MNEMONIC_UCOMISS: (.ucomiss, .sse)
        case ZYDIS_MNEMONIC_UCOMISD: (.ucomisd, .sse2)
        case ZYDIS_MNEMONIC_CVTDQ2PS: (.cvtdq2ps, .sse2)
        case ZYDIS_MNEMONIC_CVTPS2DQ: (.cvtps2dq, .sse2)
        case ZYDIS_MNEMONIC_CVTTPS2DQ: (.cvttps2dq, .sse2)
        case ZYDIS_MNEMONIC_CVTDQ2PD: (.cvtdq2pd, .sse2)
        case ZYDIS_MNEMONIC_CVTPD2DQ: (.cvtpd2dq, .sse2)
        case ZYDIS_MNEMONIC_CVTTPD2DQ: (.cvttpd2dq, .sse2)
        case ZYDIS_MNEMONIC_CVTPS2PD: (.cvtps2pd, .sse2)
        case ZYDIS_MNEMONIC_CVTPD2PS: (.cvtpd2ps, .sse2)
        case ZYDIS_MNEMONIC_CVTSS2SD: (.cvtss2sd, .sse2)
        case ZYDIS_MNEMONIC_CVTSD2SS: (.cvtsd2ss, .sse2)
        case ZYDIS_MNEMONIC_CVTSI2SS: (.cvtsi2ss, .sse)
        case ZYDIS_MNEMONIC_CVTSI2SD: (.cvtsi2sd, .sse2)
        case ZYDIS_MNEMONIC_CVTSS2SI: (.cvtss2si, .sse)
        case ZYDIS_MNEMONIC_CVTTSS2SI: (.cvttss2si, .sse)
        case ZYDIS_MNEMONIC_CVTSD2SI: (.cvtsd2si, .sse2)
        case ZYDIS_MNEMONIC_CVTTSD2SI: (.cvttsd2si, .sse2)
        default: (.none, [])
        }
    }
}
