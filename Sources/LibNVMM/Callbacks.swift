// The client's device callbacks behind the assists: `struct nvmm_assist_callbacks`.

import Assists
import CNVMM
import NVMM

/// Hands the accesses of one assist to the client's C functions. A missing one answers as an empty bus does: all ones.
///
/// SAFETY: the two structures are the client's arguments of the assist that this lives in.
@safe final class Callbacks: AssistCallbacks {
    private let machine: UnsafeMutablePointer<nvmm_machine>
    private let vcpu: UnsafeMutablePointer<nvmm_vcpu>

    init(_ machine: UnsafeMutablePointer<nvmm_machine>, _ vcpu: UnsafeMutablePointer<nvmm_vcpu>) {
        unsafe self.machine = machine
        unsafe self.vcpu = vcpu
    }

    func access(_ access: inout IOAccess) {
        guard let function = unsafe vcpu.pointee.cbs.io else { return }
        var value = UInt64(access.value)
        unsafe withUnsafeMutableBytes(of: &value) { bytes in
            var io = unsafe nvmm_io()
            unsafe io.mach = machine
            unsafe io.vcpu = vcpu
            unsafe io.port = access.port
            unsafe io.`in` = access.isInput
            unsafe io.size = access.byteCount
            unsafe io.data = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe function(&io)
        }
        access.value = UInt32(truncatingIfNeeded: value)
    }

    func access(_ access: inout MemoryAccess) {
        guard let function = unsafe vcpu.pointee.cbs.mem else { return }
        var value = access.value
        unsafe withUnsafeMutableBytes(of: &value) { bytes in
            var memory = unsafe nvmm_mem()
            unsafe memory.mach = machine
            unsafe memory.vcpu = vcpu
            unsafe memory.gpa = access.gpa.rawValue
            unsafe memory.write = access.isWrite
            unsafe memory.size = access.byteCount
            unsafe memory.data = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe function(&memory)
        }
        access.value = value
    }
}
