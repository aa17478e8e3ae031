// The events of a trace, in the order in which they happened: what Tracer logs and Replay re-executes.

public import NVMM

/// One event. Order within a trace is order in time, over all VCPUs.
public enum TraceEvent: Equatable, Sendable {
    case machine(MachineEvent)
    case memoryWrite(MemoryWrite)
    /// What the guest wrote to memory in the step before: only at level ``RecordLevel/client``.
    case guestWrite(MemoryWrite)
    case call(CallRecord)
    // Two whole states: in a box, so that events can be passed on and kept at the price of a reference.
    indirect case step(Step)
    case keyframe(Keyframe)
    /// Events that could not be recorded stood here.
    case loss(Loss)
}

/// A change of the machine between steps.
public enum MachineEvent: Hashable, Sendable {
    case createVCPU(id: UInt32)
    case destroyVCPU(id: UInt32)
    case configureVCPU(id: UInt32, VCPUConfiguration)
    /// Objects are numbered from 0 in order of creation.
    case hvaMap(object: UInt32, byteCount: Int)
    case hvaUnmap(object: UInt32)
    case gpaMap(GPARange)
    case gpaUnmap(gpa: GPA, byteCount: Int)
    case advanceClock(ticks: UInt64)
    case destroy
    /// How an exit that left its instruction unfinished was answered.
    case completion(Completion)
}

/// The data of one access of a guest to a device, where the hypervisor finishes the instruction by itself: a trace of
/// such a one holds no registers that the VMM had to put right. Stands between the step whose exit it answers and the
/// next step of its VCPU. One instruction may make several exits: REP INS, or a load and a store of one instruction.
public struct Completion: Hashable, Sendable {
    public enum Kind: UInt8, CaseIterable, Sendable {
        case portRead, portWrite, memoryRead, memoryWrite, msrRead, msrWrite
        /// The VMM refused the MSR: the guest gets #GP(0).
        case msrRefused
        public var isRead: Bool { self == .portRead || self == .memoryRead || self == .msrRead }
    }

    public var vcpu: UInt32
    public var kind: Kind
    /// Port, GPA or number of the MSR.
    public var address: UInt64
    /// Bytes of one element of ``bytes``: 1 to 8.
    public var elementBytes: UInt8
    /// Elements one after the other, as the guest reads or wrote them; of an MSR, 8 bytes.
    public var bytes: [UInt8]
    public init(vcpu: UInt32, kind: Kind, address: UInt64, elementBytes: UInt8, bytes: [UInt8]) {
        self.vcpu = vcpu
        self.kind = kind
        self.address = address
        self.elementBytes = elementBytes
        self.bytes = bytes
    }
}

/// Part of a memory object shown at a guest physical address.
public struct GPARange: Hashable, Sendable {
    public var object: UInt32
    public var offset: Int
    public var gpa: GPA
    public var byteCount: Int
    public var protection: Protection
    public init(object: UInt32, offset: Int, gpa: GPA, byteCount: Int, protection: Protection) {
        self.object = object
        self.offset = offset
        self.gpa = gpa
        self.byteCount = byteCount
        self.protection = protection
    }
}

/// Bytes that the VMM or one of its devices put into guest memory, or in an event of its own that the guest wrote.
public struct MemoryWrite: Hashable, Sendable {
    public var object: UInt32
    public var offset: Int
    public var bytes: [UInt8]
    /// Found by comparing pages, not announced through `Machine.write`: when it happened is known only to lie
    /// between the last comparison and this place.
    public var isRawStore: Bool
    public init(object: UInt32, offset: Int, bytes: [UInt8], isRawStore: Bool = false) {
        self.object = object
        self.offset = offset
        self.bytes = bytes
        self.isRawStore = isRawStore
    }
}

/// A getstate, setstate, inject or stop of the VMM.
public struct CallRecord: Hashable, Sendable {
    public enum Kind: UInt8, CaseIterable, Sendable { case getState, setState, inject, stop }
    public var vcpu: UInt32
    public var kind: Kind
    /// Parts asked for or declared; empty for inject and stop.
    public var flags: StateFlags
    public var cost: CallCost
    public init(vcpu: UInt32, kind: Kind, flags: StateFlags = [], cost: CallCost) {
        self.vcpu = vcpu
        self.kind = kind
        self.flags = flags
        self.cost = cost
    }
}

/// One run of one VCPU: what went in, what came out.
public struct Step: Equatable, Sendable {
    public var vcpu: UInt32
    public var kind: RunKind
    /// The budget that the client gave, instructions; nil for none.
    public var budget: UInt64?
    /// Parts that the run installed, with their values in ``committed``. Empty where the run returned early.
    public var commit: StateFlags
    /// Meaningful in the parts of ``commit`` only.
    public var committed: VCPUState
    /// The event that the run consumed.
    public var event: VCPUEvent?
    /// The run failed with ``VCPUError/badEvent(_:)``; exit and state are then those before the run, with the
    /// committed state installed.
    public var failed: Bool
    public var exit: VCPUExit
    /// Parts that the hypervisor left cached in the comm page.
    public var cached: StateFlags
    /// Instructions, nil where the backend does not count.
    public var retired: UInt64?
    /// The machine's clock after the run, ticks.
    public var clock: UInt64
    /// Parts of ``state`` that are known.
    public var coverage: StateFlags
    /// The VCPU after the exit.
    public var state: VCPUState
    /// Host time in the guest and, before it, in the VMM, nanoseconds; nil unless the header says that time is
    /// recorded.
    public var time: StepTime?

    public init(
        vcpu: UInt32, kind: RunKind, budget: UInt64? = nil, commit: StateFlags = [],
        committed: VCPUState = VCPUState(), event: VCPUEvent? = nil, failed: Bool = false, exit: VCPUExit,
        cached: StateFlags, retired: UInt64?, clock: UInt64, coverage: StateFlags = .all, state: VCPUState,
        time: StepTime? = nil
    ) {
        self.vcpu = vcpu
        self.kind = kind
        self.budget = budget
        self.commit = commit
        self.committed = committed
        self.event = event
        self.failed = failed
        self.exit = exit
        self.cached = cached
        self.retired = retired
        self.clock = clock
        self.coverage = coverage
        self.state = state
        self.time = time
    }
}

public struct StepTime: Hashable, Sendable {
    public var guestNanoseconds: UInt64
    public var vmmNanoseconds: UInt64
    public init(guestNanoseconds: UInt64, vmmNanoseconds: UInt64) {
        self.guestNanoseconds = guestNanoseconds
        self.vmmNanoseconds = vmmNanoseconds
    }
}

/// Everything that a replay needs to start here instead of at the beginning. Stands after the step that it follows.
public struct Keyframe: Equatable, Sendable {
    /// Steps that precede it.
    public var stepCount: UInt64
    public var clock: UInt64
    public var machinePrivateState: [UInt8]
    public var vcpus: [VCPUImage]
    public var objects: [ObjectImage]
    public var gpaRanges: [GPARange]

    public struct VCPUImage: Equatable, Sendable {
        public var id: UInt32
        public var state: VCPUState
        public var privateState: [UInt8]
        /// The comm page's words, and its copy of the state, which may differ from ``state`` where the VMM scribbled.
        public var cached: StateFlags
        public var commit: StateFlags
        public var pageState: VCPUState
        public var eventCommit: Bool
        public var event: VCPUEvent
        public var stop: Bool
        public init(
            id: UInt32, state: VCPUState, privateState: [UInt8], cached: StateFlags, commit: StateFlags,
            pageState: VCPUState, eventCommit: Bool, event: VCPUEvent, stop: Bool
        ) {
            self.id = id
            self.state = state
            self.privateState = privateState
            self.cached = cached
            self.commit = commit
            self.pageState = pageState
            self.eventCommit = eventCommit
            self.event = event
            self.stop = stop
        }

        /// A VCPU as it stands between two runs.
        public init(of vcpu: any VCPU) {
            let page = vcpu.commPage
            self.init(
                id: vcpu.id, state: vcpu.saveState(), privateState: vcpu.savePrivateState(),
                cached: page.stateCached, commit: page.stateCommit, pageState: page.state,
                eventCommit: page.eventCommit, event: page.event, stop: page.stop)
        }
    }

    /// Content of one memory object: pages that are not listed are zero.
    public struct ObjectImage: Equatable, Sendable {
        public var object: UInt32
        public var byteCount: Int
        /// Ascending by page number.
        public var pages: [PageReference]
        public init(object: UInt32, byteCount: Int, pages: [PageReference]) {
            self.object = object
            self.byteCount = byteCount
            self.pages = pages
        }
    }

    /// A page by its content's XXH3-128.
    public struct PageReference: Hashable, Sendable {
        public var page: Int
        public var content: PageHash
        public init(page: Int, content: PageHash) {
            self.page = page
            self.content = content
        }
    }

    public init(
        stepCount: UInt64, clock: UInt64, machinePrivateState: [UInt8], vcpus: [VCPUImage], objects: [ObjectImage],
        gpaRanges: [GPARange]
    ) {
        self.stepCount = stepCount
        self.clock = clock
        self.machinePrivateState = machinePrivateState
        self.vcpus = vcpus
        self.objects = objects
        self.gpaRanges = gpaRanges
    }
}

/// XXH3-128 of a page's 4,096 bytes, canonical order: `high` is the first half of the printed form.
public struct PageHash: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// Events that were dropped, never silently.
public struct Loss: Hashable, Sendable {
    public var eventCount: UInt64
    public var reason: String
    public init(eventCount: UInt64, reason: String) {
        self.eventCount = eventCount
        self.reason = reason
    }
}
