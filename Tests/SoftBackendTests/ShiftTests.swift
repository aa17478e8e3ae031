// Shifts and rotates against one-bit steps, for every count and width.

import NVMM
import SoftBackend
import TestSupport
import Testing

/// Values of the ModRM byte's middle field.
private enum Shift: UInt8, CaseIterable {
    case rol, ror, rcl, rcr, shl, shr, sal, sar

    var rotates: Bool { rawValue < 4 }

    /// One step: the definition that the manual gives in words.
    func step(_ value: UInt64, _ carry: Bool, bits: UInt64) -> (UInt64, Bool) {
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        let top = value >> (bits - 1) & 1
        let low = value & 1
        let old: UInt64 = carry ? 1 : 0
        switch self {
        case .rol: return ((value << 1 | top) & mask, top == 1)
        case .ror: return (value >> 1 | low << (bits - 1), low == 1)
        case .rcl: return ((value << 1 | old) & mask, top == 1)
        case .rcr: return (value >> 1 | old << (bits - 1), low == 1)
        case .shl, .sal: return (value << 1 & mask, top == 1)
        case .shr: return (value >> 1, low == 1)
        case .sar: return (value >> 1 | top << (bits - 1), low == 1)
        }
    }
}

@Suite struct ShiftTests {
    @Test(arguments: [8, 16, 32, 64] as [UInt64])
    func `shifts equal single steps for every count`(bits: UInt64) throws {
        var random = SeededGenerator(seed: 7 + bits)
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        for shift in Shift.allCases {
            // D2 /n: the count in CL
            let runner = try CodeRunner(.long, sized(bits, [0xD2, 0xC0 | shift.rawValue << 3]))
            for count in 0..<UInt64(70) {
                for _ in 0..<3 {
                    let before = random.next()
                    let flags = random.next() & Flag.status | 2
                    try runner.set {
                        $0[.rax] = before
                        $0[.rcx] = count
                        $0[.rflags] = flags
                        $0[.rip] = CodeRunner.codeStart
                    }
                    try runner.run(1)
                    let masked = count & (bits == 64 ? 63 : 31)
                    var expected = (before & mask, flags & Flag.carry != 0)
                    for _ in 0..<masked { expected = shift.step(expected.0, expected.1, bits: bits) }
                    let whole = bits >= 32 ? expected.0 : before & ~mask | expected.0
                    let state = runner.state
                    #expect(state[.rax] == whole, "\(shift) \(bits) by \(count)")
                    var compared = Flag.carry | Flag.zero | Flag.sign | Flag.parity
                    var wanted = flags & ~Flag.carry | (expected.1 ? Flag.carry : 0)
                    if masked == 0 {
                        compared = Flag.status
                    } else if !shift.rotates {
                        wanted = wanted & Flag.carry | Flag.ofResult(expected.0, bits: bits)
                    } else {
                        compared |= Flag.auxiliary
                    }
                    if masked == 1 {
                        compared |= Flag.overflow
                        let signChanged = (before ^ expected.0) >> (bits - 1) & 1 != 0
                        wanted = wanted & ~Flag.overflow | (signChanged ? Flag.overflow : 0)
                    }
                    #expect(state[.rflags] & compared == wanted & compared, "\(shift) \(bits) by \(count)")
                }
            }
        }
    }

    @Test func `immediates and memory operands shift as registers do`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0xC1, 0xE0, 0x04,  // shl eax, 4
                0xD1, 0xE8,  // shr eax, 1
                0xC1, 0x3D, 0x00, 0x20, 0, 0, 0x24,  // sar dword [0x2000], 36
                0xD2, 0x05, 0x10, 0x20, 0, 0,  // rol byte [0x2010], cl
                0xC1, 0xE0, 0x20,  // shl eax, 32
            ])
        try runner.write(0x2000, [0, 0, 0, 0x80])
        try runner.write(0x2010, [0x81])
        try runner.set {
            $0[.rax] = 0x1234_5678
            $0[.rcx] = 1
        }
        try runner.run(2)
        #expect(runner[.rax] == 0x2345_6780 >> 1)
        try runner.run(3)
        #expect(try runner.read(0x2000, 4) == [0, 0, 0, 0xF8])
        #expect(try runner.read(0x2010, 1) == [0x03])
        #expect(runner[.rflags] & Flag.carry != 0)
        #expect(runner[.rax] == 0x2345_6780 >> 1)
    }

    @Test(arguments: [16, 32, 64] as [UInt64])
    func `double shifts take bits of the second operand`(bits: UInt64) throws {
        var random = SeededGenerator(seed: 99)
        let mask: UInt64 = bits == 64 ? .max : 1 << bits - 1
        for (opcode, isLeft) in [(0xA5, true), (0xAD, false)] as [(UInt8, Bool)] {
            let runner = try CodeRunner(.long, sized(bits, [0x0F, opcode, 0xD0]))  // rax, rdx, cl
            for count in 0...min(bits, 63) where bits != 32 || count < 32 {
                let (a, b) = (random.next(), random.next())
                try runner.set {
                    $0[.rax] = a
                    $0[.rdx] = b
                    $0[.rcx] = count
                    $0[.rflags] = 2
                    $0[.rip] = CodeRunner.codeStart
                }
                try runner.run(1)
                var (value, source, carry) = (a & mask, b & mask, UInt64(0))
                for _ in 0..<count {
                    if isLeft {
                        carry = value >> (bits - 1) & 1
                        value = (value << 1 | source >> (bits - 1)) & mask
                        source = source << 1 & mask
                    } else {
                        carry = value & 1
                        value = value >> 1 | (source & 1) << (bits - 1)
                        source >>= 1
                    }
                }
                #expect(runner[.rax] == (bits == 16 ? a & ~mask | value : value), "\(opcode) \(bits) by \(count)")
                let flags = count == 0 ? 0 : carry | Flag.ofResult(value, bits: bits)
                let compared = Flag.carry | Flag.zero | Flag.sign | Flag.parity
                #expect(runner[.rflags] & compared == flags, "\(opcode) \(bits) by \(count)")
            }
        }
    }

    @Test func `SHLD and SHRD take their count from an immediate too`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0x0F, 0xA4, 0xD0, 0x08,  // shld eax, edx, 8
                0x0F, 0xAC, 0x15, 0x00, 0x20, 0, 0, 0x04,  // shrd [0x2000], edx, 4
            ])
        try runner.write(0x2000, [0x21, 0x43, 0x65, 0x87])
        try runner.set {
            $0[.rax] = 0x1122_3344
            $0[.rdx] = 0xAABB_CCDD
        }
        try runner.run(2)
        #expect(runner[.rax] == 0x2233_44AA)
        #expect(try runner.read(0x2000, 4) == [0x32, 0x54, 0x76, 0xD8])
    }

    @Test(arguments: [[0xC1, 0xE0, 0x04], [0xD3, 0xE0]] as [[UInt8]])
    func `the injected fault clears only the carry of SHL`(code: [UInt8]) throws {
        for fault in [InjectedFault.none, .shlCarry] {
            let runner = try CodeRunner(.protected, code, fault: fault)
            try runner.set {
                $0[.rax] = 0x1000_0001
                $0[.rcx] = 4
            }
            try runner.run(1)
            #expect(runner[.rax] == 0x10)
            #expect((runner[.rflags] & Flag.carry != 0) == (fault == .none))
        }
    }
}
