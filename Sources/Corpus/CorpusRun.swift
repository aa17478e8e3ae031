// Replays many traces in processes of their own, so that a crash or an endless replay is one trace's failure.

import Glibc
internal import Foundation
public import SystemPackage
public import TraceFile

/// How a corpus is replayed.
public struct CorpusRunOptions: Sendable {
    /// Replays at the same time.
    public var jobs = 1
    /// Seconds that one replay may take.
    public var timeout = 600.0
    public var backend = "soft"
    /// What replays, with all that decides how: results under the same text are not asked for again.
    public var build = ""
    public var cache: ResultCache?
    /// Why no trace can be replayed now: each result then says so. nil: nothing is known against it.
    public var unavailable: String?
    /// Words for an error that a trace's file met.
    public var sentence: @Sendable (TraceError) -> String = { "\($0)" }

    public init() {}
}

/// How far a run is.
public struct CorpusProgress: Sendable {
    public var done = 0
    public var total = 0
    public var notAsExpected = 0
    public var costDone: UInt64 = 0
    public var costTotal: UInt64 = 0
}

/// One run over traces of a corpus.
public struct CorpusRun {
    private let corpus: Corpus
    private let options: CorpusRunOptions
    private let command: (FilePath) -> [String]

    /// - Parameter command: what replays a trace. It is to end with status 0 where the replay is identical, 1 where it
    ///   differs, 75 where it cannot be done now, and to write the report of `tracectl replay --json`.
    public init(_ corpus: Corpus, options: CorpusRunOptions, command: @escaping (FilePath) -> [String]) {
        self.corpus = corpus
        self.options = options
        self.command = command
    }

    /// Replays `entries`, the first ones first.
    ///
    /// - Parameters:
    ///   - isInterrupted: asked several times a second; what runs then is ended, and has no result.
    ///   - finished: gets each result as it comes, and whether the cache had it.
    public func run(
        _ entries: [CorpusEntry], isInterrupted: () -> Bool, progress: (CorpusProgress) -> Void,
        finished: (_ result: ReplayResult, _ isCached: Bool) throws -> Void
    ) throws {
        let lock = try CorpusLock(corpus.folder, .shared)
        defer { lock.release() }
        var state = CorpusProgress()
        state.total = entries.count
        state.costTotal = entries.reduce(0) { $0 &+ $1.cost }
        func take(_ result: ReplayResult, of entry: CorpusEntry, isCached: Bool) throws {
            state.done += 1
            state.costDone = state.costDone &+ entry.cost
            if !result.isAsExpected { state.notAsExpected += 1 }
            if !isCached { options.cache?.store(result) }
            try finished(result, isCached)
            progress(state)
        }
        var waiting = entries[...]
        var running: [(entry: CorpusEntry, child: ChildProcess)] = []
        defer { Self.end(running.map(\.child)) }
        while !waiting.isEmpty || !running.isEmpty {
            if isInterrupted() { return }
            while running.count < max(options.jobs, 1), let entry = waiting.popFirst() {
                if let known = options.cache?.result(blank(entry).key) {
                    var known = known
                    (known.name, known.expect) = (entry.name, entry.expect.rawValue)
                    try take(known, of: entry, isCached: true)
                } else if let child = try begin(entry, { try take($0, of: entry, isCached: false) }) {
                    running.append((entry, child))
                }
            }
            Self.wait(for: running.map(\.child))
            for (entry, child) in running {
                if !child.wasKilled, (ContinuousClock.now - child.started) / .seconds(1) > options.timeout {
                    child.kill()
                }
                guard let status = child.exitStatus() else { continue }
                running.removeAll { $0.child === child }
                // What is still in the pipes; a process that it left behind is not waited for.
                while let pipe = child.pipes.first(where: Self.isReadable) { child.read(pipe) }
                try take(result(entry, child, status), of: entry, isCached: false)
            }
            progress(state)
        }
    }

    /// - Returns: nil where the result is there at once.
    private func begin(_ entry: CorpusEntry, _ take: (ReplayResult) throws -> Void) throws -> ChildProcess? {
        var result = blank(entry)
        if let reason = options.unavailable {
            (result.verdict, result.detail) = (.unavailable, reason)
        } else if let problem = problem(with: entry) {
            (result.verdict, result.detail) = (.unusable, problem)
        } else {
            do throws(SpawnError) { return try ChildProcess(command(corpus.path(of: entry.name))) } catch {
                result.verdict = .unavailable
                result.detail = "\(error.command): \(Errno(rawValue: error.errno))"
            }
        }
        try take(result)
        return nil
    }

    /// What is wrong with a trace before anything is replayed; nil: nothing.
    private func problem(with entry: CorpusEntry) -> String? {
        do throws(TraceError) {
            let digest = try fileDigest(path: corpus.path(of: entry.name)).hexadecimal
            return digest == entry.digest
                ? nil : "is not the trace that was added: its digest is \(digest), the manifest has \(entry.digest)"
        } catch { return options.sentence(error) }
    }

    private func blank(_ entry: CorpusEntry) -> ReplayResult {
        ReplayResult(
            digest: entry.digest, backend: options.backend, build: options.build, name: entry.name,
            verdict: .identical, expect: entry.expect.rawValue, steps: entry.steps, instructions: entry.instructions,
            seconds: 0, detail: "")
    }

    private func result(_ entry: CorpusEntry, _ child: ChildProcess, _ status: Int32) -> ReplayResult {
        var result = blank(entry)
        result.seconds = (ContinuousClock.now - child.started) / .seconds(1)
        var words = String(decoding: child.errors, as: UTF8.self).split(separator: "\n").last.map(String.init) ?? ""
        if words.hasPrefix("tracectl: ") { words.removeFirst("tracectl: ".count) }
        switch status {
        case 0: result.verdict = .identical
        case 1:
            result.verdict = .different
            result.divergence = ReplayDocument.divergence(in: child.output)
            result.detail = result.divergence.map(Self.line) ?? words
        case 75: (result.verdict, result.detail) = (.unavailable, words)
        case _ where child.wasKilled:
            result.verdict = .timedOut
            result.detail = "did not end within \(Int(options.timeout)) s"
        case 129...:
            (result.verdict, result.detail) = (.crashed, words.isEmpty ? "ended by signal \(status - 128)" : words)
        default: (result.verdict, result.detail) = (.unusable, words)
        }
        return result
    }

    private static func line(_ divergence: ReplayResult.FirstDivergence) -> String {
        var line = "\(divergence.kind) differ at step \(divergence.step)"
        if let instruction = divergence.instruction { line += ": \(instruction)" }
        if let rip = divergence.rip { line += " at rip \(rip)" }
        return line
    }

    // MARK: - Processes

    private static func isReadable(_ descriptor: Int32) -> Bool {
        var place = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&place, 1, 0) > 0
    }

    /// Until one of them says something, a tenth of a second at most.
    private static func wait(for children: [ChildProcess]) {
        if children.isEmpty { return }
        var places = children.flatMap(\.pipes).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        let owners = children.flatMap { child in child.pipes.map { _ in child } }
        // Where all pipes are closed, the process itself ends at any moment.
        guard unsafe poll(&places, nfds_t(places.count), places.isEmpty ? 5 : 100) > 0 else { return }
        for (place, owner) in zip(places, owners) where place.revents != 0 { owner.read(place.fd) }
    }

    private static func end(_ children: [ChildProcess]) {
        for child in children { child.kill() }
        for child in children { while child.exitStatus() == nil { usleep(1000) } }
    }
}

/// The part of `tracectl replay --json` that a result tells of.
private struct ReplayDocument: Decodable {
    var divergence: Divergence?

    struct Divergence: Decodable {
        var kind: String
        var step: UInt64
        var instructionAtExit: Place?
        var wrongInstruction: WrongInstruction?
    }

    struct WrongInstruction: Decodable { var place: Place }

    struct Place: Decodable {
        var rip: String
        var text: String
    }

    static func divergence(in output: [UInt8]) -> ReplayResult.FirstDivergence? {
        guard let found = (try? JSONDecoder().decode(ReplayDocument.self, from: Data(output)))?.divergence else {
            return nil
        }
        let place = found.wrongInstruction?.place ?? found.instructionAtExit
        return ReplayResult.FirstDivergence(
            step: found.step, kind: found.kind, instruction: place?.text, rip: place?.rip)
    }
}
