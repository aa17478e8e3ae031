// XSAVE, XRSTOR, XGETBV and XSETBV as `base-v5` has them: SDM vol. 1, chapter 13.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct XSAVETests {
    private static let area = GuestLayout.data & ~0x3F
    private static let osxsave: UInt64 = 1 << 18

    private func guest(model: ProcessorModel = .baseV5) throws -> GuestMachine {
        let guest = try GuestMachine(SoftBackend(model: model))
        try guest.enterLong()
        guest.change { state in
            state[.cr4] |= 0x600 | Self.osxsave
            state[.xcr0] = 3
            state[.rbx] = Self.area
            state[.rcx] = 0
            state[.rdx] = 0
            state.fpu.controlWord = 0x27F
            state.fpu.tagByte = 0x80
            state.fpu.mxcsr = 0x1FA0
            for index in 0..<16 { state.fpu.xmm[index] = SIMD16(repeating: UInt8(index + 1)) }
            state.fpu.x87[0] = SIMD16(repeating: 0x77)
        }
        return guest
    }

    /// The image's bytes that a component has.
    private func isOf(_ components: UInt64, _ offset: Int) -> Bool {
        let isSSE = (24..<32).contains(offset) || offset >= 160
        return components & (isSSE ? 2 : 1) != 0
    }

    private let xsave: [UInt8] = [0x0F, 0xAE, 0x23], xrstor: [UInt8] = [0x0F, 0xAE, 0x2B]
    private let halt: [UInt8] = [0xF4]

    @Test func `XSAVE and XRSTOR keep the components that are asked for`() throws {
        for (xcr0, mask) in [(3, 0), (3, 1), (3, 2), (3, 3), (1, 3), (3, UInt64.max)] as [(UInt64, UInt64)] {
            let guest = try guest()
            try guest.write([UInt8](repeating: 0xAA, count: 512) + [UInt8](repeating: 0, count: 64), at: Self.area)
            guest.change {
                $0[.xcr0] = xcr0
                $0[.rax] = mask & 0xFFFF_FFFF
                $0[.rdx] = mask >> 32
            }
            try guest.run(xsave + halt)
            #expect(guest.haltedVector == nil)
            let components = xcr0 & mask & 3
            let bytes = guest.read(Self.area, byteCount: 576)
            for offset in 0..<416 where !isOf(components, offset) {
                #expect(bytes[offset] == 0xAA, "\(mask) +\(offset)")
            }
            #expect(bytes[416..<512].allSatisfy { $0 == 0xAA })
            #expect(guest.read64(Self.area + 512) == components)
            if components & 1 != 0 { #expect(guest.read16(Self.area) == 0x27F && bytes[4] == 0x80) }
            if components & 2 != 0 {
                #expect(guest.read32(Self.area + 24) == 0x1FA0)
                for index in 0..<16 { #expect(bytes[160 + index * 16 + 15] == UInt8(index + 1)) }
            }
            let saved = guest.state.fpu
            guest.change {
                $0.fpu.controlWord = 0x37F
                $0.fpu.tagByte = 0
                $0.fpu.mxcsr = 0x1F80
                for index in 0..<16 { $0.fpu.xmm[index] = .zero }
                $0[.rip] = GuestLayout.code
            }
            try guest.run(xrstor + halt)
            #expect(guest.haltedVector == nil)
            let state = guest.state.fpu
            #expect(state.controlWord == (components & 1 != 0 ? 0x27F : 0x37F))
            #expect(state.tagByte == (components & 1 != 0 ? 0x80 : 0))
            #expect(state.mxcsr == (components & 2 != 0 ? 0x1FA0 : 0x1F80))
            for index in 0..<16 { #expect(state.xmm[index] == (components & 2 != 0 ? saved.xmm[index] : .zero)) }
        }
    }

    @Test func `XRSTOR puts back to its beginning what the area does not have`() throws {
        let guest = try guest()
        try guest.write([UInt8](repeating: 0, count: 576), at: Self.area)
        try guest.write32(0x1F80, at: Self.area + 24)
        guest.change { $0[.rax] = 3 }
        try guest.run(xrstor + halt)
        #expect(guest.haltedVector == nil)
        let state = guest.state.fpu
        #expect(state.controlWord == 0x37F && state.statusWord == 0 && state.tagByte == 0)
        #expect(state.mxcsr == 0x1F80)
        for index in 0..<16 { #expect(state.xmm[index] == .zero) }
        for index in 0..<8 { #expect(state.x87[index] == .zero) }
    }

    @Test func `an area that is wrong, and a system that has not asked for it, fault and change nothing`() throws {
        typealias Wrong = (name: String, code: [UInt8], vector: Int, (GuestMachine) throws -> Void)
        let wrongs: [Wrong] = [
            ("alignment", xsave, 13, { guest in guest.change { $0[.rbx] += 8 } }),
            ("alignment", xrstor, 13, { guest in guest.change { $0[.rbx] += 8 } }),
            ("component", xrstor, 13, { try $0.write32(4, at: Self.area + 512) }),
            (
                "component that XCR0 has not", xrstor, 13,
                { guest in
                    guest.change { $0[.xcr0] = 1 }
                    try guest.write32(2, at: Self.area + 512)
                }
            ),
            ("compacted", xrstor, 13, { try $0.write32(1 << 31, at: Self.area + 524) }),
            ("reserved", xrstor, 13, { try $0.write32(1, at: Self.area + 528) }),
            ("MXCSR", xrstor, 13, { try $0.write32(1 << 16, at: Self.area + 24) }),
            ("OSXSAVE", xsave, 6, { guest in guest.change { $0[.cr4] &= ~Self.osxsave } }),
            ("OSXSAVE", xrstor, 6, { guest in guest.change { $0[.cr4] &= ~Self.osxsave } }),
            ("OSXSAVE", [0x0F, 0x01, 0xD0], 6, { guest in guest.change { $0[.cr4] &= ~Self.osxsave } }),
            ("TS", xsave, 7, { guest in guest.change { $0[.cr0] |= 8 } }),
            ("TS", xrstor, 7, { guest in guest.change { $0[.cr0] |= 8 } }),
        ]
        for (name, code, vector, wrong) in wrongs {
            let guest = try guest()
            try guest.write([UInt8](repeating: 0, count: 576), at: Self.area)
            guest.change { $0[.rax] = 3 }
            try wrong(guest)
            let before = guest.read(Self.area, byteCount: 576)
            try guest.run(code + halt)
            #expect(guest.haltedVector == vector, "\(name) \(code)")
            #expect(guest.read(Self.area, byteCount: 576) == before, "\(name) \(code)")
            #expect(guest.state.fpu.controlWord == 0x27F && guest.state.fpu.mxcsr == 0x1FA0, "\(name) \(code)")
        }
    }

    @Test func `XSETBV takes what CPUID names, and x87 always`() throws {
        let cases: [(rax: UInt64, rdx: UInt64, rcx: UInt64, isTaken: Bool)] = [
            (1, 0, 0, true), (3, 0, 0, true), (0, 0, 0, false), (2, 0, 0, false), (7, 0, 0, false), (1, 1, 0, false),
            (1, 0, 1, false),
        ]
        for (rax, rdx, rcx, isTaken) in cases {
            let guest = try guest()
            guest.change {
                $0[.xcr0] = 1
                $0[.rax] = rax
                $0[.rdx] = rdx
                $0[.rcx] = rcx
            }
            try guest.run([0x0F, 0x01, 0xD1] + halt)
            #expect(guest.haltedVector == (isTaken ? nil : 13), "\(rax) \(rdx) \(rcx)")
            #expect(guest[.xcr0] == (isTaken ? rax : 1), "\(rax) \(rdx) \(rcx)")
        }
        let guest = try guest()
        guest.change {
            $0[.rax] = .max
            $0[.rdx] = .max
        }
        try guest.run([0x0F, 0x01, 0xD0] + halt)
        #expect(guest[.rax] == 3 && guest[.rdx] == 0)
    }

    @Test func `CPUID says whether CR4 has it, and how much memory it takes`() throws {
        for isOn in [false, true] {
            let guest = try guest()
            guest.change {
                $0[.cr4] = isOn ? $0[.cr4] | Self.osxsave : $0[.cr4] & ~Self.osxsave
                $0[.rax] = 1
            }
            try guest.run([0x0F, 0xA2] + halt)
            #expect(guest[.rcx] >> 26 & 3 == (isOn ? 3 : 1))
        }
        let guest = try guest()
        guest.change {
            $0[.rax] = 0xD
            $0[.rcx] = 0
        }
        try guest.run([0x0F, 0xA2] + halt)
        #expect(guest[.rax] == 3 && guest[.rbx] == 576 && guest[.rcx] == 576 && guest[.rdx] == 0)
        let older = try self.guest(model: .baseV4)
        older.change { $0[.rax] = $0[.cr4] | Self.osxsave }
        try older.run([0x0F, 0x22, 0xE0] + halt)  // mov cr4, rax
        #expect(older.haltedVector == 13)
    }
}
