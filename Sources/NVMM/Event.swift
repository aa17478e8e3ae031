// Events that a VMM injects: `struct nvmm_x86_event` (16 bytes in the comm page).

/// An interrupt or exception for the guest, delivered at the next run after the committed state is installed.
public struct VCPUEvent: Hashable, Sendable {
    /// `NVMM_VCPU_EVENT_*`. A client's mistake may put any other value into the comm page; the run then fails.
    public struct Kind: RawRepresentable, Hashable, Sendable {
        public var rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let exception = Kind(rawValue: 0)
        /// A hardware interrupt; with vector 2, an NMI.
        public static let interrupt = Kind(rawValue: 1)
    }

    public var kind: Kind
    public var vector: UInt8
    /// Used with the exceptions that push one (8, 10 to 14, 17, 21, 30), ignored otherwise.
    public var errorCode: UInt64

    public init(kind: Kind, vector: UInt8, errorCode: UInt64 = 0) {
        self.kind = kind
        self.vector = vector
        self.errorCode = errorCode
    }

    /// Whether a run accepts it (checked there, not at inject): any hardware interrupt; exceptions 0 to 31 but not
    /// 0, 2 and 3, as `nvmm_x86_svm.c` has it.
    public var isValid: Bool {
        switch kind {
        case .interrupt: true
        case .exception: vector < 32 && vector != 0 && vector != 2 && vector != 3
        default: false
        }
    }
}
