// Snapshots of the embedded backend's machines: pages copied on write, and the state of everything else.

import NVMM

final class SoftSnapshot: MachineSnapshot {
    struct VCPUPart {
        var id: UInt32
        var state: VCPUState
        var privateState: [UInt8]
        /// With what is committed and armed for the next run.
        var commPage: CommPage
    }

    let clock: UInt64
    fileprivate let machine: ObjectIdentifier
    fileprivate let machineState: [UInt8]
    fileprivate let vcpus: [VCPUPart]
    fileprivate let memory: MemorySnapshot

    fileprivate init(
        of machine: SoftMachine, clock: UInt64, machineState: [UInt8], vcpus: [VCPUPart], memory: MemorySnapshot
    ) {
        self.machine = ObjectIdentifier(machine)
        self.clock = clock
        self.machineState = machineState
        self.vcpus = vcpus
        self.memory = memory
    }
}

extension SoftMachine: SnapshottingMachine {
    func takeSnapshot() throws(SnapshotError) -> any MachineSnapshot {
        guard !isConcurrent else { throw .runsConcurrently }
        let vcpus = vcpusByID.map { id, vcpu in
            let page = CommPage()
            page.copy(from: vcpu.commPage)
            return SoftSnapshot.VCPUPart(
                id: id, state: vcpu.saveState(), privateState: vcpu.savePrivateState(), commPage: page)
        }
        return SoftSnapshot(
            of: self, clock: clock, machineState: savePrivateState(), vcpus: vcpus, memory: try memory.takeSnapshot())
    }

    func restore(_ snapshot: any MachineSnapshot) throws(SnapshotError) {
        guard !isConcurrent else { throw .runsConcurrently }
        guard let snapshot = snapshot as? SoftSnapshot, snapshot.machine == ObjectIdentifier(self) else {
            throw .otherMachine
        }
        guard snapshot.vcpus.count == vcpusByID.count, snapshot.vcpus.allSatisfy({ vcpusByID[$0.id] != nil }) else {
            throw .otherParts
        }
        if try memory.restore(snapshot.memory) { code.beginRun() }
        do {
            // The clock first, which the VCPUs' time-stamp counters count from.
            try restorePrivateState(snapshot.machineState)
            for part in snapshot.vcpus {
                guard let vcpu = vcpusByID[part.id] else { continue }
                try vcpu.restore(part.state, privateState: part.privateState)
                vcpu.commPage.copy(from: part.commPage)
            }
        } catch {
            throw .stateRefused
        }
    }
}

/// Memory objects, the map of guest physical addresses, and the versions of all pages.
struct MemorySnapshot {
    fileprivate struct Part {
        var backing: BackedObject
        var versions: [PreservedPages.Chunk]
    }
    fileprivate var parts: [Part]
    fileprivate var ranges: [GuestMemory.Range]
}

extension GuestMemory {
    func takeSnapshot() throws(SnapshotError) -> MemorySnapshot {
        let live = objects.compactMap { $0 }
        for backing in live where backing.object.isExposed {
            throw .clientHasAddress(object: backing.object.ordinal)
        }
        let parts = live.map { backing in
            let pages = backing.preserved ?? PreservedPages(pageCount: backing.object.pageCount)
            backing.preserved = pages
            return MemorySnapshot.Part(backing: backing, versions: pages.share())
        }
        hasSnapshots = true
        // Stores must be seen from now on.
        makeStale()
        return MemorySnapshot(parts: parts, ranges: ranges)
    }

    /// - Returns: whether a page changed that code was decoded from.
    fileprivate func restore(_ snapshot: MemorySnapshot) throws(SnapshotError) -> Bool {
        let live = objects.compactMap { $0 }
        guard live.count == snapshot.parts.count, zip(live, snapshot.parts).allSatisfy({ $0 === $1.backing }) else {
            throw .otherParts
        }
        for backing in live where backing.object.isExposed {
            throw .clientHasAddress(object: backing.object.ordinal)
        }
        var changesCode = false
        for part in snapshot.parts where part.backing.restore(part.versions) { changesCode = true }
        replaceRanges(snapshot.ranges)
        makeStale()
        return changesCode
    }

    /// Call before bytes at `host`, within one page, change.
    func preserve(_ host: UInt64) {
        if let (backing, page) = place(ofHost: host) { backing.preserve(page) }
    }
}

extension BackedObject {
    /// Call before a page changes.
    func preserve(_ page: Int) { preserved?.preserve(page) { bytes(ofPage: page) } }

    /// - Returns: whether a page changed that code was decoded from.
    fileprivate func restore(_ versions: [PreservedPages.Chunk]) -> Bool {
        var changesCode = false
        preserved?.restore(versions) { page in
            bytes(ofPage: page)
        } replace: { page, bytes in
            replace(page, bytes)
            if holdCode(page..<page + 1) { changesCode = true }
        }
        return changesCode
    }
}
