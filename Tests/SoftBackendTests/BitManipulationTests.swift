// FSGSBASE, and where instructions that VEX encodes are none: what the host's oracle cannot show.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct BitManipulationTests {
    private func guest(level: UInt8 = 0, cr4: UInt64) throws -> GuestMachine {
        let guest = try GuestMachine(SoftBackend(model: .baseV2))
        try guest.enterLong(level: level)
        guest.change { $0[.cr4] |= cr4 }
        return guest
    }
    private static let fsgsbase: UInt64 = 1 << 16

    // SDM vol. 2, RDFSBASE and WRFSBASE: at any privilege level, where CR4.FSGSBASE is set.
    @Test(arguments: [0, 3] as [UInt8])
    func `FS and GS bases are moved where CR4 allows it`(level: UInt8) throws {
        let guest = try guest(level: level, cr4: Self.fsgsbase)
        guest.change {
            $0[.fs].base = 0x1111
            $0[.gs].base = 0x7FFF_0000_2222
            $0[.rcx] = GuestLayout.data
            $0[.rdx] = 0xFFFF_FFFF_0000_4444
        }
        try guest.write64(0x5A5A, at: GuestLayout.data + 8)
        try guest.run(
            [
                0xF3, 0x48, 0x0F, 0xAE, 0xC0,  // rdfsbase rax
                0xF3, 0x0F, 0xAE, 0xCB,  // rdgsbase ebx
                0xF3, 0x48, 0x0F, 0xAE, 0xD1,  // wrfsbase rcx
                0xF3, 0x0F, 0xAE, 0xDA,  // wrgsbase edx
                0x64, 0x48, 0x8B, 0x34, 0x25, 8, 0, 0, 0,  // mov rsi, fs:[8]
            ], budget: 5)
        #expect(guest[.rax] == 0x1111)
        #expect(guest[.rbx] == 0x2222)
        #expect(guest[.fs].base == GuestLayout.data)
        #expect(guest[.gs].base == 0x4444)
        #expect(guest[.rsi] == 0x5A5A)
    }

    @Test(arguments: [0xC0, 0xC8, 0xD0, 0xD8] as [UInt8])
    func `FS and GS bases are not moved without CR4's bit, nor in compatibility mode`(modRM: UInt8) throws {
        let code = [0xF3, 0x48, 0x0F, 0xAE, modRM]
        let plain = try guest(cr4: 0)
        try plain.run(code)
        #expect(plain.haltedVector == 6)
        let compatible = try GuestMachine(SoftBackend(model: .baseV2))
        try compatible.enterLong(compatibility: true)
        compatible.change { $0[.cr4] |= Self.fsgsbase }
        try compatible.run([0xF3, 0x0F, 0xAE, modRM])
        #expect(compatible.haltedVector == 6)
    }

    @Test func `a base that is not canonical is #GP, and CR4's bit is one of the offered`() throws {
        let guest = try guest(cr4: Self.fsgsbase)
        guest.change { $0[.rcx] = 0x8000_0000_0000 }
        try guest.run([0xF3, 0x48, 0x0F, 0xAE, 0xD1])  // wrfsbase rcx
        #expect(guest.haltedVector == 13)
        for (model, vector) in [(ProcessorModel.base, 13), (.baseV2, nil)] as [(ProcessorModel, Int?)] {
            let guest = try GuestMachine(SoftBackend(model: model))
            try guest.enterLong()
            guest.change { $0[.rax] = $0[.cr4] | Self.fsgsbase }
            try guest.run([0x0F, 0x22, 0xE0, 0xF4])  // mov cr4, rax
            #expect(guest.haltedVector == vector)
        }
    }

    // SDM vol. 2, 2.3: VEX prefixes are recognised in protected, compatibility and 64-bit mode.
    @Test func `an instruction encoded by VEX is #UD in real mode, and one in protected mode`() throws {
        let andn: [UInt8] = [0xC4, 0xE2, 0x70, 0xF2, 0xC2, 0xF4]  // andn eax, ecx, edx
        func set(_ state: inout VCPUState) {
            state[.rcx] = 0xF0
            state[.rdx] = 0x3C
        }
        let real = try GuestMachine(SoftBackend(model: .baseV2))
        try real.enterReal()
        real.change(set)
        try real.run(andn)
        #expect(real.haltedVector == 6)
        let protected = try GuestMachine(SoftBackend(model: .baseV2))
        try protected.enterProtected()
        protected.change(set)
        try protected.run(andn)
        #expect(protected.haltedVector == nil)
        #expect(protected[.rax] == 0x0C)
    }
}
