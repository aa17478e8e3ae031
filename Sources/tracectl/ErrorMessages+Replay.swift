// Sentences for why a trace cannot be replayed.

import Analysis
import NVMM
import Replay
import TraceFile
import Tracer

func sentence(for error: ReplayError) -> String {
    switch error {
    case .exitsLevel:
        return "was recorded at level exits, which holds no memory to replay from: record it with --level replay"
    case .backendMismatch(let recorded, let replaying):
        return "was recorded on the backend \(recorded) and cannot be replayed on \(replaying):"
            + " use --backend \(recorded)"
    case .processorModelMismatch(let recorded, let replaying):
        return "was recorded on the processor model \(recorded), and the backend has \(replaying):"
            + " use the version of tracectl that recorded it"
    case .cpuidMismatch(let leaf, let subleaf, let recorded, let replaying):
        return "was recorded with another CPUID leaf \(hex(UInt64(leaf))), subleaf \(subleaf)"
            + " (\(text(recorded)), now \(text(replaying))): use the version of tracectl that recorded it"
    case .noSteps: return "holds no steps, so that there is nothing to compare: record the guest for longer"
    case .noSuchStep(let step): return "has no step \(step): tracectl info says how many there are"
    case .trace(let error): return sentence(for: error)
    case .unknownVCPU(let id, let step): return "names VCPU \(id), which does not exist at step \(step): it is damaged"
    case .unknownObject(let ordinal, let step):
        return "names memory object \(ordinal), which does not exist at step \(step): it is damaged"
    case .outsideObject(let ordinal, let offset, let step):
        return "writes outside memory object \(ordinal), at offset \(offset), at step \(step): it is damaged"
    case .tooMuchMemory(let byteCount, let limit):
        return "asks for \(sized(byteCount)) of guest memory, and the limit is \(sized(limit)): it is damaged"
    case .machineRefused(let error, let step): return "cannot go on at step \(step): \(sentence(for: error))"
    case .vcpuRefused(let error, let step): return "cannot go on at step \(step): \(sentence(for: error))"
    case .guestWritesMissing(.exits):
        return "was recorded at level exits, which holds no memory: record it with --level client"
    case .guestWritesMissing:
        return "lacks what the guest wrote to memory: tracectl fill adds it, or record it with --level client"
    case .eventsMissing(let step): return "lost events before step \(step): nothing can be said of what comes after"
    case .secondMachine(let step):
        return "is of one machine, and the client makes a second one before step \(step)"
    case .write(let error): return sentence(for: error)
    case .keyframeExpected(let step): return "lacks the keyframe at step \(step): start with --from at another one"
    }
}

private func text(_ registers: CPUIDRegisters?) -> String {
    guard let registers else { return "absent" }
    return [registers.eax, registers.ebx, registers.ecx, registers.edx].map { hex(UInt64($0)) }.joined(separator: " ")
}

func sentence(for error: KnownDifferencesError) -> String {
    let example =
        "; a rule is [[difference]] with instruction = \"shl r32, imm8\", field = \"rflags.af\", reason and proof"
    switch error {
    case .syntax(let line, let column, let text): return "is no TOML: line \(line), column \(column): \(text)"
    case .keyMissing(let key): return "lacks the key \(key), or it is no text" + example
    case .unknownKey(let text): return "has a key that is not known: \(text)" + example
    case .empty(let rule, let key): return "has nothing to say for \(key) in rule \(rule + 1)" + example
    }
}

func sentence(for error: KVMAnswersError) -> String {
    switch error {
    case .otherInterface: "is none of a client of /dev/kvm"
    case .guestWritesMissing(let level): sentence(for: ReplayError.guestWritesMissing(level))
    case .trace(let error): sentence(for: error)
    case .io(let number): "its answers cannot be written: " + systemSentence("write", number)
    }
}

func sentence(for error: MinimizeError) -> String {
    switch error {
    case .replay(let error): return sentence(for: error)
    case .trace(let error): return sentence(for: error)
    case .write(let error): return sentence(for: error)
    case .noDivergence: return "replays without a difference: there is nothing to minimize"
    case .notReproducible:
        return "shows no difference that comes again from a keyframe: record it with a smaller --keyframe-every"
    case .hypervisorTrace:
        return "was recorded between a client and /dev/kvm, whose steps end within instructions: it cannot be minimized"
    }
}

func sentence(for error: SymbolTableError) -> String {
    switch error {
    case .line(let line): "is neither ELF nor a System.map: line \(line) is not an address, a type and a name"
    case .damagedELF: "is an ELF file whose headers lead outside of it: give the one that the guest was built as"
    case .empty: "has no symbols of functions: give one that was not stripped, or a System.map"
    }
}

func sentence(for error: ExportError) -> String {
    switch error {
    case .trace(let error): sentence(for: error)
    case .database(let error): sentence(for: error)
    case .noSuchStep(let step, let end): noStepSentence(step, end: end)
    }
}

func sentence(for error: CommPagePolicyError) -> String {
    switch error {
    case .syntax(let line, let column, let words): "is no TOML at line \(line), column \(column): \(words)"
    case .noList: "has a value that is no list of parts: write a line such as IO = [\"gprs\", \"segments\"]"
    case .unknownReason(let name): "names the exit reason \(name), which NVMM does not have: IO, MEMORY, HALTED, ..."
    case .unknownPart(let name):
        "names the part \(name): there are segments, gprs, crs, drs, msrs, interrupt and fpu"
    }
}
