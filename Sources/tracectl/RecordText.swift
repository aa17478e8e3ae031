// How a recording ended and what it is good for, in words.

import ReferenceVMM
import Tracer

func words(_ outcome: PCOutcome) -> String {
    switch outcome {
    case .exited(let status): "the guest ended with status \(status)"
    case .haltedForever: "the guest halted for good"
    case .shutdown(let vcpu): "the guest shut down by a triple fault on VCPU \(vcpu)"
    case .resetRequested: "the guest reset the machine"
    case .poweredOff: "the guest switched the machine off"
    case .limitReached: "the limit was reached"
    case .cancelled: "ended from outside"
    case .emulationFailed(let vcpu, let rip, let reason): "VCPU \(vcpu) at rip \(hex(rip)): \(reason)"
    case .invalidExit(let vcpu, let code): "VCPU \(vcpu): the backend gave up with code \(hex(code))"
    }
}

/// What makes a recording end in trouble although its trace is whole; nil for an end that a guest may have.
func failure(_ outcome: PCOutcome) -> String? {
    switch outcome {
    case .exited, .haltedForever, .resetRequested, .poweredOff, .limitReached, .cancelled: nil
    case .shutdown:
        words(outcome) + ": tracectl dump shows the steps before it; the trace is whole"
    case .emulationFailed, .invalidExit:
        words(outcome) + ": run a guest that does without it; the trace is whole"
    }
}

func words(_ level: TraceGrade.Level) -> String {
    switch level {
    case .exact: "exact replay"
    case .exitsOnly: "exits only (statistics and comparison)"
    case .statistics: "statistics"
    }
}

func words(_ reason: TraceGrade.Reason) -> String {
    switch reason {
    case .recordLevel: "recorded at level exits: use --level replay for a trace that can be replayed"
    case .instructionsNotCounted: "the backend does not count instructions"
    case .lateRawStore(let object, let page, let step):
        "a store that went past the interface was found too late: object \(object), page \(page), step \(step)"
    case .writeDuringRun(let object, let step):
        "memory was written while a VCPU ran: object \(object), step \(step)"
    case .clientRestoredState(let step): "the VMM restored a saved state at step \(step)"
    case .secondMachine: "more than one machine was made, and only the first recorded"
    case .recordingFailed(let step): "recording failed at step \(step)"
    case .recordsLost(let step): "records were lost at step \(step)"
    case .runsOverlapped(let step): "two VCPUs ran at the same time, first at step \(step)"
    case .kernelDevice(let name): "the kernel keeps \(name), and what happens there is not seen"
    case .memoryNotWatched(let byteCount):
        "what is stored into \(sized(byteCount)) of guest memory is not recorded: they are shared, or of a file"
    case .registersNotSampled: "the kernel does not give registers at exits (KVM_CAP_SYNC_REGS, Linux 4.17)"
    case .consumptionInferred(let step):
        "the libnvmm does not say what a run consumed, and it can only be guessed at step \(step)"
    }
}
