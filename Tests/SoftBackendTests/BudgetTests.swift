// A run ends after exactly as many instructions as it may execute, and where it is cut changes nothing.

import NVMM
import TestSupport
import Testing

@Suite struct BudgetTests {
    /// Calls, branches, stack, memory, and a repeated instruction; never ends. The same bytes in both modes.
    private static let program: [UInt8] = [
        0xB9, 0x05, 0, 0, 0,  // 00 mov ecx, 5
        0xE8, 0x12, 0, 0, 0,  // 05 call 1c
        0x83, 0xE9, 0x01,  // 0a sub ecx, 1
        0x75, 0xF6,  // 0d jnz 05
        0xB9, 0x0D, 0, 0, 0,  // 0f mov ecx, 13
        0xBF, 0x00, 0x20, 0, 0,  // 14 mov edi, 0x2000
        0xF3, 0xAA,  // 19 rep stosb
        0x90,  // 1b nop
        0x53,  // 1c push rbx
        0x01, 0xD8,  // 1d add eax, ebx
        0x8D, 0x5C, 0x03, 0x07,  // 1f lea ebx, [rbx+rax+7]
        0x5A,  // 23 pop rdx
        0x84, 0xC0,  // 24 test al, al
        0x0F, 0x99, 0xC2,  // 26 setns dl
        0xC3,  // 29 ret
    ]

    /// The routine after the NOP runs once more through the fall-through and then returns to what lies on the stack:
    /// the start.
    private func runner(_ mode: CodeRunner.Mode) throws -> CodeRunner {
        let runner = try CodeRunner(mode, Self.program)
        var stack: [UInt8] = []
        for _ in 0..<0x400 { stack += mode == .long ? [0, 0x10, 0, 0, 0, 0, 0, 0] : [0, 0x10, 0, 0] }
        try runner.write(0x10000, stack)
        try runner.set { $0[.rsp] = 0x10000 }
        return runner
    }

    @Test(arguments: [CodeRunner.Mode.protected, .long]) func `where runs are cut changes nothing`(
        mode: CodeRunner.Mode
    ) throws {
        let total: UInt64 = 5000
        let whole = try runner(mode)
        #expect(try whole.run(total).retired == total)
        for seed in 1...5 as ClosedRange<UInt64> {
            var random = SeededGenerator(seed: seed)
            let cut = try runner(mode)
            var left = total
            while left > 0 {
                let budget = min(left, random.next() % (seed == 1 ? 2 : 40))
                let result = try cut.run(budget)
                #expect(result.retired == budget)
                #expect(result.exit.reason == .none)
                left -= budget
            }
            #expect(cut.state == whole.state, "seed \(seed)")
            #expect(cut.machine.clock == total)
        }
    }

    @Test func `a budget of zero executes nothing`() throws {
        let runner = try CodeRunner(.protected, [0x40])  // inc eax
        #expect(try runner.run(0).retired == 0)
        #expect(runner[.rip] == 0x1000)
        #expect(runner[.rax] == 0)
    }

    @Test func `an instruction that faults is not counted, those before it are`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0x40,  // inc eax
                0x40,  // inc eax
                0x8B, 0x1D, 0, 0, 0, 0xF0,  // mov ebx, [0xf0000000]
                0x40,  // inc eax
            ])
        let result = try runner.run(100)
        #expect(result.retired == 2)
        #expect(runner[.rip] == 0x1002)
        #expect(runner[.rax] == 2)
        guard case .memory(let exit) = result.exit.reason else {
            Issue.record("\(result.exit.reason)")
            return
        }
        #expect(exit.instruction.bytes == [0x8B, 0x1D, 0, 0, 0, 0xF0])
    }
}
