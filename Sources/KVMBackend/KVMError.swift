// Why /dev/kvm cannot serve as a backend.

/// Failures of opening the hypervisor.
public enum KVMError: Error, Equatable, Sendable {
    /// This system has no KVM: not Linux on x86-64.
    case notOnThisSystem
    /// `/dev/kvm` did not open.
    case cannotOpen(path: String, errno: Int32)
    /// Another interface than version 12, the only one there ever was.
    case interfaceVersion(Int32)
    /// The kernel's KVM is without something that the backend is built on; its name in <linux/kvm.h>.
    case lacks(capability: String)
    /// A call failed that should not; its name in <linux/kvm.h>.
    case refused(call: String, errno: Int32)
}
