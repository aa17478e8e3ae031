// Sentences for what importing a shim's records can throw.

import Tracer

func sentence(for error: ImportError) -> String {
    switch error {
    case .io(let call, let number): return systemSentence(call, number)
    case .notARecording: return "holds no records: give a file that a client wrote with VMTRACE_RAW"
    case .unsupportedVersion(let version):
        return "has records of version \(version), which this tracectl does not know: use the one of the same release"
    case .tooShort(let byteCount): return "ends after \(counted(byteCount, "byte")): nothing was recorded in it"
    case .damagedFile(let offset): return "is damaged from byte \(offset) on"
    case .damagedRing(let lane): return "the client wrote into lane \(lane) of the ring, which is damaged there"
    case .damagedRecord(let sequence): return "record \(sequence) makes no sense"
    case .foreignLayout(let state, let comm):
        return "is of a libnvmm whose state has \(state) bytes and comm page \(comm), not 1,008 and 1,072"
    case .write(let error): return sentence(for: error)
    }
}
