// AVX and AVX2: moves, and memory of 256 bits, by masks and by indices. SDM vol. 2, under each mnemonic.

import NVMM

extension CPU {
    mutating func moveAVX(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let isWide = i.flags.contains(.wide), isMemory = i.flags.contains(.memory)
        let source = xmm[Int(i.register0 & 15)]
        if i.form == .memoryRegister {
            switch i.vector {
            case .movaps, .movups:
                if i.vector == .movaps { try requireAlignment(i) }
                return try storeYMM(i, ymm(i.register0), byteCount: isWide ? 32 : 16)
            case .movss: return try storeOperand(i, source.doubles[0])
            case .movhps: return try storeOperand(i, source.high)
            default: return try storeOperand(i, source.low)
            }
        }
        var result = ymm(i.register1)
        switch i.vector {
        case .movss where !isMemory: result.low.doubles[0] = xmm[Int(i.register2 & 15)].doubles[0]
        case .movsd where !isMemory: result.low.low = xmm[Int(i.register2 & 15)].low
        case .movaps, .movups, .movss, .movsd:
            if isMemory, i.vector == .movaps { try requireAlignment(i) }
            result = try vectorOperand(i, or: i.register1)
        case .movq: result.low = Vector128(low: try vectorOperand(i, or: i.register1).low.low)
        case .movdToVector: result.low = Vector128(low: try secondOperand(i, width: i.width1))
        case .movlps: result.low.low = try loadOperand(i)
        default: result.low.high = try loadOperand(i)
        }
        setYMM(i.register0, result, isWide: isWide)
    }

    /// VMOVAPS and its like, of all of their operand.
    private func requireAlignment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let address = segmentCaches[Int(i.segment & 7)].base &+ effectiveAddress(i)
        if address & (UInt64(i.memoryBytes) &- 1) != 0 { throw .generalProtection(0) }
    }

    // MARK: Memory

    /// - Parameter byteCount: 1 to 32; what is above is zero.
    mutating func loadYMM(_ i: borrowing DecodedInstruction, byteCount: Int) throws(Interruption) -> Vector256 {
        let address = try linear(i.segment, effectiveAddress(i), byteCount: UInt64(byteCount), .read)
        var words = SIMD4<UInt64>()
        for index in 0..<max(byteCount / 8, 1) {
            words[index] = try loadSlowly(
                (address &+ UInt64(index) &* 8) & linearMask, byteCount: UInt64(min(byteCount, 8)), segment: i.segment)
        }
        return Vector256(low: Vector128(words.lowHalf), high: Vector128(words.highHalf))
    }

    /// - Parameter byteCount: 16 or 32. All of it is there before the first byte changes.
    mutating func storeYMM(
        _ i: borrowing DecodedInstruction, _ value: Vector256, byteCount: Int
    ) throws(Interruption) {
        let address = try linear(i.segment, effectiveAddress(i), byteCount: UInt64(byteCount), .write)
        try checkWritable(address, byteCount: UInt64(byteCount), segment: i.segment)
        for index in 0..<byteCount / 8 {
            try storeSlowly(
                (address &+ UInt64(index) &* 8) & linearMask, value[word: index], byteCount: 8, segment: i.segment)
        }
    }

    /// VMASKMOVPS and its like: elements whose mask is negative. The others are not accessed, and read as zero.
    mutating func moveMasked(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let isStore = i.form == .memoryRegister, isWide = i.flags.contains(.wide), width = i.width
        let mask = ymm(isStore ? i.register0 : i.register1)
        let start = effectiveAddress(i), count = (isWide ? 32 : 16) >> Int(width)
        func offset(_ index: Int) -> UInt64 { start &+ UInt64(index) &<< UInt64(width) }
        if isStore {
            let value = ymm(i.register1), bytes = UInt64(1) &<< UInt64(width)
            // All elements, before the first changes.
            for index in 0..<count where mask.isNegative(index, width: width) {
                let address = try linear(i.segment, offset(index), byteCount: bytes, .write)
                try checkWritable(address, byteCount: bytes, segment: i.segment)
            }
            for index in 0..<count where mask.isNegative(index, width: width) {
                try store(i.segment, offset(index), value.element(index, width: width), width: width)
            }
            return
        }
        var result = Vector256(low: Vector128(low: 0))
        for index in 0..<count where mask.isNegative(index, width: width) {
            result.setElement(index, width: width, to: try load(i.segment, offset(index), width: width))
        }
        setYMM(i.register0, result, isWide: isWide)
    }

    /// VGATHERDPS and its like. Where an element faults, those before it stay gathered and their masks are gone, and
    /// nothing else has changed, as on processors of AMD; the manual lets masks be spread to all of their bits before.
    mutating func gather(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let (target, maskRegister) = (i.register0, i.register1)
        guard target != maskRegister, target != i.index, maskRegister != i.index else { throw .invalidOpcode }
        let indices = ymm(i.index)
        var result = ymm(target), mask = ymm(maskRegister)
        let count = (i.flags.contains(.wide) ? 32 : 16) >> Int(max(i.width, i.width1))
        for index in 0..<count {
            let isChosen = mask.isNegative(index, width: i.width)
            let place = indices.element(index, width: i.width1)
            let distance = i.width1 == 3 ? place : UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: place)))
            let offset = (gpr[Int(i.base & 31)] &+ distance &<< UInt64(i.scale) &+ i.displacement) & i.addressMask
            do throws(Interruption) {
                if isChosen {
                    result.setElement(index, width: i.width, to: try load(i.segment, offset, width: i.width))
                }
            } catch {
                setYMM(target, result, isWide: true)
                setYMM(maskRegister, mask, isWide: true)
                throw error
            }
            mask.setElement(index, width: i.width, to: 0)
        }
        for index in count..<max(count, 32 >> Int(i.width)) { result.setElement(index, width: i.width, to: 0) }
        setYMM(target, result, isWide: true)
        setYMM(maskRegister, Vector256(low: Vector128(low: 0)), isWide: true)
    }
}
