// Each exit of NVMM with its payload, RIP and what is cached: docs of nvmm-facts section 4, `nvmm_x86_svm.c`.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct ExitTests {
    private static let code = GuestLayout.code

    @Test func `HLT exits with RIP behind it`() throws {
        let guest = try realGuest()
        try guest.write([0xF4], at: Self.code)
        let result = try guest.vcpu.run(budget: 10)
        #expect(result.exit.reason == .halted)
        #expect(result.retired == 1)
        #expect(guest[.rip] == Self.code + 1)
        #expect(guest.vcpu.commPage.stateCached == [])
    }

    @Test func `IN exits for each size, with the next RIP`() throws {
        for (code, port, bytes) in [
            ([0xE4, 0x10], UInt16(0x10), UInt8(1)), ([0xE5, 0x11], 0x11, 2), ([0x66, 0xE5, 0x12], 0x12, 4),
            ([0xEC], 0x3F8, 1), ([0xED], 0x3F8, 2), ([0x66, 0xED], 0x3F8, 4),
        ] as [([UInt8], UInt16, UInt8)] {
            let guest = try realGuest()
            guest.change { $0[.rdx] = 0xABCD_03F8 }
            let exit = try guest.run(code)
            #expect(
                exit.reason
                    == .io(
                        IOExit(
                            isInput: true, port: port, addressBytes: 2, operandBytes: bytes,
                            npc: Self.code + UInt64(code.count))))
            #expect(guest[.rip] == Self.code)
        }
    }

    @Test func `OUT exits for each size, with the next RIP`() throws {
        for (code, port, bytes) in [
            ([0xE6, 0x10], UInt16(0x10), UInt8(1)), ([0xE7, 0x11], 0x11, 2), ([0x66, 0xE7, 0x12], 0x12, 4),
            ([0xEE], 0x3F8, 1), ([0xEF], 0x3F8, 2), ([0x66, 0xEF], 0x3F8, 4),
        ] as [([UInt8], UInt16, UInt8)] {
            let guest = try realGuest()
            guest.change { $0[.rdx] = 0x3F8 }
            let exit = try guest.run(code)
            #expect(
                exit.reason
                    == .io(
                        IOExit(
                            isInput: false, port: port, addressBytes: 2, operandBytes: bytes,
                            npc: Self.code + UInt64(code.count))))
        }
    }

    @Test func `string I/O exits with segment, sizes and REP`() throws {
        for (code, isInput, segment, operand, address, repeated) in [
            ([0x6C], true, SegmentRegister.es, UInt8(1), UInt8(2), false), ([0x66, 0x6D], true, .es, 4, 2, false),
            ([0xF3, 0x6D], true, .es, 2, 2, true), ([0x6E], false, .ds, 1, 2, false),
            ([0x26, 0x6E], false, .es, 1, 2, false), ([0xF3, 0x67, 0x6F], false, .ds, 2, 4, true),
        ] as [([UInt8], Bool, SegmentRegister, UInt8, UInt8, Bool)] {
            let guest = try realGuest()
            guest.change {
                $0[.rdx] = 0x1F0
                $0[.rcx] = 4
                $0[.rsi] = GuestLayout.data
                $0[.rdi] = GuestLayout.data
            }
            let exit = try guest.run(code)
            #expect(
                exit.reason
                    == .io(
                        IOExit(
                            isInput: isInput, port: 0x1F0, segment: segment, addressBytes: address,
                            operandBytes: operand,
                            isRepeated: repeated, isString: true, npc: Self.code + UInt64(code.count))))
            #expect(guest[.rip] == Self.code)
        }
    }

    @Test func `RDMSR and WRMSR exit for registers that the backend does not handle`() throws {
        let guest = try realGuest()
        guest.change {
            $0[.rcx] = 0x1B
            $0[.rax] = 0x1111_1111_89AB_CDEF
            $0[.rdx] = 0x2222_2222_0123_4567
        }
        var exit = try guest.run([0x0F, 0x32, 0x0F, 0x30])
        #expect(exit.reason == .readMSR(MSRReadExit(msr: 0x1B, npc: Self.code + 2)))
        #expect(guest.vcpu.commPage.stateCached == .gprs)
        #expect(guest[.rip] == Self.code)
        guest.change { $0[.rip] = Self.code + 2 }
        exit = try guest.run()
        #expect(exit.reason == .writeMSR(MSRWriteExit(msr: 0x1B, value: 0x0123_4567_89AB_CDEF, npc: Self.code + 4)))
        #expect(guest.vcpu.commPage.stateCached == .gprs)
    }

    @Test func `MONITOR and MWAIT exit at the instruction`() throws {
        let guest = try realGuest()
        #expect(try guest.run([0x0F, 0x01, 0xC8, 0x0F, 0x01, 0xC9]).reason == .monitor(npc: Self.code + 3))
        #expect(guest[.rip] == Self.code)
        guest.change { $0[.rip] = Self.code + 3 }
        #expect(try guest.run().reason == .mwait(npc: Self.code + 6))
        #expect(guest[.rip] == Self.code + 3)
    }

    @Test func `CPUID exits with the default result in the registers`() throws {
        let guest = try realGuest()
        try guest.vcpu.configure(.cpuid(leaf: 1, .exit))
        guest.change { $0[.rax] = 1 }
        #expect(try guest.run([0x0F, 0xA2]).reason == .cpuid(npc: Self.code + 2))
        #expect(guest[.rip] == Self.code)
        let entry = SoftBackend().cpuidTable.first { $0.leaf == 1 }?.registers
        #expect(guest[.rax] == entry.map { UInt64($0.eax) })
        #expect(guest.vcpu.commPage.stateCached == [])
    }

    @Test func `MOV to CR8 exits with TPR_CHANGED, RIP behind it`() throws {
        let guest = try longGuest()
        try guest.vcpu.configure(.tpr(exitOnChange: true))
        guest.change { $0[.rax] = 5 }
        let exit = try guest.run([0x44, 0x0F, 0x22, 0xC0])  // mov cr8, rax
        #expect(exit.reason == .tprChanged)
        #expect(exit.state.cr8 == 5)
        #expect(guest[.rip] == Self.code + 4)
    }

    @Test func `a load, a store and a fetch of unmapped memory exit as READ, WRITE and EXEC`() throws {
        for (code, access, gpa) in [
            ([0xA1, 0x04, 0, 0x40, 0], Protection.read, UInt64(0x40_0004)),
            ([0xA3, 0x08, 0, 0x40, 0], .write, 0x40_0008),
            ([0xB8, 0x0C, 0, 0x40, 0, 0xFF, 0xE0], .execute, 0x40_000C),
        ] as [([UInt8], Protection, UInt64)] {
            let guest = try protectedGuest()
            guard case .memory(let exit) = try guest.run(code).reason else {
                Issue.record("no MEMORY exit")
                continue
            }
            #expect(exit.access == access)
            #expect(exit.gpa == GPA(gpa))
            #expect(guest.vcpu.commPage.stateCached == [.gprs, .segments, .crs, .msrs])
            #expect(guest[.rip] == (access == .execute ? gpa : Self.code))
            if access != .execute { #expect(exit.instruction.bytes.starts(with: code)) }
        }
    }

    @Test func `a store to a GPA that is mapped read-only exits as WRITE, a load does not`() throws {
        let guest = try protectedGuest()
        let rom = try guest.machine.hvaMap(byteCount: pageBytes)
        try guest.machine.gpaMap(
            rom, offset: 0, gpa: GPA(0x40_0000), byteCount: pageBytes, protection: [.read, .execute])
        let exit = try guest.run([0xA1, 0, 0, 0x40, 0, 0xA3, 0x10, 0, 0x40, 0])
        guard case .memory(let memory) = exit.reason else {
            Issue.record("no MEMORY exit: \(exit.reason)")
            return
        }
        #expect(memory.access == .write)
        #expect(memory.gpa == GPA(0x40_0010))
        #expect(guest[.rip] == Self.code + 5)
    }

    @Test func `a triple fault exits with SHUTDOWN`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.idt].limit = 0 }
        #expect(try guest.run([0x0F, 0x0B]).reason == .shutdown)
    }

    @Test func `an exhausted budget exits with NONE`() throws {
        let guest = try realGuest()
        let exit = try guest.run([0x90, 0x90, 0x90], budget: 2)
        #expect(exit.reason == .none)
        #expect(guest[.rip] == Self.code + 2)
        #expect(guest.vcpu.commPage.stateCached == [])
    }

    @Test func `a run that returns early says nothing about the state`() throws {
        let guest = try realGuest()
        guest.vcpu.stop()
        let result = try guest.vcpu.run(budget: 10)
        #expect(result.exit == VCPUExit(reason: .stopped))
        #expect(result.kind == .returnedEarly)
        #expect(guest.vcpu.commPage.stateCommit == .all)
        #expect(try guest.vcpu.run(budget: 0).kind == .entered)
    }

    @Test func `exit state carries RFLAGS and CR8`() throws {
        let guest = try longGuest()
        guest.change { $0[.rax] = 7 }
        let exit = try guest.run([0x44, 0x0F, 0x22, 0xC0, 0xF9, 0xFD, 0xF4])  // mov cr8, rax; stc; std; hlt
        #expect(exit.reason == .halted)
        #expect(exit.state.cr8 == 7)
        #expect(exit.state.rflags & 0x401 == 0x401)
        #expect(exit.state.rflags == guest[.rflags])
    }

    @Test func `instructions that NVMM's kernel refuses raise #UD`() throws {
        for code: [UInt8] in [
            [0x0F, 0x33], [0x0F, 0x01, 0xF9], [0x0F, 0x01, 0xC1], [0x0F, 0x01, 0xD9], [0x0F, 0xC7, 0xF0],
            [0x0F, 0xC7, 0xF8],
            [0x0F, 0xAA], [0x0F, 0x01, 0xDD], [0x0F, 0x01, 0xDE], [0x0F, 0x01, 0xDF],
        ] {
            let guest = try protectedGuest()
            try guest.run(code)
            #expect(guest.haltedVector == 6, "\(code)")
        }
    }

    @Test func `WBINVD passes and INVD exits as NVMM has it`() throws {
        let guest = try protectedGuest()
        let exit = try guest.run([0x0F, 0x09, 0x0F, 0x08])
        guard case .invalid = exit.reason else {
            Issue.record("no INVALID exit: \(exit.reason)")
            return
        }
        #expect(guest[.rip] == Self.code + 2)
    }

    @Test func `RDTSC counts instructions and advances`() throws {
        let guest = try protectedGuest()
        // rdtsc; mov ebx, eax; nop; rdtsc; hlt
        try guest.run([0x0F, 0x31, 0x89, 0xC3, 0x90, 0x0F, 0x31, 0xF4])
        #expect(guest[.rax] &- guest[.rbx] == 3)
        let before = guest.machine.clock
        guest.machine.advanceClock(by: 1000)
        #expect(guest.machine.clock == before + 1000)
    }

    @Test func `FPU state is saved, restored and initialised`() throws {
        let guest = try protectedGuest()
        guest.change {
            $0[.cr4] = 0x200
            $0.fpu.controlWord = 0x27F
            $0.fpu.mxcsr = 0x1F80
            $0.fpu.xmm[3] = SIMD16(repeating: 0x5A)
        }
        // fxsave [E000]; fninit; fnstcw [E800]; ldmxcsr [E804]; fxrstor [E000]; fnstcw [E802]; stmxcsr [E808]; hlt
        try guest.write32(0x3F80, at: 0xE804)
        try guest.run([
            0x0F, 0xAE, 0x05, 0, 0xE0, 0, 0, 0xDB, 0xE3, 0xD9, 0x3D, 0, 0xE8, 0, 0, 0x0F, 0xAE, 0x15, 4, 0xE8, 0, 0,
            0x0F, 0xAE, 0x1D, 8, 0xE8, 0, 0, 0x0F, 0xAE, 0x0D, 0, 0xE0, 0, 0, 0xD9, 0x3D, 2, 0xE8, 0, 0, 0xF4,
        ])
        #expect(guest.read16(0xE000) == 0x27F)
        #expect(guest.read(0xE000 + 160 + 48, byteCount: 16) == [UInt8](repeating: 0x5A, count: 16))
        #expect(guest.read16(0xE800) == 0x37F)
        #expect(guest.read32(0xE808) == 0x3F80)
        #expect(guest.read16(0xE802) == 0x27F)
        #expect(guest.state.fpu.mxcsr == 0x1F80)
    }

    @Test func `arithmetic of the FPU raises #UD and is counted by name`() throws {
        let guest = try protectedGuest()
        guest.change { $0[.cr4] = 0x200 }
        try guest.run([0xD8, 0xC1])  // fadd st, st(1)
        #expect(guest.haltedVector == 6)
        #expect(guest.vcpu.counters().contains { $0.name.lowercased().contains("fadd") && $0.value == 1 })
    }

    @Test func `SYSEXIT returns to CPL 3 with RCX and RDX`() throws {
        let guest = try longGuest()
        guest.change {
            $0[.sysenterCS] = 8
            $0[.rdx] = Self.code + 0x100
            $0[.rcx] = GuestLayout.userStack
        }
        try guest.run([0x48, 0x0F, 0x35], budget: 1)
        #expect(guest.level == 3)
        #expect(guest[.rip] == Self.code + 0x100)
        #expect(guest[.rsp] == GuestLayout.userStack)
        #expect(guest[SegmentRegister.cs].selector == 0x2B)
        #expect(guest[SegmentRegister.ss].selector == 0x33)
    }
}
