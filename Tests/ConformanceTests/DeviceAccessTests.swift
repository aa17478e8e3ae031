// Every form of instruction that reaches a device, carried out by the assists: the guest must not be able to tell one
// backend from another, nor the device.

import Assists
import NVMM
import TestSupport
import Testing

/// A device that remembers what it was asked, and gives bytes that tell their place.
private final class Device: AssistCallbacks {
    private(set) var accesses: [String] = []

    func access(_ io: inout IOAccess) {
        if io.isInput { io.value = 0xA1B2_C3D4 &+ UInt32(accesses.count) &* 0x0101_0101 }
        let value = UInt64(io.value) & (1 << UInt64(io.byteCount * 8) - 1)
        accesses.append("\(io.isInput ? "in" : "out") \(io.port)/\(io.byteCount) \(value)")
    }

    func access(_ memory: inout MemoryAccess) {
        if !memory.isWrite { memory.value = 0x1122_3344_5566_7788 &+ UInt64(accesses.count) &* 0x0101 }
        let mask: UInt64 = memory.byteCount == 8 ? .max : 1 << UInt64(memory.byteCount * 8) - 1
        accesses.append("\(memory.isWrite ? "st" : "ld") \(memory.gpa)/\(memory.byteCount) \(memory.value & mask)")
    }
}

/// What is left when a guest has halted.
private struct Result: Equatable {
    var exits: [String] = []
    var accesses: [String] = []
    var registers: [UInt64] = []
    var data: [UInt8] = []
    var stack: [UInt8] = []
}

@Suite struct DeviceAccessTests {
    /// Guest physical memory that is no memory.
    private static let device: UInt64 = 0x40_0000

    struct Instruction: CustomTestStringConvertible, Sendable {
        var name: String
        var code: [UInt8]
        var testDescription: String { name }
    }

    // EBX holds the device's address, ESI and EDI the data's, ECX is 3, EDX 0x1F0, EAX 0x89ABCDEF.
    static let instructions = [
        Instruction(name: "mov [ebx], eax", code: [0x89, 0x03]),
        Instruction(name: "mov [ebx], ax", code: [0x66, 0x89, 0x03]),
        Instruction(name: "mov [ebx+5], al", code: [0x88, 0x43, 0x05]),
        Instruction(name: "mov dword [ebx+8], 0x12345678", code: [0xC7, 0x43, 8, 0x78, 0x56, 0x34, 0x12]),
        Instruction(name: "mov dword [fs:ebx+8], 0x12345678", code: [0x64, 0xC7, 0x43, 8, 0x78, 0x56, 0x34, 0x12]),
        Instruction(name: "mov eax, [ebx]", code: [0x8B, 0x03]),
        Instruction(name: "movzx ecx, byte [ebx+1]", code: [0x0F, 0xB6, 0x4B, 0x01]),
        Instruction(name: "add [ebx], eax", code: [0x01, 0x03]),
        Instruction(name: "add eax, [ebx]", code: [0x03, 0x03]),
        Instruction(name: "inc dword [ebx]", code: [0xFF, 0x03]),
        Instruction(name: "xchg [ebx], eax", code: [0x87, 0x03]),
        Instruction(name: "lock cmpxchg [ebx], ecx", code: [0xF0, 0x0F, 0xB1, 0x0B]),
        Instruction(name: "bts dword [ebx], 3", code: [0x0F, 0xBA, 0x2B, 0x03]),
        Instruction(name: "sete [ebx]", code: [0x0F, 0x94, 0x03]),
        Instruction(name: "cmp [ebx], eax", code: [0x39, 0x03]),
        Instruction(name: "push dword [ebx]", code: [0xFF, 0x33]),
        Instruction(name: "pop dword [ebx]", code: [0x8F, 0x03]),
        Instruction(name: "mov edi, ebx; stosd", code: [0x89, 0xDF, 0xAB]),
        Instruction(name: "mov edi, ebx; rep stosb", code: [0x89, 0xDF, 0xF3, 0xAA]),
        Instruction(name: "mov edi, ebx; std; rep stosw", code: [0x89, 0xDF, 0xFD, 0x66, 0xF3, 0xAB]),
        Instruction(name: "mov edi, ebx; movsd", code: [0x89, 0xDF, 0xA5]),
        Instruction(name: "mov edi, ebx; rep movsd", code: [0x89, 0xDF, 0xF3, 0xA5]),
        Instruction(name: "mov esi, ebx; movsb", code: [0x89, 0xDE, 0xA4]),
        Instruction(name: "mov esi, ebx; rep movsd", code: [0x89, 0xDE, 0xF3, 0xA5]),
        Instruction(name: "mov esi, ebx; lodsd", code: [0x89, 0xDE, 0xAD]),
        Instruction(name: "mov esi, ebx; rep lodsb", code: [0x89, 0xDE, 0xF3, 0xAC]),
        Instruction(name: "mov edi, ebx; scasd", code: [0x89, 0xDF, 0xAF]),
        Instruction(name: "in al, dx", code: [0xEC]),
        Instruction(name: "in eax, 0x20", code: [0xE5, 0x20]),
        Instruction(name: "out dx, ax", code: [0x66, 0xEF]),
        Instruction(name: "out 0x20, al", code: [0xE6, 0x20]),
        Instruction(name: "insb", code: [0x6C]),
        Instruction(name: "rep insd", code: [0xF3, 0x6D]),
        Instruction(name: "std; rep insw", code: [0xFD, 0x66, 0xF3, 0x6D]),
        Instruction(name: "outsb", code: [0x6E]),
        Instruction(name: "rep outsd", code: [0xF3, 0x6F]),
        Instruction(name: "std; rep outsb", code: [0xFD, 0xF3, 0x6E]),
    ]

    @Test(arguments: BackendUnderTest.available, instructions)
    func `an instruction on a device is shown before it began, and is done once`(
        backend: BackendUnderTest, instruction: Instruction
    ) throws {
        let seen = try carryOut(instruction, on: backend)
        let expected = try carryOut(instruction, on: .soft)
        #expect(!seen.accesses.isEmpty)
        #expect(seen == expected)
    }

    private func carryOut(_ instruction: Instruction, on backend: BackendUnderTest) throws -> Result {
        let guest = try backend.protectedGuest()
        guest.change { state in
            state[.rax] = 0x89AB_CDEF
            state[.rbx] = Self.device
            state[.fs].base = 0x1000
            state[.rcx] = 3
            state[.rdx] = 0x1F0
            state[.rsi] = GuestLayout.data + 0x20
            state[.rdi] = GuestLayout.data + 0x80
        }
        let data = (0..<UInt8(0xF0)).map { $0 &* 7 &+ 1 }
        try guest.write(data, at: GuestLayout.data)
        try guest.write(Array(data.prefix(0x40)), at: GuestLayout.stack - 0x20)
        try guest.write(instruction.code + [0xF4], at: GuestLayout.code)
        let device = Device()
        var result = Result()
        for _ in 0..<64 {
            let exit = try backend.run(guest)
            let registers = guest.state
            switch exit.reason {
            case .io(let io):
                result.exits.append("\(exit.reason) at \(registers[.rip]) \(registers[.rcx])")
                try assistIO(guest.vcpu, guest.machine, exit: io, callbacks: device)
            case .memory(let memory):
                // Which access of an instruction comes first is seen alike; a device's load and store are one exit.
                result.exits.append("\(memory.gpa) at \(registers[.rip]) \(registers[.rcx])")
                try assistMemory(guest.vcpu, guest.machine, exit: memory, callbacks: device)
            case .halted:
                result.accesses = device.accesses
                // RF is shown as the hypervisor likes.
                result.registers = GPR.allCases.map { registers[$0] & ($0 == .rflags ? ~0x1_0000 : .max) }
                result.data = guest.read(GuestLayout.data, byteCount: 0x100)
                result.stack = guest.read(GuestLayout.stack - 0x40, byteCount: 0x80)
                return result
            default:
                Issue.record("exit \(exit.reason) at \(registers[.rip])")
                return result
            }
        }
        Issue.record("the guest does not halt")
        return result
    }
}
