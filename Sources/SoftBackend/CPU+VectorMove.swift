// Moves between XMM registers, general registers and memory: SDM vol. 2, under each mnemonic.

import NVMM

extension CPU {
    @inline(never) mutating func moveVector(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let first = Int(i.register0 & 15), second = Int(i.register1 & 15)
        let isStore = i.form == .memoryRegister
        let isLoad = i.flags.contains(.memory) && !isStore
        switch i.vector {
        case .movaps, .movups:
            let isAligned = i.vector == .movaps
            if isStore { return try storeVector(i, xmm[first], isAligned: isAligned) }
            xmm[first] = isLoad ? try loadVector(i, isAligned: isAligned) : xmm[second]
        case .movss:
            if isStore { return try storeOperand(i, xmm[first].doubles[0]) }
            if isLoad {
                xmm[first] = Vector128(low: UInt64(try loadOperand(i, as: UInt32.self)))
            } else {
                xmm[first].doubles[0] = xmm[second].doubles[0]
            }
        case .movsd:
            if isStore { return try storeOperand(i, xmm[first].low) }
            if isLoad { xmm[first] = Vector128(low: try loadOperand(i)) } else { xmm[first].low = xmm[second].low }
        case .movq:
            if isStore { return try storeOperand(i, xmm[first].low) }
            xmm[first] = Vector128(low: isLoad ? try loadOperand(i) : xmm[second].low)
        case .movdToVector:
            xmm[first] = Vector128(low: try secondOperand(i, width: i.width1))
        case .movdFromVector:
            if isStore { return try store(i.segment, effectiveAddress(i), xmm[first].low, width: i.width) }
            write(i.register0, xmm[second].low, width: i.width)
        case .movlps:
            if isStore { return try storeOperand(i, xmm[first].low) }
            xmm[first].low = try loadOperand(i)
        case .movhps:
            if isStore { return try storeOperand(i, xmm[first].high) }
            xmm[first].high = try loadOperand(i)
        case .movlhps: xmm[first].high = xmm[second].low
        case .movhlps: xmm[first].low = xmm[second].high
        case .movmskps: write(i.register0, xmm[second].signs(lanes: 4))
        case .movmskpd: write(i.register0, xmm[second].signs(lanes: 2))
        case .pmovmskb: write(i.register0, xmm[second].signs(lanes: 16))
        case .pinsrw:
            let value: UInt16 = isLoad ? try loadOperand(i) : read(i.register1)
            xmm[first].halves[Int(i.immediate & 7)] = value
        case .pextrw: write(i.register0, UInt32(xmm[second].halves[Int(i.immediate & 7)]))
        default: try storeMasked(i, xmm[first], mask: xmm[second])
        }
    }

    /// MASKMOVDQU, and MASKMOVQ with a mask of eight bytes: the bytes whose mask has its highest bit set.
    mutating func storeMasked(
        _ i: borrowing DecodedInstruction, _ value: Vector128, mask: Vector128
    ) throws(Interruption) {
        let chosen = mask.signs(lanes: 16)
        let start = self[.rdi]
        // All pages, before the first byte changes.
        for place in UInt64(0)..<16 where chosen >> UInt32(place) & 1 != 0 {
            let offset = truncate(start &+ place, toAddressWidth: i.addressWidth)
            try checkWritable(try linear(i.segment, offset, byteCount: 1, .write), byteCount: 1, segment: i.segment)
        }
        for place in UInt64(0)..<16 where chosen >> UInt32(place) & 1 != 0 {
            try store(
                i.segment, truncate(start &+ place, toAddressWidth: i.addressWidth), value.bytes[Int(place)])
        }
    }
}

extension Vector128 {
    /// The highest bits of 2, 4 or 16 lanes, the lowest lane's first.
    @inline(__always) func signs(lanes: Int) -> UInt32 {
        var result: UInt32 = 0
        let stride = 16 / lanes
        for lane in 0..<lanes { result |= UInt32(bytes[lane * stride + stride - 1] >> 7) << UInt32(lane) }
        return result
    }
}
