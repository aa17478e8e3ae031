// Sentences for what a corpus, its results and its shards can throw.

import Corpus
import Database
import Glibc
import TraceFile

func sentence(for error: CorpusError) -> String {
    switch error {
    case .io(let path, let call, let number): return "\(path): \(systemSentence(call, number))"
    case .notACorpus: return "is not a corpus (it has no corpus.toml): tracectl corpus init makes one"
    case .alreadyThere: return "is a corpus already: tracectl corpus add puts a trace into it"
    case .busy: return "is in use by another tracectl: try again when that has ended"
    case .manifest(let error): return "corpus.toml \(sentence(for: error))"
    case .invalidName(let name):
        return "\(quoted(name)) cannot be a trace's name: use letters, digits, '.', '_' and '-' (--name)"
    case .invalidTag(let tag): return "\(quoted(tag)) cannot be a tag: use letters, digits, '.', '_' and '-'"
    case .nameTaken(let name): return "has a trace \(name) already: choose another --name"
    case .alreadyIn(let name): return "has that trace already, as \(name)"
    case .notReplayable(let trace):
        return "\(trace) was recorded at level exits, which cannot be replayed: record it with --level replay"
    case .unknownTrace(let name): return "has no trace \(name): tracectl corpus list shows what there is"
    case .share(let trace, let error): return "\(trace): \(sentence(for: error))"
    case .trace(let name, let error): return "\(name): \(sentence(for: error))"
    case .pages(let error): return sentence(for: error)
    }
}

private func quoted(_ text: String) -> String { "'\(text)'" }

private func sentence(for error: ManifestError) -> String {
    switch error {
    case .syntax(let line, let column, let words): "is no TOML at line \(line), column \(column): \(words)"
    case .version(let version): "is of version \(version): use a newer tracectl"
    case .key(let key): "lacks the key \(key), or does not know it, or it has a value of another type"
    case .duplicateName(let name): "has two traces of the name \(name): rename one, and its file"
    case .invalidValue(let key, let trace): "has a value for \(key) of the trace \(trace) that cannot be"
    }
}

private func sentence(for error: ShareError) -> String {
    switch error {
    case .read(let error): sentence(for: error)
    case .write(let error): sentence(for: error)
    case .pages(let error): sentence(for: error)
    case .incomplete: "was not ended properly: tracectl repair completes it"
    }
}

func sentence(for error: SharedPagesError) -> String {
    switch error {
    case .absent(let path):
        "has its pages in the store of a corpus, and there is none at \(path):"
            + " tracectl corpus export makes a whole copy"
    case .missingPage(let name):
        "needs the page \(name.hexadecimal), which the page store lacks: add the trace again"
    case .database(let error): "page store: \(sentence(for: error))"
    case .wrongPage(let name):
        "has in its page store something else under the name of the page \(name.hexadecimal): add its traces again"
    case .unknownVersion(let version): "has a page store of version \(version): use a newer tracectl"
    }
}

func sentence(for error: DatabaseError) -> String { "\(error.message) (SQLite code \(error.code))" }

func sentence(for error: ResultsError) -> String {
    switch error {
    case .io(let path, let call, let number): "\(path): \(systemSentence(call, number))"
    case .line(let path, let line): "\(path): line \(line) is no result of tracectl corpus run"
    case .contradiction(let name, let one, let other):
        "\(name) is \(one.rawValue) in one file and \(other.rawValue) in another, of the same build:"
            + " the replay is not deterministic, or --build names two builds alike"
    }
}

func sentence(for error: ShardError) -> String {
    switch error {
    case .outOfRange(let index, let count, let source):
        "\(source): there is no shard \(index) of \(count), counted from 0"
    case .halfSet(let present, let missing): "\(present) is set and \(missing) is not: set both, or give --shard I/N"
    case .notANumber(let variable, let value): "\(variable) is '\(value)': give a whole number"
    case .arrayWithGaps(let minimum, let maximum, let count):
        "a Slurm array of \(count) tasks from \(minimum) to \(maximum) is no whole range:"
            + " use --array=0-N, or --shard I/N"
    }
}
