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

    @Test func `what is taken for a choice of the processor is no wider than that`() {
        let call = HostRow(mnemonic: "CALL", size: 64, mode: .bits64)
        var test = OracleCase(mode: .bits64)
        test.state.gprs[4] = 0x2000_5000
        var host = OracleOutcome(), guest = OracleOutcome()
        func explains(_ row: HostRow, _ fields: String...) -> Bool {
            ImplementationChoices.explains(row, test, host: host, guest: guest, fields: fields)
        }
        // The target is refused here, the push there.
        (host.vector, host.cr2, guest.vector) = (14, 0x2000_4FF8, 13)
        #expect(explains(call, "vector"))
        #expect(!explains(call, "vector", "RIP"))
        #expect(!explains(HostRow(mnemonic: "JMP", size: 64, mode: .bits64), "vector"))
        host.cr2 = 0x2000_5000
        #expect(!explains(call, "vector"))
        (host.vector, guest.vector) = (13, 14)
        #expect(!explains(call, "vector"))

        // The first word of a far call.
        let far = HostRow(mnemonic: "CALL far", size: 16, mode: .bits16)
        test = OracleCase(mode: .bits16)
        (test.state.ss, test.state.gprs[4]) = (0x47, 2)
        (host.vector, guest.vector) = (12, 12)
        (host.changes, host.changeCount) = ([OracleChange(offset: 0, value: 7)], 1)
        #expect(explains(far, "memory"))
        host.changes = [OracleChange(offset: 2, value: 7)]
        #expect(!explains(far, "memory"))

        // A page that the guest has nothing at, and one in the windows.
        (host.vector, guest.vector, host.errorCode, guest.errorCode) = (14, 14, 5, 4)
        host.cr2 = 0xFFFF_FFFF_8000_0000
        #expect(explains(call, "error code"))
        host.cr2 = 0x2000_8000
        #expect(!explains(call, "error code"))

        // The code of the next case.
        test = OracleCase(mode: .bits64)
        test.runsToHalt = true
        host = OracleOutcome()
        host.state.rip = Window.entry(slot: 3, cs: 0x33) + 2
        #expect(ImplementationChoices.strayed(test, slot: 2, slots: 512, host))
        #expect(!ImplementationChoices.strayed(test, slot: 3, slots: 512, host))
        #expect(!ImplementationChoices.strayed(test, slot: 2, slots: 3, host))
        host.state.rip += 40
        #expect(!ImplementationChoices.strayed(test, slot: 2, slots: 512, host))
    }
}
