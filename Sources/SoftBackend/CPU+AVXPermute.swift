// AVX and AVX2: elements to other places, also across the lanes, and shifts by counts of their own. SDM vol. 2, under
// each mnemonic.

import NVMM

extension CPU {
    mutating func permuteAVX(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let isWide = i.flags.contains(.wide), immediate = i.immediate & 0xFF
        let result: Vector256
        switch i.vector {
        case .vbroadcast: result = .repeating(try vectorOperand(i, or: i.register1).low, width: i.width)
        case .vinsert128:
            let lane = try vectorOperand(i, or: i.register2).low
            var value = ymm(i.register1)
            if immediate & 1 == 0 { value.low = lane } else { value.high = lane }
            result = value
        case .vextract128:
            // To memory the register is the only one.
            let isStore = i.flags.contains(.memory)
            let source = ymm(isStore ? i.register0 : i.register1)
            let lane = immediate & 1 == 0 ? source.low : source.high
            if isStore { return try storeYMM(i, Vector256(low: lane), byteCount: 16) }
            return setYMM(i.register0, Vector256(low: lane), isWide: false)
        case .vperm2x128:
            let a = ymm(i.register1), b = try vectorOperand(i, or: i.register2)
            func chosen(_ control: UInt64) -> Vector128 {
                if control & 8 != 0 { return Vector128(low: 0) }
                let source = control & 2 == 0 ? a : b
                return control & 1 == 0 ? source.low : source.high
            }
            result = Vector256(low: chosen(immediate), high: chosen(immediate >> 4))
        case .vpermq:
            let source = try vectorOperand(i, or: i.register1)
            var value = source
            for index in 0..<4 { value[word: index] = source[word: Int(immediate >> UInt64(index * 2) & 3)] }
            result = value
        case .vpermd:
            let order = ymm(i.register1), source = try vectorOperand(i, or: i.register2)
            var value = source
            for index in 0..<8 { value[double: index] = source[double: Int(order[double: index] & 7)] }
            result = value
        case .vpermilps, .vpermilpd: result = try permuteInLanes(i)
        case .vpblendd:
            let b = try vectorOperand(i, or: i.register2)
            var value = ymm(i.register1)
            for index in 0..<8 where immediate >> UInt64(index) & 1 != 0 { value[double: index] = b[double: index] }
            result = value
        default: result = try shiftElements(i)
        }
        setYMM(i.register0, result, isWide: isWide)
    }

    /// By an immediate, or by the elements of the third operand.
    private mutating func permuteInLanes(_ i: borrowing DecodedInstruction) throws(Interruption) -> Vector256 {
        let hasThird = hasThirdOperand(i)
        let operand = try vectorOperand(i, or: hasThird ? i.register2 : i.register1)
        let source = hasThird ? ymm(i.register1) : operand
        var result = source
        if i.vector == .vpermilps {
            for index in 0..<8 {
                let control =
                    hasThird ? UInt64(operand[double: index]) : i.immediate >> UInt64((index & 3) * 2)
                result[double: index] = source[double: index & 4 | Int(control & 3)]
            }
        } else {
            for index in 0..<4 {
                let control = hasThird ? operand[word: index] >> 1 : i.immediate >> UInt64(index)
                result[word: index] = source[word: index & 2 | Int(control & 1)]
            }
        }
        return result
    }

    /// VPSLLVD and its like: counts of the width and more leave nothing, or the sign.
    private mutating func shiftElements(_ i: borrowing DecodedInstruction) throws(Interruption) -> Vector256 {
        let a = ymm(i.register1), counts = try vectorOperand(i, or: i.register2)
        var result = a
        let bits: UInt64 = 8 << UInt64(i.width)
        for index in 0..<Int(256 / bits) {
            let value = a.element(index, width: i.width), count = counts.element(index, width: i.width)
            let shifted: UInt64 =
                switch i.vector {
                case .vpsllv: count < bits ? value << count : 0
                case .vpsrlv: count < bits ? value >> count : 0
                default: UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: value)) >> Int64(min(count, 31)))
                }
            result.setElement(index, width: i.width, to: shifted)
        }
        return result
    }
}

extension Vector256 {
    /// The first element everywhere.
    ///
    /// - Parameter width: log2 of its bytes, 0 to 4.
    fileprivate static func repeating(_ first: Vector128, width: UInt8) -> Self {
        let lane =
            switch width {
            case 0: Vector128(SIMD16(repeating: first.bytes[0]))
            case 1: Vector128(SIMD8(repeating: first.halves[0]))
            case 2: Vector128(SIMD4(repeating: first.doubles[0]))
            case 3: Vector128(SIMD2(repeating: first.low))
            default: first
            }
        return Self(low: lane, high: lane)
    }
}
