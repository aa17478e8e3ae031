// A backend for tests of whatever stands above the interface: it executes a dozen x86 instructions in flat 32-bit
// mode, keeps to the comm-page protocol, and can be made to go wrong in a chosen way at a chosen instruction.

public import NVMM

/// A deterministic backend with exact budgets. Guests use EAX...EDI, flat segments, no paging; interrupts are
/// delivered through a table of 32-bit handler addresses at IDT.base, pushing EIP only.
public final class ToyBackend: Backend {
    /// What goes wrong, from the given value of the machine's clock on.
    public enum Fault: Sendable {
        /// ADD leaves the carry flag inverted.
        case carryFlag(from: UInt64)
        /// MOV to memory stores four bytes further on.
        case storeAddress(from: UInt64)
        /// OUT exits with the next port.
        case port(from: UInt64)
        /// OUT does nothing and does not exit.
        case missingExit(from: UInt64)
        /// NOP exits as HLT does.
        case extraExit(from: UInt64)
        /// Interrupts go to the next vector's handler.
        case vector(from: UInt64)
        /// The saved private state has a bit more.
        case privateState(from: UInt64)
    }

    public let name: String
    public let capability: Capability
    public let processorModel = "toy-v1"
    public var cpuidTable: [CPUIDEntry]
    public var fault: Fault?
    /// What memory objects say that the client wrote, in pages, until they are asked; nil: they do not watch.
    public var clientWrites: [Range<Int>]?
    /// Becomes ``clientWrites`` in the middle of the next run, as a second thread's stores would.
    public var clientWritesOfNextRun: [Range<Int>] = []

    fileprivate func takeClientWrites() -> [Range<Int>]? {
        guard let writes = clientWrites else { return nil }
        clientWrites = []
        return writes
    }

    func beginRun() {
        clientWrites?.append(contentsOf: clientWritesOfNextRun)
        clientWritesOfNextRun = []
    }

    public init(fault: Fault? = nil, name: String = "toy", countsInstructions: Bool = true) {
        self.fault = fault
        self.name = name
        capability = Capability(countsInstructions: countsInstructions)
        cpuidTable = [CPUIDEntry(leaf: 0, registers: CPUIDRegisters(eax: 1))]
    }

    public func createMachine() throws(MachineError) -> any Machine { ToyMachine(self) }
}

/// Memory, a clock, and the list of what guests wrote.
public final class ToyMachine: Machine {
    private struct Mapping { var object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection }

    let backend: ToyBackend
    private var objects: [UInt32: MemoryObject] = [:]
    private var nextOrdinal: UInt32 = 0
    private var mappings: [Mapping] = []
    private var dirty: [UInt32: Set<Int>] = [:]
    /// A VCPU owns its machine, not the other way round.
    private struct Entry { weak var vcpu: ToyVCPU? }
    private var vcpus: [UInt32: Entry] = [:]
    public internal(set) var clock: UInt64 = 0

    init(_ backend: ToyBackend) { self.backend = backend }

    public func createVCPU(id: UInt32) throws(MachineError) -> any VCPU {
        guard id < backend.capability.vcpusMax else { throw .vcpuOutOfRange(id: id) }
        guard vcpus[id] == nil else { throw .vcpuExists(id: id) }
        let vcpu = ToyVCPU(id: id, machine: self)
        vcpus[id] = Entry(vcpu: vcpu)
        return vcpu
    }

    public func destroyVCPU(id: UInt32) throws(MachineError) {
        guard let entry = vcpus.removeValue(forKey: id) else { throw .noSuchVCPU(id: id) }
        entry.vcpu?.isDestroyed = true
    }

    public func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject {
        guard byteCount > 0, byteCount % pageBytes == 0 else { throw .misaligned(value: UInt64(clamping: byteCount)) }
        guard byteCount <= 1 << 30 else { throw .outOfMemory(byteCount: byteCount) }
        // SAFETY: allocated and zeroed here, freed once by the object's release.
        let address = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: pageBytes)
        unsafe address.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        let object = unsafe MemoryObject(
            ordinal: nextOrdinal, byteCount: byteCount, clientAddress: address,
            clientWrites: { [backend] in backend.takeClientWrites() }, release: { unsafe address.deallocate() })
        objects[nextOrdinal] = object
        nextOrdinal += 1
        return object
    }

    public func hvaUnmap(_ object: MemoryObject) throws(MachineError) {
        guard objects[object.ordinal] === object else { throw .noSuchObject(ordinal: object.ordinal) }
        guard !mappings.contains(where: { $0.object === object }) else { throw .objectInUse(ordinal: object.ordinal) }
        objects[object.ordinal] = nil
    }

    public func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        guard byteCount > 0, (offset | byteCount) % pageBytes == 0, gpa.rawValue % UInt64(pageBytes) == 0 else {
            throw .misaligned(value: gpa.rawValue)
        }
        guard offset >= 0, byteCount <= object.byteCount, offset <= object.byteCount - byteCount else {
            throw .outsideObject(offset: offset, byteCount: byteCount)
        }
        let end = gpa.rawValue + UInt64(byteCount)
        for other in mappings
        where other.gpa.rawValue < end && gpa.rawValue < other.gpa.rawValue + UInt64(other.byteCount) {
            throw .overlaps(gpa: gpa, byteCount: byteCount)
        }
        mappings.append(
            Mapping(object: object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection))
    }

    public func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) {
        guard let index = mappings.firstIndex(where: { $0.gpa == gpa && $0.byteCount == byteCount }) else {
            throw .noSuchRange(gpa: gpa, byteCount: byteCount)
        }
        mappings.remove(at: index)
    }

    public func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? {
        for mapping in mappings
        where gpa >= mapping.gpa && gpa.rawValue - mapping.gpa.rawValue < UInt64(mapping.byteCount) {
            return (mapping.object, mapping.offset + Int(gpa.rawValue - mapping.gpa.rawValue), mapping.protection)
        }
        return nil
    }

    public func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError) {
        let (end, overflow) = offset.addingReportingOverflow(bytes.byteCount)
        guard offset >= 0, !overflow, end <= object.byteCount else {
            throw .outsideObject(offset: offset, byteCount: bytes.byteCount)
        }
        // SAFETY: the range was just checked.
        unsafe bytes.withUnsafeBytes { source in
            if let base = source.baseAddress {
                unsafe (object.clientAddress + offset).copyMemory(from: base, byteCount: source.count)
            }
        }
    }

    public func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError) {
        guard range.lowerBound >= 0, range.upperBound <= object.byteCount else {
            throw .outsideObject(offset: range.lowerBound, byteCount: range.count)
        }
        // SAFETY: the range was just checked; the span ends with the call.
        let buffer = unsafe UnsafeMutableRawBufferPointer(
            start: object.clientAddress + range.lowerBound, count: range.count)
        var span = unsafe MutableRawSpan(_unsafeBytes: buffer)
        body(&span)
    }

    public func takeDirtyPages(of object: MemoryObject) -> [Int] {
        (dirty.removeValue(forKey: object.ordinal) ?? []).sorted()
    }

    public func advanceClock(by ticks: UInt64) { clock &+= ticks }

    public func savePrivateState() -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: clock >> ($0 * 8)) } }

    public func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) {
        guard bytes.count == 8 else { throw .privateStateRefused("\(bytes.count) bytes") }
        clock = bytes.enumerated().reduce(0) { $0 | UInt64($1.element) << UInt64($1.offset * 8) }
    }

    /// What the guest loads, or nil where nothing readable is mapped.
    func load(_ address: UInt64, byteCount: Int, _ access: Protection) -> UInt64? {
        guard let (object, offset, protection) = gpaToHVA(GPA(address)), protection.contains(access),
            offset + byteCount <= object.byteCount
        else { return nil }
        var value: UInt64 = 0
        for index in 0..<byteCount {
            // SAFETY: within the object, checked above.
            value |=
                UInt64(unsafe object.clientAddress.load(fromByteOffset: offset + index, as: UInt8.self)) << (index * 8)
        }
        return value
    }

    func store(_ value: UInt64, _ address: UInt64, byteCount: Int) -> Bool {
        guard let (object, offset, protection) = gpaToHVA(GPA(address)), protection.contains(.write),
            offset + byteCount <= object.byteCount
        else { return false }
        for index in 0..<byteCount {
            // SAFETY: within the object, checked above.
            unsafe object.clientAddress.storeBytes(
                of: UInt8(truncatingIfNeeded: value >> (index * 8)), toByteOffset: offset + index, as: UInt8.self)
            dirty[object.ordinal, default: []].insert((offset + index) / pageBytes)
        }
        return true
    }
}
