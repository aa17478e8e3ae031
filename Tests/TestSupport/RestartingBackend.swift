// A backend that forgets everything after each instruction: what a run does must follow from the saved state alone.

public import NVMM

/// Wraps a backend so that every instruction runs on a VCPU that was created for it and given the state that the one
/// before it saved. A client that sees any difference has found state that saving leaves out.
public final class RestartingBackend: Backend {
    private let inner: any Backend
    public init(_ inner: any Backend) { self.inner = inner }

    public var name: String { inner.name }
    public var capability: Capability { inner.capability }
    public var processorModel: String { inner.processorModel }
    public var cpuidTable: [CPUIDEntry] { inner.cpuidTable }
    public func createMachine() throws(MachineError) -> any Machine { RestartingMachine(try inner.createMachine()) }
}

private final class RestartingMachine: Machine {
    let inner: any Machine
    init(_ inner: any Machine) { self.inner = inner }

    func createVCPU(id: UInt32) throws(MachineError) -> any VCPU { RestartingVCPU(try inner.createVCPU(id: id), inner) }
    func destroyVCPU(id: UInt32) throws(MachineError) { try inner.destroyVCPU(id: id) }
    func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject { try inner.hvaMap(byteCount: byteCount) }
    func hvaUnmap(_ object: MemoryObject) throws(MachineError) { try inner.hvaUnmap(object) }
    func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        try inner.gpaMap(object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
    }
    func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) { try inner.gpaUnmap(gpa: gpa, byteCount: byteCount) }
    func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? { inner.gpaToHVA(gpa) }
    func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError) {
        try inner.write(object, at: offset, bytes)
    }
    func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError) {
        try inner.withWritable(object, range, body)
    }
    func takeDirtyPages(of object: MemoryObject) -> [Int] { inner.takeDirtyPages(of: object) }
    var clock: UInt64 { inner.clock }
    func advanceClock(by ticks: UInt64) { inner.advanceClock(by: ticks) }
    func savePrivateState() -> [UInt8] { inner.savePrivateState() }
    func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) { try inner.restorePrivateState(bytes) }
}

private final class RestartingVCPU: VCPU {
    private var inner: any VCPU
    private let machine: any Machine
    /// The client's page stays the same object while the VCPUs below come and go.
    let commPage = CommPage()

    init(_ inner: any VCPU, _ machine: any Machine) {
        self.inner = inner
        self.machine = machine
        commPage.copy(from: inner.commPage)
    }

    var id: UInt32 { inner.id }
    func configure(_ configuration: VCPUConfiguration) throws(VCPUError) { try inner.configure(configuration) }

    func fetchWantedState() throws(VCPUError) {
        inner.commPage.copy(from: commPage)
        try inner.fetchWantedState()
        commPage.copy(from: inner.commPage)
    }

    func run(budget: UInt64?) throws(VCPUError) -> RunResult {
        var retired: UInt64 = 0
        var event: VCPUEvent?
        while true {
            inner.commPage.copy(from: commPage)
            let left = (budget ?? .max) - retired
            var result: RunResult
            do {
                result = try inner.run(budget: min(left, 1))
            } catch {
                commPage.copy(from: inner.commPage)
                throw error
            }
            commPage.copy(from: inner.commPage)
            retired += result.retired ?? 0
            result.retired = retired
            event = event ?? result.event
            result.event = event
            if result.kind == .returnedEarly || result.exit.reason != .none || retired >= budget ?? .max {
                return result
            }
            try startAnew()
        }
    }

    /// Replaces the VCPU by a new one in the saved state.
    private func startAnew() throws(VCPUError) {
        let state = inner.saveState()
        let privateState = inner.savePrivateState()
        do {
            try machine.destroyVCPU(id: inner.id)
            inner = try machine.createVCPU(id: inner.id)
        } catch {
            throw .destroyed
        }
        try inner.restore(state, privateState: privateState)
    }

    func counters() -> [Counter] { inner.counters() }
    func saveState() -> VCPUState { inner.saveState() }
    func savePrivateState() -> [UInt8] { inner.savePrivateState() }
    func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
        try inner.restore(state, privateState: privateState)
        commPage.copy(from: inner.commPage)
    }
}
