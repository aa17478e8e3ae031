// Guests of a few bytes, in real mode at 0000:7C00, and the smallest VMM that drives them.

import NVMM

/// A machine with 1 MiB of memory, one VCPU and `code`.
final class FlatGuest {
    let machine: any Machine
    let vcpu: any VCPU
    /// Answers of IN, so that registers change as they would with a device.
    private var answer: UInt64 = 0x9E37_79B9_7F4A_7C15

    init(_ code: [UInt8], on backend: any Backend) throws {
        machine = try backend.createMachine()
        let memory = try machine.hvaMap(byteCount: 1 << 20)
        try machine.gpaMap(memory, offset: 0, gpa: GPA(0), byteCount: 1 << 20, protection: [.read, .write, .execute])
        try unsafe machine.write(memory, at: 0x7C00, code.span.bytes)
        vcpu = try machine.createVCPU(id: 0)
        var state = vcpu.commPage.state
        state[.cs] = Segment(attributes: SegmentAttributes(rawValue: 0x9B), limit: 0xFFFF)
        state[.rip] = 0x7C00
        state[.rsp] = 0x7000
        vcpu.commPage.state = state
        vcpu.setState([.segments, .gprs])
    }

    /// Runs until `instructions` have retired.
    func run(instructions: UInt64) throws {
        var left = instructions
        while left > 0 {
            let result = try vcpu.run(budget: left)
            left -= min(result.retired ?? left, left)
            if case .none = result.exit.reason { continue }
            try complete(result.exit)
        }
    }

    /// Runs until the VMM has completed `exits` exits.
    func run(exits: Int) throws {
        var done = 0
        while done < exits {
            let result = try vcpu.run(budget: nil)
            try complete(result.exit)
            done += 1
        }
    }

    private func complete(_ exit: VCPUExit) throws {
        guard case .io(let access) = exit.reason else { return }
        try vcpu.getState(.gprs)
        if access.isInput {
            answer = answer &* 0x5851_F42D_4C95_7F2D &+ 0x1405_7B7E_F767_814F
            let mask: UInt64 = access.operandBytes == 1 ? 0xFF : access.operandBytes == 2 ? 0xFFFF : 0xFFFF_FFFF
            let kept = access.operandBytes == 4 ? 0 : vcpu.commPage.state[.rax] & ~mask
            vcpu.commPage.state[.rax] = kept | (answer >> 32) & mask
        }
        vcpu.commPage.state[.rip] = access.npc
        vcpu.setState(.gprs)
    }
}

/// The loops that are timed, and the one that exits.
enum FlatCode {
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
    /// Loads, stores, calls and returns.
    static let memory: [UInt8] = [
        0x8B, 0x07,  // again: mov ax, [bx]
        0x03, 0x47, 0x02,  //  add ax, [bx+2]
        0x89, 0x07,  //        mov [bx], ax
        0xE8, 0x07, 0x00,  //  call next
        0x83, 0xC3, 0x04,  //  add bx, 4
        0x80, 0xE7, 0x0F,  //  and bh, 0x0F: stays below 0x1000
        0xEB, 0xEE,  //        jmp again
        0x50,  // next: push ax
        0x42,  //       inc dx
        0x58,  //       pop ax
        0xC3,  //       ret
    ]
    /// An exit every few instructions, of three kinds, with registers that change.
    static let exits: [UInt8] = [
        0x40,  // again: inc ax
        0xE6, 0x80,  //  out 0x80, al
        0xBA, 0xF8, 0x03,  // mov dx, 0x3f8
        0xEC,  //        in al, dx
        0x00, 0xC3,  //  add bl, al
        0x89, 0xD8,  //  mov ax, bx
        0xEE,  //        out dx, al
        0xE5, 0x40,  //  in ax, 0x40
        0x01, 0xC6,  //  add si, ax
        0xEB, 0xEE,  //  jmp again
    ]
}
