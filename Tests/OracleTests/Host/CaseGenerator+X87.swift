// States of the x87 unit in which something may go wrong.

import CHostOracle
import NVMM

extension CaseGenerator {
    /// Bytes of a memory operand.
    func x87Bytes(_ operand: InstructionForm.X87Operand) -> Int {
        switch operand {
        case .extended, .decimal, .fraction: 10
        case .single: 4
        case .double: 8
        case .integer(let bits): bits / 8
        case .environment: (size == 16 ? 14 : 28) + (form.mnemonic.contains("ENV") ? 0 : 80)
        }
    }

    mutating func prepareX87() {
        guard case .x87(let operand, let ulps) = form.kind else { return }
        var fpu = OracleState.initialFPU
        let rounding = UInt16(chance(50) ? 0 : below(4)) << 10
        let precision = UInt16(chance(50) ? 3 : below(4)) << 8
        fpu.controlWord = (chance(75) ? 0x3F : UInt16(below(0x40))) | 0x40 | rounding | precision
        fpu.statusWord = UInt16(below(8)) << 11
        if chance(30) { fpu.statusWord |= UInt16(below(0x10000)) & 0x477F }
        if chance(30) { fpu.statusWord |= 0x200 }
        let isPending = fpu.statusWord & ~fpu.controlWord & 0x3F != 0
        if isPending {
            // The next one that waits is #MF and no more.
            if chance(80) { fpu.statusWord &= ~0x3F } else { fpu.statusWord |= 0x8080 }
        }
        fpu.tagByte = chance(40) ? 0xFF : chance(50) ? 0x7F : UInt8(below(256))
        // A stack with room above it and numbers below, most of the time.
        if chance(60) { fpu.tagByte = UInt8(truncatingIfNeeded: 0x7F7F >> (7 - Int(fpu.statusWord >> 11 & 7))) }
        var numbers: [[UInt8]] = []
        for index in 0..<8 {
            var number = operand == .fraction && index == 0 ? fraction() : extended()
            if index > 0, chance(12) { number = Array(numbers[index - 1]) }
            numbers.append(number)
            fpu.x87[index] = SIMD16(number + [0, 0, 0, 0, 0, 0])
        }
        test.state.fpu = fpu
        if ulps > 0 { leaveOpen(ulps) }
        if let target { patchX87(operand, at: target) }
    }

    /// SDM vol. 1, section 8.3.10: transcendental results are exact to a unit in the last place, and C1 tells how
    /// they were rounded. Whether a result that small is tiny depends on that unit too.
    private mutating func leaveOpen(_ ulps: UInt64) {
        test.undefined.numberUlps = ulps
        test.undefined.statusWord = 0x200
    }

    private mutating func patchX87(_ operand: InstructionForm.X87Operand, at target: Int) {
        switch operand {
        case .single: patch(target, Self.little(float(bits: 32), 4))
        case .double: patch(target, Self.little(float(bits: 64), 8))
        case .integer(let bits): patch(target, Self.little(value(bits: bits), bits / 8))
        case .extended, .fraction: patch(target, extended())
        case .decimal:
            let digits = (0..<9).map { _ in UInt8(below(10) << 4 | below(10)) }
            patch(target, (chance(20) ? [UInt8](repeating: 0, count: 9) : digits) + [UInt8(below(256))])
        case .environment:
            let field = size == 16 ? 2 : 4
            var fields = (0..<7).flatMap { _ in Self.little(random.next(), field) }
            // Exceptions that wait are another test; so are selectors, which some processors keep.
            fields[0] |= 0x3F
            patch(target, fields)
            guard memoryBytes > 28 else { return }
            let start = target + 7 * field
            patch(start, (0..<6).flatMap { _ in extended() })
            patch(start + 60, (0..<2).flatMap { _ in extended() })
        }
    }

    /// A number of 80 bits: every class of them, with significands that end where some precision does.
    private mutating func extended() -> [UInt8] {
        let sign = UInt64(below(2)) << 15
        let integerBit: UInt64 = 1 << 63
        let all = random.next() | integerBit
        let significand = pick([
            integerBit, .max, .max - 1, all, all, all & ~(UInt64.max >> UInt64(below(63) + 1)),
            all & ~0x7FF | UInt64(pick([0, 0x400, 0x3FF, 0x401])),
            all & ~0xFF_FFFF_FFFF | UInt64(pick([0, 0x80_0000_0000, 0x7F_FFFF_FFFF])), integerBit | 1,
        ])
        func number(_ exponent: Int, _ significand: UInt64) -> [UInt8] {
            Self.little(significand, 8) + Self.little(sign | UInt64(exponent & 0x7FFF), 2)
        }
        switch below(20) {
        case 0, 1: return number(0, 0)
        case 2: return number(0, random.next() >> UInt64(below(63) + 1))
        case 3: return number(0, significand)
        case 4: return number(1 + below(4), significand)
        case 5: return number(0x7FFE - below(4), significand)
        case 6: return number(0x7FFF, integerBit)
        case 7: return number(0x7FFF, integerBit | 1 << 62 | random.next() >> UInt64(2 + below(60)))
        case 8: return number(0x7FFF, integerBit | random.next() >> 2 | 1)
        case 9: return chance(50) ? number(below(0x8000), random.next() & ~integerBit) : number(below(0x8000), all)
        case 10: return number(16383 + below(68), significand)
        case 11: return number(16383 + pick([127, 128, -126, -127, -149, -150, 1023, 1024, -1022, -1023, -1075]), all)
        case 12: return number(16383 + below(260) - 130, significand)
        default: return number(16383 + below(9) - 4, significand)
        }
    }

    /// A number for F2XM1 and FYL2XP1, which are defined near zero: SDM vol. 2, under each.
    private mutating func fraction() -> [UInt8] {
        let number = extended()
        let exponent = Int(number[8]) | Int(number[9] & 0x7F) << 8
        guard exponent > 16380, exponent < 0x7FFF, number[7] & 0x80 != 0 else { return number }
        return Array(number[0..<8]) + Self.little(UInt64(16380 - below(4)) | UInt64(number[9] & 0x80) << 8, 2)
    }
}
