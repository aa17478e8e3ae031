// AVX as `base-v6` has it: who may execute it, what becomes of the upper halves, and XSAVE's component for them. What
// each instruction calculates is held against the host's processor (HostOracleTests).

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct AVXTests {
    private static let area = GuestLayout.data & ~0x3F
    private static let values: [UInt8] = (0..<32).map { UInt8($0 * 7 + 1) }
    private static let osxsave: UInt64 = 1 << 18

    private let load: [UInt8] = [0xC5, 0xFC, 0x10, 0x0B]  // vmovups ymm1, [rbx]
    private let store: [UInt8] = [0xC5, 0xFC, 0x11, 0x4B, 0x40]  // vmovups [rbx+0x40], ymm1
    private let zeroUpper: [UInt8] = [0xC5, 0xF8, 0x77]
    private let zeroAll: [UInt8] = [0xC5, 0xFC, 0x77]
    private let xsave: [UInt8] = [0x0F, 0xAE, 0x26], xrstor: [UInt8] = [0x0F, 0xAE, 0x2E]  // [rsi]
    private let halt: [UInt8] = [0xF4]

    private func guest(model: ProcessorModel = .baseV6) throws -> GuestMachine {
        let guest = try GuestMachine(SoftBackend(model: model))
        try guest.enterLong()
        guest.change { state in
            state[.cr4] |= 0x600 | Self.osxsave
            state[.xcr0] = 7
            state[.rbx] = Self.area
            state[.rsi] = Self.area + 0x80
            state[.rax] = 7
            state[.rcx] = 0
            state[.rdx] = 0
        }
        try guest.write(Self.values + [UInt8](repeating: 0, count: 0x500), at: Self.area)
        return guest
    }

    private func stored(_ guest: GuestMachine) -> [UInt8] { guest.read(Self.area + 0x40, byteCount: 32) }

    @Test func `the upper half stays under SSE, and is cleared by results of 128 bits`() throws {
        let low = Array(Self.values.prefix(16)), high = Array(Self.values.suffix(16))
        let zeros = [UInt8](repeating: 0, count: 16)
        let cases: [([UInt8], [UInt8])] = [
            ([], low + high),
            ([0x66, 0x0F, 0xEF, 0xC9], zeros + high),  // pxor xmm1, xmm1
            ([0xC5, 0xF1, 0xEF, 0xC9], zeros + zeros),  // vpxor xmm1, xmm1, xmm1
            ([0xC5, 0xFA, 0x10, 0x0B], Array(low.prefix(4)) + [UInt8](repeating: 0, count: 28)),  // vmovss xmm1, [rbx]
            (zeroUpper, low + zeros), (zeroAll, zeros + zeros),
        ]
        for (code, expected) in cases {
            let guest = try guest()
            try guest.run(load + code + store + halt)
            #expect(guest.haltedVector == nil)
            #expect(stored(guest) == expected, "\(code)")
        }
    }

    @Test func `it needs OSXSAVE, its bits of XCR0 and a model that offers it`() throws {
        let cases: [(ProcessorModel, (inout VCPUState) -> Void, Int)] = [
            (.baseV6, { $0[.cr4] &= ~Self.osxsave }, 6), (.baseV6, { $0[.xcr0] = 3 }, 6),
            (.baseV6, { $0[.cr0] |= 8 }, 7), (.baseV5, { _ in }, 6),
        ]
        for (model, change, vector) in cases {
            let guest = try guest(model: model)
            guest.change(change)
            try guest.run(load + store + halt)
            #expect(guest.haltedVector == vector, "\(model.name)")
        }
        let emulated = try guest()
        emulated.change { $0[.cr0] |= 4 }
        try emulated.run(load + store + halt)
        #expect(emulated.haltedVector == nil && stored(emulated) == Self.values)
    }

    @Test func `XSAVE and XRSTOR have a component for the upper halves`() throws {
        let high = Array(Self.values.suffix(16))
        for isPresent in [true, false] {
            let guest = try guest()
            try guest.run(load + xsave + zeroAll + halt)
            #expect(guest.read64(Self.area + 0x80 + 512) == 7)
            #expect(guest.read(Self.area + 0x80 + 576 + 16, byteCount: 16) == high)
            if !isPresent { try guest.write64(3, at: Self.area + 0x80 + 512) }
            guest.change { $0[.rip] = GuestLayout.code }
            try guest.run(xrstor + store + halt)
            #expect(guest.haltedVector == nil)
            #expect(stored(guest) == Self.values.prefix(16) + (isPresent ? high : [UInt8](repeating: 0, count: 16)))
        }
    }

    @Test func `what is not asked for stays as it is`() throws {
        let guest = try guest()
        guest.change { $0[.rax] = 3 }
        try guest.write([UInt8](repeating: 0xAA, count: 256), at: Self.area + 0x80 + 576)
        try guest.run(load + xsave + xrstor + store + halt)
        #expect(guest.read(Self.area + 0x80 + 576, byteCount: 256).allSatisfy { $0 == 0xAA })
        #expect(stored(guest) == Self.values)
    }

    @Test func `MXCSR belongs to AVX's component too`() throws {
        let guest = try guest()
        guest.change {
            $0[.rax] = 4
            $0.fpu.mxcsr = 0x3F80
        }
        try guest.run(xsave + halt)
        #expect(guest.read32(Self.area + 0x80 + 24) == 0x3F80)
        try guest.write32(0x5F80, at: Self.area + 0x80 + 24)
        guest.change { $0[.rip] = GuestLayout.code }
        try guest.run(xrstor + halt)
        #expect(guest.state.fpu.mxcsr == 0x5F80)
    }

    @Test(arguments: [(7, true), (3, true), (1, true), (5, false), (6, false), (0xF, false)] as [(UInt64, Bool)])
    func `XCR0 takes AVX beside SSE alone`(value: UInt64, isTaken: Bool) throws {
        let guest = try guest()
        guest.change {
            $0[.xcr0] = 1
            $0[.rax] = value
        }
        try guest.run([0x0F, 0x01, 0xD1] + halt)
        #expect(guest.haltedVector == (isTaken ? nil : 13))
        #expect(guest[.xcr0] == (isTaken ? value : 1))
    }

    @Test func `CPUID has AVX, AVX2 and the component's place`() throws {
        func cpuid(_ leaf: UInt64, _ subleaf: UInt64 = 0, xcr0: UInt64 = 7) throws -> [UInt64] {
            let guest = try guest()
            guest.change {
                $0[.rax] = leaf
                $0[.rcx] = subleaf
                $0[.xcr0] = xcr0
            }
            try guest.run([0x0F, 0xA2] + halt)
            return [guest[.rax], guest[.rbx], guest[.rcx], guest[.rdx]]
        }
        #expect(try cpuid(1)[2] >> 28 & 1 == 1)
        #expect(try cpuid(7)[1] >> 5 & 1 == 1)
        #expect(try cpuid(0xD) == [7, 832, 832, 0])
        #expect(try cpuid(0xD, xcr0: 3) == [7, 576, 832, 0])
        #expect(try cpuid(0xD, 2) == [256, 576, 0, 0])
    }

    @Test func `a VCPU that is saved and restored has its upper halves`() throws {
        let guest = try guest()
        try guest.run(load + halt)
        let saved = (guest.vcpu.saveState(), guest.vcpu.savePrivateState())
        let other = try self.guest()
        var state = saved.0
        state[.rip] = GuestLayout.code
        try other.vcpu.restore(state, privateState: saved.1)
        try other.run(store + halt)
        #expect(stored(other) == Self.values)
        let older = try self.guest(model: .baseV5)
        #expect(older.vcpu.savePrivateState().count + 256 == saved.1.count)
        #expect(throws: VCPUError.self) { try older.vcpu.restore(saved.0, privateState: saved.1) }
    }

    @Test func `VLDMXCSR and VSTMXCSR move MXCSR, without reserved bits`() throws {
        let move: [UInt8] = [0xC5, 0xF8, 0xAE, 0x13, 0xC5, 0xF8, 0xAE, 0x5B, 0x40]  // [rbx], [rbx+0x40]
        let guest = try guest()
        try guest.write32(0x7FC0, at: Self.area)
        try guest.run(move + halt)
        #expect(guest.haltedVector == nil)
        #expect(guest.state.fpu.mxcsr == 0x7FC0 && guest.read32(Self.area + 0x40) == 0x7FC0)
        let reserved = try self.guest()
        try reserved.write32(0x1_1F80, at: Self.area)
        try reserved.run(move + halt)
        #expect(reserved.haltedVector == 13)
        #expect(reserved.state.fpu.mxcsr == 0x1F80)
    }

    @Test(arguments: [
        [0xC4, 0xE2, 0x71, 0x92, 0x0C, 0x93],  // vgatherdps xmm1, [rbx+xmm2*4], xmm1
        [0xC4, 0xE2, 0x69, 0x92, 0x0C, 0x93],  // vgatherdps xmm1, [rbx+xmm2*4], xmm2
        [0xC4, 0xE2, 0x61, 0x92, 0x14, 0x93],  // vgatherdps xmm2, [rbx+xmm2*4], xmm3
    ] as [[UInt8]])
    func `a gather's registers differ`(code: [UInt8]) throws {
        let guest = try guest()
        try guest.run(code + halt)
        #expect(guest.haltedVector == 6)
    }

    @Test func `a gather that faults keeps what it has, and goes on`() throws {
        let guest = try guest()
        // vgatherdps xmm1, [rbx+xmm2*4], xmm3: the third element is not there.
        let gather: [UInt8] = [0xC4, 0xE2, 0x61, 0x92, 0x0C, 0x93]
        guest.change { state in
            state.fpu.xmm[1] = SIMD16(repeating: 0xEE)
            state.fpu.xmm[2] = SIMD16([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 3, 0, 0, 0])
            state.fpu.xmm[3] = SIMD16(repeating: 0x80)
        }
        try guest.run(gather + halt)
        #expect(guest.haltedVector == 14)
        #expect(guest[.cr2] == Self.area &+ 0x4000_0000)
        let first = Array(Self.values.prefix(8))
        #expect(guest.state.fpu.xmm[1] == SIMD16(first + [UInt8](repeating: 0xEE, count: 8)))
        let gone = [UInt8](repeating: 0, count: 8), left = [UInt8](repeating: 0x80, count: 8)
        #expect(guest.state.fpu.xmm[3] == SIMD16(gone + left))
        let again = try self.guest()
        again.change { state in
            state.fpu.xmm = guest.state.fpu.xmm
            state.fpu.xmm[2] = SIMD16([9, 9, 9, 9, 9, 9, 9, 9, 2, 0, 0, 0, 3, 0, 0, 0])
        }
        try again.run(gather + halt)
        #expect(again.haltedVector == nil)
        #expect(again.state.fpu.xmm[1] == SIMD16(Array(Self.values.prefix(16))))
        #expect(again.state.fpu.xmm[3] == .zero)
    }
}
