// tracectl corpus run: replays the traces of a corpus, or this node's share of them.

import ArgumentParser
import Corpus
import Foundation
import Glibc
import SystemPackage
import TraceFile

struct CorpusReplay: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Replays the traces of a corpus, several at a time.",
        discussion: """
            Where neither --shard nor a variable says otherwise, all of them. Variables that are understood, the first \
            that are set: TEST_SHARD_INDEX and TEST_TOTAL_SHARDS (Bazel), GTEST_SHARD_INDEX and GTEST_TOTAL_SHARDS, \
            JOB_COMPLETION_INDEX and JOB_COMPLETIONS (Kubernetes; the second one is the manifest's to set), \
            SLURM_ARRAY_TASK_*, CI_NODE_INDEX and CI_NODE_TOTAL (GitLab), BUILDKITE_PARALLEL_JOB and _COUNT.

            Status 0: every trace as expected; 1: a difference, a crash or a time-out; 42: a trace that cannot be \
            replayed, now or later; 75: interrupted, or something is missing here: try again.

            Example: tracectl corpus run regressions --jobs 2 --results results.jsonl --junit report.xml
            Example, the second of four nodes: tracectl corpus run regressions --shard 1/4 --results shard-1.jsonl
            """)

    @Argument(help: CorpusFolder.help, completion: .directory)
    var corpus: CorpusFolder

    @Option(help: "What executes the guests.")
    var backend: BackendName = .soft

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Replays at the same time; else one for each processor.", valueName: "n"),
        transform: Int.parse)
    var jobs: Int?

    @Option(
        help: ArgumentHelp("Which part, from 0: 1/4 is the second of four.", valueName: "i/n"),
        transform: ShardArgument.parse)
    var shard: ShardArgument?

    @Option(name: .customLong("select"), help: "Only traces with this tag. May be repeated.")
    var tags: [String] = []

    @Option(
        help: ArgumentHelp("Differences that are accepted, in TOML, as for replay.", valueName: "file"),
        completion: .file(extensions: ["toml"]))
    var known: String?

    @Option(help: ArgumentHelp("JUnit XML to write.", valueName: "file"))
    var junit: String?

    @Option(help: ArgumentHelp("Results to write, a JSON object a line, each as it comes.", valueName: "file"))
    var results: String?

    @Option(help: ArgumentHelp("Results of earlier runs, which are not replayed again.", valueName: "folder"))
    var cache: String?

    @Option(help: ArgumentHelp("What is tested, where this program does not say it all.", valueName: "text"))
    var build: String?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("Seconds that one replay may take.", valueName: "seconds"),
        transform: Int.parse)
    var timeout = 600

    @Flag(help: "Print which traces this shard has, and end.")
    var list = false

    @Flag(help: "Test a client: each trace answers it in its hypervisor's place.")
    var againstClient = false

    @Option(parsing: .unconditional, help: ArgumentHelp(visibility: .hidden), transform: FaultRequest.parse)
    var fault: FaultRequest?

    @Argument(parsing: .postTerminator, help: "The client to run, after --, with --against-client.")
    var command: [String] = []

    func validate() throws {
        guard againstClient == !command.isEmpty else {
            throw ValidationError("--against-client and a command go together: --against-client -- COMMAND")
        }
        if let jobs, jobs < 1 { throw ValidationError("--jobs is 1 or more") }
        if timeout < 1 { throw ValidationError("--timeout is 1 or more") }
        if againstClient, known != nil || fault != nil {
            throw ValidationError("--known does not go with --against-client")
        }
    }

    func run() throws {
        Interruption.watch()
        let corpus = try corpus.open()
        let shard = try chosenShard()
        // Where there are more nodes than traces, one with nothing to do succeeds.
        let entries = shard.part(of: try about(self.corpus.text) { try selected(corpus.manifest.entries, tags) })
        if list {
            for entry in entries { StandardOutput.line(entry.name) }
            return
        }
        var options = CorpusRunOptions()
        options.jobs = jobs ?? processorCount
        options.timeout = Double(timeout)
        options.backend = againstClient ? "client" : backend.rawValue
        options.build = try buildText()
        options.cache = try cache.map { try ResultCache(FilePath($0)) }
        options.unavailable = unavailable()
        options.sentence = { sentence(for: $0) }
        let found = try replay(entries, of: corpus, options)
        if let junit { try writeText(JUnitReport.text(found, suite: self.corpus.suite), to: junit) }
        let isInterrupted = Interruption.pending != nil
        if isInterrupted {
            StandardError.line(
                "tracectl: interrupted: \(grouped(entries.count - found.count)) of \(counted(entries.count, "trace"))"
                    + " not replayed")
        }
        StandardOutput.line("\(counted(found.count, "trace")) of \(self.corpus.text): \(summary(of: found))")
        if isInterrupted { throw ExitStatus.temporaryTrouble }
        if let status = exitStatus(of: found) { throw status }
    }

    private func replay(
        _ entries: [CorpusEntry], of corpus: Corpus, _ options: CorpusRunOptions
    ) throws -> [ReplayResult] {
        let file = try results.map { try openResults($0) }
        defer { try? file?.close() }
        var found: [ReplayResult] = []
        var line = Progress()
        defer { line.end() }
        let run = CorpusRun(corpus, options: options, command: replayCommand)
        try about(self.corpus.text) {
            try run.run(
                entries, isInterrupted: { Interruption.pending != nil },
                progress: { state in line.update { text(of: state, after: $0) } },
                finished: { result, isCached in
                    found.append(result)
                    if let file {
                        do { _ = try file.writeAll((ResultsFile.line(result) + "\n").utf8) } catch let error as Errno {
                            let words = systemSentence("write", error.rawValue)
                            throw Trouble(path: results ?? "", cause: PlainTrouble(sentence: words))
                        }
                    }
                    guard !result.isAsExpected else { return }
                    line.end()
                    let detail = result.detail.isEmpty ? "" : ": \(result.detail)"
                    StandardOutput.line(
                        "\(result.name): \(words(result.verdict))\(detail)\(isCached ? " (cached)" : "")")
                    StandardOutput.flush()
                })
        }
        return found
    }

    private func text(of state: CorpusProgress, after seconds: Double) -> String {
        var text = "replaying: \(grouped(state.done)) of \(counted(state.total, "trace"))"
        if state.notAsExpected > 0 { text += ", \(grouped(state.notAsExpected)) not as expected" }
        if state.costDone > 0 {
            let left = seconds * Double(state.costTotal - state.costDone) / Double(state.costDone)
            text += ", \(grouped(Int(left.rounded(.up)))) s left"
        }
        return text
    }

    private func openResults(_ path: String) throws -> FileDescriptor {
        do {
            return try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .truncate],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch let error as Errno {
            throw Trouble(path: path, cause: PlainTrouble(sentence: systemSentence("open", error.rawValue)))
        }
    }

    private func chosenShard() throws -> Shard {
        if let shard { return try Shard(index: shard.index, count: shard.count) }
        guard let found = try ShardEnvironment.detect(in: ProcessInfo.processInfo.environment) else { return .whole }
        if let file = found.statusFile { try touch(file) }
        StandardError.line("shard \(found.shard.index) of \(found.shard.count), says \(found.scheduler)")
        return found.shard
    }

    /// Several shards may share the file.
    private func touch(_ path: String) throws {
        do {
            try FileDescriptor.open(
                FilePath(path), .writeOnly, options: .create, permissions: [.ownerReadWrite, .groupRead, .otherRead]
            ).close()
        } catch let error as Errno {
            throw Trouble(path: path, cause: PlainTrouble(sentence: systemSentence("open", error.rawValue)))
        }
    }

    private func replayCommand(_ trace: FilePath) -> [String] {
        var line = [programPath(), "replay", "--json"]
        if againstClient { return line + ["--against-client", trace.string, "--"] + command }
        // The traces are what is replayed at the same time.
        line += ["--backend", backend.rawValue, "--jobs", "1"]
        if let known { line += ["--known", known] }
        if let fault { line += ["--fault", fault.description] }
        return line + [trace.string]
    }

    /// All that decides a result besides the trace and the backend's name.
    private func buildText() throws -> String {
        var parts = [build ?? "", try digest(programPath()), fault?.description ?? ""]
        if let known { parts.append(try digest(known)) }
        if backend == .kvm { parts.append(kernelRelease()) }
        if let program = command.first {
            parts += command
            if program.contains("/") { parts.append(try digest(program)) }
        }
        let text = parts.joined(separator: "\n")
        let name = unsafe PageHash(content: Array(text.utf8).span.bytes).hexadecimal
        return build.map { "\($0) \(name)" } ?? name
    }

    private func digest(_ path: String) throws -> String {
        try about(path) { try fileDigest(path: FilePath(path)).hexadecimal }
    }

    /// Why nothing can be replayed on this machine; nil where it can.
    private func unavailable() -> String? {
        guard backend == .kvm, !againstClient else { return nil }
        do {
            _ = try makeBackend(.kvm, model: nil, fault: nil)
            return nil
        } catch {
            return sentence(forAny: error) ?? "\(error)"
        }
    }
}

/// `I/N`, from 0.
struct ShardArgument: OptionValue {
    static let form = "a shard and how many there are, from 0: 1/4 is the second of four"
    var index: Int
    var count: Int

    init?(argument: String) {
        let parts = argument.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let index = parts[0], let count = parts[1] else { return nil }
        self.index = index
        self.count = count
    }
}

/// Processors that threads and children can run on.
var processorCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

/// The file of this program, to run it again.
func programPath() -> String {
    // Linux; elsewhere the name by which it was called, which a shell has looked up.
    var status = stat()
    if unsafe stat("/proc/self/exe", &status) == 0 { return "/proc/self/exe" }
    return CommandLine.arguments[0]
}

private func kernelRelease() -> String {
    var name = utsname()
    guard unsafe uname(&name) == 0 else { return "" }
    return unsafe withUnsafeBytes(of: name.release) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}
