// tracectl corpus: the verbs that make a corpus and change it, and that put results together.

import Analysis
import ArgumentParser
import Corpus
import Glibc
import SystemPackage
import TraceFile

struct CorpusCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "corpus", abstract: "Keeps many traces that share their pages, and replays them all.",
        discussion: """
            Example: tracectl corpus init regressions && tracectl corpus add regressions boot.vmtrace --tag firmware \
            && tracectl corpus run regressions --junit report.xml
            """,
        subcommands: [
            CorpusInit.self, CorpusAdd.self, CorpusList.self, CorpusReplay.self, CorpusRemove.self, CorpusPrune.self,
            CorpusExport.self, CorpusMerge.self,
        ])
}

struct CorpusFolder: ExpressibleByArgument {
    static let help: ArgumentHelp = "The folder of the corpus."
    var text: String

    init(argument: String) { text = argument }

    func open() throws -> Corpus { try about(text) { try Corpus.open(FilePath(text)) } }
}

struct CorpusInit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Makes an empty corpus.", discussion: "Example: tracectl corpus init regressions"
    )

    @Argument(help: "The folder, which need not exist.", completion: .directory)
    var corpus: CorpusFolder

    func run() throws {
        _ = try about(corpus.text) { try Corpus.create(at: FilePath(corpus.text)) }
        StandardOutput.line("made \(corpus.text): tracectl corpus add puts traces into it")
    }
}

struct CorpusAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Copies traces into a corpus.",
        discussion: """
            The copy has its pages in the store that all traces of the corpus share. It replays like any trace as long \
            as it stays in the corpus.

            Example: tracectl corpus add regressions boot.vmtrace --name seabios --tag firmware
            """)

    @Argument(help: CorpusFolder.help, completion: .directory)
    var corpus: CorpusFolder

    @Argument(help: "Traces to add.", completion: .file(extensions: ["vmtrace"]))
    var traces: [String]

    @Option(help: "Its name in the corpus, for one trace; else that of the file without .vmtrace.")
    var name: String?

    @Option(name: [.customLong("tag"), .customLong("tags")], help: "A tag, for corpus run --select. May be repeated.")
    var tags: [String] = []

    @Option(help: "What a replay is expected to find.")
    var expect: Expectation = .identical

    enum Expectation: String, ExpressibleByArgument, CaseIterable { case identical, different }

    func validate() throws {
        if name != nil, traces.count > 1 { throw ValidationError("--name goes with one trace") }
    }

    func run() throws {
        var corpus = try corpus.open()
        for trace in traces {
            let added = try about(self.corpus.text) {
                try corpus.add(
                    FilePath(trace), name: name, tags: tags.flatMap(Self.list),
                    expect: expect == .identical ? .identical : .different)
            }
            StandardOutput.line(
                "added \(added.entry.name): \(counted(added.entry.steps, "step")),"
                    + " \(counted(added.pages.pagesAdded, "page")) new,"
                    + " \(grouped(added.pages.pagesKnown + added.pages.pagesKept)) there already")
        }
    }

    private static func list(_ text: String) -> [String] { text.split(separator: ",").map(String.init) }
}

struct CorpusList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the traces of a corpus, and what it takes.",
        discussion: "Example: tracectl corpus list regressions --json")

    @Argument(help: CorpusFolder.help, completion: .directory)
    var corpus: CorpusFolder

    @Flag(help: "One JSON document.")
    var json = false

    private struct Document: Encodable {
        var traces: [CorpusEntry]
        var tracesBytes, pagesBytes: UInt64
        var pageCount: Int
    }

    func run() throws {
        let corpus = try corpus.open()
        let size = try about(self.corpus.text) { try corpus.size() }
        let entries = corpus.manifest.entries
        if json {
            let document = Document(
                traces: entries, tracesBytes: size.tracesBytes, pagesBytes: size.pagesBytes, pageCount: size.pageCount)
            return StandardOutput.line(try StableJSON.text(document))
        }
        let width = entries.map(\.name.count).max() ?? 0
        for entry in entries {
            let name = entry.name + String(repeating: " ", count: width - entry.name.count)
            var line = "\(name)  \(entry.backend), \(counted(entry.vcpus, "VCPU")), \(counted(entry.steps, "step"))"
            if entry.expect != .identical { line += ", expected \(entry.expect.rawValue)" }
            if !entry.tags.isEmpty { line += "  [\(entry.tags.joined(separator: ", "))]" }
            StandardOutput.line(line)
        }
        StandardOutput.line(
            "\(counted(entries.count, "trace")), \(sized(size.tracesBytes)); \(counted(size.pageCount, "page"))"
                + " in common, \(sized(size.pagesBytes))")
    }
}

struct CorpusRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Takes traces out of a corpus; prune frees what they took.",
        discussion: "Example: tracectl corpus remove regressions seabios && tracectl corpus prune regressions")

    @Argument(help: CorpusFolder.help, completion: .directory)
    var corpus: CorpusFolder

    @Argument(help: "Names of traces.")
    var names: [String]

    func run() throws {
        var corpus = try corpus.open()
        try about(self.corpus.text) { for name in names { try corpus.remove(name) } }
    }
}

struct CorpusPrune: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Frees pages and files that no trace of the manifest refers to.",
        discussion: "Example: tracectl corpus prune regressions")

    @Argument(help: CorpusFolder.help, completion: .directory)
    var corpus: CorpusFolder

    func run() throws {
        var corpus = try corpus.open()
        let report = try about(self.corpus.text) { try corpus.prune() }
        for file in report.filesRemoved { StandardOutput.line("removed traces/\(file)") }
        StandardOutput.line(
            "removed \(counted(report.filesRemoved.count, "file")) and \(counted(report.pagesRemoved, "page")):"
                + " \(sized(report.bytesFreed)) freed")
    }
}

struct CorpusExport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Writes a trace of a corpus with its pages in itself.",
        discussion: "Example: tracectl corpus export regressions seabios -o seabios.vmtrace")

    @Argument(help: CorpusFolder.help, completion: .directory)
    var corpus: CorpusFolder

    @Argument(help: "The trace's name in the corpus.")
    var name: String

    @Option(
        name: [.short, .long], help: ArgumentHelp("The trace to write.", valueName: "trace"),
        completion: .file(extensions: ["vmtrace"]))
    var output: String

    func run() throws {
        let corpus = try corpus.open()
        let part = output + ".part"
        defer { removeFile(part) }
        try about(self.corpus.text) { try corpus.export(name, to: FilePath(part)) }
        try moveIntoPlace(part, output)
    }
}

struct CorpusMerge: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Puts the results of several runs together.",
        discussion: """
            One line for each replay, ascending by name; a later attempt stands for one that was not possible. With \
            --corpus it is trouble where a trace has no result. The exit status is that of a run that found all of them.

            Example: tracectl corpus merge shard-*.jsonl -o results.jsonl --junit report.xml
            """)

    @Argument(help: "Files that corpus run --results wrote.", completion: .file(extensions: ["jsonl"]))
    var results: [String]

    @Option(name: [.short, .long], help: ArgumentHelp("The file to write.", valueName: "file"))
    var output: String

    @Option(help: ArgumentHelp("JUnit XML to write.", valueName: "file"))
    var junit: String?

    @Option(
        help: ArgumentHelp("The corpus that was replayed: all of its traces must have a result.", valueName: "folder"))
    var corpus: CorpusFolder?

    @Option(name: .customLong("select"), help: "Only traces of --corpus with this tag. May be repeated.")
    var tags: [String] = []

    func run() throws {
        var all: [ReplayResult] = []
        for path in results { all += try ResultsFile.read(FilePath(path)) }
        let merged = try ResultsFile.merge(all)
        try writeText(merged.map { ResultsFile.line($0) + "\n" }.joined(), to: output)
        if let junit { try writeText(JUnitReport.text(merged, suite: corpus?.suite ?? "corpus"), to: junit) }
        if let corpus {
            let digests = Set(merged.map(\.digest))
            let entries = try selected(try corpus.open().manifest.entries, tags)
            let missing = entries.filter { !digests.contains($0.digest) }
            guard missing.isEmpty else {
                let names = missing.prefix(5).map(\.name).joined(separator: ", ")
                let more = missing.count > 5 ? ", ..." : ""
                StandardError.line("tracectl: no result for \(counted(missing.count, "trace")): \(names)\(more)")
                throw ExitStatus.temporaryTrouble
            }
        }
        StandardOutput.line("\(counted(merged.count, "result")): \(summary(of: merged))")
        if let status = exitStatus(of: merged) { throw status }
    }
}

extension CorpusFolder {
    /// The folder's own name.
    var suite: String { FilePath(absolutePath(text)).lexicallyNormalized().lastComponent?.string ?? "corpus" }
}

/// - Throws: where there is none: nothing replayed is no success.
func selected(_ entries: [CorpusEntry], _ tags: [String]) throws -> [CorpusEntry] {
    let chosen = tags.isEmpty ? entries : entries.filter { entry in tags.contains { entry.tags.contains($0) } }
    guard !chosen.isEmpty else {
        let known = Set(entries.flatMap(\.tags)).sorted().joined(separator: ", ")
        throw PlainTrouble(
            sentence: entries.isEmpty
                ? "the corpus is empty: tracectl corpus add puts traces into it"
                : "no trace has the tag \(tags.joined(separator: " or ")): there are \(known.isEmpty ? "none" : known)")
    }
    return chosen
}

/// nil for success. What differs comes first, then what cannot be replayed at all, then what is worth another attempt.
func exitStatus(of results: [ReplayResult]) -> ExitCode? {
    let bad = results.filter { !$0.isAsExpected }
    if bad.contains(where: { ![.unusable, .unavailable].contains($0.verdict) }) { return ExitStatus.difference }
    if bad.contains(where: { $0.verdict == .unusable }) { return ExitStatus.permanentTrouble }
    return bad.isEmpty ? nil : ExitStatus.temporaryTrouble
}

/// `58 as expected, 2 different`.
func summary(of results: [ReplayResult]) -> String {
    var parts = ["\(grouped(results.count { $0.isAsExpected })) as expected"]
    for verdict in CorpusVerdict.allCases {
        let count = results.count { $0.verdict == verdict && !$0.isAsExpected }
        if count > 0 { parts.append("\(grouped(count)) \(words(verdict))") }
    }
    return parts.joined(separator: ", ")
}

func words(_ verdict: CorpusVerdict) -> String { verdict == .timedOut ? "timed out" : verdict.rawValue }
