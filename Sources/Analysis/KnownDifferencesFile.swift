// Files of accepted differences, in TOML:
//
//   [[difference]]
//   instruction = "shl r32, imm8"
//   field = "rflags.af"
//   reason = "undefined after shifts, and this KVM clears it"
//   proof = "SDM vol. 2, SAL/SAR/SHL/SHR, Flags Affected"

public import Replay
internal import TOMLKit

/// Reads ``KnownDifference`` rules.
public enum KnownDifferencesFile {
    private struct Content: Codable {
        var difference: [KnownDifference]
    }

    /// - Parameter text: of the whole file.
    /// - Returns: at least one rule.
    public static func rules(in text: String) throws(KnownDifferencesError) -> [KnownDifference] {
        let content: Content
        do {
            content = try TOMLDecoder(strictDecoding: true).decode(Content.self, from: text)
        } catch let error as TOMLParseError {
            throw .syntax(line: error.source.begin.line, column: error.source.begin.column, error.description)
        } catch DecodingError.keyNotFound(let key, _) {
            throw .keyMissing(key.stringValue)
        } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context) {
            throw .keyMissing(context.codingPath.last?.stringValue ?? "difference")
        } catch {
            throw .unknownKey("\(error)")
        }
        guard !content.difference.isEmpty else { throw .keyMissing("difference") }
        for (index, rule) in content.difference.enumerated() {
            for (key, value) in [
                ("instruction", rule.instruction), ("field", rule.field), ("reason", rule.reason),
                ("proof", rule.proof),
            ] where value.allSatisfy(\.isWhitespace) {
                throw .empty(rule: index, key: key)
            }
        }
        return content.difference
    }
}

/// What is wrong with a file of known differences.
public enum KnownDifferencesError: Error, Equatable, Sendable {
    /// From 1.
    case syntax(line: Int, column: Int, String)
    /// `difference` where there is no rule, or a key that each rule needs; or its value is no text.
    case keyMissing(String)
    case unknownKey(String)
    /// The value of a key is empty; `rule` counts from 0.
    case empty(rule: Int, key: String)
}
