// Guests of a few bytes that never exit, at 7C00 in real mode or in 64-bit mode.

import NVMM

/// A machine with 1 MiB of memory, one VCPU and `code`.
final class FlatGuest {
    let machine: any Machine
    let vcpu: any VCPU

    /// - Parameter memoryBytes: 1 MiB or more.
    init(_ code: [UInt8], isWide: Bool = false, memoryBytes: Int = 1 << 20, on backend: any Backend) throws {
        machine = try backend.createMachine()
        let memory = try machine.hvaMap(byteCount: memoryBytes)
        try machine.gpaMap(
            memory, offset: 0, gpa: GPA(0), byteCount: memoryBytes, protection: [.read, .write, .execute])
        try unsafe machine.write(memory, at: 0x7C00, code.span.bytes)
        vcpu = try machine.createVCPU(id: 0)
        var state = vcpu.commPage.state
        state[.cs] = Segment(attributes: SegmentAttributes(rawValue: 0x9B), limit: 0xFFFF)
        state[.rip] = 0x7C00
        state[.rsp] = 0x7000
        if isWide {
            // The first GiB as it is.
            try unsafe machine.write(memory, at: 0x9000, ([0x03, 0xA0, 0, 0, 0, 0, 0, 0] as [UInt8]).span.bytes)
            try unsafe machine.write(memory, at: 0xA000, ([0x83, 0, 0, 0, 0, 0, 0, 0] as [UInt8]).span.bytes)
            state[.cs] = Segment(selector: 8, attributes: SegmentAttributes(rawValue: 0xA9B), limit: .max)
            state[.cr0] = 0x8000_0011
            state[.cr3] = 0x9000
            state[.cr4] = 0x20
            state[.efer] = 0x500
        }
        vcpu.commPage.state = state
        vcpu.setState([.segments, .gprs, .crs, .msrs])
    }

    /// Nanoseconds for a run with its exit, of `count`; the code makes nothing but OUTs. What Benchmarks/exit_cost.c
    /// does in C.
    func exitCost(runs count: Int) throws -> Double {
        let start = ContinuousClock.now
        for _ in 0..<count {
            guard case .io(let exit) = try vcpu.run(budget: nil).exit.reason else { return .nan }
            try vcpu.getState(.gprs)
            vcpu.commPage.state[.rip] = exit.npc
            vcpu.setState(.gprs)
        }
        return (ContinuousClock.now - start) / .nanoseconds(count)
    }

    /// Runs until `instructions` have retired.
    func run(instructions: UInt64) throws {
        var left = instructions
        while left > 0 {
            let result = try vcpu.run(budget: left)
            left -= min(result.retired ?? left, left)
        }
    }
}

/// The loops that are timed.
enum FlatCode {
    /// Exits only.
    static let exits: [UInt8] = [
        0xE6, 0x80,  // again: out 0x80, al
        0xEB, 0xFC,  //        jmp again
    ]
    /// Registers only.
    static let arithmetic: [UInt8] = [
        0x01, 0xD8,  // again: add ax, bx
        0x31, 0xC2,  //        xor dx, ax
        0xC1, 0xC2, 0x03,  //  rol dx, 3
        0x83, 0xC3, 0x07,  //  add bx, 7
        0x49,  //              dec cx
        0x75, 0xF3,  //        jnz again
        0xEB, 0xF1,  //        jmp again
    ]
    /// The same in 64-bit mode, on 32 bits.
    static let wideArithmetic: [UInt8] = [
        0x01, 0xD8,  // again: add eax, ebx
        0x31, 0xC2,  //        xor edx, eax
        0xC1, 0xC2, 0x03,  //  rol edx, 3
        0x83, 0xC3, 0x07,  //  add ebx, 7
        0xFF, 0xC9,  //        dec ecx
        0x75, 0xF2,  //        jnz again
        0xEB, 0xF0,  //        jmp again
    ]
    static let wideMemory: [UInt8] = [
        0x8B, 0x03,  // again: mov eax, [rbx]
        0x03, 0x43, 0x04,  //  add eax, [rbx+4]
        0x89, 0x03,  //        mov [rbx], eax
        0xE8, 0x0B, 0, 0, 0,  // call next
        0x83, 0xC3, 0x04,  //  add ebx, 4
        0x81, 0xE3, 0xFF, 0x0F, 0, 0,  // and ebx, 0xFFF
        0xEB, 0xE9,  //        jmp again
        0x50,  // next: push rax
        0xFF, 0xC2,  //  inc edx
        0x58,  //       pop rax
        0xC3,  //       ret
    ]
    /// Loads, stores, calls and returns.
    static let memory: [UInt8] = [
        0x8B, 0x07,  // again: mov ax, [bx]
        0x03, 0x47, 0x02,  //  add ax, [bx+2]
        0x89, 0x07,  //        mov [bx], ax
        0xE8, 0x08, 0x00,  //  call next
        0x83, 0xC3, 0x04,  //  add bx, 4
        0x80, 0xE7, 0x0F,  //  and bh, 0x0F: stays below 0x1000
        0xEB, 0xEE,  //        jmp again
        0x50,  // next: push ax
        0x42,  //       inc dx
        0x58,  //       pop ax
        0xC3,  //       ret
    ]
}
