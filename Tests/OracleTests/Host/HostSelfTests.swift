// The oracle's own tests: the harness must work before it judges anything.

import SoftBackend
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
                func run(_ count: Int) -> [OracleOutcome] {
                    let cases = (0..<count).map { generator.make(form, size: row.size, mode: row.mode, slot: $0) }
                    let outcomes = host.run(cases[...])
                    #expect(outcomes.count == cases.count, "\(row): case \(outcomes.count) killed the child")
                    return outcomes
                }
                var outcomes = run(64)
                if Self.alwaysFaults.contains(row.mnemonic) { continue }
                var ended: Int { outcomes.count { $0.vector == nil } }
                // So few cases may be unlucky.
                if ended * 6 < outcomes.count { outcomes += run(Window.casesMax) }
                #expect(
                    ended * 6 >= outcomes.count,
                    """
                    \(row) opcode \(form.opcode): \(ended) of \(outcomes.count) ran to their end: \
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

    // MARK: - Choices of the processor

    @Test func `a push that faults first is told by the page, and by the target once the stack is elsewhere`() throws {
        let call = HostRow(mnemonic: "CALL", size: 64, mode: .bits64)
        var test = OracleCase(mode: .bits64)
        test.state.gprs[4] = 0x2000_5000
        var pair = Self.pair(host: 14, guest: 13)
        pair.host.errorCode = 6
        pair.host.cr2 = 0x2000_4FF8
        var refused = Self.pair(host: 13, guest: 13)
        func explains(_ pair: OraclePair, _ row: HostRow, again: OraclePair?) -> Bool {
            ImplementationChoices.explain(pair, row, test) { roomy in
                #expect(roomy.state.gprs[4] == 0x2000_6400)
                return again
            }
        }
        #expect(explains(pair, call, again: refused))
        #expect(!explains(pair, HostRow(mnemonic: "JMP", size: 64, mode: .bits64), again: refused))
        // The target is fine on both, or on one; another #GP; other effects; no answer.
        #expect(!explains(pair, call, again: Self.pair(host: nil, guest: nil)))
        #expect(!explains(pair, call, again: Self.pair(host: nil, guest: 13)))
        #expect(!explains(pair, call, again: nil))
        refused.guest.state.gprs[0] = 1
        #expect(!explains(pair, call, again: refused))
        refused = Self.pair(host: 13, guest: 13)
        // Not only the vector; a read; beside the word that is pushed; a page that can be written; the other way round.
        var other = pair
        other.host.state.rip = 1
        #expect(!explains(other, call, again: refused))
        other = pair
        other.host.errorCode = 4
        #expect(!explains(other, call, again: refused))
        other = pair
        other.host.cr2 = 0x2000_5000
        #expect(!explains(other, call, again: refused))
        test.state.gprs[4] = 0x2000_5010
        other.host.cr2 = 0x2000_5008
        #expect(!explains(other, call, again: refused))
        test.state.gprs[4] = 0x2000_5000
        #expect(!explains(OraclePair(host: pair.guest, guest: pair.host), call, again: refused))
    }

    @Test func `a first word that stays is that of CS, where the second has no room`() {
        let far = HostRow(mnemonic: "CALL far", size: 16, mode: .bits16)
        var test = OracleCase(mode: .bits16)
        (test.state.cs, test.state.ss, test.state.gprs[4]) = (0x07, 0x47, 2)
        func explains(_ row: HostRow, vector: UInt32 = 12, host: [(UInt16, UInt8)], guest: [(UInt16, UInt8)] = [])
            -> Bool
        {
            var pair = Self.pair(host: vector, guest: vector)
            pair.host.changes = host.map { OracleChange(offset: $0.0, value: $0.1) }
            pair.guest.changes = guest.map { OracleChange(offset: $0.0, value: $0.1) }
            (pair.host.changeCount, pair.guest.changeCount) = (host.count, guest.count)
            return ImplementationChoices.explain(pair, row, test) { _ in nil }
        }
        #expect(explains(far, host: [(0, 7), (1, 0)]))
        #expect(explains(far, host: [(0, 7)]))
        #expect(!explains(far, host: [(0, 8)]))
        #expect(!explains(far, host: [(0, 7), (2, 7)]))
        #expect(!explains(far, host: [(0, 7)], guest: [(1, 0)]))
        #expect(!explains(far, vector: 13, host: [(0, 7)]))
        #expect(!explains(HostRow(mnemonic: "CALL", size: 16, mode: .bits16), host: [(0, 7)]))
        test.state.gprs[4] = 4  // room for both
        #expect(!explains(far, host: [(2, 7)]))
        test.state.gprs[4] = 1  // room for none
        #expect(!explains(far, host: [(0, 7)]))
    }

    @Test func `a page of the host alone differs in the error code's P, outside of the windows`() {
        func explains(host: UInt32, guest: UInt32, cr2: UInt64 = 0xFFFF_FFFF_8000_0000, vector: UInt32 = 14) -> Bool {
            var pair = Self.pair(host: vector, guest: vector)
            (pair.host.errorCode, pair.guest.errorCode, pair.host.cr2, pair.guest.cr2) = (host, guest, cr2, cr2)
            return ImplementationChoices.explain(
                pair, HostRow(mnemonic: "BT", size: 64, mode: .bits64), OracleCase(mode: .bits64)
            ) { _ in nil }
        }
        #expect(explains(host: 5, guest: 4))
        #expect(explains(host: 7, guest: 6))
        #expect(!explains(host: 4, guest: 5))
        #expect(!explains(host: 7, guest: 4))
        #expect(!explains(host: 1, guest: 0))
        #expect(!explains(host: 5, guest: 4, cr2: 0x2000_8000))
        #expect(!explains(host: 5, guest: 4, vector: 13))
    }

    @Test func `a case that came to another's slot is run again with HLT there`() throws {
        let comparison = try HostComparison(host: #require(HostOracle()))
        func make(slot: Int, _ code: [UInt8]) -> OracleCase {
            var test = OracleCase(mode: .bits64)
            (test.state.cs, test.state.ss, test.state.gprs[4]) = (0x33, 0x2B, 0x2000_6400)
            test.state.rip = Window.entry(slot: slot, cs: 0x33)
            test.code = code
            test.runsToHalt = true
            return test
        }
        let stray = make(slot: 0, [0xEB, UInt8(Window.slotBytes - 2)])  // jmp to the next slot's entry
        let batch = [stray, make(slot: 1, [0x48, 0xFF, 0xC0])]  // inc rax
        let together = try OraclePair(
            host: comparison.host.run(batch[...])[0], guest: comparison.guest.run(batch[...])[0])
        #expect(together.host.state.gprs[0] == 1 && together.guest.state.gprs[0] == 1)
        #expect(together.leftSlot(0, stray))
        #expect(!together.leftSlot(1, stray))
        let alone = try #require(try comparison.alone(stray, slot: 0))
        #expect(alone.host.state.gprs[0] == 0 && alone.guest.state.gprs[0] == 0)
        #expect(alone.differences(stray).isEmpty)
        #expect(alone.host.state.rip == Window.entry(slot: 1, cs: 0x33))
        // It runs where its batch has it.
        let later = make(slot: 5, [0x48, 0xFF, 0xC0])
        #expect(try #require(try comparison.alone(later, slot: 5)).host.state.gprs[0] == 1)
        var single = stray
        single.runsToHalt = false
        #expect(!together.leftSlot(0, single))
    }

    // MARK: - Failures

    @Test func `a failure is made plain, and still is one`() throws {
        let wrong = SoftBackend(model: HostOracle.model, fault: .adcCarry)
        let comparison = try HostComparison(host: #require(HostOracle()), backend: wrong)
        let (row, forms) = try #require(comparison.rows.first { $0.row.mnemonic == "ADC" && $0.row.size == 64 })
        let result = try comparison.run(row, forms, seed: 1, cases: 512)
        #expect(result.differing > 0 && result.differing < 512)
        let failure = try #require(result.failures.first)
        let small = try comparison.smallest(failure)
        #expect(Set(small.differences.map(\.field)) == Set(failure.differences.map(\.field)))
        #expect(small.test.code == failure.test.code)
        let again = try #require(try comparison.alone(small.test, slot: Window.slot(of: small.test)))
        #expect(!again.differences(small.test).isEmpty)
        func size(_ test: OracleCase) -> Int {
            (0..<16).count { test.state.gprs[$0] != 0 } + test.patches.reduce(0) { $0 + $1.bytes.count { $0 != 0 } }
        }
        #expect(size(small.test) < size(failure.test))
        // What is not wrong stays as it is.
        let right = try HostComparison(host: comparison.host)
        #expect(try right.smallest(failure).test.state.gprs[15] == failure.test.state.gprs[15])
    }

    private static func pair(host: UInt32?, guest: UInt32?) -> OraclePair {
        var pair = OraclePair(host: OracleOutcome(), guest: OracleOutcome())
        (pair.host.vector, pair.guest.vector) = (host, guest)
        return pair
    }
}
