// Functions of <nvmm.h> on the library and on machines.

public import CNVMM
import Glibc
import NVMM

@c(nvmm_init) public func nvmmInit() -> Int32 {
    returning { () throws(ErrorNumber) in try Library.shared.initialize() }
}

/// There is no device whose owner could be asked for more rights: the same as `nvmm_init`.
@c(nvmm_root_init) public func nvmmRootInit() -> Int32 { nvmmInit() }

@c(nvmm_capability) public func nvmmCapability(_ capability: UnsafeMutablePointer<nvmm_capability>?) -> Int32 {
    returning { () throws(ErrorNumber) in
        let offered = try Library.shared.ready().capability
        guard let capability = unsafe capability else { throw ErrorNumber(EFAULT) }
        var result = nvmm_capability()
        result.version = offered.version
        result.state_size = offered.stateBytes
        result.max_machines = min(offered.machinesMax, UInt32(Library.machinesMax))
        result.max_vcpus = offered.vcpusMax
        result.max_ram = offered.memoryBytesMax
        result.arch.vcpu_conf_support =
            UInt64(NVMM_CAP_ARCH_VCPU_CONF_CPUID) | (offered.offersTPRExits ? UInt64(NVMM_CAP_ARCH_VCPU_CONF_TPR) : 0)
        result.arch.xcr0_mask = offered.xcr0Mask
        result.arch.mxcsr_mask = offered.mxcsrMask
        result.arch.conf_cpuid_maxops = offered.cpuidEntriesMax
        unsafe capability.initialize(to: result)
    }
}

@c(nvmm_ctl) public func nvmmCtl(_ operation: Int32, _ data: UnsafeMutableRawPointer?, _ byteCount: Int) -> Int32 {
    returning { () throws(ErrorNumber) in
        _ = try Library.shared.ready()
        guard operation == NVMM_CTL_MACH_INFO, byteCount == MemoryLayout<nvmm_ctl_mach_info>.size else {
            throw ErrorNumber(EINVAL)
        }
        guard let data = unsafe data else { throw ErrorNumber(EFAULT) }
        let info = unsafe data.assumingMemoryBound(to: nvmm_ctl_mach_info.self)
        let id = unsafe info.pointee.machid
        guard id < MachineRegistry.machinesMax else { throw ErrorNumber(EINVAL) }
        // One's own machine is known without a registry too.
        let own = try? Library.shared.machine(id).entry
        guard let entry = own ?? Library.shared.registry.entry(id) else { throw ErrorNumber(ENOENT) }
        unsafe info.pointee.nvcpus = entry.vcpuCount
        unsafe info.pointee.nram = entry.memoryBytes
        unsafe info.pointee.pid = entry.process
        unsafe info.pointee.time = Int(entry.seconds)
    }
}

@c(nvmm_machine_create) public func nvmmMachineCreate(_ machine: UnsafeMutablePointer<nvmm_machine>?) -> Int32 {
    returning { () throws(ErrorNumber) in
        _ = try Library.shared.ready()
        guard let machine = unsafe machine else { throw ErrorNumber(EFAULT) }
        let created = try Library.shared.createMachine()
        let count = Int(created.capability.vcpusMax)
        let pages = UnsafeMutablePointer<UnsafeMutablePointer<nvmm_comm_page>?>.allocate(capacity: count)
        unsafe pages.initialize(repeating: nil, count: count)
        unsafe machine.initialize(to: nvmm_machine(machid: created.id, pages: pages, areas: nil))
    }
}

@c(nvmm_machine_destroy) public func nvmmMachineDestroy(_ machine: UnsafeMutablePointer<nvmm_machine>?) -> Int32 {
    returning { () throws(ErrorNumber) in
        guard let machine = unsafe machine else { throw ErrorNumber(EFAULT) }
        let destroyed = try Library.shared.destroyMachine(unsafe machine.pointee.machid)
        destroyed.destroy()
        unsafe machine.pointee.pages?.deallocate()
        unsafe machine.pointee.pages = nil
    }
}

/// No backend of NVMM's has anything to configure on a machine.
@c(nvmm_machine_configure) public func nvmmMachineConfigure(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ operation: UInt64, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        guard let machine = unsafe machine else { throw ErrorNumber(EFAULT) }
        _ = try Library.shared.machine(unsafe machine.pointee.machid)
        throw ErrorNumber(EINVAL)
    }
}
