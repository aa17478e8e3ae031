// One sentence, with the fix in it, for each error that a library throws. The libraries throw places and values;
// people's words are made here and nowhere else.

import Analysis
import Corpus
import KVMBackend
import NVMM
import ReferenceVMM
import Replay
import TraceFile
import Tracer

/// An error with the file it is about.
struct Trouble: Error {
    var path: String
    var cause: any Error
}

/// A sentence that a verb makes itself, where no library has an error for it.
struct PlainTrouble: Error { var sentence: String }

/// Runs `body`; what it throws is about `path`.
func about<Result>(_ path: String, _ body: () throws -> Result) throws -> Result {
    do {
        return try body()
    } catch let trouble as Trouble {
        throw trouble
    } catch {
        throw Trouble(path: path, cause: error)
    }
}

/// Named apart from the others, which it calls: overloads that differ in the error's type alone would call themselves.
///
/// - Returns: nil for what is not ours: the argument parser renders its own.
func sentence(forAny error: any Error) -> String? {
    switch error {
    case let error as Trouble:
        guard let cause = sentence(forAny: error.cause) else { return "\(error.path): \(error.cause)" }
        return "\(error.path): \(cause)"
    case let error as PlainTrouble: return error.sentence
    case let error as MachineError: return sentence(for: error)
    case let error as VCPUError: return sentence(for: error)
    case let error as KVMError: return sentence(for: error)
    case let error as TraceError: return sentence(for: error)
    case let error as TraceWriteError: return sentence(for: error)
    case let error as ImportError: return sentence(for: error)
    case let error as ReplayError: return sentence(for: error)
    case let error as CommPagePolicyError: return sentence(for: error)
    case let error as ExportError: return sentence(for: error)
    case let error as SymbolTableError: return sentence(for: error)
    case let error as MinimizeError: return sentence(for: error)
    case let error as KnownDifferencesError: return sentence(for: error)
    case let error as KVMAnswersError: return sentence(for: error)
    case let error as CorpusError: return sentence(for: error)
    case let error as ResultsError: return sentence(for: error)
    case let error as ShardError: return sentence(for: error)
    case let error as PCError: return sentence(for: error)
    default: return nil
    }
}
