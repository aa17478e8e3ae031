// What an assist hands to the VMM's devices: `struct nvmm_io` and `struct nvmm_mem` of `<nvmm.h>`.

public import NVMM

/// One access of a guest to an I/O port.
public struct IOAccess: Hashable, Sendable {
    /// The VCPU that made it.
    public let vcpu: UInt32
    public let port: UInt16
    public let isInput: Bool
    /// 1, 2 or 4.
    public let byteCount: Int
    /// The data, in the low `byteCount` bytes: given for OUT, to be set for IN (all ones if nobody answers).
    public var value: UInt32

    public init(vcpu: UInt32, port: UInt16, isInput: Bool, byteCount: Int, value: UInt32) {
        self.vcpu = vcpu
        self.port = port
        self.isInput = isInput
        self.byteCount = byteCount
        self.value = value
    }
}

/// One access of a guest to a guest physical address that is not open memory.
public struct MemoryAccess: Hashable, Sendable {
    /// The VCPU that made it.
    public let vcpu: UInt32
    public let gpa: GPA
    public let isWrite: Bool
    /// 1 to 8; never crosses a page.
    public let byteCount: Int
    /// The data, in the low `byteCount` bytes: given for a store, to be set for a load (all ones if nobody answers).
    public var value: UInt64

    public init(vcpu: UInt32, gpa: GPA, isWrite: Bool, byteCount: Int, value: UInt64) {
        self.vcpu = vcpu
        self.gpa = gpa
        self.isWrite = isWrite
        self.byteCount = byteCount
        self.value = value
    }
}

/// The devices behind an assist: `struct nvmm_assist_callbacks`.
public protocol AssistCallbacks: AnyObject {
    /// One element of an IN, OUT, INS or OUTS.
    func access(_ io: inout IOAccess)
    /// One load or store that guest memory does not serve.
    func access(_ memory: inout MemoryAccess)
    /// Whether an access could not be answered: asked before the instruction changes anything, which it then does not.
    var lacksAnswer: Bool { get }
}

extension AssistCallbacks {
    public var lacksAnswer: Bool { false }
}

/// Why an assist could not complete an instruction. Registers are unchanged.
public enum AssistError: Error, Equatable, Sendable {
    /// The guest's page tables do not allow the access: what a processor would answer with #PF.
    /// Error code as SDM vol. 3, section 4.7 has it.
    case pageFault(address: GVA, errorCode: UInt64)
    /// Outside the segment's limit: what a processor would answer with #GP(0), with #SS(0) for SS.
    case segmentViolation(SegmentRegister, offset: UInt64)
    /// Another exception that a processor would raise, with the error code of those that have one.
    case exception(vector: UInt8, errorCode: UInt64?)
    /// A paging structure lies outside guest memory.
    case pageTableOutsideMemory(GPA)
    /// No instruction of the processor.
    case undecodable(rip: UInt64, bytes: InstructionBytes)
    /// An instruction that the assist does not emulate; `mnemonic` as Zydis spells it.
    case unsupported(rip: UInt64, mnemonic: String, bytes: InstructionBytes)
    /// ``AssistCallbacks/lacksAnswer``: the instruction is not done.
    case unanswered
    case vcpu(VCPUError)
    case machine(MachineError)
}
