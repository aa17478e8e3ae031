// The manifest of a corpus: what is written comes back, and what cannot be is named.

import Corpus
import Testing

@Suite struct ManifestTests {
    private static let sample = """
        version = 1

        [[trace]]
        name = "boot"
        digest = "0123456789abcdef0123456789abcdef"
        tags = ["firmware", "soft"]
        expect = "identical"
        backend = "soft"
        vcpus = 1
        steps = 26804
        instructions = 7955100
        """

    @Test func `what is written comes back`() throws {
        let manifest = try CorpusManifest(Self.sample)
        #expect(manifest.entries.count == 1)
        #expect(manifest.entries[0].name == "boot")
        #expect(manifest.entries[0].tags == ["firmware", "soft"])
        #expect(manifest.entries[0].steps == 26804)
        #expect(try CorpusManifest(manifest.text) == manifest)
        #expect(try CorpusManifest("version = 1") == CorpusManifest())
    }

    @Test func `what is wrong is named`() {
        func error(_ text: String) -> ManifestError? {
            do throws(ManifestError) {
                _ = try CorpusManifest(text)
                return nil
            } catch { return error }
        }
        func changed(_ part: String, _ other: String) -> ManifestError? {
            guard let range = Self.sample.firstRange(of: part) else { return nil }
            var text = Self.sample
            text.replaceSubrange(range, with: other)
            return error(text)
        }
        let second = Self.sample.split(separator: "\n").dropFirst(1).joined(separator: "\n")
        #expect(error(Self.sample + "\n" + second) == .duplicateName("boot"))
        #expect(changed("version = 1", "version = 2") == .version(2))
        #expect(changed("version = 1", "") == .key("version"))
        #expect(changed("\"boot\"", "\"../boot\"") == .invalidValue(key: "name", trace: "../boot"))
        #expect(changed("\"boot\"", "\"\"") == .invalidValue(key: "name", trace: ""))
        #expect(changed("0123456789abcdef0", "x") == .invalidValue(key: "digest", trace: "boot"))
        #expect(changed("\"soft\"]", "\"a b\"]") == .invalidValue(key: "tags", trace: "boot"))
        #expect(changed("steps = 26804", "steps = -1") == .invalidValue(key: "steps", trace: "boot"))
        #expect(changed("steps = 26804", "steps = \"many\"") == .key("steps"))
        #expect(changed("\"identical\"", "\"perhaps\"") == .key("expect"))
        guard case .syntax(let line, _, _)? = changed("vcpus = 1", "vcpus = ") else {
            Issue.record("no syntax error")
            return
        }
        #expect(line == 9)
        guard case .key? = changed("vcpus = 1", "vcpus = 1\nspeed = 3") else {
            Issue.record("an unknown key was accepted")
            return
        }
    }
}
