// What processors of Intel do otherwise than AMD's, and the manuals allow or decide: each as CPUID's vendor has it.
// The oracle's host shows the ways of one vendor; these tests hold both on any host.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct VendorTests {
    enum Vendor: String, CaseIterable {
        case intel = "GenuineIntel"
        case amd = "AuthenticAMD"

        var backend: SoftBackend { SoftBackend(model: .base.ofVendor(rawValue)) }
        var isIntel: Bool { self == .intel }

        func protectedGuest() throws -> GuestMachine {
            let guest = try GuestMachine(backend)
            try guest.enterProtected()
            return guest
        }
        func longGuest() throws -> GuestMachine {
            let guest = try GuestMachine(backend)
            try guest.enterLong()
            return guest
        }
    }

    @Test(arguments: Vendor.allCases)
    func `CPUID names the vendor, and beyond its leaves has their way`(vendor: Vendor) throws {
        let guest = try vendor.protectedGuest()
        guest.change { $0[.rax] = 0 }
        try guest.run([0x0F, 0xA2, 0xF4])
        let text = [GPR.rbx, .rdx, .rcx].flatMap { register in
            (0..<4).map { UInt8(truncatingIfNeeded: guest[register] >> ($0 * 8)) }
        }
        #expect(String(decoding: text, as: UTF8.self) == vendor.rawValue)
        guest.change {
            $0[.rax] = 0x7FFF
            $0[.rip] = GuestLayout.code
        }
        try guest.run()
        let last = vendor.backend.cpuidTable.last { $0.leaf < 0x4000_0000 }
        #expect(guest[.rax] == (vendor.isIntel ? last.map { UInt64($0.registers.eax) } : 0))
    }

    // SDM vol. 2, BOUND, does not say whether both bounds are read before one is compared.
    @Test(arguments: Vendor.allCases)
    func `BOUND below the first bound does not need the second on Intel's`(vendor: Vendor) throws {
        let guest = try vendor.protectedGuest()
        let place: UInt32 = 0xEFFC
        guest.change {
            $0[.ds].limit = place + 3
            $0[.rax] = 1
            $0[.rbx] = UInt64(place)
        }
        try guest.write32(2, at: UInt64(place))
        try guest.run([0x62, 0x03])  // bound eax, [ebx]
        #expect(guest.haltedVector == (vendor.isIntel ? 5 : 13))
        guest.change {
            $0[.rax] = 3
            $0[.rip] = GuestLayout.code
            $0[.rsp] = GuestLayout.stack
        }
        try guest.run()
        #expect(guest.haltedVector == 13)
    }

    @Test(arguments: Vendor.allCases)
    func `a near CALL to a target that is refused leaves the return address on Intel's`(vendor: Vendor) throws {
        for code: [UInt8] in [[0xFF, 0xD0], [0xE8, 0x00, 0x00, 0x01, 0x00]] {
            let guest = try vendor.protectedGuest()
            guest.change {
                $0[.cs].limit = 0xFFFF
                $0[.rax] = 0x1_0000
                $0[.idt].limit = 0
                $0[.rsp] = GuestLayout.data + 0x100
            }
            try guest.write32(0x1234, at: GuestLayout.data + 0xFC)
            #expect(try guest.run(code).reason == .shutdown)
            let next = UInt32(GuestLayout.code) + UInt32(code.count)
            #expect(guest.read32(GuestLayout.data + 0xFC) == (vendor.isIntel ? next : 0x1234))
            #expect(guest[.rsp] == GuestLayout.data + 0x100)
        }
    }

    // SDM vol. 2, ENTER, takes the frame from SP; the word above it is the processor's.
    @Test(arguments: Vendor.allCases)
    func `ENTER at the bottom of a 16-bit stack borrows from ESP on Intel's`(vendor: Vendor) throws {
        let guest = try GuestMachine(vendor.backend)
        try guest.enterReal()
        guest.change {
            $0[.rsp] = 0
            $0[.rbp] = 0x1234_5678
        }
        try guest.run([0x66, 0xC8, 0x08, 0x00, 0x00, 0xF4])  // enter 8, 0 with 32-bit operands
        #expect(guest[.rbp] == (vendor.isIntel ? 0xFFFF_FFFC : 0xFFFC))
        #expect(guest[.rsp] == 0xFFF4)
    }

    // SDM vol. 2, MOVSXD r16, r/m16; APM vol. 3: r/m32, of which the low half is taken.
    @Test(arguments: Vendor.allCases)
    func `MOVSXD to 16 bits reads as many on Intel's`(vendor: Vendor) throws {
        let guest = try vendor.longGuest()
        let last = UInt64(2 << 20) - 2
        try guest.write16(0x8001, at: last)
        guest.change {
            $0[.rax] = 0x1111_1111_1111_1111
            $0[.rbx] = last
        }
        let exit = try guest.run([0x66, 0x63, 0x03, 0xF4])  // movsxd ax, [rbx]
        #expect((exit.reason == .halted && guest.haltedVector == nil) == vendor.isIntel)
        #expect(guest[.rax] == (vendor.isIntel ? 0x1111_1111_1111_8001 : 0x1111_1111_1111_1111))
    }

    // SDM vol. 2, PUSH: of 32-bit pushes of segment registers.
    @Test(arguments: Vendor.allCases)
    func `PUSH and POP of a segment move 16 of 32 bits on Intel's`(vendor: Vendor) throws {
        let guest = try vendor.protectedGuest()
        try guest.write32(0xAAAA_AAAA, at: GuestLayout.stack - 4)
        try guest.run([0x1E, 0xF4])  // push ds
        #expect(
            guest.read32(GuestLayout.stack - 4)
                == UInt32(GuestSelector.data32) | (vendor.isIntel ? 0xAAAA_0000 : 0))
        #expect(guest[.rsp] == GuestLayout.stack - 4)
        guest.change {
            $0[.ss].limit = UInt32(GuestLayout.stack) - 3
            $0[.rip] = GuestLayout.code
        }
        try guest.run([0x1F, 0xF4])  // pop ds
        #expect(guest.haltedVector == (vendor.isIntel ? nil : 12))
        if vendor.isIntel { #expect(guest[.rsp] == GuestLayout.stack) }
    }

    @Test(arguments: Vendor.allCases)
    func `a repetition by ECX that has nothing to do clears the upper half of RCX on Intel's`(vendor: Vendor) throws {
        let high: UInt64 = 0x5555_5555_0000_0000
        let cases: [(opcode: UInt8, source: Bool, target: Bool)] = [
            (0xA4, true, true), (0xA6, false, false), (0xAA, false, true), (0xAC, false, false), (0xAE, false, false),
        ]
        for (opcode, source, target) in cases {
            let guest = try vendor.longGuest()
            guest.change {
                $0[.rcx] = high
                $0[.rsi] = high | 1
                $0[.rdi] = high | 2
            }
            try guest.run([0x67, 0xF3, opcode, 0xF4])
            #expect(guest[.rcx] == (vendor.isIntel ? 0 : high), "\(opcode)")
            #expect(guest[.rsi] == (vendor.isIntel && source ? 1 : high | 1), "\(opcode)")
            #expect(guest[.rdi] == (vendor.isIntel && target ? 2 : high | 2), "\(opcode)")
        }
    }

    // SDM vol. 2, REP: EFLAGS is restored to what it was before the instruction.
    @Test(arguments: Vendor.allCases)
    func `a fault in a repeated comparison restores the flags on Intel's`(vendor: Vendor) throws {
        for opcode: UInt8 in [0xA6, 0xAE] {
            let guest = try vendor.protectedGuest()
            let place = UInt32(GuestLayout.data) + 0x100
            try guest.write([1, 1], at: UInt64(place) - 2)
            guest.change {
                $0[.es].limit = place - 1
                $0[.rax] = 5
                $0[.rsi] = GuestLayout.data
                $0[.rdi] = UInt64(place) - 2
                $0[.rcx] = 9
                $0[.rflags] = 2 | Flag.overflow
            }
            try guest.write([5, 5, 5], at: GuestLayout.data)
            try guest.run([0xF2, opcode])
            guest.expectFault(13, 0)
            #expect(guest[.rcx] == 7)
            let flags = guest.stackSlot(3, byteCount: 4) & Flag.status
            #expect(flags == (vendor.isIntel ? Flag.overflow : 0), "\(opcode)")  // 5 - 1: 4, one bit set
        }
    }
}
