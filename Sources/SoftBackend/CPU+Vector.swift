// Instructions on XMM registers: which operation, its operands, its access to memory.

import NVMM

extension CPU {
    /// SDM vol. 3, tables 14-1 and 14-2 decide whether there is any.
    @inline(never) mutating func vector(_ i: borrowing DecodedInstruction) throws(Interruption) {
        // A general register's, whatever the control registers say.
        if i.vector == .movnti {
            return try store(i.segment, effectiveAddress(i), read(i.register0, width: i.width), width: i.width)
        }
        try checkFXSR(needsOSFXSR: true)
        try operateOnVectors(i)
    }

    /// The operation alone, where it is allowed.
    @inline(__always) mutating func operateOnVectors(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.vector {
        case .none: throw .invalidOpcode
        case .movaps, .movups, .movss, .movsd, .movq, .movdToVector, .movdFromVector, .movnti, .movlps, .movhps,
            .movlhps, .movhlps, .movmskps, .movmskpd, .pmovmskb, .pinsrw, .pextrw, .maskmovdqu:
            try moveVector(i)
        case .pand, .pandn, .por, .pxor:
            let source = try vectorSource(i)
            xmm[Int(i.register0 & 15)] = .bits(i.vector, xmm[Int(i.register0 & 15)], source)
        case .paddb, .paddw, .paddd, .paddq, .psubb, .psubw, .psubd, .psubq:
            try combine(i, Vector128.sums)
        case .paddsb, .paddsw, .paddusb, .paddusw, .psubsb, .psubsw, .psubusb, .psubusw:
            try combine(i, Vector128.saturatedSums)
        case .pmullw, .pmulhw, .pmulhuw, .pmuludq, .pmaddwd: try combine(i, Vector128.products)
        case .pavgb, .pavgw, .psadbw, .pminub, .pminsw, .pmaxub, .pmaxsw: try combine(i, Vector128.choices)
        case .pcmpeqb, .pcmpeqw, .pcmpeqd, .pcmpgtb, .pcmpgtw, .pcmpgtd: try combine(i, Vector128.comparisons)
        case .packsswb, .packssdw, .packuswb: try combine(i, Vector128.packed)
        case .punpcklbw, .punpcklwd, .punpckldq, .punpcklqdq, .punpckhbw, .punpckhwd, .punpckhdq, .punpckhqdq:
            try combine(i, Vector128.unpacked)
        case .pshufd, .pshufhw, .pshuflw, .shufps, .shufpd:
            let source = try vectorSource(i)
            xmm[Int(i.register0 & 15)] = .shuffled(
                i.vector, xmm[Int(i.register0 & 15)], source, order: UInt8(truncatingIfNeeded: i.immediate))
        case .psllw, .pslld, .psllq, .psrlw, .psrld, .psrlq, .psraw, .psrad:
            let count = i.form == .registerImmediate ? i.immediate & 0xFF : try vectorSource(i).low
            xmm[Int(i.register0 & 15)] = xmm[Int(i.register0 & 15)].shifted(i.vector, by: count)
        case .pslldq: xmm[Int(i.register0 & 15)] = xmm[Int(i.register0 & 15)].shiftedLeft(bytes: i.immediate & 0xFF)
        case .psrldq: xmm[Int(i.register0 & 15)] = xmm[Int(i.register0 & 15)].shiftedRight(bytes: i.immediate & 0xFF)
        default: if i.vector.isExtended { try extendedVector(i) } else { try calculateVector(i) }
        }
    }

    @inline(__always) mutating func combine(
        _ i: borrowing DecodedInstruction, _ body: (VectorOperation, Vector128, Vector128) -> Vector128
    ) throws(Interruption) {
        let source = try vectorSource(i)
        xmm[Int(i.register0 & 15)] = body(i.vector, xmm[Int(i.register0 & 15)], source)
    }

    /// The second operand, all of it: memory must be aligned.
    @inline(__always) mutating func vectorSource(_ i: borrowing DecodedInstruction) throws(Interruption) -> Vector128 {
        i.flags.contains(.memory) ? try loadVector(i, isAligned: true) : xmm[Int(i.register1 & 15)]
    }

    // MARK: Memory

    /// The linear address of the 16 bytes of a memory operand.
    ///
    /// - Throws: #GP(0) where it must be aligned and is not (SDM vol. 2, "Exceptions type 1" and 4).
    @inline(__always) private mutating func vectorAddress(
        _ i: borrowing DecodedInstruction, isAligned: Bool, _ kind: AccessKind
    ) throws(Interruption) -> UInt64 {
        let offset = effectiveAddress(i)
        // Before the limit, as on processors of Intel.
        if isAligned, (segmentCaches[Int(i.segment & 7)].base &+ offset) & 15 != 0 { throw .generalProtection(0) }
        return try linear(i.segment, offset, byteCount: 16, kind)
    }

    @inline(__always) mutating func loadVector(
        _ i: borrowing DecodedInstruction, isAligned: Bool
    ) throws(Interruption) -> Vector128 {
        let address = try vectorAddress(i, isAligned: isAligned, .read)
        if let host = tlb.look(address, byteCount: 16, .read) { return host.load(as: Vector128.self) }
        let low = try loadSlowly(address, byteCount: 8, segment: i.segment)
        return Vector128(
            low: low, high: try loadSlowly((address &+ 8) & linearMask, byteCount: 8, segment: i.segment))
    }

    @inline(__always) mutating func storeVector(
        _ i: borrowing DecodedInstruction, _ value: Vector128, isAligned: Bool
    ) throws(Interruption) {
        let address = try vectorAddress(i, isAligned: isAligned, .write)
        if let host = tlb.look(address, byteCount: 16, .write) { return host.store(value) }
        // Both pages, before the first byte changes.
        try checkWritable(address, byteCount: 16, segment: i.segment)
        try storeSlowly(address, value.low, byteCount: 8, segment: i.segment)
        try storeSlowly((address &+ 8) & linearMask, value.high, byteCount: 8, segment: i.segment)
    }
}
