// Products and quotients of all widths, and the divisions that raise #DE.

import NVMM
import TestSupport
import Testing

@Suite struct MultiplyDivideTests {
    /// The double-width value in AX or (R/E)DX:(R/E)AX.
    private func accumulator(_ state: VCPUState, _ bits: UInt64) -> (high: UInt64, low: UInt64) {
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        return bits == 8 ? (state[.rax] >> 8 & 0xFF, state[.rax] & 0xFF) : (state[.rdx] & mask, state[.rax] & mask)
    }

    private func setAccumulator(_ state: inout VCPUState, _ bits: UInt64, high: UInt64, low: UInt64) {
        if bits == 8 {
            state[.rax] = high << 8 | low
        } else {
            state[.rax] = low
            state[.rdx] = high
        }
    }

    @Test(arguments: [8, 16, 32, 64] as [UInt64]) func `MUL and IMUL give the whole product`(bits: UInt64) throws {
        var random = SeededGenerator(seed: bits)
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        for (extension_, isSigned) in [(4, false), (5, true)] as [(UInt8, Bool)] {
            let runner = try CodeRunner(.long, sized(bits, [0xF6, 0xC1 | extension_ << 3]))  // by rcx
            for round in 0..<200 {
                let a = round < 4 ? mask >> UInt64(round & 1) : random.next() & mask >> (random.next() % bits)
                let b = round < 4 ? mask >> UInt64(round >> 1) : random.next() & mask >> (random.next() % bits)
                try runner.set {
                    setAccumulator(&$0, bits, high: 0, low: a)
                    $0[.rcx] = b
                    $0[.rip] = CodeRunner.codeStart
                }
                try runner.run(1)
                let product: (high: UInt64, low: UInt64)
                if isSigned {
                    let shift = 64 - bits
                    let x = Int64(bitPattern: a << shift) >> Int64(shift)
                    let y = Int64(bitPattern: b << shift) >> Int64(shift)
                    let full = x.multipliedFullWidth(by: y)
                    product =
                        bits == 64
                        ? (UInt64(bitPattern: full.high), full.low) : (full.low >> bits & mask, full.low & mask)
                } else {
                    let full = a.multipliedFullWidth(by: b)
                    product = bits == 64 ? (full.high, full.low) : (full.low >> bits & mask, full.low & mask)
                }
                let found = accumulator(runner.state, bits)
                #expect(found == product, "\(a) * \(b), \(bits) bits")
                let extended = isSigned && product.low >> (bits - 1) != 0 ? mask : 0
                let overflows = product.high != extended
                let flags = runner[.rflags]
                #expect((flags & Flag.carry != 0) == overflows && (flags & Flag.overflow != 0) == overflows)
            }
        }
    }

    @Test func `IMUL with two and three operands keeps the low half`() throws {
        let runner = try CodeRunner(
            .long,
            [
                0x0F, 0xAF, 0xC1,  // imul eax, ecx
                0x48, 0x6B, 0xD1, 0xFD,  // imul rdx, rcx, -3
                0x66, 0x69, 0x1C, 0x25, 0x00, 0x20, 0, 0, 0x00, 0x10,  // imul bx, [0x2000], 0x1000
            ])
        try runner.write(0x2000, [0x12, 0x00])
        try runner.set {
            $0[.rax] = 0xFFFF_FFFF_FFFF_FFFE
            $0[.rcx] = 5
            $0[.rbx] = 0xAAAA_AAAA
        }
        try runner.run(1)
        #expect(runner[.rax] == 0xFFFF_FFF6)
        #expect(runner[.rflags] & (Flag.carry | Flag.overflow) == 0)
        try runner.run(1)
        #expect(runner[.rdx] == UInt64(bitPattern: -15))
        try runner.run(1)
        #expect(runner[.rbx] == 0xAAAA_2000)
        #expect(runner[.rflags] & (Flag.carry | Flag.overflow) == Flag.carry | Flag.overflow)
    }

    @Test(arguments: [8, 16, 32, 64] as [UInt64]) func `DIV undoes MUL`(bits: UInt64) throws {
        var random = SeededGenerator(seed: 3 * bits)
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        let runner = try CodeRunner(.long, sized(bits, [0xF6, 0xF1]))  // div by rcx
        for _ in 0..<200 {
            let divisor = max(random.next() & mask >> (random.next() % bits), 1)
            let quotient = random.next() & mask
            let remainder = random.next() % divisor
            let full = quotient.multipliedFullWidth(by: divisor)
            let (low, carried) = full.low.addingReportingOverflow(remainder)
            let high = full.high + (carried ? 1 : 0)
            try runner.set {
                setAccumulator(&$0, bits, high: bits == 64 ? high : low >> bits & mask, low: low & mask)
                $0[.rcx] = divisor
                $0[.rip] = CodeRunner.codeStart
            }
            #expect(try runner.run(1).exit.reason == .none)
            #expect(accumulator(runner.state, bits) == (remainder, quotient))
        }
    }

    @Test(arguments: [8, 16, 32, 64] as [UInt64]) func `IDIV rounds towards zero`(bits: UInt64) throws {
        var random = SeededGenerator(seed: 5 * bits)
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        let runner = try CodeRunner(.long, sized(bits, [0xF6, 0xF9]))  // idiv by rcx
        for _ in 0..<200 {
            let shift = Int64(64 - bits)
            let dividend = Int64(bitPattern: random.next()) >> (shift + 1)
            let divisor = Int64(bitPattern: random.next() << UInt64(shift)) >> (shift + Int64(random.next() % bits))
            if divisor == 0 { continue }
            try runner.set {
                setAccumulator(
                    &$0, bits, high: dividend < 0 ? mask : 0, low: UInt64(bitPattern: dividend) & mask)
                $0[.rcx] = UInt64(bitPattern: divisor)
                $0[.rip] = CodeRunner.codeStart
            }
            #expect(try runner.run(1).exit.reason == .none)
            let found = accumulator(runner.state, bits)
            #expect(found.low == UInt64(bitPattern: dividend / divisor) & mask, "\(dividend) / \(divisor)")
            #expect(found.high == UInt64(bitPattern: dividend % divisor) & mask, "\(dividend) % \(divisor)")
        }
    }

    @Test(
        arguments: [
            // opcode extension, bits, high, low, divisor
            (6, 32, 0, 1, 0), (7, 32, 0, 1, 0),
            (6, 8, 1, 0, 1), (6, 32, 2, 0, 2), (6, 64, 5, 0, 5),
            (7, 8, 0xFF, 0x80, 0xFF), (7, 8, 0, 0x80, 1), (7, 32, 0xFFFF_FFFF, 0x8000_0000, 0xFFFF_FFFF),
            (7, 64, 0x8000_0000_0000_0000, 0, .max), (7, 64, .max, 0x8000_0000_0000_0000, .max),
        ] as [(UInt8, UInt64, UInt64, UInt64, UInt64)])
    func `a quotient that does not fit raises an exception and changes nothing`(
        extension_: UInt8, bits: UInt64, high: UInt64, low: UInt64, divisor: UInt64
    ) throws {
        let runner = try CodeRunner(.long, sized(bits, [0xF6, 0xC1 | extension_ << 3]))
        try runner.set {
            setAccumulator(&$0, bits, high: high, low: low)
            $0[.rcx] = divisor
        }
        let result = try runner.run(1)
        #expect(result.exit.reason == .shutdown)
        #expect(result.retired == 0)
        #expect(accumulator(runner.state, bits) == (high, low))
        #expect(runner[.rip] == CodeRunner.codeStart)
    }

    @Test func `the most negative quotient is one`() throws {
        let runner = try CodeRunner(.long, [0xF6, 0xF9])  // idiv cl
        try runner.set {
            $0[.rax] = 0xFF80  // -128
            $0[.rcx] = 1
        }
        #expect(try runner.run(1).exit.reason == .none)
        #expect(runner[.rax] == 0x0080)
    }
}
