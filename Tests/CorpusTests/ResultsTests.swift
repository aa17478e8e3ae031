// Results of replays: files of them, several made one, and the XML for CI.

import Foundation
import FoundationXML
import SystemPackage
import Testing

@testable import Corpus

private func result(
    _ name: String, _ verdict: CorpusVerdict, build: String = "b", expect: String = "identical", detail: String = ""
) -> ReplayResult {
    ReplayResult(
        digest: "d-" + name, backend: "soft", build: build, name: name, verdict: verdict, expect: expect, steps: 1,
        instructions: 2, seconds: 0.25, detail: detail)
}

@Suite struct ResultsTests {
    private func file(_ text: String) throws -> FilePath {
        let url = FileManager.default.temporaryDirectory.appending(path: "results-\(UUID().uuidString).jsonl")
        try Data(text.utf8).write(to: url)
        return FilePath(url.path)
    }

    @Test func `what is written comes back, and a line that was cut off is left out`() throws {
        var different = result("b", .different, detail: "registers differ, \"quoted\"\nand on two lines")
        different.divergence = .init(step: 317, kind: "registers", instruction: "adc edx, [esp+0x0C]", rip: "0xe356a")
        let all = [result("a", .identical), different]
        let text = all.map { ResultsFile.line($0) + "\n" }.joined()
        #expect(text.split(separator: "\n").count == 2)
        #expect(try ResultsFile.read(file(text)) == all)
        #expect(try ResultsFile.read(file(String(text.dropLast(10)))) == [all[0]])
        #expect(try ResultsFile.read(file("")).isEmpty)
    }

    @Test func `a line that is no result is named`() throws {
        let path = try file(ResultsFile.line(result("a", .identical)) + "\n{}\n")
        #expect(throws: ResultsError.line(path: path.string, line: 2)) { try ResultsFile.read(path) }
    }

    @Test func `several runs become one, whatever their order`() throws {
        let (a, b) = (result("a", .identical), result("b", .different))
        #expect(try ResultsFile.merge([b, a, a, b]) == [a, b])
        let missing = result("a", .unavailable)
        #expect(try ResultsFile.merge([missing, a]) == [a])
        #expect(try ResultsFile.merge([a, missing]) == [a])
        #expect(try ResultsFile.merge([result("a", .timedOut), a]) == [a])
        #expect(try ResultsFile.merge([a, result("a", .crashed)]) == [a])
        let other = result("a", .different, build: "another")
        #expect(try ResultsFile.merge([other, a]).count == 2)
    }

    @Test func `one build with two verdicts is a contradiction`() {
        #expect(throws: ResultsError.contradiction(name: "a", one: .identical, other: .different)) {
            try ResultsFile.merge([result("a", .identical), result("a", .different)])
        }
    }

    @Test func `CI's XML says what is not as expected, with all characters escaped`() throws {
        let text = JUnitReport.text(
            [
                result("c", .different, detail: "<rip> & \"rsp\"\u{1}"), result("a", .identical),
                result("b", .different, expect: "different"), result("d", .unusable, detail: "damaged"),
                result("e", .unavailable, detail: "no /dev/kvm"), result("f", .identical, expect: "different"),
                result("g", .timedOut, detail: "slow"),
            ], suite: "reg&ressions")
        let parser = Parser()
        let document = XMLParser(data: Data(text.utf8))
        document.delegate = parser
        #expect(document.parse())
        #expect(parser.attributes["testsuite"]?.first?["name"] == "reg&ressions")
        #expect(parser.attributes["testsuite"]?.first?["tests"] == "7")
        #expect(parser.attributes["testsuite"]?.first?["failures"] == "3")
        #expect(parser.attributes["testsuite"]?.first?["errors"] == "1")
        #expect(parser.attributes["testsuite"]?.first?["skipped"] == "1")
        #expect(parser.attributes["testsuite"]?.first?["time"] == "1.750")
        #expect(parser.attributes["testcase"]?.map { $0["name"] } == ["a", "b", "c", "d", "e", "f", "g"])
        #expect(
            parser.attributes["failure"]?.map { $0["message"] } == [
                "<rip> & \"rsp\" ", "identical, but a difference was expected", "slow",
            ])
        #expect(parser.attributes["error"]?.map { $0["message"] } == ["damaged"])
        #expect(parser.attributes["skipped"]?.map { $0["message"] } == ["no /dev/kvm"])
    }
}

private final class Parser: NSObject, XMLParserDelegate {
    var attributes: [String: [[String: String]]] = [:]

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
        attributes values: [String: String]
    ) {
        attributes[name, default: []].append(values)
    }
}
