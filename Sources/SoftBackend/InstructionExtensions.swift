// Instructions beyond those that every processor of the architecture has: which a model offers, by its CPUID.

import NVMM

/// Extensions that the interpreter knows how to execute, each with the CPUID bit that offers it (SDM vol. 2, CPUID; APM
/// vol. 3, appendix E, for LZCNT).
struct InstructionExtensions: OptionSet {
    var rawValue: UInt32
    static let movbe = Self(rawValue: 1 << 0)
    static let popcnt = Self(rawValue: 1 << 1)
    static let lzcnt = Self(rawValue: 1 << 2)
    static let bmi1 = Self(rawValue: 1 << 3)
    static let bmi2 = Self(rawValue: 1 << 4)
    static let adx = Self(rawValue: 1 << 5)
    static let fsgsbase = Self(rawValue: 1 << 6)
    static let fpu = Self(rawValue: 1 << 7)
    static let mmx = Self(rawValue: 1 << 8)
    static let sse = Self(rawValue: 1 << 9)
    static let sse2 = Self(rawValue: 1 << 10)
    static let sse3 = Self(rawValue: 1 << 11)
    static let ssse3 = Self(rawValue: 1 << 12)
    static let sse41 = Self(rawValue: 1 << 13)
    static let sse42 = Self(rawValue: 1 << 14)
    static let aes = Self(rawValue: 1 << 15)
    static let pclmulqdq = Self(rawValue: 1 << 16)
    static let sha = Self(rawValue: 1 << 17)
    static let invpcid = Self(rawValue: 1 << 18)
    static let xsave = Self(rawValue: 1 << 19)
    static let avx = Self(rawValue: 1 << 20)
    static let avx2 = Self(rawValue: 1 << 21)

    /// What a table offers: a bit in leaf 1's or leaf 0x8000_0001's ECX, leaf 1's EDX, or leaf 7's EBX.
    init(offeredBy table: [CPUIDEntry]) {
        func bit(_ leaf: UInt32, _ register: KeyPath<CPUIDRegisters, UInt32>, _ number: UInt32) -> Bool {
            let entry = table.first { $0.leaf == leaf && $0.subleaf == 0 }
            return entry.map { $0.registers[keyPath: register] >> number & 1 != 0 } ?? false
        }
        var offered: Self = []
        if bit(1, \.edx, 0) { offered.insert(.fpu) }
        if bit(1, \.ecx, 0) { offered.insert(.sse3) }
        if bit(1, \.ecx, 1) { offered.insert(.pclmulqdq) }
        if bit(1, \.ecx, 9) { offered.insert(.ssse3) }
        if bit(1, \.ecx, 19) { offered.insert(.sse41) }
        if bit(1, \.ecx, 20) { offered.insert(.sse42) }
        if bit(1, \.ecx, 26) { offered.insert(.xsave) }
        if bit(1, \.ecx, 25) { offered.insert(.aes) }
        if bit(1, \.ecx, 28) { offered.insert(.avx) }
        if bit(1, \.ecx, 22) { offered.insert(.movbe) }
        if bit(1, \.ecx, 23) { offered.insert(.popcnt) }
        if bit(0x8000_0001, \.ecx, 5) { offered.insert(.lzcnt) }
        if bit(7, \.ebx, 3) { offered.insert(.bmi1) }
        if bit(7, \.ebx, 8) { offered.insert(.bmi2) }
        if bit(7, \.ebx, 5) { offered.insert(.avx2) }
        if bit(7, \.ebx, 19) { offered.insert(.adx) }
        if bit(1, \.edx, 23) { offered.insert(.mmx) }
        if bit(1, \.edx, 25) { offered.insert(.sse) }
        if bit(1, \.edx, 26) { offered.insert(.sse2) }
        if bit(7, \.ebx, 10) { offered.insert(.invpcid) }
        if bit(7, \.ebx, 29) { offered.insert(.sha) }
        if bit(7, \.ebx, 0) { offered.insert(.fsgsbase) }
        self = offered
    }

    init(rawValue: UInt32) { self.rawValue = rawValue }
}
