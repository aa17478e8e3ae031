// String instructions: repetition, directions, address sizes, counting, faults in the middle.

import NVMM
import TestSupport
import Testing

@Suite struct StringTests {
    @Test func `an overlapping REP MOVSB repeats what it just wrote`() throws {
        let runner = try CodeRunner(.protected, [0xF3, 0xA4])
        try runner.write(0x2000, [1, 2, 3, 0, 0, 0, 0, 0, 0])
        try runner.set {
            $0[.rsi] = 0x2000
            $0[.rdi] = 0x2003
            $0[.rcx] = 6
        }
        #expect(try runner.run(6).retired == 6)
        #expect(try runner.read(0x2000, 10) == [1, 2, 3, 1, 2, 3, 1, 2, 3, 0])
        #expect(runner[.rcx] == 0)
        #expect(runner[.rsi] == 0x2006)
        #expect(runner[.rdi] == 0x2009)
        #expect(runner[.rip] == CodeRunner.codeStart + 2)
    }

    @Test(
        arguments: [
            (1, [0xF3, 0xA4]), (2, [0x66, 0xF3, 0xA5]), (4, [0xF3, 0xA5]), (8, [0xF3, 0x48, 0xA5]),
        ] as [(Int, [UInt8])])
    func `REP MOVS copies as its elements do, in any budget`(width: Int, code: [UInt8]) throws {
        var random = SeededGenerator(seed: UInt64(width))
        for _ in 0..<40 {
            let runner = try CodeRunner(.long, code)
            var model = (0..<0x6000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            try runner.write(0x10000, model)
            let isDown = random.next() % 4 == 0
            let count = Int(random.next() % 700)
            var source = 0x1000 + Int(random.next() % 0x1800) + (isDown ? 0x1800 : 0)
            var target =
                random.next() % 2 == 0
                ? source + Int(random.next() % 64) - 32 : 0x1800 + Int(random.next() % 0x1800)
            try runner.set {
                $0[.rsi] = UInt64(0x10000 + source)
                $0[.rdi] = UInt64(0x10000 + target)
                $0[.rcx] = UInt64(count)
                $0[.rflags] = 2 | (isDown ? Flag.direction : 0)
            }
            for _ in 0..<count {
                let element = Array(model[source..<source + width])
                model.replaceSubrange(target..<target + width, with: element)
                source += isDown ? -width : width
                target += isDown ? -width : width
            }
            var left = UInt64(max(count, 1))
            while left > 0 {
                let budget = min(left, 1 + random.next() % 300)
                #expect(try runner.run(budget).retired == budget)
                left -= budget
                #expect(runner[.rip] == CodeRunner.codeStart + (left == 0 ? UInt64(code.count) : 0))
            }
            #expect(try runner.read(0x10000, model.count) == model)
            #expect(runner[.rsi] == UInt64(0x10000 + source))
            #expect(runner[.rdi] == UInt64(0x10000 + target))
            #expect(runner[.rcx] == 0)
        }
    }

    @Test func `a budget ends between two iterations`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0x90,  // nop
                0xF3, 0xAB,  // rep stosd
                0x90,  // nop
            ])
        try runner.set {
            $0[.rax] = 0x0403_0201
            $0[.rdi] = 0x2FF8
            $0[.rcx] = 8
        }
        let first = try runner.run(4)
        #expect(first.exit.reason == .none)
        #expect(first.retired == 4)
        #expect(runner[.rcx] == 5)
        #expect(runner[.rdi] == 0x3004)
        #expect(runner[.rip] == 0x1001)
        #expect(try runner.read(0x3000, 8) == [1, 2, 3, 4, 0, 0, 0, 0])
        #expect(try runner.run(6).retired == 6)
        #expect(runner[.rcx] == 0)
        #expect(runner[.rip] == 0x1004)
        #expect(runner.machine.clock == 10)
    }

    @Test func `a count of zero touches nothing and counts one`() throws {
        let runner = try CodeRunner(.protected, [0xF3, 0xA4, 0xF3, 0xA6])
        try runner.set {
            $0[.rsi] = 0xF000_0000
            $0[.rdi] = 0xF000_0000
            $0[.rflags] = 2 | Flag.carry
        }
        #expect(try runner.run(2).retired == 2)
        #expect(runner[.rip] == 0x1004)
        #expect(runner[.rflags] == 2 | Flag.carry)
    }

    @Test func `iterations before an exit are kept and counted`() throws {
        let runner = try CodeRunner(.protected, [0xF3, 0xAB])
        try runner.set {
            $0[.rax] = .max
            $0[.rdi] = 0x1F_FFF0
            $0[.rcx] = 100
        }
        let result = try runner.run(1000)
        guard case .memory(let exit) = result.exit.reason else {
            Issue.record("\(result.exit.reason)")
            return
        }
        #expect(exit.access == .write)
        #expect(exit.gpa == GPA(0x20_0000))
        #expect(result.retired == 4)
        #expect(runner[.rcx] == 96)
        #expect(runner[.rdi] == 0x20_0000)
        #expect(runner[.rip] == 0x1000)
        #expect(try runner.read(0x1F_FFF0, 16) == [UInt8](repeating: 0xFF, count: 16))
    }

    @Test func `REPE CMPSB stops after the first difference`() throws {
        let runner = try CodeRunner(.protected, [0xF3, 0xA6])
        try runner.write(0x2000, [1, 2, 3, 4, 5])
        try runner.write(0x3000, [1, 2, 9, 4, 5])
        try runner.set {
            $0[.rsi] = 0x2000
            $0[.rdi] = 0x3000
            $0[.rcx] = 5
        }
        #expect(try runner.run(3).retired == 3)
        #expect(runner[.rcx] == 2)
        #expect(runner[.rsi] == 0x2003)
        #expect(runner[.rip] == 0x1002)
        // 3 - 9
        #expect(runner[.rflags] & Flag.status == Flag.carry | Flag.sign | Flag.auxiliary | Flag.parity)
    }

    @Test func `REPNE SCASW finds a word and stops behind it`() throws {
        let runner = try CodeRunner(.protected, [0x66, 0xF2, 0xAF])
        try runner.write(0x2000, [1, 0, 2, 0, 3, 0, 4, 0])
        try runner.set {
            $0[.rax] = 3
            $0[.rdi] = 0x2000
            $0[.rcx] = 4
        }
        #expect(try runner.run(3).retired == 3)
        #expect(runner[.rcx] == 1)
        #expect(runner[.rdi] == 0x2006)
        #expect(runner[.rflags] & Flag.zero != 0)
        #expect(runner[.rip] == 0x1003)
    }

    @Test func `the source's segment can be overridden, the target's cannot`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0x64, 0xA4,  // movs byte es:[edi], fs:[esi]
                0x64, 0xAC,  // lods al, fs:[esi]
                0x64, 0xAA,  // stosb
                0x26, 0xA6,  // cmps byte es:[esi], es:[edi]
            ])
        try runner.write(0x2100, [0x11, 0x22])
        try runner.write(0x2002, [0x55])
        try runner.write(0x3002, [0x55])
        try runner.set {
            $0[.fs].base = 0x100
            $0[.ds].base = 0x1_0000
            $0[.rsi] = 0x2000
            $0[.rdi] = 0x3000
        }
        try runner.run(3)
        #expect(try runner.read(0x3000, 2) == [0x11, 0x22])
        try runner.run(1)
        #expect(runner[.rflags] & Flag.zero != 0)
    }

    @Test func `16-bit addresses wrap`() throws {
        let runner = try CodeRunner(.real, [0xF3, 0xAA])
        try runner.set {
            $0[.rax] = 0x77
            $0[.rdi] = 0xABCD_FFFE
            $0[.rcx] = 0xABCD_0004
        }
        #expect(try runner.run(4).retired == 4)
        #expect(try runner.read(0xFFFE, 3) == [0x77, 0x77, 0])
        #expect(try runner.read(0, 3) == [0x77, 0x77, 0])
        #expect(runner[.rdi] == 0xABCD_0002)
        #expect(runner[.rcx] == 0xABCD_0000)
    }

    @Test func `32-bit addresses in 64-bit mode extend what they write`() throws {
        let runner = try CodeRunner(.long, [0x67, 0xF3, 0xAA])
        try runner.set {
            $0[.rdi] = 0xFFFF_FFFF_0000_2000
            $0[.rcx] = 0xFFFF_FFFF_0000_0002
        }
        #expect(try runner.run(2).retired == 2)
        #expect(runner[.rdi] == 0x2002)
        #expect(runner[.rcx] == 0)
    }

    @Test func `a segment's limit ends the fast way exactly`() throws {
        let runner = try CodeRunner(.protected, [0xF3, 0xAA])
        try runner.set {
            $0[.es].limit = 0x2004
            $0[.rax] = 1
            $0[.rdi] = 0x2000
            $0[.rcx] = 10
        }
        let result = try runner.run(100)
        #expect(result.exit.reason == .shutdown)
        #expect(result.retired == 5)
        #expect(runner[.rcx] == 5)
        #expect(try runner.read(0x2000, 6) == [1, 1, 1, 1, 1, 0])
    }
}
