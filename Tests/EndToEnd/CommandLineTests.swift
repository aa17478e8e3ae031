// The built tracectl against the cases in Tests/Cases. UPDATE_CASES=1 writes what came out as what is expected.

import Foundation
import Testing

@Suite struct CommandLineTests {
    @Test(arguments: CommandCase.runnable)
    func `the command gives its output and exit status`(entry: CommandCase) throws {
        let outcome = try entry.run()
        if ProcessInfo.processInfo.environment["UPDATE_CASES"] == "1" {
            try outcome.stdout.write(to: entry.folder.appending(path: "stdout"), atomically: true, encoding: .utf8)
            try "\(outcome.status)\n".write(
                to: entry.folder.appending(path: "status"), atomically: true, encoding: .utf8)
        }
        let expected = entry.expected()
        let rerun = "Scripts/test.sh --filter EndToEnd, case \(entry.name)"
        #expect(outcome.status == expected.status, "\(rerun)\nstderr: \(outcome.stderr)")
        #expect(outcome.stdout == expected.stdout, "\(rerun)\nstdout: \(outcome.stdout)")
        #expect(fits(lines: outcome.stderr, expected.stderr), "\(rerun)\nstderr: \(outcome.stderr)")
    }

    @Test func `there are cases, and tracectl stands beside the test bundle`() {
        #expect(CommandCase.all.count >= 10)
        let program = CommandCase.binaries.appending(path: "tracectl").path
        #expect(FileManager.default.isExecutableFile(atPath: program), "\(program)")
    }

    @Test(.enabled(if: CommandCase.unmet.isEmpty, "\(CommandCase.unmet.joined(separator: "; "))"))
    func `every case of the command line can run on this machine`() {
        #expect(CommandCase.unmet.isEmpty)
    }

    @Test func `patterns fit what they should and nothing else`() {
        #expect(fits("tracectl: a: no such file", "tracectl: *: no such file"))
        #expect(!fits("tracectl: a: no such file!", "tracectl: *: no such file"))
        #expect(fits("abc", "abc"))
        #expect(!fits("abcd", "abc"))
        #expect(fits("aXbXc", "a*b*c"))
        #expect(!fits("ac", "a*b*c"))
        #expect(!fits("ab", "ab*b"))
        #expect(fits(lines: "one\ntwo\n", "o*\nt*\n"))
        #expect(!fits(lines: "one\ntwo\nthree\n", "o*\nt*\n"))
    }
}
