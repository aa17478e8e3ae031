// Files of comm-page policies, in TOML: a key for each exit reason, its value a list of parts of the state.
//
//   IO = ["gprs", "segments", "crs", "msrs"]
//   HALTED = []

public import NVMM
internal import TOMLKit

/// Reads and writes a ``CommPagePolicy``.
public enum CommPagePolicyFile {
    /// - Parameter text: of the whole file. Reasons that it leaves out have no parts.
    public static func policy(in text: String) throws(CommPagePolicyError) -> CommPagePolicy {
        let table: [String: [String]]
        do {
            table = try TOMLDecoder().decode([String: [String]].self, from: text)
        } catch let error as TOMLParseError {
            throw .syntax(line: error.source.begin.line, column: error.source.begin.column, error.description)
        } catch { throw .noList }
        var policy = CommPagePolicy.nothing
        for (name, parts) in table {
            guard ExitReason.names.contains(where: { $0.name == name }) else { throw .unknownReason(name) }
            for part in parts {
                guard let place = VCPUState.partNames.firstIndex(of: part) else { throw .unknownPart(part) }
                policy[name].formUnion(VCPUState.parts[place])
            }
        }
        return policy
    }

    /// The text of a file, a line for each reason that has parts.
    public static func text(_ policy: CommPagePolicy) -> String {
        ExitReason.names.filter { !policy[$0.name].isEmpty }.map { _, name in
            let parts = VCPUState.names(of: policy[name]).map { "\"\($0)\"" }
            return "\(name) = [\(parts.joined(separator: ", "))]\n"
        }.joined()
    }
}

/// What is wrong with a file of a policy.
public enum CommPagePolicyError: Error, Equatable, Sendable {
    /// From 1.
    case syntax(line: Int, column: Int, String)
    /// A value that is no list of texts.
    case noList
    case unknownReason(String)
    case unknownPart(String)
}
