// `struct nvmm_x64_state` (lineage v2): all architectural state that the API shows of a VCPU, 1008 bytes.

/// `NVMM_X64_GPR_*`: the hardware's encoding order, then RIP and RFLAGS.
public enum GPR: Int, CaseIterable, Sendable {
    case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi
    case r8, r9, r10, r11, r12, r13, r14, r15
    case rip, rflags
}

/// `NVMM_X64_CR_*`.
public enum CR: Int, CaseIterable, Sendable { case cr0, cr2, cr3, cr4, cr8, xcr0 }

/// `NVMM_X64_DR_*`.
public enum DR: Int, CaseIterable, Sendable { case dr0, dr1, dr2, dr3, dr6, dr7 }

/// `NVMM_X64_MSR_*`: the model-specific registers that are part of the state.
public enum MSR: Int, CaseIterable, Sendable {
    case efer, star, lstar, cstar, sfmask, kernelGSBase
    case sysenterCS, sysenterESP, sysenterEIP, pat, tsc
}

/// Interrupt control bits: `intr` of the state, and the low bits of ``ExitState``.
public struct InterruptState: OptionSet, Hashable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// STI or MOV SS blocks interrupts for one instruction.
    public static let shadow = InterruptState(rawValue: 1 << 0)
    /// Exit with INT_READY once an interrupt can be taken.
    public static let interruptWindowExiting = InterruptState(rawValue: 1 << 1)
    /// Exit with NMI_READY once an NMI can be taken.
    public static let nmiWindowExiting = InterruptState(rawValue: 1 << 2)
    /// An event was being delivered at the exit; the hypervisor queues it again by itself.
    public static let eventPending = InterruptState(rawValue: 1 << 3)
}

/// Parts of ``VCPUState``: `NVMM_X64_STATE_*`.
public struct StateFlags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let segments = StateFlags(rawValue: 0x01)
    public static let gprs = StateFlags(rawValue: 0x02)
    public static let crs = StateFlags(rawValue: 0x04)
    public static let drs = StateFlags(rawValue: 0x08)
    public static let msrs = StateFlags(rawValue: 0x10)
    public static let interrupt = StateFlags(rawValue: 0x20)
    public static let fpu = StateFlags(rawValue: 0x40)
    public static let all = StateFlags(rawValue: 0x7F)
}

/// Architectural state of a VCPU. Its memory layout is that of the C struct (held by `VCPUStateTests`),
/// so that it can stand in a comm page and be read as ``wordCount`` little-endian words of 64 bits.
public struct VCPUState: Sendable {
    public var segments: InlineArray<10, Segment>
    public var gprs: InlineArray<18, UInt64>
    public var crs: InlineArray<6, UInt64>
    public var drs: InlineArray<6, UInt64>
    public var msrs: InlineArray<11, UInt64>
    public var interrupt: InterruptState
    public var fpu: FXSaveArea

    /// All zero, but for what an empty FXSAVE image holds. Not the reset state: see ``reset``.
    public init() {
        segments = .init(repeating: Segment())
        gprs = .init(repeating: 0)
        crs = .init(repeating: 0)
        drs = .init(repeating: 0)
        msrs = .init(repeating: 0)
        interrupt = []
        fpu = FXSaveArea()
    }

    public subscript(register: GPR) -> UInt64 {
        get { gprs[register.rawValue] }
        set { gprs[register.rawValue] = newValue }
    }
    public subscript(register: CR) -> UInt64 {
        get { crs[register.rawValue] }
        set { crs[register.rawValue] = newValue }
    }
    public subscript(register: DR) -> UInt64 {
        get { drs[register.rawValue] }
        set { drs[register.rawValue] = newValue }
    }
    public subscript(register: MSR) -> UInt64 {
        get { msrs[register.rawValue] }
        set { msrs[register.rawValue] = newValue }
    }
    public subscript(register: SegmentRegister) -> Segment {
        get { segments[register.rawValue] }
        set { segments[register.rawValue] = newValue }
    }
}

// MARK: - The state after RESET

extension VCPUState {
    /// What a VCPU holds when it is created: the processor's RESET state as NVMM installs it.
    public static var reset: VCPUState {
        var state = VCPUState()
        let data = SegmentAttributes(rawValue: 0x93)  // present, writable data, accessed
        for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] {
            state[register] = Segment(attributes: data, limit: 0xFFFF)
        }
        state[.cs] = Segment(selector: 0xF000, attributes: data, limit: 0xFFFF, base: 0xFFFF_0000)
        let table = SegmentAttributes(rawValue: 0x82)
        state[.gdt] = Segment(attributes: table, limit: 0xFFFF)
        state[.idt] = Segment(attributes: table, limit: 0xFFFF)
        state[.ldt] = Segment(attributes: table, limit: 0xFFFF)
        state[.tr] = Segment(attributes: SegmentAttributes(rawValue: 0x83), limit: 0xFFFF)
        state[.rdx] = 0x600
        state[.rip] = 0xFFF0
        state[.rflags] = 0x2
        state[.cr0] = 0x6000_0010
        state[.xcr0] = 1
        state[.dr6] = 0xFFFF_0FF0
        state[.dr7] = 0x400
        state[.pat] = 0x0007_0406_0007_0406
        state.fpu.tagByte = 0x55
        state.fpu.zero = 0x55
        return state
    }
}

extension VCPUState {
    /// Writes a register that is used as an address or count: 16-bit addressing keeps the upper part, 32-bit clears it
    /// as every 32-bit write does.
    public mutating func setAddress(_ register: GPR, _ value: UInt64, mask: UInt64) {
        let kept = mask == 0xFFFF ? self[register] & ~mask : 0
        self[register] = kept | value & mask
    }
}

// MARK: - The state as words

extension VCPUState {
    /// Number of 64-bit words of a state: 1008 bytes.
    public static let wordCount = 126

    /// Reads the state as ``wordCount`` words in memory order; the span must not outlive the call.
    public func withWords<Result, Failure: Error>(
        _ body: (Span<UInt64>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var copy = self
        return try copy.withMutableWords { (words: inout MutableSpan<UInt64>) throws(Failure) in
            try body(words.span)
        }
    }

    /// As ``withWords(_:)``, to change words in place. Any bit pattern is a valid state.
    public mutating func withMutableWords<Result, Failure: Error>(
        _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try unsafe withUnsafeMutablePointer(to: &self) { (pointer) throws(Failure) in
            // SAFETY: the struct is 126 words of trivial integers without padding (VCPUStateTests); the
            // words are bound for the length of the call only, during which nothing else reads the struct.
            try unsafe pointer.withMemoryRebound(to: UInt64.self, capacity: Self.wordCount) { (words) throws(Failure) in
                var span = unsafe MutableSpan(_unsafeStart: words, count: Self.wordCount)
                return try body(&span)
            }
        }
    }

    /// Words that belong to `flags`, as up to seven ranges in ascending order.
    public static func wordRange(of part: StateFlags) -> Range<Int> {
        switch part {
        case .segments: 0..<20
        case .gprs: 20..<38
        case .crs: 38..<44
        case .drs: 44..<50
        case .msrs: 50..<61
        case .interrupt: 61..<62
        case .fpu: 62..<126
        default: 0..<0
        }
    }

    /// The seven single parts, in memory order.
    public static let parts: [StateFlags] = [.segments, .gprs, .crs, .drs, .msrs, .interrupt, .fpu]

    /// Their names, as `NVMM_X64_STATE_*` has them, in the same order.
    public static let partNames = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]

    /// Names of the parts in `flags`, in memory order.
    public static func names(of flags: StateFlags) -> [String] {
        zip(parts, partNames).filter { flags.contains($0.0) }.map(\.1)
    }

    /// Replaces the parts in `flags` by those of `other`.
    public mutating func copy(_ flags: StateFlags, from other: VCPUState) {
        if flags.contains(.segments) { segments = other.segments }
        if flags.contains(.gprs) { gprs = other.gprs }
        if flags.contains(.crs) { crs = other.crs }
        if flags.contains(.drs) { drs = other.drs }
        if flags.contains(.msrs) { msrs = other.msrs }
        if flags.contains(.interrupt) { interrupt = other.interrupt }
        if flags.contains(.fpu) { fpu = other.fpu }
    }
}

extension VCPUState: Equatable {
    public static func == (left: VCPUState, right: VCPUState) -> Bool {
        left.withWords { (leftWords: Span<UInt64>) in
            right.withWords { (rightWords: Span<UInt64>) in
                for index in 0..<wordCount where leftWords[index] != rightWords[index] { return false }
                return true
            }
        }
    }
}
