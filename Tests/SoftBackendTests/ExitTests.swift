// Each exit of NVMM with its payload, RIP and what is cached: docs of nvmm-facts section 4, `nvmm_x86_svm.c`.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct ExitTests {
    private static let code = GuestLayout.code

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

    @Test func `an exhausted budget exits with NONE`() throws {
        let guest = try realGuest()
        let exit = try guest.run([0x90, 0x90, 0x90], budget: 2)
        #expect(exit.reason == .none)
        #expect(guest[.rip] == Self.code + 2)
        #expect(guest.vcpu.commPage.stateCached == [])
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
