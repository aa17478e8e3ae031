// What both machines show at a stop point, and how it is compared.

import NVMM

/// Registers and memory at one stop point of an image.
struct StopPoint: Sendable {
    var name: String
    var registers: RegisterValues
    var memory: [String: [UInt8]]
}

extension StopPoint {
    /// Registers that both sides show. Debug registers are not in the stub: images log them.
    static let compared = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip", "eflags", "cs", "ss", "ds", "es", "fs", "gs", "fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3",
        "cr4", "efer",
    ]

    /// Arithmetic flags are the host oracle's business, and TCG's choice where they are undefined.
    private static func mask(_ register: String) -> UInt64 {
        register == "eflags" ? 0x3F_FFFF & ~Flag.arithmetic : .max
    }

    /// - Returns: one line for each thing that differs.
    static func differences(_ expected: StopPoint, _ actual: StopPoint) -> [String] {
        var found: [String] = []
        for register in compared {
            let left = (expected.registers[register] ?? 0) & mask(register)
            let right = (actual.registers[register] ?? 0) & mask(register)
            if left != right {
                found.append("\(register): TCG \(OracleComparison.hex(left)), guest \(OracleComparison.hex(right))")
            }
        }
        for (range, left) in expected.memory.sorted(by: { $0.key < $1.key }) {
            guard let right = actual.memory[range], left.count == right.count else {
                found.append("\(range): not read on both sides")
                continue
            }
            let places = left.indices.filter { left[$0] != right[$0] }
            guard !places.isEmpty else { continue }
            let text = places.prefix(24).map { place in
                "+\(String(place, radix: 16)) \(String(left[place], radix: 16))/\(String(right[place], radix: 16))"
            }.joined(separator: " ")
            found.append("\(range): \(places.count) bytes differ (TCG/guest) \(text)")
        }
        return found
    }
}

extension VCPUState {
    /// The registers by the stub's names.
    var stubRegisters: RegisterValues {
        var values: RegisterValues = [
            "rax": self[.rax], "rbx": self[.rbx], "rcx": self[.rcx], "rdx": self[.rdx], "rsi": self[.rsi],
            "rdi": self[.rdi], "rbp": self[.rbp], "rsp": self[.rsp], "rip": self[.rip], "eflags": self[.rflags],
            "cr0": self[.cr0], "cr2": self[.cr2], "cr3": self[.cr3], "cr4": self[.cr4], "efer": self[.efer],
            "fs_base": self[.fs].base, "gs_base": self[.gs].base, "k_gs_base": self[.kernelGSBase],
        ]
        for (name, register) in [
            ("cs", SegmentRegister.cs), ("ss", .ss), ("ds", .ds), ("es", .es), ("fs", .fs), ("gs", .gs),
        ] { values[name] = UInt64(self[register].selector) }
        for index in 8..<16 { values["r\(index)"] = gprs[index] }
        return values
    }
}
