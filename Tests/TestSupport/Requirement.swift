// What a test needs of the machine it runs on. A test whose need is not met is skipped with that need as its reason,
// and `make test` lists it: `@Test(.requires(.tool("nasm"))) func ...`.

import Glibc
public import Testing

public enum Requirement: Sendable {
    /// An executable on PATH.
    case tool(String)
    /// A file, such as firmware, that the process can read.
    case file(String)
    /// A device that the process can open for reading and writing.
    case device(String)
    /// A user for whom file permissions hold: not root.
    case unprivilegedUser
    /// Root, for servers that change to other users.
    case root

    public var isMet: Bool {
        switch self {
        case .tool(let name):
            guard let path = unsafe getenv("PATH") else { return false }
            let folders = unsafe String(cString: path).split(separator: ":")
            return folders.contains { unsafe access("\($0)/\(name)", X_OK) == 0 }
        case .file(let path): return unsafe access(path, R_OK) == 0
        case .device(let path): return unsafe access(path, R_OK | W_OK) == 0
        case .unprivilegedUser: return geteuid() != 0
        case .root: return geteuid() == 0
        }
    }

    public var reason: String {
        switch self {
        case .tool(let name): "needs \(name) on PATH"
        case .file(let path): "needs the file \(path)"
        case .device(let path): "needs the device \(path)"
        case .root: "needs root"
        case .unprivilegedUser: "needs a user other than root, for whom file permissions hold"
        }
    }
}

extension Trait where Self == ConditionTrait {
    /// Runs the test only where all of `needs` are met.
    public static func requires(_ needs: Requirement...) -> Self {
        let missing = needs.filter { !$0.isMet }.map(\.reason).joined(separator: "; ")
        return .enabled(if: missing.isEmpty, Comment(rawValue: missing))
    }
}
