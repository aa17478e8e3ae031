// Why a replay cannot be done. A difference between trace and replay is not an error: see ReplayReport.

public import NVMM
public import TraceFile

/// Failures of a replay. `step` is the number of steps before the place.
public enum ReplayError: Error, Equatable, Sendable {
    /// The trace holds neither writes nor keyframes: record with level `replay`.
    case exitsLevel
    case backendMismatch(recorded: String, replaying: String)
    case processorModelMismatch(recorded: String, replaying: String)
    /// First row of the CPUID tables that differs; nil where one side has no such row.
    case cpuidMismatch(leaf: UInt32, subleaf: UInt32, recorded: CPUIDRegisters?, replaying: CPUIDRegisters?)
    /// The trace holds no step: there is nothing to compare.
    case noSteps
    /// `from` lies behind the trace's last step, or not before `to`.
    case noSuchStep(UInt64)
    case trace(TraceError)
    /// An event names a VCPU or memory object that does not exist at that place.
    case unknownVCPU(id: UInt32, step: UInt64)
    case unknownObject(ordinal: UInt32, step: UInt64)
    /// A write or page lies outside its object, or a keyframe contradicts itself.
    case outsideObject(ordinal: UInt32, offset: Int, step: UInt64)
    /// The trace maps more memory than ``ReplayOptions/memoryBytesMax``.
    case tooMuchMemory(byteCount: UInt64, limit: UInt64)
    /// The backend refused what the recorded one did.
    case machineRefused(MachineError, step: UInt64)
    case vcpuRefused(VCPUError, step: UInt64)
    /// The trace lacks what the guest wrote to memory: record with level `client`, or fill it.
    case guestWritesMissing(RecordLevel)
    /// Events were lost before the recorder could take them.
    case eventsMissing(step: UInt64)
    /// The client made a second machine, of which the trace holds nothing.
    case secondMachine(step: UInt64)
    /// The copy that ``TraceFiller`` makes cannot be written.
    case write(TraceWriteError)
    /// Two machines are in the trace, or the backend offers none.
    case keyframeExpected(step: UInt64)
}
