// House rules that a search can hold: lengths, leftovers, traps, first lines, paths of somebody's machine.

import Testing

/// Assembled, so that this file does not hold what it looks for.
private let leftoverMarkers = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
private let machinePaths = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "/Us" + "ers/", "bash_" + "jobs"]

private let codeFolders = ["Sources", "Tests", "Benchmarks", "Fuzz"]

@Suite struct SourceTests {
    @Test func `no line is longer than 120 characters`() throws {
        let files = try Repository.files(in: codeFolders, extensions: ["swift", "c", "h"])
        #expect(files.count > 30, "the sources were found")
        // What protoc makes is as long as it is.
        for file in files where !file.path.hasSuffix(".pb.swift") {
            for (number, line) in file.lines.enumerated() where line.count > 120 {
                Issue.record("\(file.path):\(number + 1) has \(line.count) characters")
            }
        }
    }

    @Test func `no line ends in a blank and no file lacks its last line break`() throws {
        for file in try Repository.files(in: codeFolders, extensions: ["swift", "c", "h"]) {
            #expect(file.text.hasSuffix("\n"), "\(file.path)")
            for (number, line) in file.lines.enumerated() where line.last == " " || line.contains("\t") {
                Issue.record("\(file.path):\(number + 1)")
            }
        }
    }

    @Test func `no source is longer than 800 lines`() throws {
        for file in try Repository.files(in: ["Sources", "Tests"], extensions: ["swift", "c"]) {
            #expect(file.lines.count <= 800, "\(file.path) has \(file.lines.count) lines")
        }
    }

    @Test func `the first line of every source says what the file is`() throws {
        for file in try Repository.files(in: ["Sources"], extensions: ["swift"]) {
            let opensWithComment = file.lines.first?.hasPrefix("//") ?? false
            #expect(opensWithComment, "\(file.path)")
        }
    }

    @Test func `no leftover markers`() throws {
        let files = try Repository.files(
            in: ["Sources", "Tests", "Benchmarks", "Fuzz", "Samples", "Docs", "Scripts"],
            extensions: ["swift", "c", "h", "md", "sh", "py", "asm"])
        for file in files {
            for (number, line) in file.lines.enumerated() {
                let words = line.split { !$0.isLetter }
                for marker in leftoverMarkers where words.contains(Substring(marker)) {
                    Issue.record("\(file.path):\(number + 1) \(marker)")
                }
            }
        }
    }

    @Test func `no try!, as!, force unwrap or fatalError in the sources`() throws {
        let pattern = /\btry!|\bas!|\bfatalError\(|[\w\)\]]!(?![=\w])/
        for file in try Repository.files(in: ["Sources"], extensions: ["swift"]) {
            let lines = codeOnly(file.text).split(separator: "\n", omittingEmptySubsequences: false)
            for (number, line) in lines.enumerated() where line.contains(pattern) {
                Issue.record("\(file.path):\(number + 1) \(line.trimmingPrefix(while: { $0 == " " }))")
            }
        }
    }

    @Test func `no path of somebody's machine`() throws {
        let files = try Repository.files(
            in: ["Sources", "Tests", "Benchmarks", "Fuzz", "Samples", "Docs", "Scripts"],
            extensions: ["swift", "c", "h", "md", "sh", "py", "asm", "json", "out", "err"])
        for file in try files + Repository.documents() {
            for (number, line) in file.lines.enumerated() {
                for path in machinePaths where line.contains(path) {
                    Issue.record("\(file.path):\(number + 1) \(path)")
                }
            }
        }
    }

    @Test func `the code scrubber blanks comments and literals and keeps code`() {
        let scrubbed = codeOnly("let a = \"x! \\(b[\"k!\"] + c!)\" // d!\n/* e! */ f!\nfunc `g!`() {}")
        #expect(scrubbed.matches(of: /\w!/).map { String($0.0) } == ["c!", "f!"])
        #expect(scrubbed.contains("b["))
        #expect(codeOnly("##\"a! \"# b!\"## + c").matches(of: /\w!/).isEmpty)
    }
}
