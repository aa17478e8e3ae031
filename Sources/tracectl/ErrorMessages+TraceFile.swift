// Sentences for what reading, writing and repairing a trace can throw.

import Glibc
import TraceFile

func sentence(for error: TraceError) -> String {
    switch error {
    case .io(let call, let number): return systemSentence(call, number)
    case .notATrace: return "is not a trace: give a file that tracectl record wrote"
    case .tooShort(let byteCount):
        return "ends after \(counted(byteCount, "byte")), before its header is complete: nothing was recorded in it"
    case .unsupportedFeature(let bit, let name):
        return "needs the feature \(name) (bit \(bit)), which this version does not know: use a newer tracectl"
    case .unknownCriticalFrame(let type, let offset):
        return "has a frame of unknown type \(type) at byte \(offset) that must not be skipped: use a newer tracectl"
    case .damagedPreamble: return "is damaged in its first bytes: try tracectl repair"
    case .damagedHeader(let offset, let resume):
        return "is damaged from byte \(offset) to byte \(resume): tracectl repair saves what is left"
    case .damagedPayload(let offset, let type, let firstStep, let vcpu):
        return "is damaged in the frame at byte \(offset) (type \(type), VCPU \(vcpu), from step \(firstStep)):"
            + " tracectl repair saves what is left"
    case .truncated(let offset, let missing):
        return "is truncated: the frame at byte \(offset) lacks \(counted(missing, "byte"));"
            + " tracectl repair saves the rest"
    case .missingSteps(let first, let next):
        return "lacks steps \(first) to \(next &- 1): tracectl repair says what is left"
    case .malformed(let what, let place): return "makes no sense at \(text(place)): \(text(what))"
    case .limitExceeded(let name, let value, let maximum, let offset):
        return "asks for \(grouped(value)) \(text(name)) at byte \(offset), and the limit is \(grouped(maximum)):"
            + " it is damaged, or not from a recorder"
    case .noSuchKeyframe(let index, let count): return "has \(counted(count, "keyframe")) and no keyframe \(index)"
    case .noSuchPage(let hash):
        return "lacks the page \(hex(hash.high)) \(hex(hash.low)) that a keyframe needs: start from another one"
    case .unusableKeyframe(let offset):
        return "has a keyframe at byte \(offset) that cannot be used: start from another one"
    case .sharedPages(let error): return sentence(for: error)
    case .damagedJournal(let number, let position):
        return "has a damaged journal \(number) beside it, from byte \(position): what precedes it is used"
    }
}

func sentence(for error: TraceWriteError) -> String {
    switch error {
    case .io(let call, let number):
        if number == EPIPE { return "the reader went away: what it read ends at the last complete frame" }
        return systemSentence(call, number)
    case .unrepaired(let trace, let journal):
        return "was killed while it was recorded, or still is recorded (\(journal) is there): tracectl repair \(trace)"
            + " -o NEW saves it; then remove it with \(trace).open.*, or give another name"
    case .compression(let code): return "zstd failed with code \(code)"
    case .invalidVCPU(let id): return "a trace holds no VCPU \(id): use a smaller --cpus"
    case .invalidOptions: return "the options of the recording contradict each other"
    case .invalidPage(let byteCount): return "a page has 4,096 bytes, not \(byteCount)"
    case .unknownPage(let hash): return "the page \(hex(hash.high)) \(hex(hash.low)) was not stored before its keyframe"
    case .headerTooLarge(let byteCount):
        return "a header of \(counted(byteCount, "byte")) does not fit: use shorter parameters"
    case .finished: return "the recording had ended already"
    case .journal(let error): return "the journal beside it \(sentence(for: error))"
    }
}

/// The system's words with the advice that fits; the name of the call where there is none.
func systemSentence(_ call: String, _ number: Int32) -> String {
    let words = systemMessage(number)
    switch number {
    case ENOENT: return "\(words): check the name"
    case EACCES, EPERM: return "\(words): run as a user who may, or choose another place"
    case EISDIR: return "\(words): give a file"
    case ESPIPE: return "is no regular file, and a trace is read at many places: save it in a file and give that"
    case ENOSPC, EDQUOT: return "\(words): make room or choose another place"
    case EFBIG: return "\(words): raise the limit on file size or choose another place"
    default: return "\(words) (\(call))"
    }
}

private func text(_ place: TracePlace) -> String {
    var parts = ["byte \(place.frame)"]
    if let column = place.column { parts.append("column \(column)") }
    if place.position > 0 { parts.append("position \(place.position)") }
    if let step = place.step { parts.append("step \(step)") }
    return parts.joined(separator: ", ")
}

private func text(_ name: ReaderLimits.Name) -> String {
    switch name {
    case .frameBytes: "bytes in a frame"
    case .blockBytes: "bytes in a block"
    case .stepsPerBlock: "steps in a block"
    case .eventsPerBlock: "events in a block"
    case .blocksPerEpoch: "blocks at a time"
    case .indexEntries: "index entries"
    case .keyframePages: "pages in a keyframe"
    case .headerBytes: "bytes of header"
    case .pages: "pages"
    }
}

private func text(_ malformation: Malformation) -> String {
    switch malformation {
    case .shortOfBytes: "there are fewer bytes than it promises"
    case .overlongVarint: "a number is longer than 64 bits"
    case .leftover: "bytes are left over"
    case .missingColumn: "a column is missing"
    case .duplicateColumn: "a column is there twice"
    case .unknownValue: "a value is none that the format knows"
    case .indexOutOfRange: "an index lies outside its table"
    case .zstd: "a column does not decompress"
    case .notUTF8: "a text is not UTF-8"
    case .disorder: "its parts are out of order"
    case .inconsistent: "two numbers contradict each other"
    }
}
