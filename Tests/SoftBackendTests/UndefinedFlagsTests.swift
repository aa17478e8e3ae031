// Which instruction left status flags that the manual does not define: SDM vol. 2, "Flags Affected".

import NVMM
import TestSupport
import Testing

@Suite struct UndefinedFlagsTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var code: [UInt8]
    }

    @Test(arguments: [
        Case(testDescription: "shl eax, cl", code: [0xD3, 0xE0]),
        Case(testDescription: "shr eax, 4", code: [0xC1, 0xE8, 4]),
        Case(testDescription: "ror dword [0xe000], cl", code: [0xD3, 0x0D, 0, 0xE0, 0, 0]),
        Case(testDescription: "shld eax, edx, 3", code: [0x0F, 0xA4, 0xD0, 3]),
        Case(testDescription: "bt eax, 3", code: [0x0F, 0xBA, 0xE0, 3]),
        Case(testDescription: "bsf eax, ecx", code: [0x0F, 0xBC, 0xC1]),
        Case(testDescription: "mul ecx", code: [0xF7, 0xE1]),
        Case(testDescription: "imul eax, ecx, 5", code: [0x6B, 0xC1, 5]),
        Case(testDescription: "imul ecx", code: [0xF7, 0xE9]),
        Case(testDescription: "div ecx", code: [0xF7, 0xF1]),
        Case(testDescription: "idiv ecx", code: [0xF7, 0xF9]),
    ])
    func `the instruction that left flags undefined is named`(test: Case) throws {
        let guest = try protectedGuest()
        guest.change { state in
            state[.rax] = 100
            state[.rcx] = 7
            state[.rdx] = 0
        }
        // nop; the instruction; mov ebx, ebx; a shift by a count of zero, which changes no flag
        let code = [0x90] + test.code + [0x89, 0xDB, 0xC1, 0xE3, 0x20]
        try guest.run(code, budget: 4)
        #expect(guest.vcpu.undefinedFlags != 0)
        #expect(guest.vcpu.undefinedFlagsRIP == GuestLayout.code + 1)
    }
}
