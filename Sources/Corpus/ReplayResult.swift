// What a replay of one trace of a corpus came to, and files of such results, one JSON object a line.

internal import Foundation
public import SystemPackage

/// The outcome of one replay.
public enum CorpusVerdict: String, CaseIterable, Codable, Sendable {
    case identical, different
    /// The replaying process died, or did not end in time.
    case crashed, timedOut
    /// The trace, or what it needs, is damaged or not supported: the same again at each attempt.
    case unusable
    /// What the replay needs is not here now, such as /dev/kvm: another attempt, perhaps elsewhere, may succeed.
    case unavailable

    /// Whether another attempt would come to the same.
    var isFinal: Bool { self != .unavailable }
}

/// One line of a file of results.
public struct ReplayResult: Hashable, Codable, Sendable {
    /// Of the trace, as in the manifest. With ``backend`` and ``build`` it is the key of a result.
    public var digest: String
    public var backend: String
    /// Of what replays, and of what it is told to do.
    public var build: String
    public var name: String
    public var verdict: CorpusVerdict
    public var expect: String
    public var steps: Int
    public var instructions: Int
    /// Of the replay, in this process' time.
    public var seconds: Double
    /// One line for people: what differs and where, or what went wrong. Empty where there is nothing to say.
    public var detail: String
    public var divergence: FirstDivergence?

    /// Where the first difference is.
    public struct FirstDivergence: Hashable, Codable, Sendable {
        public var step: UInt64
        /// As ``Replay/Divergence/Kind``.
        public var kind: String
        /// The wrong instruction where it is known, else the one at the exit; nil where neither could be read.
        public var instruction: String?
        /// Where it stands, hexadecimal.
        public var rip: String?
    }

    public var key: ResultKey { ResultKey(digest: digest, backend: backend, build: build) }
    public var isAsExpected: Bool { verdict.rawValue == expect }
}

/// What makes two results those of the same replay.
public struct ResultKey: Hashable, Codable, Sendable {
    public var digest: String
    public var backend: String
    public var build: String
}

/// Failures of files of results.
public enum ResultsError: Error, Equatable, Sendable {
    case io(path: String, call: String, errno: Int32)
    /// Lines count from 1.
    case line(path: String, line: Int)
    /// Two results of the same replay that contradict each other: it is not deterministic, or two builds have one name.
    case contradiction(name: String, one: CorpusVerdict, other: CorpusVerdict)
}

/// Files of results.
public enum ResultsFile {
    /// The JSON of one result, without the end of the line.
    public static func line(_ result: ReplayResult) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(result) else { return "" }
        return String(decoding: data, as: UTF8.self)
    }

    /// - Returns: nil for what is no result.
    static func result(_ line: some StringProtocol) -> ReplayResult? {
        try? JSONDecoder().decode(ReplayResult.self, from: Data(line.utf8))
    }

    /// Reads a file; the last line may be cut off by the death of who wrote it.
    public static func read(_ path: FilePath) throws(ResultsError) -> [ReplayResult] {
        let bytes: [UInt8]
        do {
            let file = try FileDescriptor.open(path, .readOnly)
            bytes = try file.closeAfter { try readAll(file) }
        } catch let error as Errno {
            throw .io(path: path.string, call: "read", errno: error.rawValue)
        } catch {
            throw .io(path: path.string, call: "read", errno: 5)
        }
        let isWhole = bytes.last == UInt8(ascii: "\n")
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        var results: [ReplayResult] = []
        for (index, line) in lines.enumerated() where !line.isEmpty {
            guard let result = result(String(decoding: line, as: UTF8.self)) else {
                if index == lines.count - 1 && !isWhole { break }
                throw .line(path: path.string, line: index + 1)
            }
            results.append(result)
        }
        return results
    }

    /// Results of several runs as one: ascending by name, one for each replay. A later attempt stands for one that
    /// found something unavailable.
    public static func merge(_ results: [ReplayResult]) throws(ResultsError) -> [ReplayResult] {
        var merged: [ResultKey: ReplayResult] = [:]
        for result in results {
            guard let known = merged[result.key] else {
                merged[result.key] = result
                continue
            }
            if !known.verdict.isFinal { merged[result.key] = result }
            guard known.verdict.isFinal, result.verdict.isFinal, known.verdict != result.verdict else { continue }
            // A loaded machine is slow, or kills: a replay that came to an end says more.
            switch (known.verdict, result.verdict) {
            case (.timedOut, _), (.crashed, _): merged[result.key] = result
            case (_, .timedOut), (_, .crashed): break
            default: throw .contradiction(name: result.name, one: known.verdict, other: result.verdict)
            }
        }
        return merged.values.sorted {
            ($0.name, $0.backend, $0.build, $0.digest) < ($1.name, $1.backend, $1.build, $1.digest)
        }
    }
}
