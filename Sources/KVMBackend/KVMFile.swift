// The one place that calls ioctl: a descriptor of KVM's, closed with its last reference.

#if os(Linux) && arch(x86_64)
    import CKVM
    import Glibc

    /// What KVM refused, and how.
    struct KVMRefusal: Error {
        let call: KVMCall
        let errno: Int32
    }

    /// The calls of <linux/kvm.h> that the backend makes.
    enum KVMCall: String {
        case getAPIVersion = "KVM_GET_API_VERSION"
        case createMachine = "KVM_CREATE_VM"
        case checkExtension = "KVM_CHECK_EXTENSION"
        case getRunByteCount = "KVM_GET_VCPU_MMAP_SIZE"
        case createVCPU = "KVM_CREATE_VCPU"
        case setMemoryRegion = "KVM_SET_USER_MEMORY_REGION"
        case getDirtyLog = "KVM_GET_DIRTY_LOG"
        case setTSSAddress = "KVM_SET_TSS_ADDR"
        case setIdentityMapAddress = "KVM_SET_IDENTITY_MAP_ADDR"
        case enableCapability = "KVM_ENABLE_CAP"
        case setMSRFilter = "KVM_X86_SET_MSR_FILTER"
        case setCPUID = "KVM_SET_CPUID2"
        case translate = "KVM_TRANSLATE"
        case getMSRs = "KVM_GET_MSRS"
        case setMSRs = "KVM_SET_MSRS"
        case getDebugRegisters = "KVM_GET_DEBUGREGS"
        case setDebugRegisters = "KVM_SET_DEBUGREGS"
        case getXSave = "KVM_GET_XSAVE"
        case setXSave = "KVM_SET_XSAVE"
        case getXCRs = "KVM_GET_XCRS"
        case setXCRs = "KVM_SET_XCRS"
        case setGuestDebug = "KVM_SET_GUEST_DEBUG"

        fileprivate var request: UInt {
            switch self {
            case .getAPIVersion: CKVM_GET_API_VERSION
            case .createMachine: CKVM_CREATE_VM
            case .checkExtension: CKVM_CHECK_EXTENSION
            case .getRunByteCount: CKVM_GET_VCPU_MMAP_SIZE
            case .createVCPU: CKVM_CREATE_VCPU
            case .setMemoryRegion: CKVM_SET_USER_MEMORY_REGION
            case .getDirtyLog: CKVM_GET_DIRTY_LOG
            case .setTSSAddress: CKVM_SET_TSS_ADDR
            case .setIdentityMapAddress: CKVM_SET_IDENTITY_MAP_ADDR
            case .enableCapability: CKVM_ENABLE_CAP
            case .setMSRFilter: CKVM_X86_SET_MSR_FILTER
            case .setCPUID: CKVM_SET_CPUID2
            case .translate: CKVM_TRANSLATE
            case .getMSRs: CKVM_GET_MSRS
            case .setMSRs: CKVM_SET_MSRS
            case .getDebugRegisters: CKVM_GET_DEBUGREGS
            case .setDebugRegisters: CKVM_SET_DEBUGREGS
            case .getXSave: CKVM_GET_XSAVE
            case .setXSave: CKVM_SET_XSAVE
            case .getXCRs: CKVM_GET_XCRS
            case .setXCRs: CKVM_SET_XCRS
            case .setGuestDebug: CKVM_SET_GUEST_DEBUG
            }
        }
    }

    /// Calls that fail as the host's kernel might, with their error numbers: for tests of what then happens.
    final class KVMFaults {
        var errors: [KVMCall: Int32] = [:]
    }

    /// A file descriptor of /dev/kvm, of a VM or of a VCPU.
    final class KVMFile {
        let descriptor: Int32
        private let faults: KVMFaults?

        init(_ descriptor: Int32, faults: KVMFaults?) {
            self.descriptor = descriptor
            self.faults = faults
        }
        deinit { close(descriptor) }

        /// A descriptor that a call of this one made.
        func made(_ call: KVMCall, _ argument: UInt64 = 0) throws(KVMRefusal) -> KVMFile {
            KVMFile(try self.call(call, argument), faults: faults)
        }

        /// - Parameter argument: a number; structures go through ``call(_:with:)``.
        /// - Returns: what the call gave, 0 or more.
        @discardableResult func call(_ call: KVMCall, _ argument: UInt64 = 0) throws(KVMRefusal) -> Int32 {
            if let errno = faults?.errors[call] { throw KVMRefusal(call: call, errno: errno) }
            let result = ckvm_ioctl(descriptor, call.request, argument)
            guard result >= 0 else { throw KVMRefusal(call: call, errno: -result) }
            return result
        }

        /// - Parameter structure: of the type that the call is documented with: the kernel knows its size from there.
        @discardableResult func call<Structure>(
            _ call: KVMCall, with structure: inout Structure
        ) throws(KVMRefusal) -> Int32 {
            try unsafe withUnsafeMutablePointer(to: &structure) { (pointer) throws(KVMRefusal) in
                try self.call(call, UInt64(UInt(bitPattern: pointer)))
            }
        }
    }
#endif
