// Instruction forms with chosen operands, assisted, against the backend executing the same on memory. All opcodes:
// OpcodeWalkTests.swift.

import Assists
import NVMM
import SoftBackend
import TestSupport
import Testing

/// One instruction on the data page, whose address is in rBX, rSI and rDI (offsets in real mode).
struct AssistCase: Sendable, CustomTestStringConvertible {
    let name: String
    let mode: GuestMode
    let bytes: [UInt8]
    /// Status flags that the manual leaves undefined.
    var undefinedFlags: UInt64 = 0
    /// Registers that must not be random.
    var registers: [GPR: UInt64] = [:]
    /// What stands at [rBX], where that must not be random.
    var operand: [UInt8] = []
    /// Whether the operand may lie across two pages.
    var mayCross = true
    /// The stack too is on the data page.
    var stackIsClosed = false
    var testDescription: String { "\(name) in \(mode)" }
}

private let adjust: UInt64 = 1 << 4
private let overflow: UInt64 = 1 << 11

private func cases() -> [AssistCase] {
    var list: [AssistCase] = []
    /// Forms in 32-bit code; the 16-bit ones come with prefix 66, in real mode the other way round.
    func add(_ name: String, _ bytes: [UInt8], undefined: UInt64 = 0, wide: Bool = true) {
        list.append(AssistCase(name: name, mode: .protected32, bytes: bytes, undefinedFlags: undefined))
        list.append(AssistCase(name: name, mode: .long64, bytes: bytes, undefinedFlags: undefined))
        guard wide else { return }
        let prefixed = [0x66] + bytes
        list.append(AssistCase(name: "16-bit \(name)", mode: .protected32, bytes: prefixed, undefinedFlags: undefined))
        list.append(AssistCase(name: "64-bit \(name)", mode: .long64, bytes: [0x48] + bytes, undefinedFlags: undefined))
    }
    for (index, name) in ["ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP"].enumerated() {
        let opcode = UInt8(index * 8)
        let undefined = [1, 4, 6].contains(index) ? adjust : 0
        add("\(name) [rBX], CL", [opcode, 0x0B], undefined: undefined, wide: false)
        add("\(name) [rBX], rCX", [opcode | 1, 0x0B], undefined: undefined)
        add("\(name) DH, [rBX]", [opcode | 2, 0x33], undefined: undefined, wide: false)
        add("\(name) rDX, [rBX]", [opcode | 3, 0x13], undefined: undefined)
        add("\(name) byte [rBX], imm", [0x80, UInt8(index << 3) | 3, 0x9C], undefined: undefined, wide: false)
        add("\(name) [rBX], imm8", [0x83, UInt8(index << 3) | 3, 0x9C], undefined: undefined)
        list.append(
            AssistCase(
                name: "\(name) dword [rBX], imm32", mode: .protected32,
                bytes: [0x81, UInt8(index << 3) | 3, 0x78, 0x56, 0x34, 0x92], undefinedFlags: undefined))
    }
    add("TEST [rBX], rCX", [0x85, 0x0B], undefined: adjust)
    add("TEST byte [rBX], imm", [0xF6, 0x03, 0x81], undefined: adjust, wide: false)
    add("NOT [rBX]", [0xF7, 0x13])
    add("NEG [rBX]", [0xF7, 0x1B])
    add("INC [rBX]", [0xFF, 0x03])
    add("DEC byte [rBX]", [0xFE, 0x0B], wide: false)
    add("XCHG [rBX], rCX", [0x87, 0x0B])
    add("XCHG [rBX], CH", [0x86, 0x2B], wide: false)
    add("MOV [rBX], rCX", [0x89, 0x0B])
    add("MOV rDX, [rBX]", [0x8B, 0x13])
    add("MOV AH, [rBX]", [0x8A, 0x23], wide: false)
    add("MOV byte [rBX], imm", [0xC6, 0x03, 0x5A], wide: false)
    add("MOV rDX, [rBX + rCX*2 + 5]", [0x8B, 0x54, 0x4B, 0x05])
    add("MOVZX rDX, byte [rBX]", [0x0F, 0xB6, 0x13])
    add("MOVZX EDX, word [rBX]", [0x0F, 0xB7, 0x13], wide: false)
    add("MOVSX rDX, byte [rBX]", [0x0F, 0xBE, 0x13])
    add("MOVSX EDX, word [rBX]", [0x0F, 0xBF, 0x13], wide: false)
    add("CMPXCHG [rBX], rCX", [0x0F, 0xB1, 0x0B])
    add("LOCK XADD [rBX], rCX", [0xF0, 0x0F, 0xC1, 0x0B], wide: false)
    add("XADD [rBX], rCX", [0x0F, 0xC1, 0x0B])
    add("BT [rBX], imm", [0x0F, 0xBA, 0x23, 0x0B], undefined: adjust | overflow | 0xC4)
    add("BTS [rBX], rCX", [0x0F, 0xAB, 0x0B], undefined: adjust | overflow | 0xC4)
    add("BTR [rBX], imm", [0x0F, 0xBA, 0x33, 0x05], undefined: adjust | overflow | 0xC4)
    add("BTC [rBX], imm", [0x0F, 0xBA, 0x3B, 0x0E], undefined: adjust | overflow | 0xC4)
    add("SHL [rBX], 1", [0xD1, 0x23], undefined: adjust)
    add("SHR [rBX], 3", [0xC1, 0x2B, 0x03], undefined: adjust | overflow)
    add("SAR [rBX], CL", [0xD3, 0x3B], undefined: adjust | overflow | 1)
    add("ROL [rBX], 1", [0xD1, 0x03])
    add("ROR [rBX], 5", [0xC1, 0x0B, 0x05], undefined: overflow)
    for code in 0..<16 as Range<UInt8> {
        add("SETcc \(code) [rBX]", [0x0F, 0x90 | code, 0x03], wide: false)
        add("CMOVcc \(code) rDX, [rBX]", [0x0F, 0x40 | code, 0x13])
    }
    add("PUSH [rBX]", [0xFF, 0x33], wide: false)
    add("POP [rBX]", [0x8F, 0x03], wide: false)
    for (name, opcode) in [("MOVS", 0xA4), ("CMPS", 0xA6), ("STOS", 0xAA), ("LODS", 0xAC), ("SCAS", 0xAE)]
        as [(String, UInt8)]
    {
        add("\(name)B", [opcode], wide: false)
        add(name, [opcode | 1])
        add("REP \(name)B", [0xF3, opcode], wide: false)
        add("REPNE \(name)B", [0xF2, opcode], wide: false)
    }
    addMore(&list)
    // Real mode: 16-bit addressing, prefixes turned round.
    list.append(AssistCase(name: "MOV AX, [BX]", mode: .real, bytes: [0x8B, 0x07]))
    list.append(AssistCase(name: "MOV EAX, [BX+SI]", mode: .real, bytes: [0x66, 0x8B, 0x00], mayCross: false))
    list.append(AssistCase(name: "XCHG [BX+DI+8], CX", mode: .real, bytes: [0x87, 0x49, 0x08], mayCross: false))
    list.append(AssistCase(name: "ADD byte [ES:disp16], 7", mode: .real, bytes: [0x26, 0x80, 0x06, 0x10, 0x00, 0x07]))
    list.append(AssistCase(name: "REP STOSW", mode: .real, bytes: [0xF3, 0xAB]))
    list.append(AssistCase(name: "MOV AL, [moffs16]", mode: .real, bytes: [0xA0, 0x34, 0x00]))
    // Addressing that only 64-bit mode has.
    list.append(AssistCase(name: "MOV ECX, [RIP+disp32]", mode: .long64, bytes: [0x8B, 0x0D, 0xFA, 0xEF, 0x01, 0x00]))
    list.append(AssistCase(name: "MOV R9D, [RBX]", mode: .long64, bytes: [0x44, 0x8B, 0x0B]))
    list.append(AssistCase(name: "MOVSXD RDX, [RBX]", mode: .long64, bytes: [0x48, 0x63, 0x13]))
    list.append(AssistCase(name: "ADD SIL, [RBX]", mode: .long64, bytes: [0x40, 0x02, 0x33]))
    list.append(AssistCase(name: "MOV EAX, [EBX]", mode: .long64, bytes: [0x67, 0x8B, 0x03]))
    return list
}

/// What the original's assist does not know.
private func addMore(_ list: inout [AssistCase]) {
    func add(
        _ name: String, _ bytes: [UInt8], undefined: UInt64 = 0, _ registers: [GPR: UInt64] = [:],
        operand: [UInt8] = [], stackIsClosed: Bool = false, modes: [GuestMode] = [.protected32, .long64]
    ) {
        for mode in modes {
            list.append(
                AssistCase(
                    name: name, mode: mode, bytes: bytes, undefinedFlags: undefined, registers: registers,
                    operand: operand, stackIsClosed: stackIsClosed))
        }
    }
    add("RCL [rBX], 1", [0xD1, 0x13])
    add("RCL word [rBX], 7", [0x66, 0xC1, 0x13, 0x07], undefined: overflow)
    add("RCR [rBX], CL", [0xD3, 0x1B], undefined: overflow)
    add("SHLD [rBX], EDX, 5", [0x0F, 0xA4, 0x13, 0x05], undefined: adjust | overflow)
    add("SHRD [rBX], EDX, CL", [0x0F, 0xAD, 0x13], undefined: adjust | overflow)
    add("MUL [rBX]", [0xF7, 0x23], undefined: 0xD4)
    add("IMUL byte [rBX]", [0xF6, 0x2B], undefined: 0xD4)
    add("IMUL EDX, [rBX]", [0x0F, 0xAF, 0x13], undefined: 0xD4)
    add("IMUL EDX, [rBX], 9", [0x6B, 0x13, 0x09], undefined: 0xD4)
    add("DIV [rBX]", [0xF7, 0x33], undefined: 0x8D5, [.rdx: 0, .rax: 0x1234_5678], operand: [3, 2, 1, 0])
    add("IDIV [rBX]", [0xF7, 0x3B], undefined: 0x8D5, [.rdx: 0, .rax: 0x1234], operand: [0xFD, 0xFF, 0xFF, 0xFF])
    add("BSF EDX, [rBX]", [0x0F, 0xBC, 0x13], undefined: 0x895)
    add("BSR EDX, [rBX]", [0x0F, 0xBD, 0x13], undefined: 0x895)
    add("CMPXCHG8B [rBX]", [0x0F, 0xC7, 0x0B])
    add(
        "CMPXCHG8B [rBX], equal", [0x0F, 0xC7, 0x0B], [.rax: 0x0403_0201, .rdx: 0x0807_0605],
        operand: [1, 2, 3, 4, 5, 6, 7, 8])
    // Which must be aligned.
    list.append(
        AssistCase(name: "CMPXCHG16B [rBX]", mode: .long64, bytes: [0x48, 0x0F, 0xC7, 0x0B], mayCross: false))
    add("XLAT", [0xD7], [.rax: 7])
    add("BOUND ECX, [rBX]", [0x62, 0x0B], operand: [0, 0, 0, 0, 9, 0, 0, 0], modes: [.protected32])
    add("ARPL [rBX], CX", [0x63, 0x0B], modes: [.protected32])
    add("LES EDX, [rBX]", [0xC4, 0x13], operand: [1, 2, 3, 4, 0, 0], modes: [.protected32])
    add("LSS EDX, [rBX]", [0x0F, 0xB2, 0x13], operand: [1, 2, 3, 4, 0x10, 0])
    add("LFS EDX, [rBX]", [0x0F, 0xB4, 0x13], operand: [1, 2, 3, 4, 0x10, 0])
    add("MOV FS, [rBX]", [0x8E, 0x23], operand: [0x10, 0])
    add("MOV [rBX], SS", [0x8C, 0x13])
    add("SGDT [rBX]", [0x0F, 0x01, 0x03])
    add("SIDT [rBX]", [0x0F, 0x01, 0x0B])
    add("LIDT [rBX]", [0x0F, 0x01, 0x1B], operand: [0xFF, 0x0F, 0, 0, 1, 0, 0, 0, 0, 0])
    add("SLDT [rBX]", [0x0F, 0x00, 0x03])
    add("SMSW [rBX]", [0x0F, 0x01, 0x23])
    add("LAR EDX, [rBX]", [0x0F, 0x02, 0x13], operand: [0x10, 0])
    add("VERW [rBX]", [0x0F, 0x00, 0x2B], operand: [0x10, 0])
    add("CALL [rBX]", [0xFF, 0x13], operand: [0, 0x12, 0, 0, 0, 0, 0, 0])
    add("JMP [rBX]", [0xFF, 0x23], operand: [0, 0x12, 0, 0, 0, 0, 0, 0])
    add("JMP FAR [rBX]", [0xFF, 0x2B], operand: [0, 0x12, 0, 0, 8, 0], modes: [.protected32])
    // The stack on the closed page.
    add("PUSH RDX", [0x52], stackIsClosed: true)
    add("PUSH [rBX]", [0xFF, 0x33], stackIsClosed: true)
    add("POP RDX", [0x5A], stackIsClosed: true)
    add("PUSHA", [0x60], stackIsClosed: true, modes: [.protected32])
    add("POPA", [0x61], stackIsClosed: true, modes: [.protected32])
    add("PUSHF", [0x9C], stackIsClosed: true)
    add("CALL", [0xE8, 0x10, 0, 0, 0], stackIsClosed: true)
    add("ENTER 8, 2", [0xC8, 8, 0, 2], [.rbp: AssistedGuest.data + 0x700], stackIsClosed: true)
    add("LEAVE", [0xC9], [.rbp: AssistedGuest.data + 0x300], stackIsClosed: true)
}

@Suite struct MemoryAssistTests {
    @Test(arguments: cases())
    func `an assisted instruction leaves what it leaves on memory`(_ test: AssistCase) throws {
        var random = SeededGenerator(seed: 0x5EED)
        var exits = 0
        for round in 0..<20 {
            var data = (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }
            data.replaceSubrange(16..<16 + test.operand.count, with: test.operand)
            var registers: [UInt64] = (0..<16).map { _ in random.next() }
            if round % 3 == 0 { for index in registers.indices { registers[index] = random.next() & 0xF } }
            // In some rounds the operands lie across the two pages, and repetitions are many.
            let place: UInt64 = round % 4 == 3 && test.mayCross ? 0xFEE : 0
            let start = (test.mode == .real ? 0 : AssistedGuest.data) + place
            registers[GPR.rcx.rawValue] &= 0x7
            if place > 0, test.name.hasPrefix("REP") { registers[GPR.rcx.rawValue] += 100 }
            registers[GPR.rbx.rawValue] = start + 16
            registers[GPR.rsi.rawValue] = start + 20
            registers[GPR.rdi.rawValue] = start + 40
            registers[GPR.rsp.rawValue] = test.stackIsClosed ? AssistedGuest.data + 0x800 : AssistedGuest.stack
            // Half of the time what CMPXCHG and SCAS look for is there.
            if round % 2 == 0 {
                registers[GPR.rax.rawValue] = data[16..<24].enumerated().reduce(0) {
                    $0 | UInt64($1.element) << UInt64($1.offset * 8)
                }
            }
            for (register, value) in test.registers { registers[register.rawValue] = value }
            let flags: UInt64 = 2 | random.next() & 0x8D5 | (round % 5 == 4 ? 0x400 : 0)

            data = [UInt8](repeating: 0, count: Int(place)) + data
            let native = try AssistedGuest(test.mode, code: test.bytes, dataIsMemory: true, data: data)
            let assisted = try AssistedGuest(test.mode, code: test.bytes, data: data)
            for guest in [native, assisted] {
                for (index, value) in registers.enumerated() { guest.vcpu.commPage.state.gprs[index] = value }
                guest.vcpu.commPage.state[.rflags] = flags
                guest.vcpu.setState(.all)
                // Commits, so that what is asked below is the state that was just set.
                _ = try guest.vcpu.run(budget: 0)
            }
            // A repeated instruction runs to its end on both.
            for _ in 0..<200 where native.vcpu.saveState()[.rip] == AssistedGuest.code { _ = try native.step() }
            for _ in 0..<200 where assisted.vcpu.saveState()[.rip] == AssistedGuest.code {
                exits += try assisted.step()
            }
            #expect(native.vcpu.saveState()[.rip] != AssistedGuest.code)

            var (expected, actual) = (native.vcpu.saveState(), assisted.vcpu.saveState())
            for register in GPR.allCases where register != .rflags {
                #expect(actual[register] == expected[register], "\(register), round \(round)")
            }
            let mask = ~test.undefinedFlags
            #expect(actual[.rflags] & mask == expected[.rflags] & mask, "RFLAGS, round \(round)")
            (actual[.rflags], actual[.tsc]) = (expected[.rflags], expected[.tsc])
            #expect(actual == expected, "segments and the like, round \(round)")
            #expect(assisted.dataBytes == native.dataBytes, "data, round \(round)")
        }
        #expect(exits > 0)
    }

    @Test func `a load across two pages is two accesses`() throws {
        let guest = try AssistedGuest(.protected32, code: [0x8B, 0x03])  // mov eax, [ebx]
        guest.vcpu.commPage.state[.rbx] = AssistedGuest.data + 0xFFE
        guest.device.bytes.replaceSubrange(0xFFE..<0x1002, with: [1, 2, 3, 4])
        _ = try guest.step()
        #expect(guest.vcpu.saveState()[.rax] == 0x0403_0201)
        #expect(guest.device.memoryLog.map(\.byteCount) == [2, 2])
        #expect(guest.device.memoryLog.map(\.gpa) == [GPA(0x20FFE), GPA(0x21000)])
    }

    @Test func `an instruction that is not emulated is named and changes nothing`() throws {
        let guest = try AssistedGuest(.long64, code: [0x0F, 0xAE, 0x03])  // fxsave [rbx]
        guest.vcpu.commPage.state[.rbx] = AssistedGuest.data
        let result = try guest.vcpu.run(budget: 1)
        guard case .memory(let exit) = result.exit.reason else {
            Issue.record("\(result.exit.reason)")
            return
        }
        #expect {
            try assistMemory(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
        } throws: { error in
            guard case .unsupported(let rip, let mnemonic, let bytes)? = error as? AssistError else { return false }
            return rip == 0x1000 && mnemonic == "fxsave" && bytes.bytes == [0x0F, 0xAE, 0x03]
        }
        #expect(guest.vcpu.commPage.stateCommit.isEmpty)
        #expect(guest.device.memoryLog.isEmpty)
    }

    /// Bytes of code, then the sizes of the loads and of the stores that they make.
    @Test(
        arguments: [
            ([0x8B, 0x03], [4], []), ([0x89, 0x03], [], [4]), ([0x01, 0x03], [4], [4]), ([0x0F, 0xAB, 0x03], [4], [4]),
            ([0xFF, 0x33], [8], []), ([0x8F, 0x03], [], [8]), ([0x48, 0x0F, 0xC7, 0x0B], [8, 8], [8, 8]),
            ([0x0F, 0x01, 0x03], [], [2, 8]), ([0xA6], [1, 1], []), ([0xA4], [1], [1]), ([0xFF, 0x13], [8], []),
            ([0x0F, 0xC0, 0x13], [1], [1]), ([0x86, 0x13], [1], [1]), ([0x66, 0xF7, 0x23], [2], []),
        ] as [([UInt8], [Int], [Int])])
    func `a device sees each access once, in its size`(code: [UInt8], loads: [Int], stores: [Int]) throws {
        let guest = try AssistedGuest(.long64, code: code)
        for register: GPR in [.rbx, .rsi, .rdi] { guest.vcpu.commPage.state[register] = AssistedGuest.data }
        _ = try guest.step()
        #expect(guest.device.memoryLog.filter { !$0.isWrite }.map(\.byteCount) == loads)
        #expect(guest.device.memoryLog.filter(\.isWrite).map(\.byteCount) == stores)
    }

    @Test func `what the processor would raise is named, and the guest is as it was`() throws {
        let guest = try AssistedGuest(.long64, code: [0xF7, 0x33])  // div dword [rbx], which reads 0
        guest.vcpu.commPage.state[.rbx] = AssistedGuest.data
        let before = guest.vcpu.commPage.state
        let result = try guest.vcpu.run(budget: 1)
        guard case .memory(let exit) = result.exit.reason else {
            Issue.record("\(result.exit.reason)")
            return
        }
        #expect(throws: AssistError.exception(vector: 0, errorCode: nil)) {
            try assistMemory(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
        }
        #expect(guest.vcpu.commPage.stateCommit.isEmpty)
        #expect(GPR.allCases.allSatisfy { guest.vcpu.saveState()[$0] == before[$0] })
    }

    @Test func `only the parts that changed are committed`() throws {
        for (code, parts) in [([0x8B, 0x03], .gprs), ([0x8E, 0x23], [.gprs, .segments])] as [([UInt8], StateFlags)] {
            let guest = try AssistedGuest(.protected32, code: code)
            guest.vcpu.commPage.state[.rbx] = AssistedGuest.data
            guest.device.bytes.replaceSubrange(0..<2, with: [0x10, 0])
            let result = try guest.vcpu.run(budget: 1)
            guard case .memory(let exit) = result.exit.reason else {
                Issue.record("\(result.exit.reason)")
                return
            }
            guest.vcpu.commPage.state[.fs].selector = 0
            try assistMemory(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
            #expect(guest.vcpu.commPage.stateCommit == parts)
        }
    }

    @Test func `instruction bytes that the exit does not carry are fetched`() throws {
        let guest = try AssistedGuest(.long64, code: [0x89, 0x0B])  // mov [rbx], ecx
        guest.vcpu.commPage.state[.rbx] = AssistedGuest.data
        guest.vcpu.commPage.state[.rcx] = 0x1234
        let result = try guest.vcpu.run(budget: 1)
        guard case .memory(var exit) = result.exit.reason else {
            Issue.record("\(result.exit.reason)")
            return
        }
        exit.instruction = InstructionBytes()
        try assistMemory(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
        #expect(guest.device.bytes[0..<2] == [0x34, 0x12])
        #expect(guest.vcpu.commPage.state[.rip] == 0x1002)
    }

    @Test func `PUSH of a device register onto a missing page reads nothing`() throws {
        let guest = try AssistedGuest(.long64, code: [0xFF, 0x33])  // push qword [rbx]
        guest.vcpu.commPage.state[.rbx] = AssistedGuest.data
        guest.vcpu.commPage.state[.rsp] = 0x40_0000  // 4 MiB is not mapped
        let result = try guest.vcpu.run(budget: 1)
        guard case .memory(let exit) = result.exit.reason else {
            Issue.record("\(result.exit.reason)")
            return
        }
        #expect(throws: AssistError.pageFault(address: GVA(0x3F_FFF8), errorCode: 2)) {
            try assistMemory(guest.vcpu, guest.machine, exit: exit, callbacks: guest.device)
        }
        #expect(guest.device.memoryLog.isEmpty)
    }
}
