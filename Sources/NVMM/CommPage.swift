// The comm page: one page of memory shared by VMM and hypervisor, in the layout of `struct nvmm_comm_page`
// (lineage v2). Most state changes hands through it without a system call.

import Synchronization

/// The page between a VMM and the hypervisor below, for one VCPU.
///
/// ```
///    0  state_wanted   parts the hypervisor is asked to fill (or to install)
///    8  state_cached   parts of `state` that are known equal to the VCPU
///   16  state_commit   parts to install at the next run
///   32  state          struct nvmm_x64_state, 1008 bytes
/// 1040  event_commit   an event is armed
/// 1048  event          struct nvmm_x86_event, 16 bytes
/// 1064  stop           ask the next run to return at once
/// 1088  give_way       behind the structure: somebody waits for the machine
/// ```
///
/// `stop` and `give_way` may be set from any thread and from a signal handler, `event` and `event_commit` from any
/// thread; everything else belongs to the thread that runs the VCPU.
@safe public final class CommPage: @unchecked Sendable {
    /// Start of the page, for those that hand it out through a C ABI. Valid as long as this object.
    public let address: UnsafeMutableRawPointer
    private let state_: UnsafeMutablePointer<VCPUState>
    private let stop_: UnsafeMutablePointer<Atomic<Int32>>
    private let giveWay_: UnsafeMutablePointer<Atomic<Int32>>

    static let stateOffset = 32
    static let eventCommitOffset = 1040
    static let eventOffset = 1048
    static let stopOffset = 1064
    // A cache line of its own: a running VCPU looks at it again and again.
    static let giveWayOffset = 1088

    public init() {
        // SAFETY: one allocation of a page, zeroed, freed in deinit only; every typed pointer below is bound
        // once and stands at the offsets above, which do not overlap.
        unsafe address = .allocate(byteCount: pageBytes, alignment: pageBytes)
        unsafe address.initializeMemory(as: UInt8.self, repeating: 0, count: pageBytes)
        unsafe state_ = (address + Self.stateOffset).initializeMemory(as: VCPUState.self, to: VCPUState())
        unsafe stop_ = (address + Self.stopOffset).bindMemory(to: Atomic<Int32>.self, capacity: 1)
        unsafe stop_.initialize(to: Atomic(0))
        unsafe giveWay_ = (address + Self.giveWayOffset).bindMemory(to: Atomic<Int32>.self, capacity: 1)
        unsafe giveWay_.initialize(to: Atomic(0))
    }

    deinit { unsafe address.deallocate() }

    /// Takes over what `other` holds for the next run, and of the state.
    public func copy(from other: CommPage) {
        stateWanted = other.stateWanted
        stateCached = other.stateCached
        stateCommit = other.stateCommit
        state = other.state
        eventCommit = other.eventCommit
        event = other.event
        stop = other.stop
    }

    public var stateWanted: StateFlags {
        get { StateFlags(rawValue: load(0)) }
        set { store(newValue.rawValue, 0) }
    }
    public var stateCached: StateFlags {
        get { StateFlags(rawValue: load(8)) }
        set { store(newValue.rawValue, 8) }
    }
    public var stateCommit: StateFlags {
        get { StateFlags(rawValue: load(16)) }
        set { store(newValue.rawValue, 16) }
    }

    /// The state as the page holds it: equal to the VCPU's in the parts that ``stateCached`` names.
    public var state: VCPUState {
        _read { yield unsafe state_.pointee }
        _modify { yield unsafe &state_.pointee }
    }

    /// As after ``VCPU/restore(_:privateState:)``: `state` is the VCPU's, and nothing is armed.
    public func restart(with state: VCPUState) {
        self.state = state
        stateCached = .all
        stateCommit = []
        stateWanted = []
        eventCommit = false
        stop = false
    }

    public var eventCommit: Bool {
        get { unsafe address.load(fromByteOffset: Self.eventCommitOffset, as: UInt8.self) != 0 }
        set { unsafe address.storeBytes(of: newValue ? 1 : 0, toByteOffset: Self.eventCommitOffset, as: UInt8.self) }
    }
    /// Whether an event is armed, which is then armed no longer. One that another thread arms meanwhile either is the
    /// one that is taken, or stays armed.
    public func takeEventCommit() -> Bool {
        let place = unsafe (address + Self.eventCommitOffset).assumingMemoryBound(to: Atomic<UInt8>.self)
        return unsafe place.pointee.exchange(0, ordering: .sequentiallyConsistent) != 0
    }

    public var event: VCPUEvent {
        get {
            VCPUEvent(
                kind: .init(rawValue: unsafe address.load(fromByteOffset: Self.eventOffset, as: UInt32.self)),
                vector: unsafe address.load(fromByteOffset: Self.eventOffset + 4, as: UInt8.self),
                errorCode: load(Self.eventOffset + 8))
        }
        set {
            unsafe address.storeBytes(of: newValue.kind.rawValue, toByteOffset: Self.eventOffset, as: UInt32.self)
            unsafe address.storeBytes(of: newValue.vector, toByteOffset: Self.eventOffset + 4, as: UInt8.self)
            store(newValue.errorCode, Self.eventOffset + 8)
        }
    }

    /// Whether the next run must return at once. Set from any thread.
    public var stop: Bool {
        get { unsafe stop_.pointee.load(ordering: .acquiring) != 0 }
        set { unsafe stop_.pointee.store(newValue ? 1 : 0, ordering: .releasing) }
    }

    /// Where ``giveWay`` stands, for a signal handler in C.
    public var giveWayAddress: UnsafeMutableRawPointer { unsafe address + Self.giveWayOffset }

    /// Whether a run that has begun must end soon, with `none`: ``VCPU/giveWay()``.
    public var giveWay: Bool {
        get { unsafe giveWay_.pointee.load(ordering: .acquiring) != 0 }
        // Sequentially consistent: who clears it and then finds no event armed must not miss the request of a thread
        // that arms one and then sets it.
        set { unsafe _ = giveWay_.pointee.exchange(newValue ? 1 : 0, ordering: .sequentiallyConsistent) }
    }

    private func load(_ offset: Int) -> UInt64 { unsafe address.load(fromByteOffset: offset, as: UInt64.self) }
    private func store(_ value: UInt64, _ offset: Int) {
        unsafe address.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
    }
}
