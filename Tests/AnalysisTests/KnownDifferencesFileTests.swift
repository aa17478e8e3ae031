import Analysis
import Replay
import Testing

@Suite struct KnownDifferencesFileTests {
    private static let rule = """
        [[difference]]
        instruction = "shl r32, imm8"
        field = "rflags.af"
        reason = "undefined after shifts"
        proof = "SDM vol. 2, SAL/SAR/SHL/SHR"
        """

    @Test func `rules are read in their order`() throws {
        let second = Self.rule.replacing("shl r32, imm8", with: "mul m64")
        let rules = try KnownDifferencesFile.rules(in: Self.rule + "\n" + second)
        #expect(rules.map(\.instruction) == ["shl r32, imm8", "mul m64"])
        #expect(rules[0].field == "rflags.af")
        #expect(rules[0].reason == "undefined after shifts")
        #expect(rules[0].proof == "SDM vol. 2, SAL/SAR/SHL/SHR")
    }

    @Test func `what is wrong is named`() {
        func error(_ text: String) -> KnownDifferencesError? {
            do throws(KnownDifferencesError) {
                _ = try KnownDifferencesFile.rules(in: text)
                return nil
            } catch { return error }
        }
        #expect(error("") == .keyMissing("difference"))
        #expect(error("difference = []") == .keyMissing("difference"))
        #expect(error(Self.rule + "\nsteps = 3").map { "\($0)".contains("steps") } == true)
        #expect(error(Self.rule.replacing("proof = \"SDM vol. 2, SAL/SAR/SHL/SHR\"", with: "")) == .keyMissing("proof"))
        #expect(
            error(Self.rule.replacing("\"undefined after shifts\"", with: "\"  \"")) == .empty(rule: 0, key: "reason"))
        guard case .syntax(let line, _, _) = error("[[difference]]\ninstruction = shl") else {
            Issue.record("no syntax error")
            return
        }
        #expect(line == 2)
        #expect(error(Self.rule.replacing("\"rflags.af\"", with: "7")) == .keyMissing("field"))
        #expect(error("difference = 5") == .keyMissing("difference"))
    }
}

extension String {
    fileprivate func replacing(_ part: String, with other: String) -> String {
        var result = self
        if let range = result.firstRange(of: part) { result.replaceSubrange(range, with: other) }
        return result
    }
}
