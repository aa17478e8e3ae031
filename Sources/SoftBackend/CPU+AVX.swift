// AVX and AVX2: the operations of SSE on three operands, and on two lanes of 128 bits. SDM vol. 2, under each mnemonic
// with V before it; vol. 1, chapter 14.

import NVMM

extension CPU {
    /// SDM vol. 2, 2.4, "Exceptions", types 1 to 8: what all have in common.
    private func checkAVX() throws(Interruption) {
        try requireVEX()
        guard cr4 & CR4.osxsave != 0, xcr0 & StateComponent.ymm == StateComponent.ymm else {
            throw .invalidOpcode
        }
        if cr0 & CR0.ts != 0 { throw .exception(.deviceNotAvailable) }
    }

    @inline(never) mutating func avx(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkAVX()
        switch i.vector {
        case .movaps, .movups, .movss, .movsd, .movq, .movdToVector, .movlps, .movhps: try moveAVX(i)
        // To general registers, memory or the flags, from one lane.
        case .movdFromVector, .pextrb, .pextrw, .pextrd, .pextrq, .pextrwToMemory, .comiss, .comisd, .ucomiss, .ucomisd,
            .cvtss2si, .cvttss2si, .cvtsd2si, .cvttsd2si, .pcmpestri, .pcmpistri, .maskmovdqu:
            try operateOnVectors(i)
        case .pcmpestrm, .pcmpistrm:
            try operateOnVectors(i)
            ymmHigh[0] = Vector128(low: 0)
        case .movmskps, .movmskpd, .pmovmskb: collectSigns(i)
        case .pinsrb, .pinsrw, .pinsrd, .pinsrq, .insertps, .cvtsi2ss, .cvtsi2sd: try insertAVX(i)
        case .dpps:
            var environment = FloatEnvironment(mxcsr: fpu.mxcsr)
            let isWide = i.flags.contains(.wide), a = ymm(i.register1), b = try vectorOperand(i, or: i.register2)
            let result = try dotProducts(a, b, laneCount: isWide ? 2 : 1, i.immediate, &environment)
            setYMM(i.register0, result, isWide: isWide)
        case .blendvps: try blendByRegister(i, laneBytes: 4)
        case .blendvpd: try blendByRegister(i, laneBytes: 8)
        case .pblendvb: try blendByRegister(i, laneBytes: 1)
        case .ptest, .vtestps, .vtestpd: try testBits(i)
        case .vldmxcsr: try loadMXCSR(i)
        case .vstmxcsr: try storeOperand(i, fpu.mxcsr)
        case .vzeroall, .vzeroupper:
            for index in 0..<vectorRegisterCount {
                if i.vector == .vzeroall { xmm[index] = Vector128(low: 0) }
                ymmHigh[index] = Vector128(low: 0)
            }
        case .vbroadcast, .vinsert128, .vextract128, .vperm2x128, .vpermq, .vpermd, .vpermilps, .vpermilpd, .vpblendd,
            .vpsllv, .vpsrlv, .vpsrav:
            try permuteAVX(i)
        case .vmaskmov: try moveMasked(i)
        case .vgather: try gather(i)
        default: try operateOnLanes(i)
        }
    }

    /// XMM8 to XMM15 exist in 64-bit mode only.
    var vectorRegisterCount: Int { is64Bit ? 16 : 8 }

    // MARK: Registers

    func ymm(_ number: UInt8) -> Vector256 {
        Vector256(low: xmm[Int(number & 15)], high: ymmHigh[Int(number & 15)])
    }

    /// What is above a result of 128 bits becomes zero.
    mutating func setYMM(_ number: UInt8, _ value: Vector256, isWide: Bool) {
        xmm[Int(number & 15)] = value.low
        ymmHigh[Int(number & 15)] = isWide ? value.high : Vector128(low: 0)
    }

    /// The operand of ModRM.rm: memory, or this register.
    mutating func vectorOperand(
        _ i: borrowing DecodedInstruction, or register: UInt8
    ) throws(Interruption) -> Vector256 {
        i.flags.contains(.memory) ? try loadYMM(i, byteCount: Int(i.memoryBytes)) : ymm(register)
    }

    /// Whether VEX.vvvv names an operand beside those of ModRM.
    func hasThirdOperand(_ i: borrowing DecodedInstruction) -> Bool {
        (i.flags.contains(.memory) ? i.register1 : i.register2) != RegisterNumber.none
    }

    // MARK: Lane by lane

    /// What SSE does with two operands, on each lane of the second and the third. Where there are only two, the second
    /// stands for both.
    private mutating func operateOnLanes(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let hasThird = hasThirdOperand(i)
        var b = try vectorOperand(i, or: hasThird ? i.register2 : i.register1)
        let a = hasThird ? ymm(i.register1) : b
        var instruction = i.copy
        instruction.flags.remove(.memory)
        // Shifts by an immediate have one other operand.
        instruction.form = hasThird || i.flags.contains(.memory) ? .registerRegister : .registerImmediate
        let isWide = i.flags.contains(.wide)
        if isWide { b = Self.spread(i.vector, b) }
        let results = try lanes(instruction, a, b, count: isWide ? 2 : 1)
        switch i.vector {
        // Half as wide as their operands.
        case .cvtpd2dq, .cvttpd2dq, .cvtpd2ps:
            let result = Vector128(low: results.low.low, high: isWide ? results.high.low : 0)
            setYMM(i.register0, Vector256(low: result), isWide: false)
        default: setYMM(i.register0, results, isWide: isWide)
        }
    }

    /// Puts what an operation reads from the beginning of its operand to the beginnings of both lanes, and one count
    /// for both.
    private static func spread(_ operation: VectorOperation, _ b: Vector256) -> Vector256 {
        switch operation {
        case .pmovsxbw, .pmovzxbw, .pmovsxwd, .pmovzxwd, .pmovsxdq, .pmovzxdq, .cvtdq2pd, .cvtps2pd:
            Vector256(low: b.low, high: Vector128(low: b.low.high))
        case .pmovsxbd, .pmovzxbd, .pmovsxwq, .pmovzxwq:
            Vector256(low: b.low, high: b.low.shiftedRight(bytes: 4))
        case .pmovsxbq, .pmovzxbq: Vector256(low: b.low, high: b.low.shiftedRight(bytes: 2))
        case .psllw, .pslld, .psllq, .psrlw, .psrld, .psrlq, .psraw, .psrad: Vector256(low: b.low, high: b.low)
        default: b
        }
    }

    /// The immediate as it is for the second lane: some have bits for each element of both.
    private static func upperImmediate(_ operation: VectorOperation, _ immediate: UInt64) -> UInt64 {
        switch operation {
        case .blendps: immediate >> 4
        case .blendpd, .shufpd: immediate >> 2
        case .mpsadbw: immediate >> 3
        default: immediate
        }
    }

    /// Exceptions of both lanes are those of one instruction: SDM vol. 1, section 11.5.1.
    private mutating func lanes(
        _ instruction: InstructionRecord, _ a: Vector256, _ b: Vector256, count: Int
    ) throws(Interruption) -> Vector256 {
        let flagMask: UInt32 = 0x3F, first = 14, second = 15
        let saved = (xmm[first], xmm[second]), mxcsr = fpu.mxcsr
        var result = Vector256(low: Vector128(low: 0))
        var raised: UInt32 = 0
        var interruption: Interruption?
        for lane in 0..<count {
            laneInstruction[0] = instruction
            laneInstruction[0].register0 = UInt8(first)
            laneInstruction[0].register1 = UInt8(second)
            if lane == 1 {
                laneInstruction[0].immediate = Self.upperImmediate(instruction.vector, instruction.immediate)
            }
            xmm[first] = lane == 0 ? a.low : a.high
            xmm[second] = lane == 0 ? b.low : b.high
            fpu.mxcsr = mxcsr & ~flagMask
            do throws(Interruption) {
                try operateOnVectors(unsafe InstructionPointer(laneInstruction.pointer).instruction)
            } catch { interruption = error }
            raised |= fpu.mxcsr & flagMask
            if lane == 0 { result.low = xmm[first] } else { result.high = xmm[first] }
        }
        (xmm[first], xmm[second]) = saved
        // One lane has done that itself: DPPD's products come before its sums.
        let early = raised & FloatException.preComputation
        if count > 1, early & ~(mxcsr >> 7) != 0 { raised = early }
        fpu.mxcsr = mxcsr | raised
        if let interruption { throw interruption }
        return result
    }

    // MARK: With general registers

    private mutating func collectSigns(_ i: borrowing DecodedInstruction) {
        let count: UInt32 = i.vector == .pmovmskb ? 16 : i.vector == .movmskps ? 4 : 2
        let source = ymm(i.register1)
        var signs = source.low.signs(lanes: Int(count))
        if i.flags.contains(.wide) { signs |= source.high.signs(lanes: Int(count)) << count }
        write(i.register0, signs)
    }

    /// From a general register or memory to a part of the second operand.
    private mutating func insertAVX(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let working = 14
        var instruction = i.copy
        instruction.register0 = UInt8(working)
        instruction.register1 = i.register2
        instruction.form = i.flags.contains(.memory) ? .registerMemory : .registerRegister
        laneInstruction[0] = instruction
        let saved = xmm[working]
        // INSERTPS may read the register that is borrowed.
        if i.vector == .insertps, !i.flags.contains(.memory) {
            let lane = Int(i.immediate >> 6 & 3), value = xmm[Int(i.register2 & 15)].doubles[lane]
            xmm[working] = xmm[Int(i.register1 & 15)].inserting(value, by: i.immediate)
        } else {
            xmm[working] = xmm[Int(i.register1 & 15)]
            do throws(Interruption) {
                try operateOnVectors(unsafe InstructionPointer(laneInstruction.pointer).instruction)
            } catch {
                xmm[working] = saved
                throw error
            }
        }
        let result = xmm[working]
        xmm[working] = saved
        setYMM(i.register0, Vector256(low: result), isWide: false)
    }

    // MARK: Masks and tests

    private mutating func blendByRegister(
        _ i: borrowing DecodedInstruction, laneBytes: Int
    ) throws(Interruption) {
        let isMemory = i.flags.contains(.memory)
        let mask = ymm(isMemory ? i.register2 : UInt8(truncatingIfNeeded: i.immediate1)), a = ymm(i.register1)
        let b = try vectorOperand(i, or: i.register2)
        let result = Vector256(
            low: a.low.blended(b.low, mask: mask.low, laneBytes: laneBytes),
            high: a.high.blended(b.high, mask: mask.high, laneBytes: laneBytes))
        setYMM(i.register0, result, isWide: i.flags.contains(.wide))
    }

    /// VPTEST, and of the signs alone VTESTPS and VTESTPD.
    private mutating func testBits(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let a = ymm(i.register0), b = try vectorOperand(i, or: i.register1)
        let mask: UInt64 =
            switch i.vector {
            case .vtestps: 0x8000_0000_8000_0000
            case .vtestpd: 1 << 63
            default: .max
            }
        var common: UInt64 = 0, rest: UInt64 = 0
        for index in 0..<(i.flags.contains(.wide) ? 4 : 2) {
            common |= a[word: index] & b[word: index] & mask
            rest |= ~a[word: index] & b[word: index] & mask
        }
        status.rflags = (common == 0 ? RFLAGS.zf : 0) | (rest == 0 ? RFLAGS.cf : 0)
    }
}
