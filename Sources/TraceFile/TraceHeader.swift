// What stands at the head of a trace: who recorded it, on what, and at which level.

public import NVMM

/// How much of a run a trace holds: Docs/determinism.md, "Record levels".
public enum RecordLevel: UInt8, CaseIterable, Sendable {
    /// Exits, registers, events and commits: statistics and comparison.
    case exits
    /// Also the VMM's writes to memory and keyframes: deterministic replay.
    case replay
    /// Also what the guest wrote to memory in each step: replay into the VMM, with no processor at all.
    case client
}

/// The recording's circumstances. Holds no host name, path, address or time: two recordings of one run are the same
/// bytes.
public struct TraceHeader: Equatable, Sendable {
    /// Program and version that recorded, such as `tracectl 0.1.0`.
    public var tool: String
    public var backendName: String
    public var capability: Capability
    public var processorModel: String
    /// CPUID as a guest sees it before configuration.
    public var cpuidTable: [CPUIDEntry]
    public var level: RecordLevel
    /// What the recorder hid from the VMM or changed for it, one phrase each; empty on the soft backend.
    public var hidden: [String]
    /// Scheduler and keyframe parameters and the like, in the client's words, ascending by key.
    public var parameters: [Parameter]
    /// Whether steps carry host time.
    public var recordsTime: Bool

    public struct Parameter: Hashable, Sendable {
        /// Key of the instructions after which a library lets others that wait come first inside a run of its client:
        /// steps that end with NONE are such slices, and no runs of the client's, but for those that a signal ended.
        public static let sliceInstructions = "slice-instructions"
        /// Key of how many steps of the recording precede the trace's first: a flight recorder kept the newest part.
        public static let firstStep = "first-step"
        /// Key of the ``CommPagePolicy`` where that was not NVMM's own, as its text.
        public static let commPage = "comm-page"
        /// Beginning of the keys that name an MSR by eight hexadecimal digits: what the recording's hypervisor answered
        /// by itself at first, in hexadecimal.
        public static let msrPrefix = "msr-"
        /// Then a capability in four decimal digits; the value is what KVM_CHECK_EXTENSION said of it, in decimal.
        public static let extensionPrefix = "extension-"
        /// Key of AF as shifts leave it on the recording's processor: 0 or 1.
        public static let auxiliaryAfterShift = "af-after-shift"
        /// Key of whether the recording's hypervisor finishes the instruction that exited by itself, at the next entry:
        /// 1, or left out.
        public static let finishesInstructions = "finishes-instructions"

        public var key: String
        public var value: String
        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    /// The processor model of a recording that was made from outside of a hypervisor: whatever its host offers.
    public static let hostProcessor = hostProcessorModel

    /// The backend's name in traces of clients of /dev/kvm.
    public static let kvm = "kvm"

    /// Whether it was: the trace then says neither what the guest's CPUID shows nor what only the hypervisor knows.
    public var isOfHypervisor: Bool { processorModel == Self.hostProcessor }

    /// What exits left in the comm page of the recording's backend.
    public var commPagePolicy: CommPagePolicy {
        parameters.first { $0.key == Parameter.commPage }.flatMap { CommPagePolicy($0.value) } ?? .nvmm
    }

    /// Whether shifts set AF, which no manual says, on the recording's processor.
    public var setsAuxiliaryByShifts: Bool {
        parameters.contains { $0.key == Parameter.auxiliaryAfterShift && $0.value == "1" }
    }

    /// Whether the trace was recorded between a client and KVM itself: exits are KVM's, in the middle of instructions.
    public var finishesInstructions: Bool {
        isOfHypervisor && backendName == Self.kvm
            && parameters.contains { $0.key == Parameter.finishesInstructions && $0.value == "1" }
    }

    /// What the hypervisor answered to RDMSR by itself when the recording began; nil where MSRs are the VMM's.
    public var hypervisorMSRs: [UInt32: UInt64]? {
        guard finishesInstructions else { return nil }
        var result: [UInt32: UInt64] = [:]
        for parameter in parameters where parameter.key.hasPrefix(Parameter.msrPrefix) {
            guard let msr = UInt32(parameter.key.dropFirst(Parameter.msrPrefix.count), radix: 16),
                parameter.value.hasPrefix("0x"), let value = UInt64(parameter.value.dropFirst(2), radix: 16)
            else { continue }
            result[msr] = value
        }
        return result
    }

    public init(
        tool: String, backendName: String, capability: Capability, processorModel: String, cpuidTable: [CPUIDEntry],
        level: RecordLevel, hidden: [String] = [], parameters: [Parameter] = [], recordsTime: Bool = false
    ) {
        self.tool = tool
        self.backendName = backendName
        self.capability = capability
        self.processorModel = processorModel
        self.cpuidTable = cpuidTable
        self.level = level
        self.hidden = hidden
        self.parameters = parameters
        self.recordsTime = recordsTime
    }
}
