// A machine that answers from a trace: memory and refusals are those of a backend, all else is recorded.

public import NVMM
internal import TraceFile

/// The client's view of a recorded machine. A call that the backend refuses changed nothing, and no trace holds it.
public final class RecordedMachine: Machine {
    private let inner: any Machine
    private let answers: Answers
    /// Threads of the client call as they like. Never held while `answers` is asked, whose own lock comes first.
    private let lock = RecordedLock()
    /// Pages that the recorded guest wrote since the client last asked.
    private var dirty: [UInt32: Set<Int>] = [:]
    private var vcpus: [UInt32: RecordedVCPU] = [:]

    init(_ inner: any Machine, answers: Answers) {
        self.inner = inner
        self.answers = answers
        answers.guestStore = { [weak self] (object, offset, bytes) throws(MachineError) in
            try self?.store(bytes, in: object, at: offset)
        }
    }

    /// As the guest's processor did.
    private func store(_ bytes: [UInt8], in object: MemoryObject, at offset: Int) throws(MachineError) {
        guard !bytes.isEmpty else { return }
        try lock.during { () throws(MachineError) in
            try inner.write(object, at: offset, bytes)
            dirty[object.ordinal, default: []].formUnion(offset / pageBytes...(offset + bytes.count - 1) / pageBytes)
        }
    }

    public func createVCPU(id: UInt32) throws(MachineError) -> any VCPU {
        let plain = try lock.during { () throws(MachineError) in try inner.createVCPU(id: id) }
        let vcpu = RecordedVCPU(plain, answers: answers)
        lock.during { vcpus[id] = vcpu }
        answers.machineCall(.createVCPU(id: id))
        return vcpu
    }

    public func destroyVCPU(id: UInt32) throws(MachineError) {
        try lock.during { () throws(MachineError) in
            try inner.destroyVCPU(id: id)
            vcpus.removeValue(forKey: id)?.isDestroyed = true
        }
        answers.machineCall(.destroyVCPU(id: id))
    }

    public func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject {
        let object = try lock.during { () throws(MachineError) in try inner.hvaMap(byteCount: byteCount) }
        answers.add(object)
        return object
    }

    public func hvaMap(byteCount: Int, at address: UInt) throws(MachineError) -> MemoryObject {
        let object = try lock.during { () throws(MachineError) in try inner.hvaMap(byteCount: byteCount, at: address) }
        answers.add(object)
        return object
    }

    public func hvaUnmap(_ object: MemoryObject) throws(MachineError) {
        try lock.during { () throws(MachineError) in try inner.hvaUnmap(object) }
        answers.machineCall(.hvaUnmap(object: object.ordinal))
    }

    public func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        try lock.during { () throws(MachineError) in
            try inner.gpaMap(object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        }
        let range = GPARange(
            object: object.ordinal, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        answers.machineCall(.gpaMap(range))
    }

    public func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) {
        try lock.during { () throws(MachineError) in try inner.gpaUnmap(gpa: gpa, byteCount: byteCount) }
        answers.machineCall(.gpaUnmap(gpa: gpa, byteCount: byteCount))
    }

    public func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? {
        lock.during { inner.gpaToHVA(gpa) }
    }

    public func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError) {
        try lock.write(inner, object, offset, bytes)
        answers.noteWrite(object, offset..<offset + bytes.byteCount)
    }

    public func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError) {
        try lock.during { () throws(MachineError) in try inner.withWritable(object, range, body) }
        answers.noteWrite(object, range)
    }

    public func takeDirtyPages(of object: MemoryObject) -> [Int] {
        lock.during { (dirty.removeValue(forKey: object.ordinal) ?? []).sorted() }
    }

    public var clock: UInt64 { answers.clock }
    public func advanceClock(by ticks: UInt64) { answers.machineCall(.advanceClock(ticks: ticks)) }

    public func savePrivateState() -> [UInt8] { lock.during { inner.savePrivateState() } }

    /// A recording goes one way only.
    public func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) {
        throw .privateStateRefused("recorded machine")
    }
}

extension RecordedLock {
    /// A write with the lock: a closure cannot capture the span.
    fileprivate func write(
        _ machine: any Machine, _ object: MemoryObject, _ offset: Int, _ bytes: RawSpan
    ) throws(MachineError) {
        take()
        defer { pass() }
        try machine.write(object, at: offset, bytes)
    }
}
