// Runs that are ended by time, again and again, in the middle of what the guest does.

import NVMM
import TestSupport
import Testing

@Suite struct InterruptedRunTests {
    @Test(arguments: BackendUnderTest.available)
    func `a copy that is interrupted again and again copies every byte`(backend: BackendUnderTest) throws {
        let guest = try backend.protectedGuest()
        let count = 0xC_0000
        let source = 0x4_0000
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) | 1 }
        try guest.write(data, at: UInt64(source))
        guest.change { state in
            state[.rsi] = UInt64(source)
            state[.rdi] = 0x10_0000
            state[.rcx] = UInt64(count)
        }
        try guest.write([0xF3, 0xA4, 0xF4], at: GuestLayout.code)  // rep movsb; hlt
        var interruptions = 0
        while try guest.run(budget: 1000).reason == .none { interruptions += 1 }
        #expect(interruptions > 10)
        let copied = guest.read(0x10_0000, byteCount: count)
        #expect(copied.indices.filter { copied[$0] != data[$0] } == [])
    }

    @Test(arguments: BackendUnderTest.available)
    func `a store over code that ran is done, whatever run it is the last of`(backend: BackendUnderTest) throws {
        for budget: UInt64 in [1, 2, 3, 5, 7] {
            let guest = try backend.protectedGuest()
            let target: UInt64 = 0x9000
            // inc eax, 256 times; ret
            try guest.write([UInt8](repeating: 0x40, count: 0x100) + [0xC3], at: target)
            // mov ebx, target; call ebx; mov eax, target; mov edx, 0x100
            // loop: test edx, edx; jz end; dec edx; mov byte [eax+edx], 0; jmp loop; end: hlt
            try guest.write(
                [
                    0xBB, 0, 0x90, 0, 0, 0xFF, 0xD3, 0xB8, 0, 0x90, 0, 0, 0xBA, 0, 1, 0, 0,
                    0x85, 0xD2, 0x74, 0x07, 0x4A, 0xC6, 0x04, 0x10, 0x00, 0xEB, 0xF5, 0xF4,
                ], at: GuestLayout.code)
            while try guest.run(budget: budget).reason == .none {
                guest.change { _ in }
            }
            #expect(guest.read(target, byteCount: 0x100).allSatisfy { $0 == 0 }, "budget \(budget)")
        }
    }
}
