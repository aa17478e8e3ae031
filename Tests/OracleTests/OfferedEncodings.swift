// Whether the tables leave out an encoding that the interpreter executes: all opcodes are tried, in every mode.

import CZydis
import NVMM
import Testing

@testable import SoftBackend

/// An opcode with its map: what the tables name, whatever prefixes and operands there are.
struct OfferedEncoding: Hashable, CustomStringConvertible {
    /// 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A.
    var map: UInt8
    var opcode: UInt8
    /// ModRM.reg where the table has it for a part of the opcode.
    var digit: UInt8?
    var isVEX: Bool
    /// Of D8 to DF, where all of it may be opcode.
    var modRM: UInt8?

    var description: String {
        let maps = ["", "0F ", "0F 38 ", "0F 3A "]
        return (isVEX ? "VEX " : "") + maps[Int(map)] + String(UInt16(opcode) + 0x100, radix: 16).dropFirst()
            + (digit.map { " /\($0)" } ?? "") + (modRM.map { $0 < 0xC0 ? " memory" : " ST\($0 & 7)" } ?? "")
    }
}

extension OfferedEncoding {
    /// What the interpreter executes of `model`, with the mnemonics that were met.
    static func all(of model: ProcessorModel) -> [Self: Set<String>] {
        var found: [Self: Set<String>] = [:]
        func note(_ encoding: Self, _ bytes: [UInt8], _ decoder: Decoder) {
            let number: UInt16? = unsafe bytes.withUnsafeBytes { code in
                let decoding = unsafe decoder.decode(code, offset: 0)
                let isExecuted = decoding.outcome == .decoded && decoding.instruction.operation != .invalid
                return isExecuted ? decoding.instruction.mnemonic : nil
            }
            guard let number else { return }
            let mnemonic = ZydisMnemonic(rawValue: UInt32(number))
            let name = unsafe ZydisMnemonicGetString(mnemonic).map { unsafe String(cString: $0) } ?? "?"
            found[encoding, default: []].insert(name.uppercased())
        }
        let escapes: [[UInt8]] = [[], [0x0F], [0x0F, 0x38], [0x0F, 0x3A]]
        let prefixes: Set<UInt8> = [0x0F, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3]
        let tail: [UInt8] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]
        for width in UInt8(1)...3 {
            let decoder = model.decoder(codeWidth: width)
            for map in UInt8(0)..<4 {
                for opcode in UInt8(0)...255
                where !(map == 0 ? prefixes : map == 1 ? [0x38, 0x3A] : []).contains(opcode) {
                    let isX87 = map == 0 && 0xD8...0xDF ~= opcode
                    let all = (UInt8(0)...255).filter { $0 & 0xC7 == 1 || ($0 >= 0xC0 && (isX87 || $0 & 7 == 1)) }
                    for modRM in all {
                        let encoding = Self(
                            map: map, opcode: opcode, digit: modRM >> 3 & 7, isVEX: false, modRM: isX87 ? modRM : nil)
                        for prefix: [UInt8] in [[], [0x66], [0xF3], [0xF2]] {
                            note(encoding, prefix + escapes[Int(map)] + [opcode, modRM] + tail, decoder)
                        }
                        guard map > 0, width > 1 else { continue }
                        let vex = Self(map: map, opcode: opcode, digit: modRM >> 3 & 7, isVEX: true)
                        for prefix in UInt8(0)..<4 {
                            for third: UInt8 in [0x78, 0x70, 0x7C, 0x74, 0xF8, 0xF0, 0xFC, 0xF4] {
                                note(vex, [0xC4, 0xE0 | map, third | prefix, opcode, modRM] + tail, decoder)
                            }
                        }
                    }
                }
            }
        }
        return found
    }

    /// Whether one of the forms of the host's table has this encoding.
    func isCovered(by forms: [InstructionForm]) -> Bool {
        forms.contains { form in
            guard isVEX == (form.vex != nil) else { return false }
            var opcode = form.opcode
            if opcode.count > 1, opcode[0] == 0x66 { opcode.removeFirst() }
            let map: UInt8
            if let vex = form.vex {
                map = vex.map
            } else if opcode.count > 2 {
                map = opcode[1] == 0x38 ? 2 : 3
            } else {
                map = UInt8(opcode.count - 1)
            }
            guard self.map == map, let last = opcode.last else { return false }
            switch form.shape {
            case .opcodeRegister: return last & ~7 == self.opcode & ~7
            case .modRM(.digit(let wanted), let rm) where modRM != nil:
                guard let modRM, last == self.opcode, digit == wanted else { return false }
                if case .fixed(let register) = rm { return modRM >= 0xC0 && modRM & 7 == register }
                return (rm == .memory) == (modRM < 0xC0)
            case .modRM(.digit(let wanted), _): return last == self.opcode && digit.map { $0 == wanted } ?? true
            default: return last == self.opcode
            }
        }
    }
}

@Suite struct OfferedEncodingTests {
    /// What the host's oracle leaves out, with the reason. The table's other half has each by name.
    static let leftOut: [(mnemonics: Set<String>, reason: String)] = [
        (["IN", "OUT", "INSB", "INSW", "INSD", "OUTSB", "OUTSW", "OUTSD", "HLT"], "exits, or is privileged"),
        (
            ["RDMSR", "WRMSR", "CLTS", "LMSW", "INVD", "WBINVD", "INVLPG", "SWAPGS", "SYSRET", "SYSEXIT"],
            "is privileged"
        ),
        (["LGDT", "LIDT", "LLDT", "LTR", "STAC", "CLAC", "MONITOR", "MWAIT", "INVPCID"], "is privileged"),
        (["SGDT", "SIDT", "SLDT", "STR", "SMSW"], "shows, or is kept from showing, tables of the host's kernel"),
        (["SYSCALL", "SYSENTER"], "calls the host's kernel"),
        (["CPUID", "RDTSC"], "shows the host's identity and time"),
        (["INT1"], "some hypervisors give its own address as return address"),
        (["LFS", "LGS", "WRFSBASE", "WRGSBASE", "RDFSBASE", "RDGSBASE"], "the host's thread needs its own FS and GS"),
        (["XSAVE", "XSAVE64", "XRSTOR", "XRSTOR64", "XGETBV", "XSETBV"], "has the host's XCR0, with more components"),
        (["FXSAVE", "FXRSTOR", "LDMXCSR", "STMXCSR", "FWAIT"], "the harness itself saves and restores by them"),
        (["VLDMXCSR", "VSTMXCSR"], "some hosts have a bit of MXCSR that no model offers"),
    ]
    /// As above, by encoding: other encodings of the mnemonic have rows.
    static let leftOutEncodings: [(encodings: Set<String>, reason: String)] = [
        (["0F 20", "0F 21", "0F 22", "0F 23"], "MOV to and from control and debug registers is privileged"),
        (["0F 1a", "0F 1b"], "NOP, or MPX where the host has it"),
        (["0F a1", "0F a9"], "POP of FS and GS: the host's thread needs its own"),
    ]

    @Test func `every encoding that is executed has a row, or a reason`() {
        let all = OfferedEncoding.all(of: HostOracle.model)
        #expect(all.count > 1000)
        for (encoding, mnemonics) in all.sorted(by: { "\($0.key)" < "\($1.key)" }) {
            let code = "\(encoding)".split(separator: " /")[0]
            let isLeftOut =
                Self.leftOutEncodings.contains { $0.encodings.contains(String(code)) }
                || mnemonics.allSatisfy { name in Self.leftOut.contains { $0.mnemonics.contains(name) } }
            #expect(
                isLeftOut || encoding.isCovered(by: InstructionTable.forms),
                "\(encoding): \(mnemonics.sorted().joined(separator: ", "))")
        }
    }
}
