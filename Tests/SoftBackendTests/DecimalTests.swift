// Decimal adjustments against decimal arithmetic, and the manual's examples.

import NVMM
import Testing

@Suite struct DecimalTests {
    private func packed(_ value: Int) -> UInt64 { UInt64(value / 10 * 16 + value % 10) }

    @Test func `DAA and DAS make decimal sums and differences`() throws {
        let sum = try CodeRunner(.protected, [0x00, 0xD8, 0x27])  // add al, bl; daa
        let difference = try CodeRunner(.protected, [0x28, 0xD8, 0x2F])  // sub al, bl; das
        for a in stride(from: 0, to: 100, by: 7) {
            for b in 0..<100 {
                for runner in [sum, difference] {
                    try runner.set {
                        $0[.rax] = packed(a)
                        $0[.rbx] = packed(b)
                        $0[.rip] = CodeRunner.codeStart
                    }
                    try runner.run(2)
                }
                #expect(sum[.rax] == packed((a + b) % 100), "\(a) + \(b)")
                #expect((sum[.rflags] & Flag.carry != 0) == (a + b >= 100), "\(a) + \(b)")
                #expect(difference[.rax] == packed((a - b + 100) % 100), "\(a) - \(b)")
                #expect((difference[.rflags] & Flag.carry != 0) == (a < b), "\(a) - \(b)")
            }
        }
    }

    @Test(
        arguments: [
            // SDM vol. 2, DAA and DAS, and the operations of the others
            ([0x27], 0xAE, 0, 0x14, Flag.auxiliary | Flag.parity | Flag.carry),
            ([0x2F], 0xEE, Flag.carry | Flag.auxiliary, 0x88, Flag.sign | Flag.auxiliary | Flag.parity | Flag.carry),
            // The borrow of the first step survives in DAS and not in DAA.
            ([0x2F], 0x02, Flag.auxiliary, 0xFC, Flag.sign | Flag.parity | Flag.auxiliary | Flag.carry),
            ([0x37], 0x000F, 0, 0x0105, Flag.auxiliary | Flag.carry),  // aaa
            ([0x37], 0x0003, 0, 0x0003, 0),
            ([0x3F], 0x02FF, 0, 0x0109, Flag.auxiliary | Flag.carry),  // aas
            ([0xD4, 0x0A], 0x004F, Flag.carry, 0x0709, Flag.parity),  // aam
            ([0xD4, 0x10], 0x00AB, 0, 0x0A0B, 0),
            ([0xD5, 0x0A], 0x0709, Flag.carry, 0x004F, 0),  // aad
        ] as [([UInt8], UInt64, UInt64, UInt64, UInt64)])
    func `adjustments give the manual's results`(
        code: [UInt8], before: UInt64, flags: UInt64, after: UInt64, flagsAfter: UInt64
    ) throws {
        let runner = try CodeRunner(.protected, code)
        try runner.set {
            $0[.rax] = before
            $0[.rflags] = flags | 2
        }
        try runner.run(1)
        #expect(runner[.rax] == after)
        // AAA and AAS define only AF and CF, AAM and AAD only the flags of the result.
        let compared =
            switch code[0] {
            case 0x37, 0x3F: Flag.auxiliary | Flag.carry
            case 0xD4, 0xD5: Flag.sign | Flag.zero | Flag.parity
            default: Flag.status & ~Flag.overflow
            }
        #expect(runner[.rflags] & compared == flagsAfter)
    }

    @Test func `AAM by zero raises a divide error`() throws {
        let runner = try CodeRunner(.protected, [0xD4, 0x00])
        let result = try runner.run(1)
        #expect(result.exit.reason == .shutdown)
        #expect(result.retired == 0)
    }

    @Test(arguments: [(-5, true), (-6, false), (10, true), (11, false)] as [(Int32, Bool)])
    func `BOUND compares with signs`(index: Int32, isInside: Bool) throws {
        let runner = try CodeRunner(.protected, [0x62, 0x05, 0x00, 0x20, 0, 0])  // bound eax, [0x2000]
        try runner.write(0x2000, [0xFB, 0xFF, 0xFF, 0xFF, 10, 0, 0, 0])
        try runner.set { $0[.rax] = UInt64(UInt32(bitPattern: index)) }
        #expect(try runner.run(1).exit.reason == (isInside ? .none : .shutdown))
    }
}
