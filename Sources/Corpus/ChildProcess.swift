// A command in a process group of its own, with what it writes and a time by which it must have ended.

import Glibc

/// A running child. Its output is kept up to a bound and read beyond it, so that it is never held up.
final class ChildProcess {
    let pid: pid_t
    private(set) var output: [UInt8] = []
    private(set) var errors: [UInt8] = []
    let started = ContinuousClock.now
    private(set) var wasKilled = false
    private var outputPipe: Int32
    private var errorPipe: Int32
    private static let outputBytesMax = 16 << 20
    private static let errorBytesMax = 64 << 10

    /// - Throws: the error number of what failed.
    init(_ command: [String]) throws(SpawnError) {
        let outputPipe = try Self.pipe()
        let errorPipe = try Self.pipe()
        var actions = unsafe posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawnattr_init(&attributes)
        defer {
            unsafe posix_spawn_file_actions_destroy(&actions)
            unsafe posix_spawnattr_destroy(&attributes)
            close(outputPipe.write)
            close(errorPipe.write)
        }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, outputPipe.write, STDOUT_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, errorPipe.write, STDERR_FILENO)
        // Ctrl-C is the run's to answer, and what the child started goes with it.
        unsafe posix_spawnattr_setpgroup(&attributes, 0)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        // SAFETY: the pointers are copies of the strings with a terminating nil, freed after the call.
        let arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        defer { unsafe arguments.forEach { unsafe free($0) } }
        var child: pid_t = 0
        let code = unsafe posix_spawnp(&child, command[0], &actions, &attributes, arguments, environ)
        self.outputPipe = outputPipe.read
        self.errorPipe = errorPipe.read
        pid = child
        guard code == 0 else {
            close(outputPipe.read)
            close(errorPipe.read)
            throw SpawnError(command: command[0], errno: code)
        }
    }

    private static func pipe() throws(SpawnError) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        guard unsafe Glibc.pipe(&ends) == 0 else { throw SpawnError(command: "pipe", errno: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    /// Descriptors that are still open.
    var pipes: [Int32] { [outputPipe, errorPipe].filter { $0 >= 0 } }

    /// Takes what there is to read.
    func read(_ descriptor: Int32) {
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        // SAFETY: the buffer is that of `piece`.
        let count = unsafe piece.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
        if count < 0 && errno == EINTR { return }
        guard count > 0 else {
            close(descriptor)
            if descriptor == outputPipe { outputPipe = -1 } else { errorPipe = -1 }
            return
        }
        if descriptor == outputPipe {
            output += piece[..<min(count, max(0, Self.outputBytesMax - output.count))]
        } else {
            errors += piece[..<min(count, max(0, Self.errorBytesMax - errors.count))]
        }
    }

    /// Ends it with all that it started.
    func kill() {
        wasKilled = true
        _ = Glibc.kill(-pid, SIGKILL)
    }

    /// - Returns: its exit status, 128 + n where a signal ended it; nil while it runs.
    func exitStatus() -> Int32? {
        var status: Int32 = 0
        guard unsafe waitpid(pid, &status, WNOHANG) == pid else { return nil }
        let signal = status & 0x7F
        return signal == 0 ? status >> 8 & 0xFF : 128 + signal
    }

    deinit { for descriptor in pipes { close(descriptor) } }
}

/// A command that could not be started.
struct SpawnError: Error {
    var command: String
    var errno: Int32
}
