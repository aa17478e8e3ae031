// The interface between a VMM and a hypervisor, as protocols: what libnvmm's functions do, for any backend.
// Semantics: NVMM's manual libnvmm(3) and its kernel sources; Docs/determinism.md for the run budget and the clock.

/// A hypervisor, or something that behaves as one.
public protocol Backend: AnyObject {
    /// Short name for traces and messages: `soft`.
    var name: String { get }
    var capability: Capability { get }
    /// Name of the processor that guests see, with its version: `base-v1`.
    var processorModel: String { get }
    /// The complete CPUID table as a guest sees it on VCPU 0 before any configuration, ascending by leaf, then subleaf.
    var cpuidTable: [CPUIDEntry] { get }

    /// `nvmm_machine_create`.
    func createMachine() throws(MachineError) -> any Machine
}

/// ``Backend/processorModel`` of a backend whose guests run on the host's processor, whatever that is.
public let hostProcessorModel = "host"

/// One row of a CPUID table.
public struct CPUIDEntry: Hashable, Sendable {
    public var leaf: UInt32
    public var subleaf: UInt32
    public var registers: CPUIDRegisters
    public init(leaf: UInt32, subleaf: UInt32 = 0, registers: CPUIDRegisters) {
        self.leaf = leaf
        self.subleaf = subleaf
        self.registers = registers
    }
}

/// A virtual machine: memory, a clock and VCPUs.
public protocol Machine: AnyObject {
    /// `nvmm_vcpu_create`: a VCPU in the RESET state, its comm page holding that state with everything cached.
    ///
    /// - Parameter id: 0..<`capability.vcpusMax`, not in use.
    func createVCPU(id: UInt32) throws(MachineError) -> any VCPU
    /// `nvmm_vcpu_destroy`.
    func destroyVCPU(id: UInt32) throws(MachineError)

    /// `nvmm_hva_map`: a zero-filled memory object.
    ///
    /// - Parameter byteCount: a multiple of ``pageBytes``, more than 0.
    func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject
    /// As ``hvaMap(byteCount:)``, the client's mapping at an address that it chose: whatever stands there is replaced.
    /// The backend then sees the memory through a mapping of its own.
    ///
    /// - Parameter address: page-aligned, not 0.
    /// - Throws: also ``MachineError/fixedAddressUnsupported``.
    func hvaMap(byteCount: Int, at address: UInt) throws(MachineError) -> MemoryObject
    /// `nvmm_hva_unmap`. No GPA range may be linked to the object any more.
    func hvaUnmap(_ object: MemoryObject) throws(MachineError)
    /// `nvmm_gpa_map`: shows `byteCount` bytes of `object` from `offset` at `gpa`. All three are page-aligned.
    /// The range must not overlap one that is mapped. `protection` is a subset of read, write, execute.
    func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError)
    /// `nvmm_gpa_unmap`: the exact range of an earlier ``gpaMap(_:offset:gpa:byteCount:protection:)``.
    func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError)
    /// `nvmm_gpa_to_hva`: where in which object a GPA lies, with the mapping's protection.
    func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)?

    /// Stores bytes into guest memory as a device would. Logged by a tracer; ignores GPA protections.
    ///
    /// - Throws: ``MachineError/outsideObject(offset:byteCount:)``.
    func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError)
    /// As ``write(_:at:_:)``, changing the bytes in place.
    func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError)
    /// Pages of `object` that the guest wrote since the last call, ascending; forgets them.
    func takeDirtyPages(of object: MemoryObject) -> [Int]

    /// The machine's clock, in ticks of a nominal nanosecond: retired instructions of all VCPUs and advances.
    var clock: UInt64 { get }
    /// Moves the clock on: what a client does instead of waiting in HLT.
    func advanceClock(by ticks: UInt64)

    /// Lets each VCPU run in a thread of its own at the same time as the others: locked instructions and the
    /// processor's updates of page tables are then indivisible, and the order of everything else is the host's. Nothing
    /// of this can be replayed. Before the first run; not to be undone.
    ///
    /// - Returns: whether the backend does so; where it does not, runs of one machine must not overlap.
    func runVCPUsConcurrently() -> Bool

    /// Machine-wide state beyond memory that a restart needs (the clock), in the backend's own versioned form.
    func savePrivateState() -> [UInt8]
    /// - Throws: ``MachineError/privateStateRefused(_:)`` where the bytes are not of this backend and version.
    func restorePrivateState(_ bytes: [UInt8]) throws(MachineError)
}

extension Machine {
    public func runVCPUsConcurrently() -> Bool { false }

    public func hvaMap(byteCount: Int, at address: UInt) throws(MachineError) -> MemoryObject {
        throw .fixedAddressUnsupported
    }

    public func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError) {
        guard offset >= 0, offset <= object.byteCount, bytes.byteCount <= object.byteCount - offset else {
            throw .outsideObject(offset: offset, byteCount: bytes.byteCount)
        }
        try withWritable(object, offset..<offset + bytes.byteCount) { target in
            // SAFETY: both spans are `byteCount` long.
            unsafe target.withUnsafeMutableBytes { target in
                unsafe bytes.withUnsafeBytes { unsafe target.copyMemory(from: $0) }
            }
        }
    }

    /// As ``write(_:at:_:)`` with a span.
    public func write(_ object: MemoryObject, at offset: Int, _ bytes: [UInt8]) throws(MachineError) {
        try unsafe write(object, at: offset, bytes.span.bytes)
    }
}

/// A virtual processor. One thread at a time may call it; ``stop()`` may come from any.
public protocol VCPU: AnyObject {
    var id: UInt32 { get }
    var commPage: CommPage { get }

    /// `nvmm_vcpu_configure`; always a system call.
    func configure(_ configuration: VCPUConfiguration) throws(VCPUError)
    /// Fills the parts of the comm page's state that `stateWanted` names, clears it, and marks them cached.
    /// The system call below ``getState(_:)``.
    func fetchWantedState() throws(VCPUError)

    /// `nvmm_vcpu_getstate`: makes the comm page's state valid for `flags`.
    @discardableResult func getState(_ flags: StateFlags) throws(VCPUError) -> CallCost
    /// `nvmm_vcpu_setstate`: the parts in `flags`, as the comm page holds them at the next run, will be installed then.
    @discardableResult func setState(_ flags: StateFlags) -> CallCost
    /// `nvmm_vcpu_inject`: arms the event in the comm page. A later call replaces it; a bad one fails the next run.
    /// Any thread: what the next run to begin takes is what it says in ``RunResult/event``.
    @discardableResult func inject() -> CallCost
    /// `nvmm_vcpu_run`: commits, injects, enters the guest until it exits.
    ///
    /// - Parameter budget: instructions after which the run ends with ``ExitReason/none``, exactly, also in the middle
    ///   of a repeated string instruction; 0 commits and injects and executes nothing. nil: no bound.
    ///   A backend whose capability does not count instructions ignores it.
    /// - Throws: ``VCPUError/badEvent(_:)``: state is already committed, the event consumed.
    func run(budget: UInt64?) throws(VCPUError) -> RunResult
    /// `nvmm_vcpu_stop`: makes the current or the next run return soon. Any thread, async-signal-safe.
    func stop()
    /// Makes a run that has begun end with ``ExitReason/none`` soon, though not before it got on, at a place that its
    /// retired count tells. Any thread, async-signal-safe. The word in the comm page stays set until somebody clears
    /// it, which is for whoever calls ``run(budget:)`` while others may ask.
    func giveWay()

    /// Named figures of the backend, such as instructions it could not execute, by mnemonic. Ascending by name.
    func counters() -> [Counter]
    /// Bits of RFLAGS that the processor manuals leave undefined after what was executed: another processor may show
    /// them otherwise. 0 where the backend does not know.
    var undefinedFlags: UInt64 { get }
    /// RIP of the last instruction that left such bits; of no meaning where ``undefinedFlags`` is 0.
    var undefinedFlagsRIP: UInt64 { get }
    /// Instructions so far that read the time-stamp counter. 0 where the backend does not know.
    var timestampReads: UInt64 { get }
    /// RIP of the last of them.
    var timestampReadRIP: UInt64 { get }
    /// Moves each read of the time-stamp counter by another amount, which follows from this number; 0, as it is unless
    /// set, by none. With an odd number times still grow. What comes out otherwise than without depends on the counter.
    /// A backend whose ``timestampReads`` stay 0 ignores it.
    var timestampDistortion: UInt64 { get set }

    /// All architectural state, as `getState(.all)` would give it, without touching the comm page.
    func saveState() -> VCPUState
    /// As ``saveState()``, over what `state` held: what is done at each exit should not build a new one each time.
    func saveState(into state: inout VCPUState)
    /// What a restart needs beyond the architectural state: pending event, NMI blocking, windows, configuration,
    /// counters, in the backend's own versioned form.
    func savePrivateState() -> [UInt8]
    /// Puts the VCPU where ``saveState()`` and ``savePrivateState()`` found it. The comm page's state becomes `state`,
    /// all cached, nothing committed or armed.
    func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError)
}

extension VCPU {
    public func saveState(into state: inout VCPUState) { state = saveState() }
    public var undefinedFlags: UInt64 { 0 }
    public var undefinedFlagsRIP: UInt64 { 0 }
    public var timestampReads: UInt64 { 0 }
    public var timestampReadRIP: UInt64 { 0 }
    public var timestampDistortion: UInt64 {
        get { 0 }
        set {}
    }

    @discardableResult public func getState(_ flags: StateFlags) throws(VCPUError) -> CallCost {
        let missing = flags.subtracting(commPage.stateCached)
        guard !missing.isEmpty else { return .commPage }
        commPage.stateWanted = missing
        try fetchWantedState()
        return .systemCall
    }

    @discardableResult public func setState(_ flags: StateFlags) -> CallCost {
        commPage.stateCommit.formUnion(flags)
        commPage.stateCached.formUnion(flags)
        return .commPage
    }

    @discardableResult public func inject() -> CallCost {
        commPage.eventCommit = true
        return .commPage
    }

    public func stop() { commPage.stop = true }
    public func giveWay() { commPage.giveWay = true }
}

/// Whether a call was served from the comm page or would cost a system call under NVMM's ABI.
public enum CallCost: UInt8, Hashable, Sendable { case commPage, systemCall }

/// Whether a run entered the guest. One that did not consumed nothing: commit words and event stay armed.
public enum RunKind: UInt8, Hashable, Sendable { case entered, returnedEarly }

/// What a run gives back.
public struct RunResult: Hashable, Sendable {
    public var exit: VCPUExit
    public var kind: RunKind
    /// Instructions retired in this run: each REP iteration counts one, an instruction that faults or exits does not,
    /// HLT and a TPR-changing MOV do, delivery of an event counts nothing. nil where the backend cannot count.
    public var retired: UInt64?
    /// The event that the run took from the comm page. Another thread may arm one at any time, so that who looked at
    /// the page before cannot know.
    public var event: VCPUEvent?
    public init(exit: VCPUExit, kind: RunKind = .entered, retired: UInt64?, event: VCPUEvent? = nil) {
        self.exit = exit
        self.kind = kind
        self.retired = retired
        self.event = event
    }
}

/// A named figure of a backend.
public struct Counter: Hashable, Sendable {
    public var name: String
    public var value: UInt64
    public init(name: String, value: UInt64) {
        self.name = name
        self.value = value
    }
}

/// Failures of machine calls. In brackets, what libnvmm's errno would be.
public enum MachineError: Error, Equatable, Sendable {
    /// Not page-aligned, or empty (EINVAL).
    case misaligned(value: UInt64)
    /// Overlaps a GPA range that is mapped (EINVAL).
    case overlaps(gpa: GPA, byteCount: Int)
    /// Above the largest guest physical address (EINVAL).
    case beyondAddressSpace(gpa: GPA, byteCount: Int)
    /// Reaches outside the memory object (EINVAL).
    case outsideObject(offset: Int, byteCount: Int)
    /// No such GPA range, object or VCPU (ENOENT).
    case noSuchRange(gpa: GPA, byteCount: Int)
    case noSuchObject(ordinal: UInt32)
    case noSuchVCPU(id: UInt32)
    /// The object is still linked to a GPA range (EBUSY).
    case objectInUse(ordinal: UInt32)
    /// A VCPU of this number exists (EBUSY) or the number is too large (EINVAL).
    case vcpuExists(id: UInt32)
    case vcpuOutOfRange(id: UInt32)
    /// More objects or machines than the backend has room for (ENOBUFS).
    case tooMany(limit: Int)
    /// The host gave no memory (ENOMEM).
    case outOfMemory(byteCount: Int)
    /// The backend cannot put the client's mapping where the client wants it (ENOTSUP).
    case fixedAddressUnsupported
    /// The private state is of another backend or version, or damaged.
    case privateStateRefused(String)
    /// A call of the host's hypervisor failed that should not (the host's own error number).
    case hostRefused(call: String, errno: Int32)
}

/// Failures of VCPU calls. In brackets, what libnvmm's errno would be.
public enum VCPUError: Error, Equatable, Sendable {
    /// The event that was armed is none the processor knows (EINVAL).
    case badEvent(VCPUEvent)
    /// More CPUID rules than ``Capability/cpuidEntriesMax`` (ENOBUFS).
    case tooManyCPUIDRules(limit: Int)
    /// `set` and `delete` name the same bit (EINVAL).
    case contradictoryCPUIDMask(leaf: UInt32)
    case unsupportedConfiguration
    case destroyed
    /// The backend answers from a recording, and the client did not do as recorded (ECANCELED).
    case notAsRecorded
    case privateStateRefused(String)
    /// A call of the host's hypervisor failed that should not (the host's own error number).
    case hostRefused(call: String, errno: Int32)
}
