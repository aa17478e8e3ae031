// Functions of <nvmm.h> on VCPUs.

public import CNVMM
import Glibc
import NVMM

typealias MachinePointer = UnsafeMutablePointer<nvmm_machine>
typealias VCPUPointer = UnsafeMutablePointer<nvmm_vcpu>

/// The machine that a client's structure names.
func found(_ machine: MachinePointer?) throws(ErrorNumber) -> ClientMachine {
    guard let machine = unsafe machine else { throw ErrorNumber(EFAULT) }
    return try Library.shared.machine(unsafe machine.pointee.machid)
}

/// The VCPU that a client's structures name.
func found(_ machine: MachinePointer?, _ vcpu: VCPUPointer?) throws(ErrorNumber) -> ClientVCPU {
    let machine = try unsafe found(machine)
    guard let vcpu = unsafe vcpu else { throw ErrorNumber(EFAULT) }
    return try machine.vcpu(unsafe vcpu.pointee.cpuid)
}

@c(nvmm_vcpu_create) public func nvmmVCPUCreate(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ id: UInt32, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let owner = try unsafe found(machine)
        guard let machine = unsafe machine, let vcpu = unsafe vcpu else { throw ErrorNumber(EFAULT) }
        let created = try owner.createVCPU(id)
        let page = unsafe created.vcpu.commPage.address.assumingMemoryBound(to: nvmm_comm_page.self)
        let exit = UnsafeMutablePointer<nvmm_x86_exit>.allocate(capacity: 1)
        unsafe exit.initialize(to: nvmm_x86_exit())
        // The callbacks stay what they are: the original leaves them to nvmm_vcpu_configure.
        unsafe vcpu.pointee.cpuid = id
        unsafe vcpu.pointee.state = page.pointer(to: \.state)
        unsafe vcpu.pointee.event = page.pointer(to: \.event)
        unsafe vcpu.pointee.stop = page.pointer(to: \.stop)
        unsafe vcpu.pointee.exit = exit
        unsafe machine.pointee.pages?[Int(id)] = page
    }
}

@c(nvmm_vcpu_destroy) public func nvmmVCPUDestroy(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let owner = try unsafe found(machine)
        guard let machine = unsafe machine, let vcpu = unsafe vcpu else { throw ErrorNumber(EFAULT) }
        let id = unsafe vcpu.pointee.cpuid
        _ = try owner.destroyVCPU(id)
        unsafe machine.pointee.pages?[Int(id)] = nil
        unsafe vcpu.pointee.exit?.deallocate()
        unsafe vcpu.pointee.state = nil
        unsafe vcpu.pointee.event = nil
        unsafe vcpu.pointee.stop = nil
        unsafe vcpu.pointee.exit = nil
    }
}

@c(nvmm_vcpu_configure) public func nvmmVCPUConfigure(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?, _ operation: UInt64,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        guard let target = unsafe vcpu else { throw ErrorNumber(EFAULT) }
        if operation == UInt64(NVMM_VCPU_CONF_CALLBACKS) {
            // The library's own: no machine is asked.
            guard let argument = unsafe argument else { throw ErrorNumber(EFAULT) }
            unsafe target.pointee.cbs = argument.load(as: nvmm_assist_callbacks.self)
            return
        }
        let found = try unsafe found(machine, vcpu)
        let configuration: VCPUConfiguration
        switch operation {
        case UInt64(NVMM_VCPU_CONF_CPUID):
            guard let argument = unsafe argument else { throw ErrorNumber(EFAULT) }
            let rule = unsafe argument.load(as: nvmm_vcpu_conf_cpuid.self)
            configuration = .cpuid(leaf: rule.leaf, try CPUIDRule(rule))
        case UInt64(NVMM_VCPU_CONF_TPR):
            guard let argument = unsafe argument else { throw ErrorNumber(EFAULT) }
            configuration = .tpr(exitOnChange: unsafe argument.load(as: nvmm_vcpu_conf_tpr.self).exit_changed != 0)
        default: throw ErrorNumber(EINVAL)
        }
        try found.whileStill { () throws(ErrorNumber) in
            try mapping { () throws(VCPUError) in try found.vcpu.configure(configuration) }
        }
    }
}

extension CPUIDRule {
    /// - Throws: EINVAL where both are asked for.
    fileprivate init(_ rule: nvmm_vcpu_conf_cpuid) throws(ErrorNumber) {
        switch (rule.mask != 0, rule.exit != 0) {
        case (true, true): throw ErrorNumber(EINVAL)
        case (false, false): self = .remove
        case (false, true): self = .exit
        case (true, false):
            let (set, delete) = unsafe (rule.u.mask.set, rule.u.mask.del)
            self = .mask(
                set: CPUIDRegisters(eax: set.eax, ebx: set.ebx, ecx: set.ecx, edx: set.edx),
                delete: CPUIDRegisters(eax: delete.eax, ebx: delete.ebx, ecx: delete.ecx, edx: delete.edx))
        }
    }
}

// MARK: - State, events, runs

@c(nvmm_vcpu_setstate) public func nvmmVCPUSetState(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?, _ flags: UInt64
) -> Int32 {
    returning { () throws(ErrorNumber) in try unsafe found(machine, vcpu).setState(StateFlags(rawValue: flags)) }
}

@c(nvmm_vcpu_getstate) public func nvmmVCPUGetState(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?, _ flags: UInt64
) -> Int32 {
    returning { () throws(ErrorNumber) in try unsafe found(machine, vcpu).getState(StateFlags(rawValue: flags)) }
}

@c(nvmm_vcpu_inject) public func nvmmVCPUInject(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in try unsafe found(machine, vcpu).inject() }
}

@c(nvmm_vcpu_run) public func nvmmVCPURun(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let exit = try unsafe found(machine, vcpu).run()
        unsafe vcpu?.pointee.exit?.pointee = nvmm_x86_exit(exit)
    }
}

/// A store: signal handlers call it.
@c(nvmm_vcpu_stop) public func nvmmVCPUStop(_ vcpu: UnsafeMutablePointer<nvmm_vcpu>?) -> Int32 {
    unsafe vcpu?.pointee.stop?.pointee = 1
    return 0
}

/// Prints all registers on standard output.
@c(nvmm_vcpu_dump) public func nvmmVCPUDump(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let found = try unsafe found(machine, vcpu)
        try found.getState(.all)
        // Through C's buffer, among what the client prints.
        unsafe puts(dump(found.vcpu.commPage.state, vcpu: found.vcpu.id))
    }
}

/// Name and contract: <nvmm_publication.h>.
@c(nvmm_publication_offset) public func nvmmPublicationOffset() -> UInt32 { UInt32(NVMM_PUBLICATION_OFFSET) }
