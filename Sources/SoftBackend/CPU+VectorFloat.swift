// Floating point on XMM registers: SDM vol. 2, under each mnemonic; exceptions: SDM vol. 1, section 11.5.

import NVMM

extension CPU {
    /// Everything of ``VectorOperation`` that rounds or compares. Memory is read first; an exception that is not masked
    /// leaves the destination as it was.
    @inline(never) mutating func calculateVector(_ i: borrowing DecodedInstruction) throws(Interruption) {
        var environment = FloatEnvironment(mxcsr: fpu.mxcsr)
        let first = Int(i.register0 & 15)
        switch i.vector {
        case .addps, .subps, .mulps, .divps, .minps, .maxps, .sqrtps:
            let a = xmm[first], b = try vectorSource(i)
            var result = a
            for lane in 0..<4 {
                result.doubles[lane] = environment.arithmetic(
                    i.vector, a.doubles[lane], b.doubles[lane], SingleFormat.self)
            }
            try finish(environment)
            xmm[first] = result
        case .addpd, .subpd, .mulpd, .divpd, .minpd, .maxpd, .sqrtpd:
            let a = xmm[first], b = try vectorSource(i)
            var result = a
            for lane in 0..<2 {
                result.words[lane] = environment.arithmetic(i.vector, a.words[lane], b.words[lane], DoubleFormat.self)
            }
            try finish(environment)
            xmm[first] = result
        case .addss, .subss, .mulss, .divss, .minss, .maxss, .sqrtss:
            let b = try singleSource(i)
            let result = environment.arithmetic(i.vector, xmm[first].doubles[0], b, SingleFormat.self)
            try finish(environment)
            xmm[first].doubles[0] = result
        case .addsd, .subsd, .mulsd, .divsd, .minsd, .maxsd, .sqrtsd:
            let b = try doubleSource(i)
            let result = environment.arithmetic(i.vector, xmm[first].low, b, DoubleFormat.self)
            try finish(environment)
            xmm[first].low = result
        case .rcpps, .rsqrtps:
            let b = try vectorSource(i)
            for lane in 0..<4 {
                xmm[first].doubles[lane] = FloatEnvironment.reciprocal(b.doubles[lane], ofRoot: i.vector == .rsqrtps)
            }
        case .rcpss, .rsqrtss:
            xmm[first].doubles[0] = FloatEnvironment.reciprocal(try singleSource(i), ofRoot: i.vector == .rsqrtss)
        case .cmpps, .cmppd, .cmpss, .cmpsd: try compareLanes(i, &environment)
        case .comiss, .ucomiss:
            let order = environment.order(
                xmm[first].doubles[0], try singleSource(i), quietIsInvalid: i.vector == .comiss, SingleFormat.self)
            try finish(environment)
            setFlags(order)
        case .comisd, .ucomisd:
            let order = environment.order(
                xmm[first].low, try doubleSource(i), quietIsInvalid: i.vector == .comisd, DoubleFormat.self)
            try finish(environment)
            setFlags(order)
        default: try convert(i, &environment)
        }
    }

    // MARK: Comparison

    private mutating func compareLanes(
        _ i: borrowing DecodedInstruction, _ environment: inout FloatEnvironment
    ) throws(Interruption) {
        let predicate = UInt8(truncatingIfNeeded: i.immediate & (i.operation == .avx ? 0x1F : 7))
        let first = Int(i.register0 & 15)
        var result = xmm[first]
        switch i.vector {
        case .cmpps:
            let b = try vectorSource(i)
            for lane in 0..<4 {
                let holds = environment.holds(predicate, result.doubles[lane], b.doubles[lane], SingleFormat.self)
                result.doubles[lane] = holds ? .max : 0
            }
        case .cmppd:
            let b = try vectorSource(i)
            for lane in 0..<2 {
                let holds = environment.holds(predicate, result.words[lane], b.words[lane], DoubleFormat.self)
                result.words[lane] = holds ? .max : 0
            }
        case .cmpss:
            let holds = environment.holds(predicate, result.doubles[0], try singleSource(i), SingleFormat.self)
            result.doubles[0] = holds ? .max : 0
        default:
            let holds = environment.holds(predicate, result.low, try doubleSource(i), DoubleFormat.self)
            result.low = holds ? .max : 0
        }
        try finish(environment)
        xmm[first] = result
    }

    mutating func setFlags(_ order: FloatEnvironment.Order) {
        status.rflags =
            switch order {
            case .unordered: RFLAGS.zf | RFLAGS.pf | RFLAGS.cf
            case .less: RFLAGS.cf
            case .equal: RFLAGS.zf
            case .greater: 0
            }
    }

    // MARK: Conversions

    private mutating func convert(
        _ i: borrowing DecodedInstruction, _ environment: inout FloatEnvironment
    ) throws(Interruption) {
        let first = Int(i.register0 & 15)
        var result = xmm[first]
        switch i.vector {
        case .cvtss2sd:
            result.low = environment.converted(try singleSource(i), from: SingleFormat.self, to: DoubleFormat.self)
        case .cvtsd2ss:
            result.doubles[0] = environment.converted(
                try doubleSource(i), from: DoubleFormat.self, to: SingleFormat.self)
        case .cvtsi2ss:
            result.doubles[0] = environment.converted(integer: try integerSource(i), to: SingleFormat.self)
        case .cvtsi2sd: result.low = environment.converted(integer: try integerSource(i), to: DoubleFormat.self)
        case .cvtss2si, .cvttss2si:
            let value = environment.integer(
                try singleSource(i), bits: 8 << Int(i.width), truncating: i.vector == .cvttss2si, SingleFormat.self)
            return try finishInteger(i, value, environment)
        case .cvtsd2si, .cvttsd2si:
            let value = environment.integer(
                try doubleSource(i), bits: 8 << Int(i.width), truncating: i.vector == .cvttsd2si, DoubleFormat.self)
            return try finishInteger(i, value, environment)
        case .cvtdq2ps:
            let source = try vectorSource(i)
            for lane in 0..<4 {
                result.doubles[lane] = environment.converted(
                    integer: Int64(source.signedDoubles[lane]), to: SingleFormat.self)
            }
        case .cvtps2dq, .cvttps2dq:
            let source = try vectorSource(i)
            for lane in 0..<4 {
                result.doubles[lane] = environment.doubleword(
                    source.doubles[lane], truncating: i.vector == .cvttps2dq, SingleFormat.self)
            }
        case .cvtdq2pd:
            let source = Vector128(low: try doubleSource(i))
            for lane in 0..<2 {
                result.words[lane] = environment.converted(
                    integer: Int64(source.signedDoubles[lane]), to: DoubleFormat.self)
            }
        case .cvtps2pd:
            let source = Vector128(low: try doubleSource(i))
            for lane in 0..<2 {
                result.words[lane] = environment.converted(
                    source.doubles[lane], from: SingleFormat.self, to: DoubleFormat.self)
            }
        case .cvtpd2dq, .cvttpd2dq:
            let source = try vectorSource(i)
            result = Vector128(low: 0)
            for lane in 0..<2 {
                result.doubles[lane] = environment.doubleword(
                    source.words[lane], truncating: i.vector == .cvttpd2dq, DoubleFormat.self)
            }
        default:  // CVTPD2PS
            let source = try vectorSource(i)
            result = Vector128(low: 0)
            for lane in 0..<2 {
                result.doubles[lane] = environment.converted(
                    source.words[lane], from: DoubleFormat.self, to: SingleFormat.self)
            }
        }
        try finish(environment)
        xmm[first] = result
    }

    private mutating func finishInteger(
        _ i: borrowing DecodedInstruction, _ value: Int64?, _ environment: FloatEnvironment
    ) throws(Interruption) {
        try finish(environment)
        // The integer indefinite: SDM vol. 1, table 4-1.
        let indefinite = 1 << UInt64(8 << UInt64(i.width) - 1) as UInt64
        write(i.register0, value.map(UInt64.init(bitPattern:)) ?? indefinite, width: i.width)
    }

    // MARK: Operands

    @inline(__always) mutating func singleSource(
        _ i: borrowing DecodedInstruction
    ) throws(Interruption) -> UInt32 {
        i.flags.contains(.memory) ? try loadOperand(i) : xmm[Int(i.register1 & 15)].doubles[0]
    }

    @inline(__always) mutating func doubleSource(
        _ i: borrowing DecodedInstruction
    ) throws(Interruption) -> UInt64 {
        i.flags.contains(.memory) ? try loadOperand(i) : xmm[Int(i.register1 & 15)].low
    }

    private mutating func integerSource(_ i: borrowing DecodedInstruction) throws(Interruption) -> Int64 {
        let value = try secondOperand(i, width: i.width1)
        return i.width1 == 2 ? Int64(Int32(truncatingIfNeeded: value)) : Int64(bitPattern: value)
    }

    // MARK: Exceptions

    /// Puts the exceptions into MXCSR. Where one that is known before the result is not masked, those that a result
    /// would show are not looked for.
    ///
    /// - Throws: #XM, or #UD where the system does not want it (SDM vol. 1, section 11.5.1), if any is not masked.
    mutating func finish(_ environment: FloatEnvironment) throws(Interruption) {
        let early = environment.exceptions & FloatException.preComputation
        let seen = early & ~environment.masks != 0 ? early : environment.exceptions
        fpu.mxcsr |= seen
        guard seen & ~environment.masks != 0 else { return }
        throw cr4 & CR4.osxmmexcpt != 0 ? .exception(.simdFloatingPoint) : .invalidOpcode
    }
}

extension FloatEnvironment {
    /// RCPPS and RSQRTPS: twelve bits of the result, which the manual bounds to an error of 1.5 * 2^-12 and leaves open
    /// otherwise. No exceptions, and no denormal numbers on either side.
    fileprivate static func reciprocal(_ a: UInt32, ofRoot: Bool) -> UInt32 {
        let denormalsAreZeros: UInt32 = 1 << 6, flushesToZero: UInt32 = 1 << 15
        var environment = FloatEnvironment(mxcsr: 0x1F80 | denormalsAreZeros | flushesToZero)
        let one: UInt32 = 0x3F80_0000
        let divisor = ofRoot ? environment.squareRoot(a, SingleFormat.self) : a
        let quotient = environment.quotient(one, divisor, SingleFormat.self)
        guard quotient & SingleFormat.infinity != SingleFormat.infinity else { return quotient }
        return (quotient &+ 1 << 10) & ~0x7FF
    }

    @inline(__always) fileprivate mutating func arithmetic<F: FloatFormat>(
        _ operation: VectorOperation, _ a: F.Bits, _ b: F.Bits, _ format: F.Type
    ) -> F.Bits {
        switch operation {
        case .addps, .addpd, .addss, .addsd: sum(a, b, negating: false, F.self)
        case .subps, .subpd, .subss, .subsd: sum(a, b, negating: true, F.self)
        case .mulps, .mulpd, .mulss, .mulsd: product(a, b, F.self)
        case .divps, .divpd, .divss, .divsd: quotient(a, b, F.self)
        case .minps, .minpd, .minss, .minsd: extreme(a, b, wants: .less, F.self)
        case .maxps, .maxpd, .maxss, .maxsd: extreme(a, b, wants: .greater, F.self)
        default: squareRoot(b, F.self)
        }
    }

    /// The predicates of CMPPS and VCMPPS: SDM vol. 2, CMPPS, table 3-1.
    fileprivate mutating func holds<F: FloatFormat>(
        _ predicate: UInt8, _ a: F.Bits, _ b: F.Bits, _ format: F.Type
    ) -> Bool {
        let quietIsInvalid = (predicate & 3 == 1 || predicate & 3 == 2) != (predicate & 0x10 != 0)
        let order = order(a, b, quietIsInvalid: quietIsInvalid, F.self)
        let isTrue =
            switch predicate & 0xB {
            case 0: order == .equal
            case 1: order == .less
            case 2: order == .less || order == .equal
            case 3: order == .unordered
            case 8: order == .equal || order == .unordered
            case 9: order == .less || order == .unordered
            case 0xA: order != .greater
            default: false
            }
        return isTrue != (predicate & 4 != 0)
    }

    mutating func doubleword<F: FloatFormat>(
        _ a: F.Bits, truncating: Bool, _ format: F.Type
    ) -> UInt32 {
        integer(a, bits: 32, truncating: truncating, F.self).map { UInt32(truncatingIfNeeded: $0) } ?? 0x8000_0000
    }
}
