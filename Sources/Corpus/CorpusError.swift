// What can go wrong with a corpus as a whole; what goes wrong with one of its traces is that trace's result.

public import TraceFile

/// Failures of opening and of changing a corpus.
public enum CorpusError: Error, Equatable, Sendable {
    /// A system call failed. `call` is its name, `errno` its error number.
    case io(path: String, call: String, errno: Int32)
    /// There is no manifest in the folder.
    case notACorpus
    /// The folder holds a corpus already.
    case alreadyThere
    /// Another process changes the corpus, or still replays it.
    case busy
    case manifest(ManifestError)
    /// Letters, digits, `.`, `_` and `-`, at most 128, the first one a letter or a digit.
    case invalidName(String)
    case invalidTag(String)
    case nameTaken(String)
    /// The same trace is there under this name.
    case alreadyIn(name: String)
    /// Of level exits: nothing can replay it.
    case notReplayable(trace: String)
    case unknownTrace(name: String)
    case share(trace: String, ShareError)
    case trace(name: String, TraceError)
    case pages(SharedPagesError)
}

/// What is wrong with a manifest.
public enum ManifestError: Error, Equatable, Sendable {
    /// From 1.
    case syntax(line: Int, column: Int, String)
    /// Of a newer tracectl.
    case version(Int)
    /// A key that is missing, unknown, or has a value of another type.
    case key(String)
    case duplicateName(String)
    case invalidValue(key: String, trace: String)
}
