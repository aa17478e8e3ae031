// User-mode instructions of the soft backend against the host processor.
//
//   EXIT_TRACER_ORACLE_SEED=N      another seed than the usual one
//   EXIT_TRACER_ORACLE_ROW=NAME    only this mnemonic
//   EXIT_TRACER_ORACLE_CASES=N     states a row; in a soak, for each encoding in it
//   EXIT_TRACER_ORACLE_SECONDS=N   go on with further seeds for so long (make soak)

import Foundation
import SoftBackend
import TestSupport
import Testing

enum OracleSettings {
    private static func number(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }
    static var seed: UInt64 { number("EXIT_TRACER_ORACLE_SEED") ?? 20_261_122 }
    static var row: String? { ProcessInfo.processInfo.environment["EXIT_TRACER_ORACLE_ROW"] }
    /// The table's figures are those of a longer run than that of each day.
    static var casesPerRow: Int { Int(number("EXIT_TRACER_ORACLE_CASES") ?? (writesTable ? 1024 : 256)) }
    /// In a soak, which is to give each encoding as many.
    static var casesPerEncoding: Int { Int(number("EXIT_TRACER_ORACLE_CASES") ?? 256) }
    static var systemCases: Int { Int(number("EXIT_TRACER_ORACLE_SYSTEM_CASES") ?? 40_960) }
    static var soakSeconds: Double { Double(number("EXIT_TRACER_ORACLE_SECONDS") ?? 0) }
    static var writesTable: Bool { ProcessInfo.processInfo.environment["EXIT_TRACER_WRITE_TABLE"] == "1" }
}

@Suite(.serialized) struct HostOracleTests {
    @Test func `user-mode instructions do what the host processor does`() throws {
        let comparison = try HostComparison(host: #require(HostOracle()))
        for (mode, reason) in comparison.host.support {
            if let reason { print("skipped: host oracle in \(mode.rawValue)-bit mode: \(reason)") }
        }
        for feature in CPUFeature.allCases where comparison.features.offers(feature) && !HostOracle.offers(feature) {
            print("skipped: host oracle of \(feature): the host's CPUID does not offer it")
        }
        var results: [HostRowResult] = []
        for (row, forms) in comparison.rows where OracleSettings.row == nil || OracleSettings.row == row.mnemonic {
            results.append(
                try comparison.run(
                    row, forms, seed: OracleSettings.seed, cases: OracleSettings.casesPerRow))
        }
        try report(results, comparison)
        if OracleSettings.row == nil { try CoverageDocument.checkOrWrite(results) }
    }

    @Test(.enabled(if: OracleSettings.soakSeconds > 0, "a soak: set EXIT_TRACER_ORACLE_SECONDS"))
    func `user-mode instructions do what the host processor does, for long`() throws {
        let comparison = try HostComparison(host: #require(HostOracle()))
        let end = Date().addingTimeInterval(OracleSettings.soakSeconds)
        var seed = OracleSettings.seed, cases = 0, choices = 0, strays = 0
        var casesOf: [HostRow: Int] = [:]
        while Date() < end {
            seed &+= 1
            var results: [HostRowResult] = []
            for (row, forms) in comparison.rows where Date() < end {
                let wanted = forms.count * OracleSettings.casesPerEncoding
                let result = try comparison.run(row, forms, seed: seed, cases: wanted)
                casesOf[row, default: 0] += result.cases / forms.count
                results.append(result)
            }
            cases += results.reduce(0) { $0 + $1.cases }
            choices += results.reduce(0) { $0 + $1.choices }
            strays += results.reduce(0) { $0 + $1.strays }
            if results.contains(where: { $0.differing > 0 }) { try report(results, comparison) }
        }
        print(
            "host oracle soak: \(cases) cases up to seed \(seed), at least \(casesOf.values.min() ?? 0) for each of "
                + "\(casesOf.count) rows' encodings, \(choices) choices of the processor, \(strays) strays run again")
    }

    @Test func `an instruction that CPUID does not offer raises #UD, or is the older one`() throws {
        let host = try #require(HostOracle())
        let backend = SoftBackend(model: .base.ofVendor(HostOracle.vendor))
        let features = OfferedFeatures(backend)
        let guest = try GuestOracle(backend)
        var generator = CaseGenerator(seed: OracleSettings.seed)
        for (row, forms) in InstructionTable.rows where host.runs(row.mode) {
            for form in forms {
                guard let feature = form.feature, !features.offers(feature) else { continue }
                let cases = (0..<64).map { generator.make(form, size: row.size, mode: row.mode, slot: $0) }
                let actual = try guest.run(cases[...])
                guard ["LZCNT", "TZCNT"].contains(form.mnemonic) else {
                    #expect(actual.allSatisfy { $0.vector == 6 }, "\(row): \(actual.map(\.vector))")
                    continue
                }
                // SDM vol. 2, LZCNT: without the feature the prefix is ignored and BSR is executed.
                let plain = cases.map { test in
                    var test = test
                    if let prefix = test.code.firstIndex(of: 0xF3) { test.code.remove(at: prefix) }
                    test.code.insert(0x90, at: 0)  // keeps the length
                    test.runsToHalt = true
                    test.undefined.flags = Flag.arithmetic & ~Flag.zf
                    return test
                }
                let expected = host.run(plain[...])
                for (index, test) in plain.enumerated()
                where expected[index].vector == nil
                    && expected[index].state.rflags & Flag.zf == 0 && expected[index].state.rip != test.state.rip + 1
                {
                    let differences = OracleComparison.differences(test, expected[index], actual[index])
                    #expect(differences.isEmpty, "\(row): \(differences)")
                }
            }
        }
    }

    private func report(_ results: [HostRowResult], _ comparison: HostComparison) throws {
        let differing = results.filter { $0.differing > 0 }
        for result in differing {
            let first = try result.failures.first.map {
                try comparison.smallest(shortest(result.failures, $0)).description
            }
            Issue.record("\(result.row.mnemonic): \(result.differing) of \(result.cases) cases differ\n\(first ?? "")")
        }
        print(
            "host oracle: \(results.count) rows, \(results.reduce(0) { $0 + $1.cases }) cases, "
                + "\(results.reduce(0) { $0 + $1.differing }) differences in \(differing.count) rows, "
                + "\(results.reduce(0) { $0 + $1.choices }) choices of the processor, "
                + "\(results.reduce(0) { $0 + $1.strays }) strays run again")
    }

    /// The plainest failure of a row: fewest bytes of code, then fewest fields that differ.
    private func shortest(_ failures: [OracleFailure], _ first: OracleFailure) -> OracleFailure {
        failures.min { ($0.test.code.count, $0.differences.count) < ($1.test.code.count, $1.differences.count) }
            ?? first
    }
}
