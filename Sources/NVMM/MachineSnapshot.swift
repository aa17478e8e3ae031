// Snapshots of whole machines: what going back and forth in a run stands on.

/// A machine as it was once. Its memory is shared with the machine, and with other snapshots, as far as it is the same.
public protocol MachineSnapshot: AnyObject {
    /// The machine's clock then.
    var clock: UInt64 { get }
}

/// Why a snapshot is not taken or not restored. The machine is as it was.
public enum SnapshotError: Error, Equatable {
    /// The client writes to this object without the machine learning of it: ``MemoryObject/isExposed``.
    case clientHasAddress(object: UInt32)
    /// VCPUs of the machine run whenever they like: ``Machine/runVCPUsConcurrently()``.
    case runsConcurrently
    /// The snapshot is another machine's.
    case otherMachine
    /// Memory objects or VCPUs were made or destroyed since.
    case otherParts
    /// A VCPU or the machine does not take back what it gave.
    case stateRefused
}

/// A machine that can be put back to where it was, again and again, in any order.
public protocol SnapshottingMachine: Machine {
    /// Takes a snapshot: memory, its map, the clock and all VCPUs with their comm pages. Call it while no VCPU runs.
    /// Costs grow with the pages that were written since the last one, and with the objects, not with what they hold.
    func takeSnapshot() throws(SnapshotError) -> any MachineSnapshot

    /// Puts the machine where it was. Costs grow with the pages that differ. Snapshots taken later stay valid. Pages
    /// that change count as written by the guest. What ``VCPU/configure(_:)`` set stays.
    func restore(_ snapshot: any MachineSnapshot) throws(SnapshotError)
}
