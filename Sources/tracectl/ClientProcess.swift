// A client of libnvmm as a child of this process, told what to do by its environment.

import Glibc

/// A command with an environment of its own; its standard streams are ours.
struct ClientProcess {
    let command: [String]
    private let environment: [String]
    private var hasPassedOn = false

    /// - Parameters:
    ///   - variables: set for the command.
    ///   - isDropped: says which of our own, as `NAME=value`, are not passed on.
    init(_ command: [String], setting variables: [String: String], without isDropped: (String) -> Bool) {
        self.command = command
        environment =
            Self.inherited.filter { !isDropped($0) }
            + variables.keys.sorted().map { "\($0)=\(variables[$0] ?? "")" }
    }

    /// Our environment, as `NAME=value`.
    static var inherited: [String] {
        var entries: [String] = []
        var place = unsafe environ
        while let entry = unsafe place.pointee {
            unsafe entries.append(String(cString: entry))
            unsafe place += 1
        }
        return entries
    }

    /// - Throws: ``Trouble`` where it cannot be run.
    func spawn() throws -> pid_t {
        var child: pid_t = 0
        // SAFETY: the pointers are copies of the strings with a terminating nil, freed after the call.
        let arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        let variables = unsafe environment.map { unsafe strdup($0) } + [nil]
        defer {
            unsafe (arguments + variables).forEach { unsafe free($0) }
        }
        let code = unsafe posix_spawnp(&child, command[0], nil, nil, arguments, variables)
        guard code == 0 else {
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: systemSentence("run", code)))
        }
        return child
    }

    /// Looks for the command's end, or waits for it until a signal reaches us, which is passed on to it.
    ///
    /// - Parameter waits: whether to wait.
    /// - Returns: its exit status, 128 + n where a signal ended it; nil while it runs.
    mutating func exitStatus(of child: pid_t, waits: Bool) throws -> Int32? {
        var status: Int32 = 0
        let ended = unsafe waitpid(child, &status, waits ? 0 : WNOHANG)
        if ended == child {
            let signal = status & 0x7F
            return signal == 0 ? status >> 8 & 0xFF : 128 + signal
        }
        guard ended == 0 || errno == EINTR else {
            throw Trouble(path: command[0], cause: PlainTrouble(sentence: systemSentence("wait for", errno)))
        }
        // A terminal sends Ctrl-C to both.
        if let signal = Interruption.pending, signal != SIGINT, !hasPassedOn {
            hasPassedOn = true
            kill(child, signal)
        }
        return nil
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
