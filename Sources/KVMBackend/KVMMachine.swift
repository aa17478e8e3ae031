// One virtual machine over KVM: memory, a clock of host time, and VCPUs.

#if os(Linux) && arch(x86_64)
    import Glibc
    import NVMM
    import SoftBackend

    final class KVMMachine: Machine {
        let memory: GuestRAM
        let cpuidTable: [CPUIDEntry]
        let opensInterruptWindows: Bool
        private let file: KVMMachineFile
        private let system: KVMSystem
        private let vcpusMax: UInt32
        private var vcpus: [UInt32: KVMVCPU] = [:]
        /// VCPUs that are none of NVMM's any more: to KVM they exist as long as the machine.
        private var spares: [UInt32: KVMVCPUFile] = [:]
        private let start = monotonicNanoseconds()
        private var advances: UInt64 = 0

        init(
            system: KVMSystem, cpuidTable: [CPUIDEntry], vcpusMax: UInt32, opensInterruptWindows: Bool
        ) throws(MachineError) {
            self.opensInterruptWindows = opensInterruptWindows
            self.system = system
            self.cpuidTable = cpuidTable
            self.vcpusMax = vcpusMax
            do throws(KVMRefusal) { file = try KVMMachineFile(system) } catch { throw MachineError(error) }
            memory = GuestRAM(file)
        }

        // MARK: VCPUs

        func createVCPU(id: UInt32) throws(MachineError) -> any VCPU {
            guard id < vcpusMax else { throw .vcpuOutOfRange(id: id) }
            guard vcpus[id] == nil else { throw .vcpuExists(id: id) }
            do throws(KVMRefusal) {
                let vcpuFile = try spareVCPU(id)
                let vcpu = try KVMVCPU(id: id, machine: self, file: vcpuFile)
                spares[id] = nil
                vcpus[id] = vcpu
                return vcpu
            } catch { throw MachineError(error) }
        }

        private func spareVCPU(_ id: UInt32) throws(KVMRefusal) -> KVMVCPUFile {
            if let spare = spares[id] { return spare }
            let made = try KVMVCPUFile(try file.createVCPU(id: id), runByteCount: system.runByteCount)
            spares[id] = made
            return made
        }

        func destroyVCPU(id: UInt32) throws(MachineError) {
            guard let vcpu = vcpus.removeValue(forKey: id) else { throw .noSuchVCPU(id: id) }
            vcpu.isDestroyed = true
            spares[id] = vcpu.file
        }

        // MARK: Memory

        func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject {
            try memory.createObject(byteCount: byteCount)
        }
        func hvaUnmap(_ object: MemoryObject) throws(MachineError) { try memory.destroyObject(object) }
        func gpaMap(
            _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
        ) throws(MachineError) {
            try memory.map(object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        }
        func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) {
            try memory.unmap(gpa: gpa, byteCount: byteCount)
        }
        func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? {
            memory.place(of: gpa.rawValue)
        }

        func withWritable(
            _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
        ) throws(MachineError) {
            try memory.check(object)
            guard range.lowerBound >= 0, range.upperBound <= object.byteCount else {
                throw .outsideObject(offset: range.lowerBound, byteCount: range.count)
            }
            // SAFETY: the range lies in the object, which outlives the call.
            let buffer = unsafe UnsafeMutableRawBufferPointer(
                start: object.clientAddress + range.lowerBound, count: range.count)
            var span = unsafe MutableRawSpan(_unsafeBytes: buffer)
            body(&span)
        }

        func takeDirtyPages(of object: MemoryObject) -> [Int] { memory.takeDirtyPages(of: object) }

        // MARK: Clock and state

        /// Nanoseconds of the host since the machine was made, and advances.
        var clock: UInt64 { monotonicNanoseconds() &- start &+ advances }
        func advanceClock(by ticks: UInt64) { advances &+= ticks }

        func savePrivateState() -> [UInt8] { PrivateWords([clock]).bytes }

        func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) {
            guard let words = PrivateWords(bytes, count: 1)?.words else { throw .privateStateRefused("KVM machine") }
            advances = words[0] &- (monotonicNanoseconds() &- start)
        }
    }

    private func monotonicNanoseconds() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Private state as this backend writes it: a version, then words.
    struct PrivateWords {
        private static let version: UInt64 = 0x4B56_4D00_0000_0001
        let words: [UInt64]

        init(_ words: [UInt64]) { self.words = words }

        init?(_ bytes: [UInt8], count: Int) {
            guard bytes.count == (count + 1) * 8 else { return nil }
            let all = (0...count).map { index in
                bytes[index * 8..<index * 8 + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            }
            guard all[0] == Self.version else { return nil }
            words = Array(all.dropFirst())
        }

        var bytes: [UInt8] {
            ([Self.version] + words).flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } }
        }
    }
#endif
