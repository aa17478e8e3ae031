// A case of the command line: a folder in Tests/Cases with a script and what it must give.
//
//   run.sh    bash, run in an empty folder of its own; `tracectl` is the built one, $GUESTS the sample images,
//             $CASES the folder of cases, $ROOT the repository
//   stdout    exactly what it prints; absent: nothing
//   stderr    patterns, a line each, `*` for anything; absent: nothing
//   status    exit status; absent: 0
//
// Lines `# needs: tool NAME`, `# needs: file PATH` (from the repository on, unless it begins with /),
// `# needs: device PATH` in run.sh name what the machine must have.

import Foundation
import TestSupport
import Testing

struct CommandCase: Sendable, CustomTestStringConvertible {
    var name: String
    var folder: URL
    var needs: [Requirement]

    var testDescription: String { name }

    /// What a run gave.
    struct Outcome: Equatable {
        var stdout: String
        var stderr: String
        var status: Int32
    }

    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// The program beside the test bundle that is running.
    static let binaries = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

    static let all: [CommandCase] = {
        let folder = root.appending(path: "Tests/Cases")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.sorted().compactMap { name in
            let place = folder.appending(path: name)
            let file = place.appending(path: "run.sh")
            guard let script = try? String(contentsOf: file, encoding: .utf8) else { return nil }
            return CommandCase(name: name, folder: place, needs: needs(of: script))
        }
    }()

    static let runnable = all.filter { $0.needs.allSatisfy(\.isMet) }
    /// Names of the cases that this machine cannot run, with the reasons.
    static let unmet = all.compactMap { entry in
        entry.needs.first { !$0.isMet }.map { "\(entry.name) (\($0.reason))" }
    }

    private static func needs(of script: String) -> [Requirement] {
        script.split(separator: "\n").compactMap { line in
            guard line.hasPrefix("# needs: ") else { return nil }
            let words = line.dropFirst("# needs: ".count).split(separator: " ", maxSplits: 1).map(String.init)
            return switch (words.first, words.last) {
            case ("tool", let name?): .tool(name)
            case ("file", let path?): .file(path.hasPrefix("/") ? path : root.appending(path: path).path)
            case ("device", let path?): .device(path)
            case ("root", _): .root
            case ("unprivileged-user", _): .unprivilegedUser
            default: nil
            }
        }
    }

    func expected() -> Outcome {
        func text(_ name: String) -> String {
            (try? String(contentsOf: folder.appending(path: name), encoding: .utf8)) ?? ""
        }
        let status = Int32(text("status").trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        return Outcome(stdout: text("stdout"), stderr: text("stderr"), status: status)
    }

    /// Runs the script in a new folder, which is removed afterwards.
    func run() throws -> Outcome {
        let place = FileManager.default.temporaryDirectory.appending(path: "case-\(name)-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: place) }

        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        // Nothing that a case does takes a minute; a loop without an end must not hold up the others.
        process.arguments = ["timeout", "--kill-after=5", "300", "bash", folder.appending(path: "run.sh").path]
        process.currentDirectoryURL = place
        var environment = ProcessInfo.processInfo.environment
        environment["PATH"] = Self.binaries.path + ":" + (environment["PATH"] ?? "")
        environment["GUESTS"] = Self.root.appending(path: "Samples/guests").path
        environment["CASES"] = Self.root.appending(path: "Tests/Cases").path
        environment["ROOT"] = Self.root.path
        environment["LC_ALL"] = "C.UTF-8"
        environment["SWIFT_BACKTRACE"] = "enable=no"
        process.environment = environment
        process.standardInput = FileHandle.nullDevice

        // Files, not pipes: a background process that a case leaves behind cannot hold the end back.
        let outputs = ["stdout", "stderr"].map { place.appendingPathExtension($0) }
        for output in outputs { try Data().write(to: output) }
        defer { for output in outputs { try? FileManager.default.removeItem(at: output) } }
        process.standardOutput = try FileHandle(forWritingTo: outputs[0])
        process.standardError = try FileHandle(forWritingTo: outputs[1])
        try process.run()
        process.waitUntilExit()
        let texts = try outputs.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
        return Outcome(stdout: texts[0], stderr: texts[1], status: process.terminationStatus)
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text within a line.
func fits(_ text: Substring, _ pattern: Substring) -> Bool {
    let pieces = pattern.split(separator: "*", omittingEmptySubsequences: false)
    guard pieces.count > 1, let first = pieces.first, let last = pieces.last else { return text == pattern }
    guard text.hasPrefix(first) else { return false }
    var rest = text.dropFirst(first.count)
    for piece in pieces.dropFirst().dropLast() where !piece.isEmpty {
        guard let found = rest.firstRange(of: piece) else { return false }
        rest = rest[found.upperBound...]
    }
    return rest.hasSuffix(last)
}

/// As ``fits(_:_:)-(Substring,_)``, line by line.
func fits(lines text: String, _ patterns: String) -> Bool {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let wanted = patterns.split(separator: "\n", omittingEmptySubsequences: false)
    return lines.count == wanted.count && zip(lines, wanted).allSatisfy { fits($0, $1) }
}
