// Docs/instructions.md: made by the test run, and held against what the tests know.

import Foundation
import SoftBackend
import Testing

/// One row of the table of instructions.
struct CoverageRow: Sendable {
    var mnemonic: String
    /// Bits, or `-` where the instruction has no operand size.
    var size: String
    /// `16`, `32`, `64`, or several.
    var mode: String
    var implemented: String
    /// `host`, `TCG: image`, `manual: test`.
    var oracle: String
    /// States on the host, stop points on TCG, one for a direct test.
    var cases: Int
    var differences: Int

    /// What makes a row the same row.
    var key: String { "\(mnemonic) | \(size) | \(mode)" }
    var text: String { "| \(key) | \(implemented) | \(oracle) | \(cases) | \(differences) |" }

    init(
        mnemonic: String, size: String, mode: String, implemented: String = "yes", oracle: String, cases: Int = 1,
        differences: Int = 0
    ) {
        self.mnemonic = mnemonic
        self.size = size
        self.mode = mode
        self.implemented = implemented
        self.oracle = oracle
        self.cases = cases
        self.differences = differences
    }

    /// A line of the document, read back; nil where it is none.
    init?(line: some StringProtocol) {
        let cells = line.split(separator: "|", omittingEmptySubsequences: false)
            .map { $0.trimmingCharacters(in: .whitespaces) }
        guard cells.count == 9, let cases = Int(cells[6]), let differences = Int(cells[7]) else { return nil }
        self.init(
            mnemonic: cells[1], size: cells[2], mode: cells[3], implemented: cells[4], oracle: cells[5], cases: cases,
            differences: differences)
    }
}

enum CoverageDocument {
    static let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Docs/instructions.md")

    static let notOffered = "manual: an instruction that CPUID does not offer raises #UD, or is the older one"

    /// Every row there must be. Host rows carry the figures of `results`, or those that a full run gives.
    static func rows(_ results: [HostRowResult]) -> [CoverageRow] {
        let figures = Dictionary(results.map { ($0.row, ($0.cases, $0.differing)) }) { first, _ in first }
        let features = OfferedFeatures(SoftBackend(model: HostOracle.model))
        let host = InstructionTable.rows.map { row, forms in
            let offered = forms.contains { $0.feature.map(features.offers) ?? true }
            let size = row.size == 0 ? "-" : "\(row.size)"
            guard offered else {
                return CoverageRow(
                    mnemonic: row.mnemonic, size: size, mode: "\(row.mode.rawValue)", implemented: "no, not in CPUID",
                    oracle: notOffered, cases: 64)
            }
            let (cases, differing) = figures[row] ?? (1024, 0)
            return CoverageRow(
                mnemonic: row.mnemonic, size: size, mode: "\(row.mode.rawValue)", oracle: "host", cases: cases,
                differences: differing)
        }
        return host + SystemInstructions.rows
    }

    /// Checks the committed document against the current rows, or writes it where the environment asks for it.
    static func checkOrWrite(_ results: [HostRowResult]) throws {
        let rows = rows(results)
        printSummary(rows)
        guard OracleSettings.writesTable else { return }
        try FileManager.default.createDirectory(at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text(rows).utf8).write(to: path)
        print("written: Docs/instructions.md, \(rows.count) rows")
    }

    static func printSummary(_ rows: [CoverageRow]) {
        func count(_ prefix: String) -> Int { rows.count { $0.oracle.hasPrefix(prefix) } }
        print(
            "soft backend table: \(rows.count) rows (host \(count("host")), TCG \(count("TCG")), "
                + "manual \(count("manual"))), \(rows.reduce(0) { $0 + $1.cases }) cases, "
                + "\(rows.reduce(0) { $0 + $1.differences }) differences: Docs/instructions.md")
    }

    private static func text(_ rows: [CoverageRow]) -> String {
        var lines = [
            "# Instructions and rules: what is tested against what", "",
            "Made by `EXIT_TRACER_WRITE_TABLE=1 swift test -c release -Xswiftc -enable-testing"
                + " --filter HostOracleTests`;",
            "the tests hold this page against the current rows, and each name against the test sources.", "",
            "Oracles: *host* runs the instruction on the host processor from random states and compares"
                + " registers, flags,",
            "memory and exception (flags and results that the manual leaves undefined are left out, `UndefinedRule`);",
            "*TCG* compares a system image with `qemu-system-x86_64 -accel tcg` at every stop point, *TCG at random*"
                + " what random",
            "descriptors, gates, page tables and registers lead to (`SystemCaseTests.swift`; about so many of a"
                + " kind);",
            "*manual* is a direct test of what SDM or NVMM say. Where an oracle and the manual disagree the manual"
                + " decides: see the head of",
            "`TCGOracleTests.swift` for TCG, and `ImplementationChoices.swift` for the host. On the host INT1 is left"
                + " out:",
            "some hypervisors give its own address as return address; so are 16-bit near branches in 64-bit mode, in"
                + " which",
            "SDM and APM differ.", "",
            "What an instruction does stands here for the largest model under the vendor of the host's processor."
                + " Transcendental",
            "x87 results may differ by a unit in the last place, RCPPS and RSQRTPS by the error that the manual"
                + " allows. Encodings of x87 that no manual lists, and"
                + " that have",
            "rows all the same, are held against processors of Intel alone.", "",
            "## Rules and their tests", "", "| rule | test | file |", "|---|---|---|",
        ]
        lines += NamedRules.all.map { "| \($0.rule) | \($0.test) | \($0.file) |" }
        lines += [
            "", "## Instructions", "",
            "| mnemonic | operand size | mode | implemented | oracle | cases | differences |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += rows.map(\.text)
        return lines.joined(separator: "\n") + "\n"
    }
}

@Suite struct CoverageDocumentTests {
    @Test func `the table has the current rows, and none is empty`() throws {
        guard !OracleSettings.writesTable else { return }
        let text = try String(contentsOf: CoverageDocument.path, encoding: .utf8)
        let committed = text.split(separator: "\n").compactMap { CoverageRow(line: $0) }
        let current = CoverageDocument.rows([])
        #expect(committed.map(\.key) == current.map(\.key), "make it anew: see the head of Docs/instructions.md")
        for row in committed {
            #expect(!row.implemented.isEmpty && !row.oracle.isEmpty && row.cases > 0, "\(row.key)")
            #expect(row.differences == 0, "\(row.key)")
            if row.oracle == "host" { #expect(row.cases >= 1000, "\(row.key)") }
        }
        for rule in NamedRules.all {
            #expect(text.contains("| \(rule.rule) | \(rule.test) | \(rule.file) |"), "\(rule.rule)")
        }
        #expect(Set(current.map(\.key)).count == current.count, "a row stands twice")
    }

    @Test func `every test that the table names stands in the sources`() throws {
        let tests = CoverageDocument.path.deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Tests").resolvingSymlinksInPath()
        var sources: [String: String] = [:]
        let files = FileManager.default.enumerator(at: tests, includingPropertiesForKeys: nil)
        while let file = files?.nextObject() as? URL {
            if file.pathExtension == "swift" {
                sources[file.lastPathComponent] = try? String(contentsOf: file, encoding: .utf8)
            }
        }
        for rule in NamedRules.all {
            #expect(
                sources[rule.file]?.contains("func `\(rule.test)`") == true,
                "\(rule.rule): \(rule.test) in \(rule.file)")
        }
        let all = sources.values.joined()
        for row in SystemInstructions.rows {
            if let test = row.oracle.split(separator: ": ", maxSplits: 1).last, row.oracle.hasPrefix("manual") {
                #expect(all.contains("func `\(test)`"), "\(row.key): \(test)")
            }
            if row.oracle.hasPrefix("TCG: ") {
                #expect(SystemImage.names.contains(String(row.oracle.dropFirst(5))), "\(row.key)")
            }
        }
    }
}
