// Functions of <nvmm.h> on guest memory, and the assists that complete an access to it or to a port.

import Assists
public import CNVMM
import Glibc
import NVMM

@c(nvmm_hva_map) public func nvmmHVAMap(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ hva: UInt, _ byteCount: Int
) -> Int32 {
    returning { () throws(ErrorNumber) in
        try unsafe found(machine).mapHVA(hva, byteCount: UInt(bitPattern: byteCount))
    }
}

@c(nvmm_hva_unmap) public func nvmmHVAUnmap(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ hva: UInt, _ byteCount: Int
) -> Int32 {
    returning { () throws(ErrorNumber) in
        try unsafe found(machine).unmapHVA(hva, byteCount: UInt(bitPattern: byteCount))
    }
}

@c(nvmm_gpa_map) public func nvmmGPAMap(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ hva: UInt, _ gpa: UInt64, _ byteCount: Int, _ protection: Int32
) -> Int32 {
    returning { () throws(ErrorNumber) in
        try unsafe found(machine).mapGPA(
            gpa, hva: hva, byteCount: UInt(bitPattern: byteCount), protection: protection)
    }
}

@c(nvmm_gpa_unmap) public func nvmmGPAUnmap(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ hva: UInt, _ gpa: UInt64, _ byteCount: Int
) -> Int32 {
    returning { () throws(ErrorNumber) in
        try unsafe found(machine).unmapGPA(gpa, hva: hva, byteCount: UInt(bitPattern: byteCount))
    }
}

@c(nvmm_gpa_to_hva) public func nvmmGPAToHVA(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ gpa: UInt64, _ hva: UnsafeMutablePointer<UInt>?,
    _ protection: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let place = try unsafe found(machine).hva(of: gpa)
        guard let hva = unsafe hva, let protection = unsafe protection else { throw ErrorNumber(EFAULT) }
        unsafe hva.pointee = place.hva
        unsafe protection.pointee = place.protection.rawValue
    }
}

@c(nvmm_gva_to_gpa) public func nvmmGVAToGPA(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?, _ gva: UInt64,
    _ gpa: UnsafeMutablePointer<UInt64>?, _ protection: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let owner = try unsafe found(machine)
        let found = try unsafe found(machine, vcpu)
        guard let gpa = unsafe gpa, let protection = unsafe protection else { throw ErrorNumber(EFAULT) }
        let translation = try mapping { () throws(AssistError) in
            try gvaToGPA(GVA(gva), of: found.vcpu, in: owner.machine)
        }
        guard let translation else { throw ErrorNumber(EFAULT) }
        unsafe gpa.pointee = translation.gpa.rawValue
        unsafe protection.pointee = translation.protection.rawValue
    }
}

// MARK: - Assists

@c(nvmm_assist_io) public func nvmmAssistIO(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let owner = try unsafe found(machine)
        let found = try unsafe found(machine, vcpu)
        guard let machine = unsafe machine, let vcpu = unsafe vcpu else { throw ErrorNumber(EFAULT) }
        guard case .io(let exit) = found.exit.reason else { throw ErrorNumber(EINVAL) }
        let callbacks = unsafe Callbacks(machine, vcpu)
        try mapping { () throws(AssistError) in
            try assistIO(found.vcpu, owner.machine, exit: exit, callbacks: callbacks)
        }
    }
}

@c(nvmm_assist_mem) public func nvmmAssistMemory(
    _ machine: UnsafeMutablePointer<nvmm_machine>?, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>?
) -> Int32 {
    returning { () throws(ErrorNumber) in
        let owner = try unsafe found(machine)
        let found = try unsafe found(machine, vcpu)
        guard let machine = unsafe machine, let vcpu = unsafe vcpu else { throw ErrorNumber(EFAULT) }
        guard case .memory(let exit) = found.exit.reason else { throw ErrorNumber(EINVAL) }
        let callbacks = unsafe Callbacks(machine, vcpu)
        try mapping { () throws(AssistError) in
            try assistMemory(found.vcpu, owner.machine, exit: exit, callbacks: callbacks)
        }
    }
}
