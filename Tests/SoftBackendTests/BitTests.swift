// Bit tests and scans.

import NVMM
import Testing

@Suite struct BitTests {
    @Test func `a register's bit offset reaches beyond the memory operand in both directions`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0x0F, 0xAB, 0x05, 0x00, 0x20, 0, 0,  // bts [0x2000], eax
                0x0F, 0xB3, 0x0D, 0x00, 0x20, 0, 0,  // btr [0x2000], ecx
                0x66, 0x0F, 0xBB, 0x15, 0x00, 0x20, 0, 0,  // btc [0x2000], dx
            ])
        try runner.write(0x1FF0, [UInt8](repeating: 0, count: 0x10) + [UInt8](repeating: 0xFF, count: 0x10))
        try runner.set {
            $0[.rax] = UInt64(UInt32(bitPattern: -1))
            $0[.rcx] = 70
            $0[.rdx] = 0x1_FFEF  // -17 in 16 bits
        }
        try runner.run(1)
        #expect(runner[.rflags] & Flag.carry == 0)
        #expect(try runner.read(0x1FFC, 4) == [0, 0, 0, 0x80])
        try runner.run(1)
        #expect(runner[.rflags] & Flag.carry != 0)
        #expect(try runner.read(0x2008, 2) == [0xBF, 0xFF])
        try runner.run(1)
        #expect(try runner.read(0x1FFC, 4) == [0, 0x80, 0, 0x80])
    }

    @Test func `an immediate bit offset wraps to the operand`() throws {
        let runner = try CodeRunner(
            .long,
            [
                0x0F, 0xBA, 0x2C, 0x25, 0x00, 0x20, 0, 0, 0x21,  // bts dword [0x2000], 33
                0x48, 0x0F, 0xBA, 0xE8, 0x7F,  // bts rax, 127
                0x66, 0x0F, 0xA3, 0xC8,  // bt ax, cx
            ])
        try runner.set {
            $0[.rax] = 2
            $0[.rcx] = 0x11
            $0[.rflags] = 2 | Flag.zero
        }
        try runner.run(2)
        #expect(try runner.read(0x2000, 8) == [2, 0, 0, 0, 0, 0, 0, 0])
        #expect(runner[.rax] == 0x8000_0000_0000_0002)
        try runner.run(1)
        #expect(runner[.rflags] & (Flag.carry | Flag.zero) == Flag.carry | Flag.zero)
    }

    @Test func `BT does not write`() throws {
        let runner = try CodeRunner(.protected, [0x0F, 0xA3, 0x05, 0x00, 0x20, 0, 0])  // bt [0x2000], eax
        _ = runner.machine.takeDirtyPages(of: runner.ram)
        try runner.run(1)
        #expect(runner.machine.takeDirtyPages(of: runner.ram).isEmpty)
    }

    @Test func `scans find the first and the last bit and keep the destination of zero`() throws {
        let runner = try CodeRunner(
            .long,
            [
                0x48, 0x0F, 0xBC, 0xC1,  // bsf rax, rcx
                0x48, 0x0F, 0xBD, 0xD1,  // bsr rdx, rcx
                0x66, 0x0F, 0xBD, 0xDE,  // bsr bx, si
            ])
        try runner.set {
            $0[.rcx] = 0x0080_0000_0010_0000
            $0[.rbx] = 0x1234_5678_9ABC
            $0[.rsi] = 0xFFFF_0000
        }
        try runner.run(2)
        #expect(runner[.rax] == 20)
        #expect(runner[.rdx] == 55)
        #expect(runner[.rflags] & Flag.zero == 0)
        try runner.run(1)
        #expect(runner[.rflags] & Flag.zero != 0)
        #expect(runner[.rbx] == 0x1234_5678_9ABC)
    }
}
