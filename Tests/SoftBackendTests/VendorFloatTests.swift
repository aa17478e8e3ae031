// What the FPU and vectors of Intel's processors do otherwise than AMD's, on any host: see VendorTests.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct VendorFloatTests {
    private static let vectorControl: UInt64 = 0x600  // CR4.OSFXSR, OSXMMEXCPT

    private func guest(_ vendor: VendorTests.Vendor) throws -> GuestMachine {
        let guest = try GuestMachine(SoftBackend(model: .baseV4.ofVendor(vendor.rawValue)))
        try guest.enterLong()
        guest.change { $0[.cr4] |= Self.vectorControl }
        return guest
    }

    private func bytes(_ words: UInt64...) -> SIMD16<UInt8> {
        var value = SIMD16<UInt8>.zero
        for (word, number) in zip(words, 0...) {
            for index in 0..<8 { value[number * 8 + index] = UInt8(truncatingIfNeeded: word >> UInt64(index * 8)) }
        }
        return value
    }

    // APM vol. 4, SHA1MSG1: no alignment is asked for.
    @Test(arguments: VendorTests.Vendor.allCases)
    func `SHA instructions need memory to be aligned on Intel's`(vendor: VendorTests.Vendor) throws {
        for (code, isRefused) in [
            ([0x0F, 0x38, 0xC9, 0x03, 0xF4], vendor.isIntel),  // sha1msg1 xmm0, [rbx]
            ([0x66, 0x0F, 0xEF, 0x03, 0xF4], true),  // pxor xmm0, [rbx]
        ] as [([UInt8], Bool)] {
            let guest = try guest(vendor)
            guest.change { $0[.rbx] = GuestLayout.data + 1 }
            try guest.run(code)
            #expect(guest.haltedVector == (isRefused ? 13 : nil))
        }
    }

    @Test(arguments: VendorTests.Vendor.allCases)
    func `DPPD and DPPS keep each lane's own NaN on Intel's, the first one on AMD's`(
        vendor: VendorTests.Vendor
    ) throws {
        let double = try guest(vendor)
        let first: UInt64 = 0x7FF8_0000_0000_0001, second: UInt64 = 0x7FF8_0000_0000_0002
        let one: UInt64 = 0x3FF0_0000_0000_0000
        double.change {
            $0.fpu.xmm[0] = bytes(first, second)
            $0.fpu.xmm[1] = bytes(one, one)
        }
        try double.run([0x66, 0x0F, 0x3A, 0x41, 0xC1, 0xFF, 0xF4])  // dppd xmm0, xmm1, 0xFF
        #expect(double.state.fpu.xmm[0] == bytes(first, vendor.isIntel ? second : first))

        let single = try guest(vendor)
        let ones: UInt64 = 0x3F80_0000_3F80_0000
        single.change {
            $0.fpu.xmm[0] = bytes(0x7FC0_0002_7FC0_0001, 0x7FC0_0004_7FC0_0003)
            $0.fpu.xmm[1] = bytes(ones, ones)
        }
        try single.run([0x66, 0x0F, 0x3A, 0x40, 0xC1, 0xFF, 0xF4])  // dpps xmm0, xmm1, 0xFF
        #expect(
            single.state.fpu.xmm[0]
                == (vendor.isIntel
                    ? bytes(0x7FC0_0001_7FC0_0002, 0x7FC0_0003_7FC0_0004)
                    : bytes(0x7FC0_0001_7FC0_0001, 0x7FC0_0001_7FC0_0001)))
    }

    // SDM vol. 1, 8.5: with an exception that is not masked the destination keeps its value; whether it must be
    // memory that can be written is left open.
    @Test(arguments: VendorTests.Vendor.allCases)
    func `a store of the FPU that has nothing to store does not look at memory on Intel's`(
        vendor: VendorTests.Vendor
    ) throws {
        let beyond: UInt64 = 0x7000_0000
        for store: [UInt8] in [
            [0xD9, 0x1B], [0xDD, 0x1B], [0xDB, 0x3B], [0xDF, 0x1B], [0xDF, 0x33], [0xDD, 0x0B],
        ] {
            let guest = try guest(vendor)
            guest.change {
                $0.fpu.controlWord = 0x37E
                $0.fpu.tagByte = 0
                $0[.rbx] = beyond
            }
            try guest.run(store + [0xF4])
            #expect(guest.haltedVector == (vendor.isIntel ? nil : 14), "\(store)")
            #expect(guest.state.fpu.statusWord & 0x41 == (vendor.isIntel ? 0x41 : 0), "\(store)")
        }
    }

    @Test(arguments: VendorTests.Vendor.allCases)
    func `a number that FPREM and FSCALE give back is not too small on Intel's`(vendor: VendorTests.Vendor) throws {
        // By infinity, and by a power of 0.
        for (code, second) in [([0xD9, 0xF8, 0xF4], bytes(1 << 63, 0x7FFF)), ([0xD9, 0xFD, 0xF4], .zero)]
            as [([UInt8], SIMD16<UInt8>)]
        {
            let guest = try guest(vendor)
            guest.change {
                $0.fpu.controlWord = 0x36F
                $0.fpu.tagByte = 3
                $0.fpu.x87[0] = bytes(1)
                $0.fpu.x87[1] = second
            }
            try guest.run(code)
            #expect(guest.haltedVector == nil)
            #expect(guest.state.fpu.statusWord & 0x10 == (vendor.isIntel ? 0 : 0x10))
            // SDM vol. 1, 8.5.5: an underflow that is not masked adds 24,576 to the exponent.
            let exponent: UInt64 = 0x6000 - 62
            #expect(guest.state.fpu.x87[0] == (vendor.isIntel ? bytes(1) : bytes(1 << 63, exponent)))
        }
    }

    @Test(arguments: VendorTests.Vendor.allCases)
    func `the sine of a small angle is a little smaller on AMD's`(vendor: VendorTests.Vendor) throws {
        let guest = try guest(vendor)
        guest.change {
            $0.fpu.controlWord = 0xF7F  // towards zero
            $0.fpu.tagByte = 1
            $0.fpu.x87[0] = bytes(1 << 63, 1)
        }
        try guest.run([0xD9, 0xFE, 0xF4])  // fsin
        #expect(guest.state.fpu.statusWord & 0x3F == (vendor.isIntel ? 0x20 : 0x30))
        #expect(guest.state.fpu.x87[0] == (vendor.isIntel ? bytes(1 << 63, 1) : bytes(1 << 63 - 1, 0)))
    }
}
