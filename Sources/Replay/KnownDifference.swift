// Differences between a recorded processor and the replaying one that somebody has looked into, and accepts.

/// A field that an instruction leaves otherwise on the two sides, with the proof that this is no fault of the guest, of
/// the VMM or of the replaying backend.
public struct KnownDifference: Hashable, Codable, Sendable {
    /// A mnemonic (`shl`), or a form with the kinds of its operands (`shl r32, imm8`), as ``InstructionPlace/form``.
    public var instruction: String
    /// As a divergence names it: `rax`, `cr2`, `rflags`, or one flag: `rflags.af`.
    public var field: String
    public var reason: String
    /// Where it is written, or how it was measured.
    public var proof: String

    public init(instruction: String, field: String, reason: String, proof: String) {
        self.instruction = instruction
        self.field = field
        self.reason = reason
        self.proof = proof
    }

    func isOf(_ place: InstructionPlace) -> Bool {
        !place.mnemonic.isEmpty && (instruction == place.mnemonic || instruction == place.form)
    }

    /// - Parameter name: of a field, of RFLAGS with the flag.
    func covers(_ name: String) -> Bool { field == name || name.hasPrefix(field + ".") }
}

/// What one rule swallowed.
public struct KnownDifferenceUse: Hashable, Encodable, Sendable {
    public var rule: KnownDifference
    public var stepCount: UInt64
    /// Nil where it was never met.
    public var firstStep: UInt64?
}

extension ComparedField {
    /// The names of what differs: of RFLAGS each flag. An exit's state repeats some registers.
    var differingNames: [String] {
        guard differs else { return [] }
        let name = name.hasPrefix("exitstate.") ? String(name.dropFirst(10)) : name
        guard name == "rflags", let left = Self.number(expected), let right = Self.number(actual) else { return [name] }
        return (0..<22).filter { (left ^ right) >> $0 & 1 == 1 }.map { bit in
            "rflags." + (Self.flags[bit] ?? "bit\(bit)")
        }
    }

    private static func number(_ text: String) -> UInt64? { UInt64(text.dropFirst(2), radix: 16) }

    /// SDM vol. 1, section 3.4.3.
    private static let flags: [UInt64: String] = [
        0: "cf", 2: "pf", 4: "af", 6: "zf", 7: "sf", 8: "tf", 9: "if", 10: "df", 11: "of", 14: "nt", 16: "rf", 17: "vm",
        18: "ac", 19: "vif", 20: "vip", 21: "id",
    ]
}
