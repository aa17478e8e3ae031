// Translated code against the interpreter: the same cases on both, and no difference at all, undefined flags included.
//
// EXIT_TRACER_ORACLE_SEED and EXIT_TRACER_ORACLE_SECONDS as for the host oracle.

import Foundation
import NVMM
import Testing

@testable import SoftBackend

/// One backend that interprets and one that translates whatever it can, at once.
private struct TranslationPair {
    let interpreted: GuestOracle
    let translated: GuestOracle
    let rows: [(row: HostRow, forms: [InstructionForm])]

    init() throws {
        let never = SoftBackend(model: .baseV6, translation: .never)
        interpreted = try GuestOracle(never, pristine: Self.pristine)
        translated = try GuestOracle(
            SoftBackend(model: .baseV6, translation: .after(executions: 1)), pristine: Self.pristine)
        let features = OfferedFeatures(never)
        rows = InstructionTable.rows.filter { row, forms in
            row.mode == .bits64 && forms.allSatisfy { $0.feature.map(features.offers) ?? true }
        }
    }

    /// Anything: both sides have the same.
    private static let pristine = (0..<Window.byteCount).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ $0 >> 8) }

    /// Blocks that were translated so far; nil where this host lets none be.
    var translations: Int? { (translated.machine as? SoftMachine)?.code.translated?.blockCount }

    /// - Returns: the first case with a difference.
    func difference(_ cases: [OracleCase], budget: UInt64? = nil) throws -> String? {
        let expected = try interpreted.run(cases[...], budget: budget)
        let actual = try translated.run(cases[...], budget: budget)
        for (index, test) in cases.enumerated() {
            let differences = Self.differences(expected[index], actual[index])
            guard !differences.isEmpty else { continue }
            return "\(test.code.map { String(format: "%02x", $0) }.joined(separator: " ")): "
                + differences.joined(separator: ", ")
        }
        return nil
    }

    private static func differences(_ a: OracleOutcome, _ b: OracleOutcome) -> [String] {
        var found: [String] = []
        func compare(_ name: String, _ a: UInt64, _ b: UInt64) {
            if a != b { found.append("\(name) \(String(a, radix: 16)) | \(String(b, radix: 16))") }
        }
        for index in 0..<16 { compare("register \(index)", a.state.gprs[index], b.state.gprs[index]) }
        for index in 0..<16 where a.state.fpu.xmm[index] != b.state.fpu.xmm[index] {
            found.append("xmm\(index) \(a.state.fpu.xmm[index]) | \(b.state.fpu.xmm[index])")
        }
        for index in 0..<16 where a.state.ymm[index] != b.state.ymm[index] {
            found.append("upper half of ymm\(index) \(a.state.ymm[index]) | \(b.state.ymm[index])")
        }
        compare("mxcsr", UInt64(a.state.fpu.mxcsr), UInt64(b.state.fpu.mxcsr))
        compare("rip", a.state.rip, b.state.rip)
        compare("rflags", a.state.rflags, b.state.rflags)
        compare("undefined flags", a.undefinedFlags, b.undefinedFlags)
        if a.undefinedFlags != 0 { compare("their rip", a.undefinedFlagsRIP, b.undefinedFlagsRIP) }
        compare("vector", UInt64(a.vector ?? 256), UInt64(b.vector ?? 256))
        compare("error code", UInt64(a.errorCode), UInt64(b.errorCode))
        compare("cr2", a.cr2, b.cr2)
        compare("bytes changed", UInt64(a.changeCount), UInt64(b.changeCount))
        if a.changes != b.changes { found.append("memory") }
        return found
    }
}

@Suite(.serialized) struct TranslationTests {
    /// Of 64-bit code, what makes up most of it, and some of the vectors.
    private static let mnemonics = [
        "ADC", "ADD", "AND", "BSF", "BSR", "BSWAP", "BT", "BTC", "BTR", "BTS", "CALL", "CDQ", "CDQE", "CMOVB", "CMP",
        "CMPXCHG", "CQO", "CWDE", "DEC", "DIV", "IMUL", "INC", "JB", "JMP", "JNLE", "LEA", "LEAVE", "MOV", "MOVSX",
        "MOVSXD", "MOVZX", "MUL", "NEG", "NOP", "NOT", "OR", "POP", "PUSH", "RET", "ROL", "ROR", "SAR", "SBB", "SETB",
        "SHL", "SHR", "SUB", "TEST", "XADD", "XCHG", "XOR", "MOVDQA", "MOVQ", "MOVUPS", "PADDB", "PMOVMSKB", "PSHUFD",
        "PSLLDQ", "PUNPCKLBW", "PXOR",
    ]

    @Test func `translated instructions do what interpreted ones do`() throws {
        let pair = try TranslationPair()
        guard pair.translations != nil else { return print("skipped: translated code: the host executes none") }
        var generator = CaseGenerator(seed: OracleSettings.seed)
        var translated: Set<String> = []
        var cases = 0
        for (row, forms) in pair.rows {
            let before = pair.translations
            for batch in 0..<4 {
                let made = (0..<96).map { slot in
                    generator.make(forms[(batch * 96 + slot) % forms.count], size: row.size, mode: row.mode, slot: slot)
                }
                if let difference = try pair.difference(made) { Issue.record("\(row): \(difference)") }
                cases += made.count
                // What is never translated is interpreted on both sides.
                if pair.translations == before { break }
            }
            if pair.translations != before { translated.insert(row.mnemonic) }
        }
        let missing = Self.mnemonics.filter { !translated.contains($0) }
        #expect(missing.isEmpty)
        print("translation: \(cases) cases, \(translated.count) mnemonics translated")
    }

    /// Flags that nobody reads, flags that the next instruction finds in place, ways out in the middle.
    @Test func `translated sequences do what interpreted ones do, to the instruction`() throws {
        let pair = try TranslationPair()
        guard pair.translations != nil else { return print("skipped: translated sequences: the host executes none") }
        let rows = pair.rows.filter { Self.mnemonics.contains($0.row.mnemonic) || $0.row.mnemonic.hasPrefix("CMOV") }
        var generator = CaseGenerator(seed: OracleSettings.seed ^ 1)
        let end = Date().addingTimeInterval(OracleSettings.soakSeconds)
        var batches = 0
        repeat {
            for _ in 0..<200 {
                let cases = (0..<64).map { sequence(rows, &generator, slot: $0) }
                let budget = UInt64(1 + generator.below(12))
                if let difference = try pair.difference(cases, budget: budget) {
                    Issue.record("budget \(budget): \(difference)")
                }
                batches += 1
            }
        } while Date() < end
        print("translation: \(batches * 64) sequences")
    }

    /// A few instructions with the registers and the memory of the first.
    private func sequence(
        _ rows: [(row: HostRow, forms: [InstructionForm])], _ generator: inout CaseGenerator, slot: Int
    ) -> OracleCase {
        func next() -> OracleCase {
            let (row, forms) = generator.pick(rows)
            return generator.make(generator.pick(forms), size: row.size, mode: row.mode, slot: slot)
        }
        var whole = next()
        for _ in 0..<generator.below(8) {
            let code = next().code
            guard whole.code.count + code.count < Window.slotBytes - Window.slotEntry - 16 else { break }
            whole.code += code
        }
        whole.runsToHalt = true
        return whole
    }
}
