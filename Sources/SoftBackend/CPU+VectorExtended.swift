// SSE3 to SSE4.2, AES and PCLMULQDQ: operands and flags of what their files calculate. SDM vol. 2, under each mnemonic.

import NVMM

extension CPU {
    @inline(never) mutating func extendedVector(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let first = Int(i.register0 & 15)
        let immediate = i.immediate & 0xFF
        switch i.vector {
        case .movddup:
            let low = try doubleSource(i)
            xmm[first] = Vector128(low: low, high: low)
        case .movsldup, .movshdup:
            let odd = i.vector == .movshdup ? 1 : 0, source = try vectorSource(i).doubles
            xmm[first] = Vector128(SIMD4(source[odd], source[odd], source[2 + odd], source[2 + odd]))
        case .phaddw, .phaddd, .phaddsw, .phsubw, .phsubd, .phsubsw: try combine(i, Vector128.neighbours)
        case .pabsb, .pabsw, .pabsd, .psignb, .psignw, .psignd, .pmaddubsw, .pmulhrsw: try combine(i, Vector128.signed)
        case .pshufb: xmm[first] = xmm[first].picked(by: try vectorSource(i))
        case .palignr: xmm[first] = xmm[first].aligned(above: try vectorSource(i), by: immediate)
        case .pmuldq, .pmulld, .pcmpeqq, .pcmpgtq, .pminsb, .pmaxsb, .pminuw, .pmaxuw, .pminud, .pmaxud, .pminsd,
            .pmaxsd, .packusdw, .phminposuw:
            try combine(i, Vector128.wide)
        case .mpsadbw: xmm[first] = .differences(xmm[first], try vectorSource(i), places: immediate)
        case .pmovsxbw, .pmovsxbd, .pmovsxbq, .pmovsxwd, .pmovsxwq, .pmovsxdq, .pmovzxbw, .pmovzxbd, .pmovzxbq,
            .pmovzxwd, .pmovzxwq, .pmovzxdq:
            try widen(i)
        case .blendps: xmm[first] = xmm[first].blended(try vectorSource(i), bits: immediate, laneBytes: 4)
        case .blendpd: xmm[first] = xmm[first].blended(try vectorSource(i), bits: immediate, laneBytes: 8)
        case .pblendw: xmm[first] = xmm[first].blended(try vectorSource(i), bits: immediate, laneBytes: 2)
        case .blendvps: xmm[first] = xmm[first].blended(try vectorSource(i), mask: xmm[0], laneBytes: 4)
        case .blendvpd: xmm[first] = xmm[first].blended(try vectorSource(i), mask: xmm[0], laneBytes: 8)
        case .pblendvb: xmm[first] = xmm[first].blended(try vectorSource(i), mask: xmm[0], laneBytes: 1)
        case .ptest:
            let (a, b) = (xmm[first].words, try vectorSource(i).words)
            let common = a & b, rest = ~a & b
            status.rflags =
                (common[0] | common[1] == 0 ? RFLAGS.zf : 0) | (rest[0] | rest[1] == 0 ? RFLAGS.cf : 0)
        case .pinsrb:
            xmm[first].bytes[Int(immediate & 15)] = UInt8(truncatingIfNeeded: try secondOperand(i, width: 0))
        case .pinsrd:
            xmm[first].doubles[Int(immediate & 3)] = UInt32(truncatingIfNeeded: try secondOperand(i, width: 2))
        case .pinsrq: xmm[first].words[Int(immediate & 1)] = try secondOperand(i, width: 3)
        case .insertps: try insertSingle(i)
        case .pextrb, .pextrwToMemory, .pextrd, .pextrq: try extractLane(i)
        case .aesenc, .aesenclast, .aesdec, .aesdeclast:
            xmm[first] = .cipherRound(i.vector, xmm[first], key: try vectorSource(i))
        case .aesimc: xmm[first] = try vectorSource(i).withColumnsUnmixed
        case .aeskeygenassist: xmm[first] = try vectorSource(i).keyAssist(constant: UInt32(immediate))
        case .pclmulqdq: xmm[first] = .carrylessProduct(xmm[first], try vectorSource(i), halves: immediate)
        case .sha1rnds4, .sha1nexte, .sha1msg1, .sha1msg2, .sha256rnds2, .sha256msg1, .sha256msg2:
            // Memory need not be aligned on processors of AMD.
            let source =
                i.flags.contains(.memory)
                ? try loadVector(i, isAligned: model.isIntel) : xmm[Int(i.register1 & 15)]
            xmm[first] = .hashed(i.vector, xmm[first], source, added: xmm[0], rounds: immediate)
        case .pcmpestri, .pcmpestrm, .pcmpistri, .pcmpistrm: try compareTexts(i)
        default: try calculateExtendedVector(i)
        }
    }

    private mutating func widen(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let (from, to): (Int, Int) =
            switch i.vector {
            case .pmovsxbw, .pmovzxbw: (1, 2)
            case .pmovsxbd, .pmovzxbd: (1, 4)
            case .pmovsxbq, .pmovzxbq: (1, 8)
            case .pmovsxwd, .pmovzxwd: (2, 4)
            case .pmovsxwq, .pmovzxwq: (2, 8)
            default: (4, 8)
            }
        let isSigned =
            switch i.vector {
            case .pmovsxbw, .pmovsxbd, .pmovsxbq, .pmovsxwd, .pmovsxwq, .pmovsxdq: true
            default: false
            }
        var source = xmm[Int(i.register1 & 15)]
        if i.flags.contains(.memory) {
            // As many bytes as there are lanes for.
            source =
                switch 16 / to * from {
                case 8: Vector128(low: try loadOperand(i))
                case 4: Vector128(low: UInt64(try loadOperand(i, as: UInt32.self)))
                default: Vector128(low: UInt64(try loadOperand(i, as: UInt16.self)))
                }
        }
        xmm[Int(i.register0 & 15)] = source.widened(from: from, to: to, signed: isSigned)
    }

    /// INSERTPS: a lane of a register or memory to a place, then zeros where the lowest four bits say so.
    private mutating func insertSingle(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let value: UInt32 =
            i.flags.contains(.memory)
            ? try loadOperand(i) : xmm[Int(i.register1 & 15)].doubles[Int(i.immediate >> 6 & 3)]
        xmm[Int(i.register0 & 15)] = xmm[Int(i.register0 & 15)].inserting(value, by: i.immediate)
    }

    /// To memory as wide as the lane; in a register the rest is zero.
    private mutating func extractLane(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let isMemory = i.flags.contains(.memory)
        let source = xmm[Int((isMemory ? i.register0 : i.register1) & 15)]
        let (value, width): (UInt64, UInt8) =
            switch i.vector {
            case .pextrb: (UInt64(source.bytes[Int(i.immediate & 15)]), 0)
            case .pextrwToMemory: (UInt64(source.halves[Int(i.immediate & 7)]), 1)
            case .pextrd: (UInt64(source.doubles[Int(i.immediate & 3)]), 2)
            default: (source.words[Int(i.immediate & 1)], 3)
            }
        if isMemory { return try store(i.segment, effectiveAddress(i), value, width: width) }
        write(i.register0, value, width: max(width, 2))
    }

    private mutating func compareTexts(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let comparison = TextComparison(UInt8(truncatingIfNeeded: i.immediate))
        let first = xmm[Int(i.register0 & 15)]
        let second = i.flags.contains(.memory) ? try loadVector(i, isAligned: false) : xmm[Int(i.register1 & 15)]
        let hasLengths = i.vector == .pcmpestri || i.vector == .pcmpestrm
        func explicit(_ register: UInt64) -> Int {
            comparison.length(
                i.hasREXW ? Int64(bitPattern: register) : Int64(Int32(truncatingIfNeeded: register)))
        }
        let firstLength = hasLengths ? explicit(self[.rax]) : comparison.length(first)
        let secondLength = hasLengths ? explicit(self[.rdx]) : comparison.length(second)
        let result = comparison.result(first, firstLength, second, secondLength)
        if i.vector == .pcmpestri || i.vector == .pcmpistri {
            write(1, UInt32(truncatingIfNeeded: comparison.index(of: result)))
        } else {
            xmm[0] = comparison.mask(of: result)
        }
        status.rflags =
            (result != 0 ? RFLAGS.cf : 0) | (secondLength < comparison.count ? RFLAGS.zf : 0)
            | (firstLength < comparison.count ? RFLAGS.sf : 0) | (result & 1 != 0 ? RFLAGS.of : 0)
    }

    // MARK: Floating point

    private mutating func calculateExtendedVector(_ i: borrowing DecodedInstruction) throws(Interruption) {
        var environment = FloatEnvironment(mxcsr: fpu.mxcsr)
        let first = Int(i.register0 & 15)
        var result = xmm[first]
        switch i.vector {
        case .addsubps, .haddps, .hsubps, .dpps, .roundps:
            let a = result.doubles, b = try vectorSource(i).doubles
            switch i.vector {
            case .addsubps:
                for lane in 0..<4 {
                    result.doubles[lane] = environment.sum(
                        a[lane], b[lane], negating: lane & 1 == 0, SingleFormat.self)
                }
            case .dpps:
                result =
                    try dotProducts(
                        Vector256(low: Vector128(a)), Vector256(low: Vector128(b)), laneCount: 1, i.immediate,
                        &environment
                    ).low
            case .roundps:
                for lane in 0..<4 {
                    result.doubles[lane] = environment.rounded(b[lane], i.immediate, SingleFormat.self)
                }
            default:
                let pairs = [(a[0], a[1]), (a[2], a[3]), (b[0], b[1]), (b[2], b[3])]
                for (lane, pair) in pairs.enumerated() {
                    result.doubles[lane] = environment.sum(
                        pair.0, pair.1, negating: i.vector == .hsubps, SingleFormat.self)
                }
            }
        case .addsubpd, .haddpd, .hsubpd, .dppd, .roundpd:
            let a = result.words, b = try vectorSource(i).words
            switch i.vector {
            case .addsubpd:
                for lane in 0..<2 {
                    result.words[lane] = environment.sum(a[lane], b[lane], negating: lane == 0, DoubleFormat.self)
                }
            case .dppd: result.words = try dotProduct(a, b, i.immediate, &environment)
            case .roundpd:
                for lane in 0..<2 { result.words[lane] = environment.rounded(b[lane], i.immediate, DoubleFormat.self) }
            default:
                let isDifference = i.vector == .hsubpd
                result.words[0] = environment.sum(a[0], a[1], negating: isDifference, DoubleFormat.self)
                result.words[1] = environment.sum(b[0], b[1], negating: isDifference, DoubleFormat.self)
            }
        case .roundss:
            result.doubles[0] = environment.rounded(try singleSource(i), i.immediate, SingleFormat.self)
        default:  // ROUNDSD
            result.low = environment.rounded(try doubleSource(i), i.immediate, DoubleFormat.self)
        }
        try finish(environment)
        xmm[first] = result
    }

    /// DPPS and DPPD: the exceptions of the products are told before there are sums. Which of two NaNs is kept depends
    /// on the sums' order: on processors of Intel each lane has its own, on those of AMD all have the same.
    mutating func dotProducts(
        _ a: Vector256, _ b: Vector256, laneCount: Int, _ immediate: UInt64, _ environment: inout FloatEnvironment
    ) throws(Interruption) -> Vector256 {
        let elements = 0..<laneCount * 4
        var products = Vector256(low: Vector128(low: 0))
        for index in elements where immediate >> UInt64(4 + index & 3) & 1 != 0 {
            products[double: index] = environment.product(a[double: index], b[double: index], SingleFormat.self)
        }
        try finish(environment)
        var sums = products
        for index in elements {
            let first = model.isIntel ? index ^ 1 : index & ~1
            sums[double: index] = environment.sum(
                products[double: first], products[double: first ^ 1], negating: false, SingleFormat.self)
        }
        try finish(environment)
        var result = Vector256(low: Vector128(low: 0))
        for index in elements {
            let first = model.isIntel ? index : index & ~2
            let sum = environment.sum(sums[double: first], sums[double: first ^ 2], negating: false, SingleFormat.self)
            if immediate >> UInt64(index & 3) & 1 != 0 { result[double: index] = sum }
        }
        try finish(environment)
        return result
    }

    private mutating func dotProduct(
        _ a: SIMD2<UInt64>, _ b: SIMD2<UInt64>, _ immediate: UInt64, _ environment: inout FloatEnvironment
    ) throws(Interruption) -> SIMD2<UInt64> {
        var products = SIMD2<UInt64>()
        for lane in 0..<2 where immediate >> UInt64(4 + lane) & 1 != 0 {
            products[lane] = environment.product(a[lane], b[lane], DoubleFormat.self)
        }
        try finish(environment)
        var result = SIMD2<UInt64>()
        for lane in 0..<2 {
            let first = model.isIntel ? lane : 0
            let sum = environment.sum(products[first], products[1 - first], negating: false, DoubleFormat.self)
            if immediate >> UInt64(lane) & 1 != 0 { result[lane] = sum }
        }
        return result
    }
}

extension FloatEnvironment {
    /// ROUNDPS and its like: to a whole number, as the immediate or MXCSR says.
    fileprivate mutating func rounded<F: FloatFormat>(_ a: F.Bits, _ immediate: UInt64, _ format: F.Type) -> F.Bits {
        let value = UnpackedFloat(a, F.self, self)
        if value.isNaN { return propagate(a, a, value, value, F.self) }
        if value.kind == .zero { return a & F.signBit }
        guard value.kind == .finite, value.exponent < F.fractionBits else { return a }
        var inner = self
        if immediate & 4 == 0 { inner.rounding = FloatRounding(rawValue: UInt32(immediate & 3)) ?? .nearestEven }
        inner.exceptions = 0
        let whole = inner.integer(a, bits: 64, truncating: false, F.self) ?? 0
        let suppressesPrecision = immediate & 8 != 0
        if !suppressesPrecision { raise(inner.exceptions) }
        return whole == 0 ? a & F.signBit : inner.converted(integer: whole, to: F.self)
    }
}
