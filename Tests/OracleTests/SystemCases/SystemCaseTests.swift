// Random system cases on the soft backend and on QEMU's TCG: segments, gates, privilege changes, pages, breakpoints
// and the processor's own registers, in 64-bit and compatibility mode. Where TCG is known to be wrong the generator
// keeps clear of it, or the comparison leaves it out; both say so at the place.
//
//   EXIT_TRACER_ORACLE_SEED=N            another seed than the usual one
//   EXIT_TRACER_ORACLE_SYSTEM_CASES=N    how many; in a soak, with each seed
//   EXIT_TRACER_ORACLE_SECONDS=N         go on with further seeds for so long (make soak)

import Foundation
import TestSupport
import Testing

@Suite(.serialized) struct SystemCaseTests {
    @Test(.enabled(if: TCGSelfTests.hasQEMU, "qemu-system-x86_64 is not installed"))
    func `random system cases end as they do on TCG`() throws {
        let run = try SystemCaseRun(seed: OracleSettings.seed)
        try run.run(cases: OracleSettings.systemCases)
        run.report()
        #expect(Set(run.cases.keys) == Set(SystemCaseKind.allCases))
        print(
            "TCG oracle: \(run.caseCount) system cases of \(run.cases.count) kinds, "
                + "\(run.differenceCount) differences")
    }

    @Test(
        .enabled(
            if: TCGSelfTests.hasQEMU && OracleSettings.soakSeconds > 0,
            "a soak: set EXIT_TRACER_ORACLE_SECONDS, with qemu-system-x86_64 installed"))
    func `random system cases end as they do on TCG, for long`() throws {
        let end = Date().addingTimeInterval(OracleSettings.soakSeconds)
        var seed = OracleSettings.seed, cases = 0, differences = 0
        while Date() < end {
            seed &+= 1
            let run = try SystemCaseRun(seed: seed)
            try run.run(cases: OracleSettings.systemCases)
            run.report()
            cases += run.caseCount
            differences += run.differenceCount
        }
        print("TCG oracle soak: \(cases) system cases up to seed \(seed), \(differences) differences")
    }

    @Test func `whatever a case leaves is compared, but for what the comparison names`() throws {
        let test = SystemCase(kind: .segmentLoad, mode: SystemMode.all[0])
        let plain = SystemResult(bytes: [UInt8](repeating: 0, count: CasePage.byteCount))
        #expect(SystemCaseComparison.differences(test, tcg: plain, guest: plain).isEmpty)
        var unseen: [Int: UInt64] = [:]
        for bit in 0..<CasePage.byteCount * 8 {
            var other = plain
            other.bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            if SystemCaseComparison.differences(test, tcg: plain, guest: other).isEmpty {
                unseen[bit / 64 * 8, default: 0] |= 1 << UInt64(bit % 64)
            }
        }
        // RF, and the breakpoints of DR6 while none is enabled.
        #expect(unseen == [CasePage.rflags: 1 << 16, CasePage.dr6: 0xF])
    }

    @Test func `a seed gives the same cases again, another one others`() throws {
        let defaults = SystemDefaults(driver: try SystemCaseDriver.load())
        func pages(_ seed: UInt64) -> [[UInt8]] {
            var generator = SystemCaseGenerator(seed: seed, defaults: defaults)
            return (0..<256).map { _ in generator.next().page(defaults) }
        }
        #expect(pages(1) == pages(1))
        #expect(pages(1) != pages(2))
    }
}
