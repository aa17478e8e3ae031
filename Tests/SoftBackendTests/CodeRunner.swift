// Runs a few instructions on a machine of its own: what the tests of instructions share.

import NVMM
import SoftBackend

/// 2 MiB of RAM at 0, code at 0x1000, flat segments. Nothing is mapped above.
struct CodeRunner {
    enum Mode: CaseIterable {
        /// CS, DS, ES, SS with base 0 and limit 0xFFFF.
        case real
        /// 32 bits, no paging.
        case protected
        /// 64 bits, the first GiB mapped as it is.
        case long
    }

    static let codeStart: UInt64 = 0x1000
    static let ramByteCount = 0x20_0000
    let machine: any Machine
    let vcpu: any VCPU
    let ram: MemoryObject

    init(_ mode: Mode = .protected, _ code: [UInt8], fault: InjectedFault = .none) throws {
        machine = try SoftBackend(fault: fault).createMachine()
        ram = try machine.hvaMap(byteCount: Self.ramByteCount)
        try machine.gpaMap(
            ram, offset: 0, gpa: GPA(0), byteCount: Self.ramByteCount, protection: [.read, .write, .execute])
        vcpu = try machine.createVCPU(id: 0)
        try write(Int(Self.codeStart), code)
        var state = VCPUState.reset
        state[.idt].limit = 0  // an exception shuts the machine down
        state[.rip] = Self.codeStart
        state[.rsp] = 0x8000
        let big: UInt16 = mode == .real ? 0 : 0xC00
        for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] {
            state[register] = Segment(
                attributes: SegmentAttributes(rawValue: 0x93 | big), limit: mode == .real ? 0xFFFF : .max)
        }
        switch mode {
        case .real: state[.cs] = Segment(attributes: SegmentAttributes(rawValue: 0x93), limit: 0xFFFF)
        case .protected:
            state[.cs] = Segment(selector: 8, attributes: SegmentAttributes(rawValue: 0xC9B), limit: .max)
            state[.cr0] = 0x11
        case .long:
            state[.cs] = Segment(selector: 8, attributes: SegmentAttributes(rawValue: 0xA9B), limit: .max)
            try write(0x9000, [0x03, 0xA0, 0, 0, 0, 0, 0, 0])  // PML4: the table at 0xA000
            try write(0xA000, [0x83, 0, 0, 0, 0, 0, 0, 0])  // 1 GiB at 0
            state[.cr0] = 0x8000_0011
            state[.cr3] = 0x9000
            state[.cr4] = 0x20
            state[.efer] = 0x500
        }
        vcpu.commPage.state = state
        vcpu.setState(.all)
    }

    func write(_ address: Int, _ bytes: [UInt8]) throws {
        try machine.withWritable(ram, address..<address + bytes.count) { span in
            for (index, byte) in bytes.enumerated() { span.storeBytes(of: byte, toByteOffset: index, as: UInt8.self) }
        }
    }

    func read(_ address: Int, _ byteCount: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try machine.withWritable(ram, address..<address + byteCount) { span in
            // SAFETY: the span is byteCount long.
            for index in 0..<byteCount {
                bytes.append(unsafe span.bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self))
            }
        }
        return bytes
    }

    /// Changes registers before the next run.
    func set(_ change: (inout VCPUState) -> Void) throws {
        try vcpu.getState(.all)
        change(&vcpu.commPage.state)
        vcpu.setState(.all)
    }

    @discardableResult func run(_ budget: UInt64) throws -> RunResult { try vcpu.run(budget: budget) }

    var state: VCPUState { vcpu.saveState() }
    subscript(register: GPR) -> UInt64 { state[register] }
}

enum Flag {
    static let carry: UInt64 = 1 << 0
    static let parity: UInt64 = 1 << 2
    static let auxiliary: UInt64 = 1 << 4
    static let zero: UInt64 = 1 << 6
    static let sign: UInt64 = 1 << 7
    static let direction: UInt64 = 1 << 10
    static let overflow: UInt64 = 1 << 11
    static let status = carry | parity | auxiliary | zero | sign | overflow

    /// SF, ZF and PF of a result.
    static func ofResult(_ value: UInt64, bits: UInt64) -> UInt64 {
        (value == 0 ? zero : 0) | (value >> (bits - 1) & 1 != 0 ? sign : 0)
            | (UInt8(truncatingIfNeeded: value).nonzeroBitCount % 2 == 0 ? parity : 0)
    }
}

/// The bytes of `opcode` on AL, AX, EAX or RAX in 64-bit mode; the opcode's low bit chooses bytes.
func sized(_ bits: UInt64, _ opcode: [UInt8]) -> [UInt8] {
    var bytes = opcode
    if bits != 8, let last = bytes.firstIndex(where: { $0 != 0x0F }), opcode[0] != 0x0F { bytes[last] |= 1 }
    switch bits {
    case 16: return [0x66] + bytes
    case 64: return [0x48] + bytes
    default: return bytes
    }
}
