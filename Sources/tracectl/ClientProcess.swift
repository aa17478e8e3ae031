// A client of libnvmm as a child of this process, told what to do by its environment.

import Glibc

/// A command with variables of its own; its standard streams are ours.
struct ClientProcess {
    var command: [String]
    /// Set for the command; variables that begin with ``cleared`` are not passed on.
    var variables: [String: String]
    static let cleared = "NVMM_"
    /// Of these, where the user's machines are registered, which is the user's choice.
    private static let kept = "NVMM_RUNTIME_DIR="

    /// - Returns: the command's exit status, 128 + n where a signal ended it.
    /// - Throws: ``Trouble`` where it cannot be run.
    func run() throws -> Int32 {
        try wait(for: spawn())
    }

    private func environment() -> [String] {
        var entries: [String] = []
        var place = unsafe environ
        while let entry = unsafe place.pointee {
            let text = unsafe String(cString: entry)
            if !text.hasPrefix(Self.cleared) || text.hasPrefix(Self.kept) { entries.append(text) }
            unsafe place += 1
        }
        return entries + variables.keys.sorted().map { "\($0)=\(variables[$0] ?? "")" }
    }

    private func spawn() throws -> pid_t {
        var child: pid_t = 0
        // SAFETY: the pointers are copies of the strings with a terminating nil, freed after the call.
        let arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        let variables = unsafe environment().map { unsafe strdup($0) } + [nil]
        defer {
            for unsafe pointer in unsafe arguments + variables { unsafe free(pointer) }
        }
        let code = unsafe posix_spawnp(&child, command[0], nil, nil, arguments, variables)
        guard code == 0 else {
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: systemSentence("run", code)))
        }
        return child
    }

    /// A signal to end that reaches us is passed on.
    private func wait(for child: pid_t) throws -> Int32 {
        var status: Int32 = 0
        var passedOn = false
        while unsafe waitpid(child, &status, 0) < 0 {
            guard errno == EINTR else {
                throw Trouble(path: command[0], cause: PlainTrouble(sentence: systemSentence("wait for", errno)))
            }
            // A terminal sends Ctrl-C to both.
            if let signal = Interruption.pending, signal != SIGINT, !passedOn {
                passedOn = true
                kill(child, signal)
            }
        }
        let signal = status & 0x7F
        return signal == 0 ? status >> 8 & 0xFF : 128 + signal
    }
}

/// - Returns: `path` as another process finds it, whatever folder it goes to.
func absolutePath(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    // SAFETY: with NULL the result is allocated, and freed here.
    guard let folder = unsafe getcwd(nil, 0) else { return path }
    defer { unsafe free(folder) }
    return unsafe String(cString: folder) + "/" + path
}
