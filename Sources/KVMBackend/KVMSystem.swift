// The descriptor of /dev/kvm itself: what the host's KVM offers.

#if os(Linux) && arch(x86_64)
    import CKVM
    import Glibc

    /// /dev/kvm, open, with everything that the backend is built on.
    final class KVMSystem {
        private let file: KVMFile
        /// Bytes of a VCPU's `struct kvm_run` and what follows it.
        let runByteCount: Int

        init(path: String, faults: KVMFaults?) throws(KVMError) {
            let descriptor = unsafe open(path, O_RDWR | O_CLOEXEC)
            guard descriptor >= 0 else { throw .cannotOpen(path: path, errno: errno) }
            file = KVMFile(descriptor, faults: faults)
            do throws(KVMRefusal) {
                runByteCount = Int(try file.call(.getRunByteCount))
            } catch { throw .refused(call: error.call.rawValue, errno: error.errno) }
            try check()
        }

        private func check() throws(KVMError) {
            let version: Int32
            do throws(KVMRefusal) {
                version = try file.call(.getAPIVersion)
            } catch { throw .refused(call: error.call.rawValue, errno: error.errno) }
            guard version == KVM_API_VERSION else { throw .interfaceVersion(version) }
            let needed: [(number: Int32, name: String)] = [
                (KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"), (KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"),
                (KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"), (KVM_CAP_XSAVE, "KVM_CAP_XSAVE"),
                (KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"),
                (KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"),
                (KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"),
            ]
            for capability in needed {
                let answer = try? file.call(.checkExtension, UInt64(capability.number))
                guard let answer, answer > 0 else { throw .lacks(capability: capability.name) }
            }
        }

        func createMachine() throws(KVMRefusal) -> KVMFile { try file.made(.createMachine) }
    }
#endif
