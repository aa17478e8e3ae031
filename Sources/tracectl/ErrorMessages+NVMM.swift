// Sentences for what a backend refuses.

import KVMBackend
import NVMM

func sentence(for error: MachineError) -> String {
    switch error {
    case .misaligned(let value): "the backend needs a multiple of 4,096 and got \(hex(value)): align it"
    case .overlaps(let gpa, let byteCount):
        "gpa \(hex(gpa.rawValue)), \(byteCount) bytes, is mapped already: unmap it first"
    case .beyondAddressSpace(let gpa, let byteCount):
        "gpa \(hex(gpa.rawValue)), \(byteCount) bytes, lies beyond the guest's address space: use less memory"
    case .outsideObject(let offset, let byteCount):
        "offset \(hex(UInt64(clamping: offset))), \(byteCount) bytes, reaches outside the memory object"
    case .noSuchRange(let gpa, let byteCount): "no range of \(byteCount) bytes is mapped at gpa \(hex(gpa.rawValue))"
    case .noSuchObject(let ordinal): "there is no memory object \(ordinal)"
    case .noSuchVCPU(let id): "there is no VCPU \(id)"
    case .objectInUse(let ordinal): "memory object \(ordinal) is still mapped into the guest"
    case .vcpuExists(let id): "VCPU \(id) exists already"
    case .vcpuOutOfRange(let id): "the backend has no room for VCPU \(id): use a smaller --cpus"
    case .tooMany(let limit): "the backend has room for \(limit) of these: use fewer"
    case .outOfMemory(let byteCount): "the system gave no \(sized(byteCount)) of memory: use a smaller --memory"
    case .fixedAddressUnsupported:
        "the backend cannot put guest memory at an address of the client's choice: record on --backend soft"
    case .privateStateRefused(let reason):
        "the backend refused its saved state (\(reason)): use the version that saved it"
    case .hostRefused(let call, let errno): "the host's hypervisor refused \(call): \(systemMessage(errno))"
    }
}

func sentence(for error: VCPUError) -> String {
    switch error {
    case .badEvent(let event):
        "the processor has no event of type \(event.kind.rawValue) with vector \(hex(UInt64(event.vector)))"
    case .tooManyCPUIDRules(let limit): "the backend takes \(limit) CPUID rules for a VCPU: use fewer"
    case .contradictoryCPUIDMask(let leaf): "the rule for CPUID leaf \(hex(UInt64(leaf))) sets and deletes the same bit"
    case .unsupportedConfiguration: "the backend does not offer this configuration"
    case .destroyed: "the VCPU was destroyed"
    case .notAsRecorded: "the client did not do as recorded"
    case .privateStateRefused(let reason):
        "the backend refused its saved state (\(reason)): use the version that saved it"
    case .hostRefused(let call, let errno): "the host's hypervisor refused \(call): \(systemMessage(errno))"
    }
}

func sentence(for error: KVMError) -> String {
    switch error {
    case .notOnThisSystem: "there is no KVM on this system: use --backend soft"
    case .cannotOpen(let path, let errno):
        "\(path): \(systemMessage(errno)): let this user open it (group kvm), or use --backend soft"
    case .interfaceVersion(let version):
        "this kernel's KVM has interface \(version), where 12 is needed: use --backend soft"
    case .lacks(let capability): "this kernel's KVM lacks \(capability): use a newer kernel, or --backend soft"
    case .refused(let call, let errno): "this kernel's KVM refused \(call): \(systemMessage(errno))"
    }
}
