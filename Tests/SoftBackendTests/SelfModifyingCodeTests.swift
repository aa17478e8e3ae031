// Code that changes is executed as changed, at once: SDM vol. 3, section 8.1.3, without the jump it asks for.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct SelfModifyingCodeTests {
    @Test func `a store into the next instruction is seen`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0xC6, 0x05, 0x08, 0x10, 0, 0, 0x2A,  // mov byte [0x1008], 42
                0xB0, 0x01,  // mov al, 1
                0x90,  // nop
            ])
        try runner.run(3)
        #expect(runner[.rax] == 42)
        #expect(runner[.rip] == 0x100A)
    }

    @Test func `a loop that rewrites its body executes each version`() throws {
        let runner = try CodeRunner(
            .long,
            [
                0x83, 0xC0, 0x01,  // add eax, 1; the immediate is incremented
                0xFE, 0x04, 0x25, 0x02, 0x10, 0, 0,  // inc byte [0x1002]
                0xEB, 0xF4,  // jmp
            ])
        try runner.run(3 * 100)
        // 1 + 2 + ... + 127, then -128, ... as signed bytes; a hundred of them
        #expect(runner[.rax] == 5050)
    }

    @Test func `code of another page and what a client writes are seen`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0xE8, 0xFB, 0x0F, 0, 0,  // call 0x2000
                0xEB, 0xF9,  // jmp
            ])
        try runner.write(0x2000, [0xB0, 1, 0xC3])  // mov al, 1; ret
        try runner.run(8)
        #expect(runner[.rax] == 1)
        try runner.write(0x2001, [2])
        try runner.run(4)
        #expect(runner[.rax] == 2)
    }

    @Test func `an instruction across two pages is decoded as it stands`() throws {
        let runner = try CodeRunner(.protected, [])
        try runner.write(0x1FFE, [0xB8, 0x11, 0x22, 0x33, 0x44])  // mov eax, 0x44332211
        try runner.write(0x2003, [0xEB, 0xF9])  // jmp
        try runner.set { $0[.rip] = 0x1FFE }
        try runner.run(4)
        #expect(runner[.rax] == 0x4433_2211)
        try runner.write(0x2000, [0x99])
        try runner.run(2)
        #expect(runner[.rax] == 0x4433_9911)
        #expect(runner[.rip] == 0x1FFE)
    }

    @Test func `a repeated store that overwrites what follows it is seen`() throws {
        let runner = try CodeRunner(
            .protected,
            [
                0xF3, 0xAA,  // rep stosb
                0xF4, 0xF4, 0xF4, 0xF4,  // four HLT become INC EDX
            ])
        try runner.set {
            $0[.rax] = 0x42
            $0[.rdi] = 0x1002
            $0[.rcx] = 4
        }
        #expect(try runner.run(8).retired == 8)
        #expect(runner[.rdx] == 0x604)
    }

    @Test func `a repeated store that overwrites itself ends there`() throws {
        for budget in [1, 3] as [UInt64] {
            let runner = try CodeRunner(.protected, [0xF3, 0xAA, 0x90, 0x90])
            try runner.set {
                $0[.rax] = 0x42  // inc edx
                $0[.rdi] = 0x1000
                $0[.rcx] = 4
            }
            // The first iteration turns F3 AA into INC EDX, STOSB.
            var left: UInt64 = 3
            while left > 0 {
                try runner.run(min(budget, left))
                left -= min(budget, left)
            }
            #expect(runner[.rdx] == 0x601)
            #expect(runner[.rcx] == 3)
            #expect(runner[.rip] == 0x1002)
        }
    }

    /// What was decoded from an object must not outlive it: the system gives its addresses to the next one, whose pages
    /// do not know of those blocks and would let stores into them pass.
    @Test func `code of memory that was unmapped is forgotten`() throws {
        let machine = try SoftBackend().createMachine()
        let vcpu = try machine.createVCPU(id: 0)
        let code: [UInt8] = [
            0xB0, 0x01,  // again: mov al, 1; the immediate becomes 2
            0x84, 0xDB,  //        test bl, bl
            0x75, 0x09,  //        jnz done
            0xC6, 0x06, 0x01, 0x10, 0x02,  // mov byte [0x1001], 2
            0xFE, 0xC3,  //        inc bl
            0xEB, 0xF1,  //        jmp again
            0xF4,  // done: hlt
        ]
        var addresses: Set<UInt> = []
        for startsWithDone in [true, false] {
            let memory = try machine.hvaMap(byteCount: 0x4000)
            addresses.insert(unsafe UInt(bitPattern: memory.clientAddress))
            try machine.gpaMap(
                memory, offset: 0, gpa: GPA(0), byteCount: memory.byteCount, protection: [.read, .write, .execute])
            try machine.write(memory, at: 0x1000, code)
            var state = VCPUState.reset
            state[.cs] = Segment(attributes: SegmentAttributes(rawValue: 0x9B), limit: 0xFFFF)
            state[.rip] = 0x1000
            state[.rbx] = startsWithDone ? 1 : 0
            vcpu.commPage.state = state
            vcpu.setState(.all)
            #expect(try vcpu.run(budget: 100).exit.reason == .halted)
            #expect(vcpu.saveState()[.rax] & 0xFF == (startsWithDone ? 1 : 2))
            try machine.gpaUnmap(gpa: GPA(0), byteCount: memory.byteCount)
            try machine.hvaUnmap(memory)
        }
        // Only then did the second object put the question.
        try #require(addresses.count == 1, "the system gave the second object other addresses")
    }
}
