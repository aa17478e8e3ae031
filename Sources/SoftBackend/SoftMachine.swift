// One virtual machine of the embedded backend: memory, clock and VCPUs.

import NVMM
import Synchronization

final class SoftMachine: Machine {
    let memory = GuestMemory()
    let code = CodeCache()
    let model: ProcessorModel
    private let vcpusMax: UInt32
    private(set) var vcpusByID: [UInt32: SoftVCPU] = [:]
    private let clock_ = Atomic<UInt64>(0)
    /// Runs of all VCPUs that entered the guest.
    private let runCount = Atomic<UInt64>(0)
    let gate = RunGate()
    private(set) var isConcurrent = false
    private let fault: InjectedFault
    private let faultFromRun: UInt64

    let providing: CommPagePolicy
    let translation: CodeTranslation

    init(
        model: ProcessorModel, providing: CommPagePolicy, translation: CodeTranslation, vcpusMax: UInt32,
        fault: InjectedFault, faultFromRun: UInt64
    ) {
        self.providing = providing
        self.translation = translation
        self.model = model
        self.vcpusMax = vcpusMax
        self.fault = fault
        self.faultFromRun = faultFromRun
    }

    // MARK: VCPUs

    func createVCPU(id: UInt32) throws(MachineError) -> any VCPU {
        guard id < vcpusMax else { throw .vcpuOutOfRange(id: id) }
        guard vcpusByID[id] == nil else { throw .vcpuExists(id: id) }
        let vcpu = SoftVCPU(id: id, machine: self)
        vcpu.isConcurrent = isConcurrent
        vcpusByID[id] = vcpu
        return vcpu
    }

    func destroyVCPU(id: UInt32) throws(MachineError) {
        guard let vcpu = vcpusByID.removeValue(forKey: id) else { throw .noSuchVCPU(id: id) }
        vcpu.isDestroyed = true
    }

    func runVCPUsConcurrently() -> Bool {
        isConcurrent = true
        for vcpu in vcpusByID.values { vcpu.isConcurrent = true }
        return true
    }

    /// Calls `body` while no VCPU runs, where they run whenever they like.
    private func whileNobodyRuns<Value, Failure: Error>(
        _ body: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        isConcurrent ? try gate.exclusively(body) : try body()
    }

    /// Accounts for a run that entered the guest.
    func didRun(retired: UInt64) {
        clock_.wrappingAdd(retired, ordering: .relaxed)
        runCount.wrappingAdd(1, ordering: .relaxed)
    }

    /// The deliberate error that the next run computes with.
    var faultInForce: InjectedFault { runCount.load(ordering: .relaxed) >= faultFromRun ? fault : .none }

    // MARK: Memory

    func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject { try memory.createObject(byteCount: byteCount) }
    func hvaMap(byteCount: Int, at address: UInt) throws(MachineError) -> MemoryObject {
        try memory.createObject(byteCount: byteCount, clientAddress: address)
    }
    func hvaUnmap(_ object: MemoryObject) throws(MachineError) {
        // Blocks know pages by address, and the next object may get the same ones.
        try whileNobodyRuns { () throws(MachineError) in
            code.removeAll()
            try memory.destroyObject(object)
        }
    }

    /// For a VCPU that is in no run and found no room.
    func forgetCode() { whileNobodyRuns { code.removeAll() } }

    func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        try whileNobodyRuns { () throws(MachineError) in
            try memory.map(object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        }
    }
    func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) {
        try whileNobodyRuns { () throws(MachineError) in try memory.unmap(gpa: gpa, byteCount: byteCount) }
    }

    func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? {
        guard let place = memory.range(containing: gpa.rawValue) else { return nil }
        let range = memory.ranges[place]
        return (range.backing.object, Int(range.offset + (gpa.rawValue - range.gpa)), range.protection)
    }

    func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError) {
        let backing = try memory.backing(of: object)
        guard range.lowerBound >= 0, range.upperBound <= object.byteCount else {
            throw .outsideObject(offset: range.lowerBound, byteCount: range.count)
        }
        let pages = backing.pages(of: range)
        for page in pages { backing.preserve(page) }
        // SAFETY: the range lies in the object, which outlives the call. Code that was decoded from these bytes is
        // compared again before the next run uses it. The backend's own mapping: the client's may be watched.
        let buffer = unsafe UnsafeMutableRawBufferPointer(
            start: HostAddress(backing.host).mutableBytes + range.lowerBound, count: range.count)
        var span = unsafe MutableRawSpan(_unsafeBytes: buffer)
        body(&span)
        if backing.holdCode(pages) { code.beginRun() }
    }

    func takeDirtyPages(of object: MemoryObject) -> [Int] {
        guard let backing = try? memory.backing(of: object) else { return [] }
        return whileNobodyRuns {
            // Pages become clean: the TLB must not let stores pass unseen.
            memory.makeStale()
            return backing.takeDirtyPages()
        }
    }

    // MARK: Clock and state

    var clock: UInt64 { clock_.load(ordering: .relaxed) }
    func advanceClock(by ticks: UInt64) { clock_.wrappingAdd(ticks, ordering: .relaxed) }

    private static let privateStateVersion: UInt8 = 1

    func savePrivateState() -> [UInt8] {
        var bytes = PrivateStateWriter(version: Self.privateStateVersion)
        bytes.append(clock)
        bytes.append(runCount.load(ordering: .relaxed))
        return bytes.bytes
    }

    func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) {
        guard var reader = PrivateStateReader(bytes, version: Self.privateStateVersion),
            let clock = reader.next(), let runCount = reader.next(), reader.isAtEnd
        else { throw .privateStateRefused("soft machine") }
        clock_.store(clock, ordering: .relaxed)
        self.runCount.store(runCount, ordering: .relaxed)
    }
}
