// Names and values of the registers of a state, for comparisons that people read.

public import NVMM

/// `value` as `0x` and 16 digits.
func hex(_ value: UInt64, digits: Int = 16) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
}

/// Without leading zeros.
func shortHex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

extension StateFlags {
    /// Names of the parts, in ascending order of bits: `gprs|crs`, or `none`.
    var partNames: String {
        let present = VCPUState.names(of: self)
        return present.isEmpty ? "none" : present.joined(separator: "|")
    }
}

/// Compares states register by register.
enum StateFields {
    /// The general registers, RIP and RFLAGS of both states.
    static func general(_ expected: VCPUState, _ actual: VCPUState) -> [ComparedField] {
        GPR.allCases.map {
            ComparedField(name: "\($0)", expected: hex(expected[$0]), actual: hex(actual[$0]))
        }
    }

    /// Whatever differs outside the general registers, in the parts of `coverage`.
    static func differingSpecial(_ expected: VCPUState, _ actual: VCPUState, _ coverage: StateFlags) -> [ComparedField]
    {
        var fields: [ComparedField] = []
        func add(_ name: String, _ left: UInt64, _ right: UInt64, digits: Int = 16) {
            guard left != right else { return }
            fields.append(
                ComparedField(name: name, expected: hex(left, digits: digits), actual: hex(right, digits: digits)))
        }
        if coverage.contains(.segments) {
            for register in SegmentRegister.allCases {
                let (left, right) = (expected[register], actual[register])
                add("\(register).selector", UInt64(left.selector), UInt64(right.selector), digits: 4)
                add(
                    "\(register).attributes", UInt64(left.attributes.rawValue), UInt64(right.attributes.rawValue),
                    digits: 4)
                add("\(register).limit", UInt64(left.limit), UInt64(right.limit), digits: 8)
                add("\(register).base", left.base, right.base)
            }
        }
        if coverage.contains(.crs) {
            for register in CR.allCases { add("\(register)", expected[register], actual[register]) }
        }
        if coverage.contains(.drs) {
            for register in DR.allCases { add("\(register)", expected[register], actual[register]) }
        }
        if coverage.contains(.msrs) {
            for register in MSR.allCases { add("\(register)", expected[register], actual[register]) }
        }
        if coverage.contains(.interrupt) {
            add("interrupt", expected.interrupt.rawValue, actual.interrupt.rawValue, digits: 1)
        }
        if coverage.contains(.fpu) {
            let range = VCPUState.wordRange(of: .fpu)
            let (left, right) = (words(expected), words(actual))
            for index in range { add(fpuName(index - range.lowerBound), left[index], right[index]) }
        }
        return fields
    }

    /// Whether both states are equal in the parts of `coverage`.
    static func areEqual(_ left: VCPUState, _ right: VCPUState, _ coverage: StateFlags) -> Bool {
        if coverage.contains(.all) { return left == right }
        var copy = right
        copy.copy(coverage, from: left)
        return copy == right
    }

    private static func words(_ state: VCPUState) -> [UInt64] {
        state.withWords { words in (0..<words.count).map { words[$0] } }
    }

    /// Name of a word of the FXSAVE image (SDM vol. 1, table 10-2).
    private static func fpuName(_ word: Int) -> String {
        switch word {
        case 0: "fpu.control"
        case 1: "fpu.ip"
        case 2: "fpu.dp"
        case 3: "fpu.mxcsr"
        case 4..<20: "st\((word - 4) / 2).\(word % 2 == 0 ? "low" : "high")"
        case 20..<52: "xmm\((word - 20) / 2).\(word % 2 == 0 ? "low" : "high")"
        default: "fpu.reserved\(word - 52)"
        }
    }
}

/// Registers of two states that differ, by name.
public enum RegisterFields {
    /// - Parameter coverage: parts that are known on both sides.
    public static func differing(_ left: VCPUState, _ right: VCPUState, _ coverage: StateFlags) -> [ComparedField] {
        let general = coverage.contains(.gprs) ? StateFields.general(left, right).filter(\.differs) : []
        return general + StateFields.differingSpecial(left, right, coverage)
    }
}
