// The oracle's own tests: the harness must work before it judges anything.

import TestSupport
import Testing

@Suite(.serialized) struct HostSelfTests {
    @Test func `the generator's bytes are one instruction each, as long as it thinks`() {
        var generator = CaseGenerator(seed: 1)
        for (row, forms) in InstructionTable.rows {
            for form in forms {
                for _ in 0..<20 {
                    let test = generator.make(form, size: row.size, mode: row.mode, slot: 0)
                    // LOCK on a register operand is no instruction, on purpose.
                    if test.code.contains(0xF0) { continue }
                    #expect(
                        InstructionText.length(test.code, mode: row.mode) == test.code.count,
                        "\(row) \(test.code.map { String($0, radix: 16) })")
                }
            }
        }
    }

    @Test func `each encoding runs to its end on the host, more often than not`() throws {
        let host = try #require(HostOracle())
        var generator = CaseGenerator(seed: 2)
        for (row, forms) in InstructionTable.rows where host.runs(row.mode) {
            for form in forms {
                let cases = (0..<64).map { generator.make(form, size: row.size, mode: row.mode, slot: $0) }
                let outcomes = host.run(cases[...])
                #expect(outcomes.count == cases.count, "\(row): case \(outcomes.count) killed the child")
                let ended = outcomes.filter { $0.vector == nil }.count
                if Self.alwaysFaults.contains(row.mnemonic) { continue }
                #expect(
                    ended * 6 >= cases.count,
                    """
                    \(row) opcode \(form.opcode): \(ended) of \(cases.count) ran to their end: \
                    \(outcomes.map { $0.vector.map(Int.init) ?? -1 })
                    """
                )
            }
        }
    }

    /// Instructions that user mode only ever sees fault or trap.
    static let alwaysFaults: Set<String> = ["CLI", "STI", "UD2", "INT", "INT3"]

    @Test func `the host gives the same outcome twice`() throws {
        let host = try #require(HostOracle())
        var generator = CaseGenerator(seed: 3)
        for (row, forms) in InstructionTable.rows where host.runs(row.mode) {
            let cases = (0..<16).map { slot in
                generator.make(forms[slot % forms.count], size: row.size, mode: row.mode, slot: slot)
            }
            let first = host.run(cases[...]), second = host.run(cases[...])
            for (test, pair) in zip(cases, zip(first, second)) {
                let differences = OracleComparison.differences(test, pair.0, pair.1)
                #expect(differences.isEmpty, "\(row): \(differences)")
            }
        }
    }
}
