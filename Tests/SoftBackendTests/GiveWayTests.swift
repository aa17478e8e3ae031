// A run that is asked to give way ends soon, where its retired count tells, and what follows is as if it had gone on.

import NVMM
import Testing

@Suite struct GiveWayTests {
    /// Runs with the request made before: it counts from the second look on.
    private func runGivingWay(_ runner: CodeRunner) throws -> RunResult {
        runner.vcpu.giveWay()
        defer { runner.vcpu.commPage.giveWay = false }
        return try runner.run(1_000_000_000)
    }

    /// Real mode, #UD goes to `handler`.
    private func faulting(_ code: [UInt8], handler: UInt16) throws -> CodeRunner {
        let runner = try CodeRunner(.real, code)
        try runner.write(6 * 4, [UInt8(handler & 0xFF), UInt8(handler >> 8), 0, 0])
        try runner.set { $0[.idt].limit = 0x3FF }
        return runner
    }

    @Test func `a run gives way after it got on, and goes on as if it had not`() throws {
        let loop: [UInt8] = [0x40, 0x01, 0xC3, 0xEB, 0xFB]  // 00 inc eax; 01 add ebx, eax; 03 jmp 00
        let runner = try CodeRunner(.protected, loop)
        let first = try runGivingWay(runner)
        #expect(first.exit.reason == .none)
        let retired = try #require(first.retired)
        #expect(1...1000 ~= retired)
        _ = try runner.run(1000)
        let whole = try CodeRunner(.protected, loop)
        _ = try whole.run(retired + 1000)
        #expect(runner.state == whole.state)
    }

    /// Deliveries retire nothing: a run must not end behind one, or its count would also tell the place before.
    @Test(arguments: 0..<12) func `a run gives way where a budget of as many instructions ends it`(shift: Int) throws {
        let jumps = [[UInt8]](repeating: [0xEB, 0x00], count: shift).flatMap { $0 }  // jmp to the next
        let code: [UInt8] =
            jumps + [
                0x40,  // inc ax
                0x0F, 0x0B,  // ud2
                0xEB, 0xFB,  // jmp to the inc
            ]
        let handler: [UInt8] = [
            0x89, 0xE5,  // mov bp, sp
            0x83, 0x46, 0x00, 0x02,  // add word [bp], 2
            0xCF,  // iret
        ]
        let runner = try faulting(code, handler: 0x3000)
        let replayed = try faulting(code, handler: 0x3000)
        try runner.write(0x3000, handler)
        try replayed.write(0x3000, handler)
        for _ in 0..<5 {
            let result = try runGivingWay(runner)
            #expect(result.exit.reason == .none)
            let again = try replayed.run(try #require(result.retired))
            #expect(again.retired == result.retired)
            #expect(replayed.state == runner.state)
        }
    }

    @Test func `a guest that delivers exceptions for ever and retires nothing gives way`() throws {
        let runner = try faulting([0x0F, 0x0B], handler: 0x1000)  // ud2, and so is its handler
        let result = try runGivingWay(runner)
        #expect(result.exit.reason == .none)
        #expect(result.retired == 0)
        runner.vcpu.stop()
        #expect(try runner.run(10).exit.reason == .stopped)
    }

    @Test func `a repeated instruction gives way between two iterations`() throws {
        let runner = try CodeRunner(.protected, [0xF3, 0xAE])  // repe scasb
        try runner.set {
            $0[.rcx] = 0xFFFF_FFFF
            $0[.rdi] = 0x1_0000
            $0[.rax] = 0
        }
        try runner.set { $0[.rflags] = 2 }
        let result = try runGivingWay(runner)
        #expect(result.exit.reason == .none)
        let retired = try #require(result.retired)
        #expect(1...0x4_0000 ~= retired)
        #expect(runner.state[.rcx] == 0xFFFF_FFFF - retired)
        #expect(runner.state[.rip] == CodeRunner.codeStart)
    }

    @Test func `a run says which event it took`() throws {
        let runner = try faulting([0x90, 0xEB, 0xFD], handler: 0x1000)
        let event = VCPUEvent(kind: .exception, vector: 6)
        runner.vcpu.commPage.event = event
        runner.vcpu.inject()
        #expect(try runner.run(5).event == event)
        #expect(try runner.run(5).event == nil)
        #expect(!runner.vcpu.commPage.eventCommit)
    }
}
