// Runs the system cases of a seed on both machines, and makes those that differ small.

import SoftBackend
import Testing

/// Cases of one seed on both machines.
final class SystemCaseRun {
    private let driver: [UInt8]
    private let defaults: SystemDefaults
    private var generator: SystemCaseGenerator
    private let seed: UInt64
    private var tcg: TCGCaseMachine
    private var guest: BackendCaseMachine
    private(set) var cases: [SystemCaseKind: Int] = [:]
    private(set) var differing: [SystemCaseKind: Int] = [:]
    var caseCount: Int { cases.values.reduce(0, +) }
    var differenceCount: Int { differing.values.reduce(0, +) + stuck.count }
    private var stuck: [String] = []
    private var failures: [SystemCaseKind: (test: SystemCase, differences: [String])] = [:]

    init(seed: UInt64) throws {
        self.seed = seed
        driver = try SystemCaseDriver.load()
        defaults = SystemDefaults(driver: driver)
        generator = SystemCaseGenerator(seed: seed, defaults: defaults)
        (tcg, guest) = try Self.machines(driver)
    }

    private static func machines(_ driver: [UInt8]) throws -> (TCGCaseMachine, BackendCaseMachine) {
        let backend = SoftBackend(model: .baseV5.ofVendor("GenuineIntel"))
        return (try TCGCaseMachine(driver: driver), try BackendCaseMachine(backend, driver: driver))
    }

    func run(cases wanted: Int) throws {
        var left = wanted
        while left > 0 {
            let batch = (0..<min(left, DriverMemory.casesMax)).map { _ in generator.next() }
            left -= batch.count
            let outcomes: [[String]]
            do {
                outcomes = try compare(batch)
            } catch SystemCaseError.stuck(let machine, let index) where batch.indices.contains(index) {
                stuck.append("\(machine) does not end\n\(batch[index].description)")
                (tcg, guest) = try Self.machines(driver)
                continue
            }
            for (test, differences) in zip(batch, outcomes) { note(test, differences) }
        }
    }

    private func note(_ test: SystemCase, _ differences: [String]) {
        cases[test.kind, default: 0] += 1
        guard !differences.isEmpty else { return }
        differing[test.kind, default: 0] += 1
        if failures[test.kind].map({ differences.count < $0.differences.count }) ?? true {
            failures[test.kind] = (test, differences)
        }
    }

    private func compare(_ batch: [SystemCase]) throws -> [[String]] {
        let pages = batch.map { $0.page(defaults) }
        tcg.start(pages)
        let actual = try guest.run(pages), expected = try tcg.finish()
        return batch.indices.map {
            SystemCaseComparison.differences(batch[$0], tcg: expected[$0], guest: actual[$0])
        }
    }

    /// The case with as few changes as still show differences in the same places.
    private func smallest(_ test: SystemCase, _ wanted: [String]) throws -> (SystemCase, [String]) {
        func places(_ lines: [String]) -> Set<Substring> { Set(lines.map { $0.prefix { $0 != ":" } }) }
        var best = (test, wanted)
        for index in test.changes.indices.reversed() {
            var smaller = best.0
            smaller.changes.remove(at: index)
            do {
                let differences = try compare([smaller])[0]
                if places(differences) == places(wanted) { best = (smaller, differences) }
            } catch {
                // Without this change it does not end: it matters.
                (tcg, guest) = try Self.machines(driver)
            }
        }
        return best
    }

    /// Records an issue for each kind of case that differs, with the smallest that does.
    func report() {
        for text in stuck { Issue.record("seed \(seed): \(text)") }
        for kind in SystemCaseKind.allCases {
            guard let failure = failures[kind] else { continue }
            let (test, differences) = (try? smallest(failure.test, failure.differences)) ?? failure
            Issue.record(
                """
                \(kind.rawValue): \(differing[kind] ?? 0) of \(cases[kind] ?? 0) cases differ, seed \(seed)
                \(test.description)
                \(differences.joined(separator: "\n"))
                """)
        }
    }
}
