// What a vector instruction does with its operands: one case for all mnemonics that do the same.

/// The second level of ``Operation``: SDM vol. 2 describes each under its mnemonic, and names in brackets are others
/// that differ in nothing that a program can tell.
enum VectorOperation: UInt16 {
    case none

    // Moves: CPU+VectorMove.swift
    case movaps  // (MOVAPD MOVDQA MOVNTPS MOVNTPD MOVNTDQ)
    case movups  // (MOVUPD MOVDQU)
    case movss, movsd, movq, movnti
    case movdToVector, movdFromVector  // MOVD, and MOVQ with general registers
    case movlps, movhps  // (MOVLPD MOVHPD)
    case movlhps, movhlps
    case movmskps, movmskpd, pmovmskb
    case pinsrw, pextrw, maskmovdqu

    // With an MMX register: CPU+MMX.swift
    case movq2dq, movdq2q, cvtpi2ps, cvtpi2pd, cvtps2pi, cvttps2pi, cvtpd2pi, cvttpd2pi

    // Bits and whole registers: VectorArithmetic.swift
    case pand, pandn, por, pxor  // (ANDPS ANDNPS ORPS XORPS and their PD)

    // Lanes: VectorArithmetic.swift
    case paddb, paddw, paddd, paddq, psubb, psubw, psubd, psubq
    case paddsb, paddsw, paddusb, paddusw, psubsb, psubsw, psubusb, psubusw
    case pmullw, pmulhw, pmulhuw, pmuludq, pmaddwd
    case pavgb, pavgw, psadbw, pminub, pminsw, pmaxub, pmaxsw
    case pcmpeqb, pcmpeqw, pcmpeqd, pcmpgtb, pcmpgtw, pcmpgtd
    case packsswb, packssdw, packuswb

    // Order of lanes: VectorShuffle.swift
    case punpcklbw, punpcklwd, punpckldq, punpcklqdq  // (UNPCKLPS UNPCKLPD)
    case punpckhbw, punpckhwd, punpckhdq, punpckhqdq  // (UNPCKHPS UNPCKHPD)
    case pshufd, pshufhw, pshuflw, shufps, shufpd

    // Shifts: VectorShift.swift
    case psllw, pslld, psllq, psrlw, psrld, psrlq, psraw, psrad
    case pslldq, psrldq

    // SSE3 to SSE4.2: VectorHorizontal.swift, VectorText.swift
    case movddup, movsldup, movshdup
    case phaddw, phaddd, phaddsw, phsubw, phsubd, phsubsw
    case pabsb, pabsw, pabsd, psignb, psignw, psignd, pmaddubsw, pmulhrsw
    case pshufb, palignr
    case pmuldq, pmulld, pcmpeqq, pcmpgtq, packusdw, phminposuw, mpsadbw
    case pminsb, pmaxsb, pminuw, pmaxuw, pminud, pmaxud, pminsd, pmaxsd
    case pmovsxbw, pmovsxbd, pmovsxbq, pmovsxwd, pmovsxwq, pmovsxdq
    case pmovzxbw, pmovzxbd, pmovzxbq, pmovzxwd, pmovzxwq, pmovzxdq
    case blendps, blendpd, pblendw, blendvps, blendvpd, pblendvb, ptest
    case pinsrb, pinsrd, pinsrq, insertps, pextrb, pextrwToMemory
    case pextrd  // (EXTRACTPS)
    case pextrq
    case pcmpestri, pcmpestrm, pcmpistri, pcmpistrm

    // AES and PCLMULQDQ: VectorCipher.swift
    case aesenc, aesenclast, aesdec, aesdeclast, aesimc, aeskeygenassist, pclmulqdq

    // SHA: VectorHash.swift
    case sha1rnds4, sha1nexte, sha1msg1, sha1msg2, sha256rnds2, sha256msg1, sha256msg2

    // Floating point: CPU+VectorFloat.swift, CPU+VectorExtended.swift
    case addsubps, addsubpd, haddps, haddpd, hsubps, hsubpd, dpps, dppd, roundps, roundpd, roundss, roundsd
    case addps, addpd, addss, addsd
    case subps, subpd, subss, subsd
    case mulps, mulpd, mulss, mulsd
    case divps, divpd, divss, divsd
    case minps, minpd, minss, minsd
    case maxps, maxpd, maxss, maxsd
    case sqrtps, sqrtpd, sqrtss, sqrtsd
    case rcpps, rcpss, rsqrtps, rsqrtss
    case cmpps, cmppd, cmpss, cmpsd, comiss, comisd, ucomiss, ucomisd
    case cvtdq2ps, cvtps2dq, cvttps2dq, cvtdq2pd, cvtpd2dq, cvttpd2dq, cvtps2pd, cvtpd2ps
    case cvtss2sd, cvtsd2ss, cvtsi2ss, cvtsi2sd, cvtss2si, cvttss2si, cvtsd2si, cvttsd2si

    // With VEX alone: CPU+AVX.swift
    case vldmxcsr, vstmxcsr, vzeroall, vzeroupper, vtestps, vtestpd
    // CPU+AVXPermute.swift
    case vbroadcast  // (VBROADCASTSS VBROADCASTF128 VPBROADCASTB and their like)
    case vinsert128, vextract128, vperm2x128  // (F128 and I128)
    case vpermq, vpermd  // (VPERMPD, VPERMPS)
    case vpermilps, vpermilpd, vpblendd
    case vpsllv, vpsrlv, vpsrav
    // CPU+AVXMemory.swift
    case vmaskmov  // (VMASKMOVPS VPMASKMOVD and their like)
    case vgather
}

extension VectorOperation {
    /// Of SSE3 and later.
    @inline(__always) var isExtended: Bool {
        rawValue >= Self.movddup.rawValue && rawValue <= Self.roundsd.rawValue
    }
}
