// One machine as a client of libnvmm holds it: memory by host address, VCPUs by number.

import CNVMM
import Glibc
import NVMM

/// What libnvmm knows of a machine beyond its backend: which host addresses are registered, and which GPAs show them.
final class ClientMachine: @unchecked Sendable {
    let id: UInt32
    let machine: any Machine
    let capability: Capability
    /// Seconds since 1970.
    let creationTime: time_t

    private let registry: MachineRegistry
    private let registered: Int32
    private let lock = PlainLock()
    private var mappings: [HVAMapping] = []
    private var areas: [Area] = []
    private var vcpus: [UInt32: ClientVCPU] = [:]

    private struct HVAMapping {
        var hva: UInt
        var byteCount: Int
        var object: MemoryObject
    }

    /// A GPA range and the host addresses behind it.
    private struct Area {
        var gpa: UInt64
        var hva: UInt
        var byteCount: Int
        var protection: Protection
    }

    /// - Parameter registered: what ``MachineRegistry/claim(from:)`` gave with the number.
    init(
        id: UInt32, registered: Int32, in registry: MachineRegistry, machine: any Machine, capability: Capability
    ) {
        self.id = id
        self.registered = registered
        self.registry = registry
        self.machine = machine
        self.capability = capability
        creationTime = time(nil)
        publish()
    }

    /// The machine where its threads take turns: not where the turns are recorded ones.
    var turnTaking: TurnTakingMachine? { machine as? TurnTakingMachine }

    /// Lock held, or not yet shared.
    private func publish() { registry.publish(described, in: registered) }

    private var described: MachineRegistry.Entry {
        MachineRegistry.Entry(
            id: id, vcpuCount: UInt32(vcpus.count),
            memoryBytes: mappings.reduce(0) { $0 + UInt64($1.byteCount) }, process: getpid(),
            seconds: Int64(creationTime))
    }

    /// What the registry says of this machine, also where there is none.
    var entry: MachineRegistry.Entry { lock.during { described } }

    // MARK: - VCPUs

    func createVCPU(_ id: UInt32) throws(ErrorNumber) -> ClientVCPU {
        try lock.during { () throws(ErrorNumber) in
            let vcpu = ClientVCPU(
                try mapping { () throws(MachineError) in try machine.createVCPU(id: id) }, machine: machine)
            vcpus[id] = vcpu
            publish()
            return vcpu
        }
    }

    func vcpu(_ id: UInt32) throws(ErrorNumber) -> ClientVCPU {
        guard id < capability.vcpusMax else { throw ErrorNumber(EINVAL) }
        guard let vcpu = lock.during({ vcpus[id] }) else { throw ErrorNumber(ENOENT) }
        return vcpu
    }

    /// The VCPU, for the caller to keep until nobody reads its comm page any more.
    func destroyVCPU(_ id: UInt32) throws(ErrorNumber) -> ClientVCPU {
        let vcpu = try vcpu(id)
        try vcpu.whileStill { () throws(ErrorNumber) in
            try mapping { () throws(MachineError) in try machine.destroyVCPU(id: id) }
        }
        lock.during {
            vcpus[id] = nil
            publish()
        }
        return vcpu
    }

    /// The end of the machine: its VCPUs are gone, its memory stays mapped at the client's addresses no longer.
    func destroy() {
        lock.during {
            for id in vcpus.keys.sorted() { try? machine.destroyVCPU(id: id) }
            vcpus = [:]
            for area in areas { try? machine.gpaUnmap(gpa: GPA(area.gpa), byteCount: area.byteCount) }
            areas = []
            for mapping in mappings { try? machine.hvaUnmap(mapping.object) }
            mappings = []
            registry.release(registered)
        }
    }

    // MARK: - Memory

    /// `nvmm_hva_map`.
    func mapHVA(_ hva: UInt, byteCount: UInt) throws(ErrorNumber) {
        let count = try Self.checked(hva, byteCount)
        try lock.during { () throws(ErrorNumber) in
            // The original lets a range within another one pass, and the first then shows memory that is gone.
            if mappings.contains(where: { Self.overlap($0.hva, $0.byteCount, hva, count) }) {
                throw ErrorNumber(EEXIST)
            }
            let object = try mapping { () throws(MachineError) in try machine.hvaMap(byteCount: count, at: hva) }
            mappings.append(HVAMapping(hva: hva, byteCount: count, object: object))
            publish()
        }
    }

    /// `nvmm_hva_unmap`: the exact range.
    func unmapHVA(_ hva: UInt, byteCount: UInt) throws(ErrorNumber) {
        try lock.during { () throws(ErrorNumber) in
            guard let place = mappings.firstIndex(where: { $0.hva == hva && UInt($0.byteCount) == byteCount }) else {
                throw ErrorNumber(ENOENT)
            }
            try mapping { () throws(MachineError) in try machine.hvaUnmap(mappings[place].object) }
            mappings.remove(at: place)
            publish()
        }
    }

    /// `nvmm_gpa_map`.
    func mapGPA(_ gpa: UInt64, hva: UInt, byteCount: UInt, protection: Int32) throws(ErrorNumber) {
        let count = try Self.checked(hva, byteCount)
        guard protection & ~7 == 0 else { throw ErrorNumber(EINVAL) }
        let rights = Protection(rawValue: UInt64(protection))
        try lock.during { () throws(ErrorNumber) in
            guard
                let found = mappings.first(where: {
                    hva >= $0.hva && UInt(count) <= UInt($0.byteCount) && hva - $0.hva <= UInt($0.byteCount - count)
                })
            else { throw ErrorNumber(EINVAL) }
            try mapping { () throws(MachineError) in
                try machine.gpaMap(
                    found.object, offset: Int(hva - found.hva), gpa: GPA(gpa), byteCount: count, protection: rights)
            }
            areas.append(Area(gpa: gpa, hva: hva, byteCount: count, protection: rights))
        }
    }

    /// `nvmm_gpa_unmap`: the exact triple.
    func unmapGPA(_ gpa: UInt64, hva: UInt, byteCount: UInt) throws(ErrorNumber) {
        try lock.during { () throws(ErrorNumber) in
            guard
                let place = areas.firstIndex(where: {
                    $0.gpa == gpa && $0.hva == hva && UInt($0.byteCount) == byteCount
                })
            else { throw ErrorNumber(ENOENT) }
            try mapping { () throws(MachineError) in
                try machine.gpaUnmap(gpa: GPA(gpa), byteCount: areas[place].byteCount)
            }
            areas.remove(at: place)
        }
    }

    /// `nvmm_gpa_to_hva`.
    func hva(of gpa: UInt64) throws(ErrorNumber) -> (hva: UInt, protection: Protection) {
        try lock.during { () throws(ErrorNumber) in
            guard let area = areas.first(where: { gpa >= $0.gpa && gpa - $0.gpa < UInt64($0.byteCount) }) else {
                throw ErrorNumber(ENOENT)
            }
            return (area.hva + UInt(gpa - area.gpa), area.protection)
        }
    }

    private static func checked(_ hva: UInt, _ byteCount: UInt) throws(ErrorNumber) -> Int {
        guard hva != 0, hva % UInt(pageBytes) == 0, byteCount != 0, byteCount % UInt(pageBytes) == 0,
            let count = Int(exactly: byteCount), !hva.addingReportingOverflow(byteCount).overflow
        else { throw ErrorNumber(EINVAL) }
        return count
    }

    private static func overlap(_ left: UInt, _ leftCount: Int, _ right: UInt, _ rightCount: Int) -> Bool {
        left < right + UInt(rightCount) && right < left + UInt(leftCount)
    }
}
