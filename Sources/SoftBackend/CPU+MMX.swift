// Instructions on MMX registers, which are the fractions of the x87 registers: SDM vol. 1, chapter 9.

import NVMM

extension CPU {
    /// SDM vol. 3, table 13-1, and an x87 exception that waits (SDM vol. 1, section 8.7).
    private func checkMMX() throws(Interruption) {
        if cr0 & CR0.em != 0 { throw .invalidOpcode }
        if cr0 & CR0.ts != 0 { throw .exception(.deviceNotAvailable) }
        try checkPendingX87()
    }

    // MARK: Registers

    func readMMX(_ register: UInt8) -> UInt64 { x87[Int(register & 7)].low }

    private mutating func writeMMX(_ register: UInt8, _ value: UInt64) {
        x87[Int(register & 7)] = Vector128(low: value, high: 0xFFFF)
    }

    /// What every MMX instruction does to the x87 state: SDM vol. 1, section 9.5.1.
    mutating func enterMMX() {
        fpu.statusWord &= ~X87Status.top
        fpu.tagByte = 0xFF
    }

    // MARK: Execution

    @inline(never) mutating func emms(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkMMX()
        enterMMX()
        fpu.tagByte = 0
    }

    /// Everything with an MMX register among its operands. The x87 state changes after a load and before a store, as
    /// faults show.
    @inline(never) mutating func mmx(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if i.vector.usesXMM { try checkFXSR(needsOSFXSR: true) }
        try checkMMX()
        switch i.vector {
        case .movq where i.form == .memoryRegister:
            enterMMX()
            try storeOperand(i, readMMX(i.register0))
        case .movdFromVector where i.form == .memoryRegister:
            enterMMX()
            try store(i.segment, effectiveAddress(i), readMMX(i.register0), width: i.width)
        case .movdFromVector: write(i.register0, readMMX(i.register1), width: i.width)
        case .pmovmskb: write(i.register0, Vector128(low: readMMX(i.register1)).signs(lanes: 16))
        case .pextrw:
            write(i.register0, UInt32(Vector128(low: readMMX(i.register1)).halves[Int(i.immediate & 3)]))
        case .maskmovdqu:
            enterMMX()
            try storeMasked(
                i, Vector128(low: readMMX(i.register0)), mask: Vector128(low: readMMX(i.register1)))
        case .movq2dq: xmm[Int(i.register0 & 15)] = Vector128(low: readMMX(i.register1))
        case .cvtpi2ps, .cvtpi2pd, .cvtps2pi, .cvttps2pi, .cvtpd2pi, .cvttpd2pi: return try convertMMX(i)
        default:
            let result = try resultMMX(i)
            enterMMX()
            return writeMMX(i.register0, result)
        }
        enterMMX()
    }

    private mutating func sourceMMX(_ i: borrowing DecodedInstruction) throws(Interruption) -> UInt64 {
        i.flags.contains(.memory) ? try loadOperand(i) : readMMX(i.register1)
    }

    /// What the destination gets: that of the XMM register's lower half, but where lanes change their order.
    private mutating func resultMMX(_ i: borrowing DecodedInstruction) throws(Interruption) -> UInt64 {
        let operation = i.vector
        switch operation {
        case .movq: return try sourceMMX(i)
        case .movdq2q: return xmm[Int(i.register1 & 15)].low
        case .movdToVector: return try secondOperand(i, width: i.width1)
        case .pinsrw:
            var target = Vector128(low: readMMX(i.register0))
            let value: UInt16 = i.flags.contains(.memory) ? try loadOperand(i) : read(i.register1)
            target.halves[Int(i.immediate & 3)] = value
            return target.low
        case .psllw, .pslld, .psllq, .psrlw, .psrld, .psrlq, .psraw, .psrad:
            let count = i.form == .registerImmediate ? i.immediate & 0xFF : try sourceMMX(i)
            return Vector128(low: readMMX(i.register0)).shifted(operation, by: count).low
        default: break
        }
        // Punpckl with memory reads 32 bits: SDM vol. 2, PUNPCKLBW.
        let source: UInt64
        switch operation {
        case .punpcklbw, .punpcklwd, .punpckldq:
            source = i.flags.contains(.memory) ? UInt64(try loadOperand(i, as: UInt32.self)) : readMMX(i.register1)
        default: source = try sourceMMX(i)
        }
        let a = Vector128(low: readMMX(i.register0)), b = Vector128(low: source)
        switch operation {
        case .pand, .pandn, .por, .pxor: return Vector128.bits(operation, a, b).low
        case .paddb, .paddw, .paddd, .paddq, .psubb, .psubw, .psubd, .psubq: return Vector128.sums(operation, a, b).low
        case .paddsb, .paddsw, .paddusb, .paddusw, .psubsb, .psubsw, .psubusb, .psubusw:
            return Vector128.saturatedSums(operation, a, b).low
        case .pmullw, .pmulhw, .pmulhuw, .pmuludq, .pmaddwd: return Vector128.products(operation, a, b).low
        case .pcmpeqb, .pcmpeqw, .pcmpeqd, .pcmpgtb, .pcmpgtw, .pcmpgtd:
            return Vector128.comparisons(operation, a, b).low
        case .phaddw, .phaddd, .phaddsw, .phsubw, .phsubd, .phsubsw:
            return Vector128.neighbours(operation, Vector128(low: a.low, high: b.low), b).low
        case .pabsb, .pabsw, .pabsd, .psignb, .psignw, .psignd, .pmaddubsw, .pmulhrsw:
            return Vector128.signed(operation, a, b).low
        case .pshufb: return a.picked(by: b, of: 8).low
        case .palignr: return Vector128(low: b.low, high: a.low).shiftedRight(bytes: i.immediate & 0xFF).low
        case .packsswb, .packssdw, .packuswb:
            return Vector128.packed(operation, Vector128(low: a.low, high: b.low), b).low
        case .punpcklbw, .punpcklwd, .punpckldq: return Vector128.unpacked(operation, a, b).low
        case .punpckhbw: return Vector128.unpacked(.punpcklbw, a, b).high
        case .punpckhwd: return Vector128.unpacked(.punpcklwd, a, b).high
        case .punpckhdq: return Vector128.unpacked(.punpckldq, a, b).high
        case .pshuflw:
            return Vector128.shuffled(operation, a, b, order: UInt8(truncatingIfNeeded: i.immediate)).low
        default: return Vector128.choices(operation, a, b).low
        }
    }

    // MARK: Conversions

    private mutating func convertMMX(_ i: borrowing DecodedInstruction) throws(Interruption) {
        var environment = FloatEnvironment(mxcsr: fpu.mxcsr)
        let first = Int(i.register0 & 15)
        let isMemory = i.flags.contains(.memory)
        switch i.vector {
        case .cvtpi2ps, .cvtpi2pd:
            let source = Vector128(low: try sourceMMX(i))
            var result = xmm[first]
            for lane in 0..<2 {
                let integer = Int64(source.signedDoubles[lane])
                if i.vector == .cvtpi2ps {
                    result.doubles[lane] = environment.converted(integer: integer, to: SingleFormat.self)
                } else {
                    result.words[lane] = environment.converted(integer: integer, to: DoubleFormat.self)
                }
            }
            // From memory it leaves the x87 state alone: SDM vol. 2, CVTPI2PD; CVTPI2PS does the same.
            if !isMemory { enterMMX() }
            try finish(environment)
            xmm[first] = result
        default:
            let isSingle = i.vector == .cvtps2pi || i.vector == .cvttps2pi
            let source =
                isSingle && isMemory ? Vector128(low: try loadOperand(i)) : try vectorSource(i)
            var result = Vector128(low: 0)
            for lane in 0..<2 {
                result.doubles[lane] =
                    isSingle
                    ? environment.doubleword(
                        source.doubles[lane], truncating: i.vector == .cvttps2pi, SingleFormat.self)
                    : environment.doubleword(
                        source.words[lane], truncating: i.vector == .cvttpd2pi, DoubleFormat.self)
            }
            // Before the exception that may come of it.
            enterMMX()
            try finish(environment)
            writeMMX(i.register0, result.low)
        }
    }
}

extension VectorOperation {
    /// Of those with an MMX register: whether XMM registers, and what they need, are involved too.
    fileprivate var usesXMM: Bool {
        switch self {
        case .movq2dq, .movdq2q, .cvtpi2ps, .cvtpi2pd, .cvtps2pi, .cvttps2pi, .cvtpd2pi, .cvttpd2pi: true
        default: false
        }
    }
}
