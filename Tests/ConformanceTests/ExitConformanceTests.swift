// Exits that every backend offers, with payload, RIP and what is cached: `nvmm_x86_svm.c`.

import NVMM
import TestSupport
import Testing

@Suite struct ExitConformanceTests {
    private static let code = GuestLayout.code

    @Test(arguments: BackendUnderTest.available)
    func `HLT exits with RIP behind it`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        try guest.write([0xF4], at: Self.code)
        let result = try guest.vcpu.run(budget: backend.ample)
        #expect(result.exit.reason == .halted)
        #expect(result.retired == (backend == .soft ? 1 : nil))
        #expect(guest[.rip] == Self.code + 1)
        #expect(guest.vcpu.commPage.stateCached == [])
    }

    @Test(arguments: BackendUnderTest.available)
    func `IN exits for each size, with the next RIP`(backend: BackendUnderTest) throws {
        for (code, port, bytes) in [
            ([0xE4, 0x10], UInt16(0x10), UInt8(1)), ([0xE5, 0x11], 0x11, 2), ([0x66, 0xE5, 0x12], 0x12, 4),
            ([0xEC], 0x3F8, 1), ([0xED], 0x3F8, 2), ([0x66, 0xED], 0x3F8, 4),
        ] as [([UInt8], UInt16, UInt8)] {
            let guest = try backend.realGuest()
            guest.change { $0[.rdx] = 0xABCD_03F8 }
            let exit = try backend.run(guest, code)
            #expect(
                exit.reason
                    == .io(
                        IOExit(
                            isInput: true, port: port, addressBytes: 2, operandBytes: bytes,
                            npc: Self.code + UInt64(code.count))))
            #expect(guest[.rip] == Self.code)
        }
    }

    @Test(arguments: BackendUnderTest.available)
    func `OUT exits for each size, with the next RIP`(backend: BackendUnderTest) throws {
        for (code, port, bytes) in [
            ([0xE6, 0x10], UInt16(0x10), UInt8(1)), ([0xE7, 0x11], 0x11, 2), ([0x66, 0xE7, 0x12], 0x12, 4),
            ([0xEE], 0x3F8, 1), ([0xEF], 0x3F8, 2), ([0x66, 0xEF], 0x3F8, 4),
        ] as [([UInt8], UInt16, UInt8)] {
            let guest = try backend.realGuest()
            guest.change { $0[.rdx] = 0x3F8 }
            let exit = try backend.run(guest, code)
            #expect(
                exit.reason
                    == .io(
                        IOExit(
                            isInput: false, port: port, addressBytes: 2, operandBytes: bytes,
                            npc: Self.code + UInt64(code.count))))
        }
    }

    @Test(arguments: BackendUnderTest.available)
    func `string I/O exits with segment, sizes and REP`(backend: BackendUnderTest) throws {
        for (code, isInput, segment, operand, address, repeated) in [
            ([0x6C], true, SegmentRegister.es, UInt8(1), UInt8(2), false), ([0x66, 0x6D], true, .es, 4, 2, false),
            ([0xF3, 0x6D], true, .es, 2, 2, true), ([0x6E], false, .ds, 1, 2, false),
            ([0x26, 0x6E], false, .es, 1, 2, false), ([0xF3, 0x67, 0x6F], false, .ds, 2, 4, true),
        ] as [([UInt8], Bool, SegmentRegister, UInt8, UInt8, Bool)] {
            let guest = try backend.realGuest()
            guest.change {
                $0[.rdx] = 0x1F0
                $0[.rcx] = 4
                $0[.rsi] = GuestLayout.data
                $0[.rdi] = GuestLayout.data
            }
            let exit = try backend.run(guest, code)
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

    @Test(arguments: BackendUnderTest.available)
    func `RDMSR and WRMSR exit for registers that the backend does not handle`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        guest.change {
            $0[.rcx] = 0x1B
            $0[.rax] = 0x1111_1111_89AB_CDEF
            $0[.rdx] = 0x2222_2222_0123_4567
        }
        var exit = try backend.run(guest, [0x0F, 0x32, 0x0F, 0x30])
        #expect(exit.reason == .readMSR(MSRReadExit(msr: 0x1B, npc: Self.code + 2)))
        #expect(guest.vcpu.commPage.stateCached == .gprs)
        #expect(guest[.rip] == Self.code)
        guest.change { $0[.rip] = Self.code + 2 }
        exit = try backend.run(guest)
        #expect(exit.reason == .writeMSR(MSRWriteExit(msr: 0x1B, value: 0x0123_4567_89AB_CDEF, npc: Self.code + 4)))
        #expect(guest.vcpu.commPage.stateCached == .gprs)
    }

    @Test(arguments: BackendUnderTest.available)
    func `a store to a GPA that is mapped read-only exits as WRITE, a load does not`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        let rom = try guest.machine.hvaMap(byteCount: pageBytes)
        try guest.machine.gpaMap(
            rom, offset: 0, gpa: GPA(0x40_0000), byteCount: pageBytes, protection: [.read, .execute])
        let exit = try backend.run(guest, [0xA1, 0, 0, 0x40, 0, 0xA3, 0x10, 0, 0x40, 0])
        guard case .memory(let memory) = exit.reason else {
            Issue.record("no MEMORY exit: \(exit.reason)")
            return
        }
        #expect(memory.access == .write)
        #expect(memory.gpa == GPA(0x40_0010))
        #expect(guest[.rip] == Self.code + 5)
    }

    @Test(arguments: BackendUnderTest.available)
    func `a triple fault exits with SHUTDOWN`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        guest.change { $0[.idt].limit = 0 }
        #expect(try backend.run(guest, [0x0F, 0x0B]).reason == .shutdown)
    }

    @Test(arguments: BackendUnderTest.available)
    func `a run that returns early says nothing about the state`(backend: BackendUnderTest) throws {
        let guest = try backend.realGuest()
        guest.vcpu.stop()
        let result = try guest.vcpu.run(budget: 10)
        #expect(result.exit == VCPUExit(reason: .stopped))
        #expect(result.kind == .returnedEarly)
        #expect(guest.vcpu.commPage.stateCommit == .all)
        #expect(try guest.vcpu.run(budget: 0).kind == .entered)
    }

    @Test(arguments: BackendUnderTest.available)
    func `exit state carries RFLAGS and CR8`(backend: BackendUnderTest) throws {
        let guest = try backend.longGuest()
        guest.change { $0[.rax] = 7 }
        let exit = try backend.run(guest, [0x44, 0x0F, 0x22, 0xC0, 0xF9, 0xFD, 0xF4])  // mov cr8, rax; stc; std; hlt
        #expect(exit.reason == .halted)
        #expect(exit.state.cr8 == 7)
        #expect(exit.state.rflags & 0x401 == 0x401)
        #expect(exit.state.rflags == guest[.rflags])
    }

    @Test(arguments: BackendUnderTest.available)
    func `a mask of CPUID shows in the guest, and a contradictory one is refused`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        let set = CPUIDRegisters(ebx: 0x0000_5A00)
        try guest.vcpu.configure(.cpuid(leaf: 0x4000_0010, .mask(set: set, delete: CPUIDRegisters(eax: .max))))
        #expect(throws: VCPUError.contradictoryCPUIDMask(leaf: 7)) {
            try guest.vcpu.configure(.cpuid(leaf: 7, .mask(set: set, delete: set)))
        }
        // mov eax, 0x40000010; cpuid; hlt
        #expect(try backend.run(guest, [0xB8, 0x10, 0, 0, 0x40, 0x0F, 0xA2, 0xF4]).reason == .halted)
        #expect(guest[.rax] == 0)
        #expect(guest[.rbx] == 0x5A00)
    }
}
