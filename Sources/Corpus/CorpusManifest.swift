// The list of a corpus's traces, `corpus.toml`: Docs/corpus.md.

internal import TOMLKit

/// What a replay of a trace is expected to find.
public enum ExpectedVerdict: String, CaseIterable, Codable, Sendable {
    case identical, different
}

/// One trace of a corpus, as its manifest tells of it.
public struct CorpusEntry: Hashable, Codable, Sendable {
    /// Also that of its file: `traces/NAME.vmtrace`.
    public var name: String
    /// XXH3-128 of the file, 32 hexadecimal digits.
    public var digest: String
    public var tags: [String]
    public var expect: ExpectedVerdict
    /// The backend that was recorded.
    public var backend: String
    public var vcpus: Int
    public var steps: Int
    /// Retired; 0 where the backend does not count.
    public var instructions: Int

    /// Time that a replay is expected to take, in units of one instruction: an exit costs as much as some hundreds.
    public var cost: UInt64 {
        UInt64(clamping: instructions).addingReportingOverflow(
            UInt64(clamping: steps).multipliedReportingOverflow(by: 200).partialValue
        )
        .partialValue
    }
}

/// All of a manifest.
public struct CorpusManifest: Hashable, Sendable {
    public static let fileName = "corpus.toml"
    static let version = 1

    /// Ascending by name.
    public var entries: [CorpusEntry] = []

    public init() {}

    private struct Content: Codable {
        var version: Int
        var trace: [CorpusEntry]?
    }

    /// - Parameter text: of the whole file.
    public init(_ text: String) throws(ManifestError) {
        let content: Content
        do {
            content = try TOMLDecoder(strictDecoding: true).decode(Content.self, from: text)
        } catch let error as TOMLParseError {
            throw .syntax(line: error.source.begin.line, column: error.source.begin.column, error.description)
        } catch DecodingError.keyNotFound(let key, _) {
            throw .key(key.stringValue)
        } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context)
        {
            throw .key(context.codingPath.last?.stringValue ?? "trace")
        } catch {
            throw .key("\(error)")
        }
        guard content.version == Self.version else { throw .version(content.version) }
        var names: Set<String> = []
        for entry in content.trace ?? [] {
            guard isCorpusName(entry.name) else { throw .invalidValue(key: "name", trace: entry.name) }
            guard names.insert(entry.name).inserted else { throw .duplicateName(entry.name) }
            guard entry.digest.count == 32, entry.digest.allSatisfy(\.isHexDigit) else {
                throw .invalidValue(key: "digest", trace: entry.name)
            }
            guard entry.tags.allSatisfy(isCorpusName) else { throw .invalidValue(key: "tags", trace: entry.name) }
            for (key, value) in [("vcpus", entry.vcpus), ("steps", entry.steps), ("instructions", entry.instructions)]
            where value < 0 {
                throw .invalidValue(key: key, trace: entry.name)
            }
        }
        entries = (content.trace ?? []).sorted { $0.name < $1.name }
    }

    /// The file's text. No value needs an escape: names and tags have letters, digits, `.`, `_` and `-` only.
    public var text: String {
        var text = "version = \(Self.version)\n"
        for entry in entries {
            let tags = entry.tags.map { "\"\($0)\"" }.joined(separator: ", ")
            text += """

                [[trace]]
                name = "\(entry.name)"
                digest = "\(entry.digest)"
                tags = [\(tags)]
                expect = "\(entry.expect.rawValue)"
                backend = "\(entry.backend)"
                vcpus = \(entry.vcpus)
                steps = \(entry.steps)
                instructions = \(entry.instructions)

                """
        }
        return text
    }
}

/// Whether a name or tag may be part of a file's name, of TOML and of XML as it stands.
func isCorpusName(_ name: String) -> Bool {
    guard let first = name.utf8.first, name.utf8.count <= 128 else { return false }
    func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
    let others: [UInt8] = [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-")]
    return isPlain(first) && name.utf8.allSatisfy { isPlain($0) || others.contains($0) }
}
