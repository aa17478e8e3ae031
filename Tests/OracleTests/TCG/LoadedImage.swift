// A backend's machine with an image in its memory, about to enter it in real mode.

import NVMM

/// 16 MiB of RAM and one VCPU at ``SystemImage/loadAddress``, all other registers 0.
struct LoadedImage {
    let machine: any Machine
    let ram: MemoryObject
    let vcpu: any VCPU

    init(_ image: [UInt8], on backend: any Backend) throws {
        machine = try backend.createMachine()
        ram = try machine.hvaMap(byteCount: 16 << 20)
        try machine.gpaMap(
            ram, offset: 0, gpa: GPA(0), byteCount: ram.byteCount, protection: [.read, .write, .execute])
        try machine.write(ram, at: Int(SystemImage.loadAddress), bytes: image)
        vcpu = try machine.createVCPU(id: 0)
        var state = VCPUState.reset
        state[.rdx] = 0
        state[.cs] = Segment(attributes: SegmentAttributes(rawValue: 0x93), limit: 0xFFFF)
        state[.rip] = SystemImage.loadAddress
        vcpu.commPage.state = state
        vcpu.setState(.all)
    }
}
