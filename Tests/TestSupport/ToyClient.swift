// A VMM of a screenful for the toy backend: loads a guest and answers its exits, as a function of what the API returns.

public import NVMM

/// Runs a guest in flat 32-bit mode on one VCPU.
public final class ToyClient {
    public let machine: any Machine
    public let vcpu: any VCPU
    public let memory: MemoryObject
    /// Bytes that the guest wrote to port 0x19.
    public private(set) var output: [UInt8] = []
    public private(set) var exitNames: [String] = []
    /// Instructions for each run; the list is used in turn. Empty: no bound.
    public var budgets: [UInt64?] = []
    /// Interrupt vector for each HLT; nil: none.
    public var vector: UInt8? = 0x20
    /// Called before each run.
    public var beforeRun: (ToyClient) throws -> Void = { _ in }
    private var input: UInt64 = 0x30

    public static let codeAddress = 0x1000
    public static let handlerAddress = 0x2000
    public static let dataAddress = 0x3000
    public static let tableAddress = 0x4000

    /// A loop of three rounds: arithmetic, a store, OUT and IN; then HLT, and again.
    public static let guest: [UInt8] = [
        0xB9, 0x03, 0x00, 0x00, 0x00,  // 1000 mov ecx, 3
        0xB8, 0x05, 0x00, 0x00, 0x00,  // 1005 mov eax, 5
        0x01, 0xC8,  // 100a add eax, ecx
        0xA3, 0x00, 0x30, 0x00, 0x00,  // 100c mov [0x3000], eax
        0xE6, 0x19,  // 1011 out 0x19, al
        0xE4, 0x60,  // 1013 in al, 0x60
        0x05, 0x07, 0x00, 0x00, 0x00,  // 1015 add eax, 7
        0x90,  // 101a nop
        0x49,  // 101b dec ecx
        0x75, 0xE7,  // 101c jnz 1005
        0xF4,  // 101e hlt
        0xEB, 0xDF,  // 101f jmp 1000
    ]

    public init(on backend: any Backend, guest: [UInt8] = ToyClient.guest, memoryBytes: Int = 0x10000) throws {
        machine = try backend.createMachine()
        memory = try machine.hvaMap(byteCount: memoryBytes)
        try machine.gpaMap(
            memory, offset: 0, gpa: GPA(0), byteCount: memoryBytes, protection: [.read, .write, .execute])
        vcpu = try machine.createVCPU(id: 0)
        try write(guest, at: Self.codeAddress)
        try write([0x42, 0xC3], at: Self.handlerAddress)  // inc edx; ret
        try write([0x4A, 0xC3], at: Self.handlerAddress + 0x10)  // dec edx; ret
        for vector in 0..<256 {
            try write([UInt8(vector == 0x20 ? 0 : 0x10), 0x20, 0, 0], at: Self.tableAddress + vector * 4)
        }
        // As the API allows after a create: the page holds the reset state, all cached.
        vcpu.commPage.state[.rip] = UInt64(Self.codeAddress)
        vcpu.commPage.state[.rsp] = 0x8000
        vcpu.commPage.state[.cr0] |= 1
        for register: SegmentRegister in [.cs, .ds, .es, .ss] {
            let type: UInt16 = register == .cs ? 0xB : 0x3
            vcpu.commPage.state[register] = Segment(
                selector: register == .cs ? 8 : 16, attributes: SegmentAttributes(rawValue: 0xC90 | type),
                limit: 0xFFFF_FFFF)
        }
        vcpu.commPage.state[.idt] = Segment(limit: 0x3FF, base: UInt64(Self.tableAddress))
        vcpu.setState([.gprs, .segments, .crs])
    }

    public func write(_ bytes: [UInt8], at offset: Int) throws {
        // SAFETY: the span views the array's initialised bytes and ends with the call.
        try unsafe machine.write(memory, at: offset, bytes.span.bytes)
    }

    /// Runs `count` times, answering each exit.
    public func run(_ count: Int) throws {
        for _ in 0..<count {
            try beforeRun(self)
            let budget = budgets.isEmpty ? nil : budgets[exitNames.count % budgets.count]
            let result = try vcpu.run(budget: budget)
            exitNames.append(result.exit.reason.name)
            try answer(result.exit.reason)
        }
    }

    private func answer(_ reason: ExitReason) throws {
        switch reason {
        case .io(let exit):
            try vcpu.getState(.gprs)
            if exit.isInput {
                input += 1
                vcpu.commPage.state[.rax] = input
            } else {
                output.append(UInt8(truncatingIfNeeded: vcpu.commPage.state[.rax]))
            }
            vcpu.commPage.state[.rip] = exit.npc
            vcpu.setState(.gprs)
        case .readMSR(let exit):
            vcpu.commPage.state[.rax] = 0x11
            vcpu.commPage.state[.rdx] = 0
            vcpu.commPage.state[.rip] = exit.npc
            vcpu.setState(.gprs)
        case .writeMSR(let exit):
            vcpu.commPage.state[.rip] = exit.npc
            vcpu.setState(.gprs)
        case .cpuid(let npc):
            try vcpu.getState(.gprs)
            vcpu.commPage.state[.rip] = npc
            vcpu.setState(.gprs)
        case .halted:
            machine.advanceClock(by: 100)
            guard let vector else { return }
            vcpu.commPage.event = VCPUEvent(kind: .interrupt, vector: vector)
            vcpu.inject()
        default: break
        }
    }
}
