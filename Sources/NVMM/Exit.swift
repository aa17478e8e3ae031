// What ends a run: `struct nvmm_x86_exit`, `NVMM_VCPU_EXIT_*`, and the exit state that comes with each.

/// Why a VCPU stopped running guest code, with what the VMM needs to go on.
///
/// `npc` is the RIP of the next instruction; for exits that carry it, RIP itself still points at the instruction.
public enum ExitReason: Hashable, Sendable {
    /// A host interrupt, or the run budget was used up: run again.
    case none
    /// The guest touched a GPA that is not mapped with the needed permission.
    case memory(MemoryExit)
    case io(IOExit)
    /// Triple fault.
    case shutdown
    /// The interrupt window that was armed is open; it is disarmed.
    case interruptReady
    case nmiReady
    /// HLT; RIP has already advanced.
    case halted
    /// MOV to CR8 with TPR exits on; RIP has already advanced.
    case tprChanged
    case readMSR(MSRReadExit)
    case writeMSR(MSRWriteExit)
    case monitor(npc: UInt64)
    case mwait(npc: UInt64)
    /// A CPUID leaf that was configured to exit; registers already hold the default result.
    case cpuid(npc: UInt64)
    /// `stop` was seen before the guest was entered; the flag is cleared.
    case stopped
    /// Anything the hypervisor could not handle. `hardwareCode` is its own exit code.
    case invalid(hardwareCode: UInt64)

    /// `NVMM_VCPU_EXIT_*`.
    public var code: UInt64 {
        switch self {
        case .none: 0x0
        case .memory: 0x1
        case .io: 0x2
        case .shutdown: 0x1000
        case .interruptReady: 0x1001
        case .nmiReady: 0x1002
        case .halted: 0x1003
        case .tprChanged: 0x1004
        case .readMSR: 0x2000
        case .writeMSR: 0x2001
        case .monitor: 0x2002
        case .mwait: 0x2003
        case .cpuid: 0x2004
        case .stopped: 0xFFFF_FFFF_FFFF_FFFE
        case .invalid: 0xFFFF_FFFF_FFFF_FFFF
        }
    }

    /// The name without its prefix, as NVMM spells it: `IO`, `INT_READY`.
    public var name: String { Self.name(ofCode: code) ?? "INVALID" }

    /// Every reason's code and name, in ascending order of codes.
    public static let names: [(code: UInt64, name: String)] = [
        (0x0, "NONE"), (0x1, "MEMORY"), (0x2, "IO"), (0x1000, "SHUTDOWN"), (0x1001, "INT_READY"),
        (0x1002, "NMI_READY"), (0x1003, "HALTED"), (0x1004, "TPR_CHANGED"), (0x2000, "RDMSR"),
        (0x2001, "WRMSR"), (0x2002, "MONITOR"), (0x2003, "MWAIT"), (0x2004, "CPUID"),
        (0xFFFF_FFFF_FFFF_FFFE, "STOPPED"), (0xFFFF_FFFF_FFFF_FFFF, "INVALID"),
    ]

    public static func name(ofCode code: UInt64) -> String? { names.first { $0.code == code }?.name }

    /// RIP of the next instruction, where the exit carries it.
    public var npc: UInt64? {
        switch self {
        case .io(let exit): exit.npc
        case .readMSR(let exit): exit.npc
        case .writeMSR(let exit): exit.npc
        case .monitor(let npc), .mwait(let npc), .cpuid(let npc): npc
        default: nil
        }
    }

    /// Parts of the state that the hypervisor puts into the comm page unasked (`nvmm_x86_*.c`, "speculative caching").
    public var providedState: StateFlags {
        switch self {
        case .io, .memory: [.gprs, .segments, .crs, .msrs]
        case .readMSR, .writeMSR: .gprs
        default: []
        }
    }
}

/// Payload of ``ExitReason/memory(_:)``.
public struct MemoryExit: Hashable, Sendable {
    /// Exactly one of read, write, execute: what the guest tried.
    public var access: Protection
    /// Faulting byte, not page.
    public var gpa: GPA
    /// The instruction's bytes; empty where the hypervisor does not give them.
    public var instruction: InstructionBytes

    public init(access: Protection, gpa: GPA, instruction: InstructionBytes = InstructionBytes()) {
        self.access = access
        self.gpa = gpa
        self.instruction = instruction
    }
}

/// Up to 15 bytes of machine code.
public struct InstructionBytes: Hashable, Sendable {
    /// 0...15.
    public private(set) var count: UInt8 = 0
    /// Bytes 0 to 7 and 8 to 14, little-endian; zero past `count`.
    public private(set) var low: UInt64 = 0
    public private(set) var high: UInt64 = 0

    public init() {}

    /// - Parameter bytes: at most the first 15 are taken.
    public init(_ bytes: some Sequence<UInt8>) {
        for byte in bytes.prefix(15) { append(byte) }
    }

    /// From words as a trace holds them; bits past `count` are cleared, `count` is cut to 15.
    public init(count: UInt8, low: UInt64, high: UInt64) {
        self.count = min(count, 15)
        self.low = self.count >= 8 ? low : low & ((1 << (UInt64(self.count) * 8)) - 1)
        self.high = self.count <= 8 ? 0 : high & ((1 << (UInt64(self.count - 8) * 8)) - 1)
    }

    /// A sixteenth byte is dropped: no instruction is longer than 15.
    public mutating func append(_ byte: UInt8) {
        guard count < 15 else { return }
        if count < 8 {
            low |= UInt64(byte) << (UInt64(count) * 8)
        } else {
            high |= UInt64(byte) << (UInt64(count - 8) * 8)
        }
        count += 1
    }

    public var bytes: [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(Int(count))
        for index in 0..<UInt64(count) {
            let word = index < 8 ? low : high
            result.append(UInt8(truncatingIfNeeded: word >> (index % 8 * 8)))
        }
        return result
    }
}

/// Payload of ``ExitReason/io(_:)``: one IN, OUT, INS or OUTS.
public struct IOExit: Hashable, Sendable {
    public var isInput: Bool
    public var port: UInt16
    /// Segment of a string operation's memory operand (ES to GS), or nil where the hypervisor does not say.
    public var segment: SegmentRegister?
    /// Bytes of an address: 2, 4 or 8.
    public var addressBytes: UInt8
    /// Bytes of the operand: 1, 2 or 4.
    public var operandBytes: UInt8
    public var isRepeated: Bool
    public var isString: Bool
    public var npc: UInt64

    public init(
        isInput: Bool, port: UInt16, segment: SegmentRegister? = nil, addressBytes: UInt8, operandBytes: UInt8,
        isRepeated: Bool = false, isString: Bool = false, npc: UInt64
    ) {
        self.isInput = isInput
        self.port = port
        self.segment = segment
        self.addressBytes = addressBytes
        self.operandBytes = operandBytes
        self.isRepeated = isRepeated
        self.isString = isString
        self.npc = npc
    }
}

extension IOExit {
    /// The bits of an address register and of the count that a string operation uses.
    public var addressMask: UInt64 { addressBytes == 2 ? 0xFFFF : addressBytes == 4 ? 0xFFFF_FFFF : .max }
}

/// Payload of ``ExitReason/readMSR(_:)``.
public struct MSRReadExit: Hashable, Sendable {
    public var msr: UInt32
    public var npc: UInt64
    public init(msr: UInt32, npc: UInt64) {
        self.msr = msr
        self.npc = npc
    }
}

/// Payload of ``ExitReason/writeMSR(_:)``.
public struct MSRWriteExit: Hashable, Sendable {
    public var msr: UInt32
    /// EDX:EAX.
    public var value: UInt64
    public var npc: UInt64
    public init(msr: UInt32, value: UInt64, npc: UInt64) {
        self.msr = msr
        self.value = value
        self.npc = npc
    }
}

/// State that comes with every exit, so that the common checks need no further call: `exitstate`.
public struct ExitState: Hashable, Sendable {
    public var rflags: UInt64
    /// Task priority, 0...15.
    public var cr8: UInt64
    public var interrupt: InterruptState
    public init(rflags: UInt64 = 0, cr8: UInt64 = 0, interrupt: InterruptState = []) {
        self.rflags = rflags
        self.cr8 = cr8
        self.interrupt = interrupt
    }
}

/// One exit: reason with payload, and exit state.
public struct VCPUExit: Hashable, Sendable {
    public var reason: ExitReason
    public var state: ExitState
    public init(reason: ExitReason = .none, state: ExitState = ExitState()) {
        self.reason = reason
        self.state = state
    }
}
