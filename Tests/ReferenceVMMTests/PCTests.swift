// The PC as a whole: what it refuses, what shadowing does, how it ends, and that hostile guests do not stop it.

import Assists
import NVMM
@testable import ReferenceVMM
import SoftBackend
import TestSupport
import Testing

private func pc(_ code: [UInt8], vcpuCount: Int = 1) throws -> PC {
    try PC(
        machine: try SoftBackend().createMachine(),
        configuration: PCConfiguration(image: .flat(code), memoryBytes: 2 << 20, vcpuCount: vcpuCount))
}

@Suite struct PCTests {
    @Test func `configurations that cannot be are refused with their numbers`() throws {
        func error(_ configuration: PCConfiguration) -> PCError? {
            do {
                _ = try PC(machine: try SoftBackend().createMachine(), configuration: configuration)
                return nil
            } catch { return error as? PCError }
        }
        let hlt: PCConfiguration.Image = .flat([0xF4])
        let (low, high) = (PC.memoryBytesMinimum, PC.memoryBytesMaximum)
        #expect(
            error(PCConfiguration(image: hlt, memoryBytes: 4097)) == .memorySize(4097, minimum: low, maximum: high))
        #expect(
            error(PCConfiguration(image: hlt, memoryBytes: 4 << 30))
                == .memorySize(4 << 30, minimum: low, maximum: high))
        #expect(error(PCConfiguration(image: hlt, vcpuCount: 0)) == .vcpuCount(0, maximum: 16))
        #expect(error(PCConfiguration(image: hlt, sliceInstructions: 0)) == .sliceInstructions(0))
        #expect(error(PCConfiguration(image: .flat([]))) == .emptyImage)
        #expect(error(PCConfiguration(image: hlt, memoryBytes: 1 << 20)) == nil)
        #expect(error(PCConfiguration(image: .firmware([1, 2, 3]))) == .firmwareSize(3, maximum: 16 << 20))
        #expect(
            error(PCConfiguration(image: .flat([0xF4], loadAt: GPA(0x10000)))) == .loadAddressTooHigh(GPA(0x10000)))
        let large = [UInt8](repeating: 0, count: 0x98401)
        #expect(
            error(PCConfiguration(image: .flat(large)))
                == .flatImageTooLarge(gpa: GPA(0x7C00), byteCount: 0x98401, maximum: 0x98400))
        #expect(error(PCConfiguration(image: .flat(large.dropLast()))) == nil)
        #expect(error(PCConfiguration(image: .elf([0x7F, 0x45]))) == .badImageHeader(offset: 0))
        #expect(error(PCConfiguration(image: .multiboot([0xF4]))) == .badImageHeader(offset: 0))
    }

    @Test func `HLT with interrupts off never ends by itself`() throws {
        #expect(try pc([0xFA, 0xF4]).run() == .haltedForever)  // cli; hlt
    }

    @Test func `HLT with interrupts on but no timer never ends either`() throws {
        #expect(try pc([0xFB, 0xF4]).run() == .haltedForever)  // sti; hlt
    }

    @Test func `a triple fault is a shutdown`() throws {
        // lidt of an empty table; int3
        let guest = try pc([0x0F, 0x01, 0x1E, 0x06, 0x7C, 0xCC, 0, 0, 0, 0, 0, 0])
        #expect(try guest.run() == .shutdown(vcpu: 0))
        #expect(guest.exitCounts == ["SHUTDOWN": 1])
    }

    @Test(arguments: [
        [0xB0, 0xFE, 0xE6, 0x64] as [UInt8],  // mov al, 0xfe; out 0x64, al
        [0xB0, 0x01, 0xE6, 0x92],  // port 0x92
        [0xBA, 0xF9, 0x0C, 0xB0, 0x06, 0xEE],  // port 0xcf9
    ])
    func `each way to reset ends the run`(code: [UInt8]) throws {
        #expect(try pc(code + [0xF4]).run() == .resetRequested)
    }

    @Test func `the exit port gives twice the value plus one`() throws {
        #expect(try pc([0xB0, 0x2A, 0xE6, 0xF4]).run() == .exited(status: 0x55))
    }

    @Test func `cancellation is asked before every slice`() throws {
        let guest = try pc([0xEB, 0xFE])  // jmp $
        var asked = 0
        let outcome = try guest.run { () -> Bool in
            asked += 1
            return asked > 3
        }
        #expect(outcome == .cancelled)
        #expect(guest.instructions == 30_000_000)
    }

    @Test func `a 64-bit ELF is entered in long mode`() throws {
        var image: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0] + [UInt8](repeating: 0, count: 8)
        func little(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
        }
        image += little(2, 2) + little(62, 2) + little(1, 4) + little(0x10_0000, 8) + little(64, 8)
        image += little(0, 8) + little(0, 4) + little(64, 2) + little(56, 2) + little(1, 2) + little(0, 6)
        // mov rax, 0x1122334455667788; shr rax, 56; out 0xf4, al
        let code: [UInt8] = [
            0x48, 0xB8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x48, 0xC1, 0xE8, 56, 0xE6, 0xF4,
        ]
        image += little(1, 4) + little(5, 4) + little(120, 8) + little(0x10_0000, 8) + little(0x10_0000, 8)
        image += little(UInt64(code.count), 8) + little(UInt64(code.count), 8) + little(4096, 8) + code
        guard case .elf = GuestImage.detect(image) else {
            Issue.record("not detected")
            return
        }
        let machine = try SoftBackend().createMachine()
        let guest = try PC(machine: machine, configuration: PCConfiguration(image: .elf(image)))
        #expect(try guest.run() == .exited(status: 0x23))
        // Cut or damaged anywhere: an error or a guest that runs into nothing, never a trap.
        for count in 0..<image.count {
            let cut = PCConfiguration(image: .elf(Array(image[..<count])), memoryBytes: 2 << 20)
            _ = try? PC(machine: try SoftBackend().createMachine(), configuration: cut)
        }
    }

    @Test func `a multiboot image is entered in protected mode with its magic number`() throws {
        func little(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32($0 * 8)) } }
        let flags: UInt32 = 1 << 16
        var image = little(0x1BAD_B002) + little(flags) + little(0 &- 0x1BAD_B002 &- flags)
        image += little(0x10_0000) + little(0x10_0000) + little(0) + little(0) + little(0x10_0020)
        // shr eax, 24; out 0xf4, al
        image += [0xC1, 0xE8, 24, 0xE6, 0xF4]
        guard case .multiboot = GuestImage.detect(image) else {
            Issue.record("not detected")
            return
        }
        let configuration = PCConfiguration(image: .multiboot(image), memoryBytes: 2 << 20)
        let guest = try PC(machine: try SoftBackend().createMachine(), configuration: configuration)
        #expect(try guest.run() == .exited(status: 0x2B * 2 + 1))
    }

    @Test func `shadow ranges switch between ROM and RAM in all four ways`() throws {
        let machine = try SoftBackend().createMachine()
        let rom = (0..<131_072).map { UInt8(truncatingIfNeeded: $0 >> 12 &+ 1) }
        let memory = try PCMemory(machine: machine, byteCount: 2 << 20, firmware: rom)
        func shown() -> (isROM: Bool, writable: Bool)? {
            machine.gpaToHVA(GPA(0xF0000)).map { ($0.object === memory.rom, $0.protection.contains(.write)) }
        }
        func store(_ value: UInt64) {
            memory.storeBehindROM(
                MemoryAccess(vcpu: 0, gpa: GPA(0xF0000), isWrite: true, byteCount: 1, value: value))
        }
        #expect(shown()?.isROM == true)
        store(0x11)
        #expect(memory.readPhysical(0xF0000, byteCount: 1) == [0], "writes are off")
        memory.setShadow(register: 0x59, 0x20)  // write to RAM, read from ROM
        store(0x22)
        #expect(shown()?.isROM == true)
        #expect(memory.readPhysical(0xF0000, byteCount: 1) == [0x22])
        memory.setShadow(register: 0x59, 0x30)
        #expect(shown().map { !$0.isROM && $0.writable } == true)
        memory.setShadow(register: 0x59, 0x10)
        #expect(shown().map { !$0.isROM && !$0.writable } == true)
        #expect(machine.gpaToHVA(GPA(0xC0000)) == nil, "nothing where the ROM does not reach")
        #expect(machine.gpaToHVA(GPA(0xFFFF_FFF0))?.offset == 0x1FFF0)
        #expect(memory.failure == nil)
    }

    @Test func `random accesses to all ports and device pages never trap`() throws {
        var random = SeededGenerator(seed: 0xD1CE)
        let ports: [UInt16] = [
            0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x92, 0x1F0,
            0x1F1,
            0x1F2, 0x1F3, 0x1F4, 0x1F5, 0x1F6, 0x1F7, 0x3F6, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x402, 0x510, 0x511,
            0x514,
            0x518, 0xCF8, 0xCFC, 0xCFD, 0xCFE, 0xCFF, 0x600, 0x604, 0x608,
        ]
        for _ in 0..<4 {
            let machine = try SoftBackend().createMachine()
            let configuration = PCConfiguration(
                image: .firmware([UInt8](repeating: 0xF4, count: 65_536)), memoryBytes: 1 << 20, vcpuCount: 3,
                disk: [UInt8](repeating: 7, count: 100_000))
            let guest = try PC(machine: machine, configuration: configuration)
            for round in 0..<20_000 {
                machine.advanceClock(by: random.next() >> UInt64.random(in: 24...63, using: &random))
                guest.advanceDevices()
                if round % 3 == 0 {
                    let page = Bool.random(using: &random) ? LocalAPIC.address : IOAPIC.address
                    var access = MemoryAccess(
                        vcpu: UInt32.random(in: 0...2, using: &random),
                        gpa: GPA(page + UInt64.random(in: 0...0x400, using: &random)),
                        isWrite: Bool.random(using: &random),
                        byteCount: [1, 2, 4, 8].randomElement(using: &random) ?? 4,
                        value: random.next())
                    guest.access(&access)
                } else {
                    var access = IOAccess(
                        vcpu: 0, port: ports.randomElement(using: &random) ?? 0, isInput: Bool.random(using: &random),
                        byteCount: [1, 2, 4].randomElement(using: &random) ?? 1,
                        value: UInt32(truncatingIfNeeded: random.next()) >> UInt32.random(in: 0...31, using: &random))
                    guest.access(&access)
                }
                for processor in guest.processors where guest.hasInterrupt(processor) {
                    _ = guest.acknowledgeInterrupt(processor)
                }
                _ = guest.nextDeadline()
            }
            #expect(guest.memory.failure == nil)
            #expect(guest.failure == nil)
        }
    }
}
