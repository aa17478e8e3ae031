// Each device by itself: what its data sheet promises, and that no guest value stops it.

@testable import ReferenceVMM
import TestSupport
import Testing

@Suite struct InterruptController8259Tests {
    private func initialised() -> InterruptController8259 {
        let controller = InterruptController8259()
        for (port, value) in [
            (0x20, 0x11), (0xA0, 0x11), (0x21, 0x08), (0xA1, 0x70), (0x21, 0x04), (0xA1, 0x02), (0x21, 0x01),
            (0xA1, 0x01), (0x21, 0x00), (0xA1, 0x00),
        ] as [(UInt16, UInt8)] { controller.write(port: port, value) }
        return controller
    }

    @Test func `the lowest line wins and blocks those below until its EOI`() {
        let controller = initialised()
        controller.set(line: 4, true)
        controller.set(line: 1, true)
        #expect(controller.acknowledge() == 0x09)
        #expect(!controller.hasInterrupt)
        controller.set(line: 0, true)
        #expect(controller.acknowledge() == 0x08)
        controller.write(port: 0x20, 0x20)
        controller.write(port: 0x20, 0x20)
        #expect(controller.acknowledge() == 0x0C)
    }

    @Test func `a line of the secondary comes through the cascade with its own vector`() {
        let controller = initialised()
        controller.set(line: 14, true)
        #expect(controller.acknowledge() == 0x76)
        controller.write(port: 0xA0, 0x0B)
        #expect(controller.read(port: 0xA0) == 0x40, "in service")
        controller.write(port: 0xA0, 0x20)
        controller.write(port: 0x20, 0x20)
        controller.set(line: 14, false)
        #expect(!controller.hasInterrupt)
    }

    @Test func `a masked line is held and comes when it is opened`() {
        let controller = initialised()
        controller.write(port: 0x21, 0xFF)
        controller.set(line: 0, true)
        controller.set(line: 0, false)
        #expect(!controller.hasInterrupt)
        controller.write(port: 0x21, 0xFE)
        #expect(controller.acknowledge() == 0x08)
    }

    @Test func `a level-triggered line asks again after its EOI`() {
        let controller = initialised()
        controller.write(port: 0x4D1, 0x08)
        controller.set(line: 11, true)
        #expect(controller.acknowledge() == 0x73)
        controller.write(port: 0xA0, 0x20)
        controller.write(port: 0x20, 0x20)
        #expect(controller.acknowledge() == 0x73)
    }

    @Test func `an acknowledge without a request is spurious`() {
        #expect(initialised().acknowledge() == 0x0F)
    }
}

@Suite struct IntervalTimer8254Tests {
    @Test func `mode 2 raises its output every period`() {
        let timer = IntervalTimer8254()
        timer.write(port: 0x43, 0x34, at: 0)
        timer.write(port: 0x40, 0x00, at: 0)
        timer.write(port: 0x40, 0x10, at: 0)  // 4096 ticks
        let period: UInt64 = 3_432_838  // 4096 / 1193182 s, rounded up to a nanosecond
        #expect(timer.nextEdge == period)
        #expect(!timer.advance(to: period - 1))
        #expect(timer.advance(to: period))
        #expect(timer.nextEdge == 6_865_676)
        #expect(timer.advance(to: 100_000_000))
        #expect(!timer.advance(to: 100_000_000))
    }

    @Test func `mode 0 raises its output once, and the count is latched`() {
        let timer = IntervalTimer8254()
        timer.write(port: 0x43, 0x30, at: 0)
        timer.write(port: 0x40, 0xE8, at: 0)
        timer.write(port: 0x40, 0x03, at: 0)  // 1000
        timer.write(port: 0x43, 0x00, at: 419_048)  // latch after 500 ticks
        #expect(timer.read(port: 0x40, at: 600_000) == 0xF4)
        #expect(timer.read(port: 0x40, at: 600_000) == 0x01)
        #expect(timer.advance(to: 838_096))
        #expect(timer.nextEdge == .max)
    }

    @Test func `channel 2 runs with its gate and shows its output at port 0x61`() {
        let timer = IntervalTimer8254()
        timer.write(port: 0x61, 0x01, at: 0)
        timer.write(port: 0x43, 0xB0, at: 0)
        timer.write(port: 0x42, 100, at: 0)
        timer.write(port: 0x42, 0, at: 0)
        #expect(timer.read(port: 0x61, at: 83_000) & 0x20 == 0)
        #expect(timer.read(port: 0x61, at: 84_000) & 0x20 != 0)
    }

    @Test func `a count of zero is 65536`() {
        let timer = IntervalTimer8254()
        timer.write(port: 0x43, 0x36, at: 0)
        timer.write(port: 0x40, 0, at: 0)
        timer.write(port: 0x40, 0, at: 0)
        #expect(timer.nextEdge == 54_925_402)  // 18.2 Hz
    }
}

@Suite struct RealTimeClockTests {
    private func register(_ clock: RealTimeClock, _ index: UInt8, at time: UInt64) -> UInt8 {
        clock.write(port: 0x70, index, at: time)
        return clock.read(port: 0x71, at: time)
    }

    @Test func `the date starts where it is told and runs with the machine's clock`() {
        let clock = RealTimeClock(startSeconds: 951_868_799)  // 2000-02-29 23:59:59
        let before = [0x32, 9, 8, 7, 6, 4, 2, 0].map { register(clock, $0, at: 0) }
        #expect(before == [0x20, 0x00, 0x02, 0x29, 0x03, 0x23, 0x59, 0x59])
        let after = [0x32, 9, 8, 7, 6, 4, 2, 0].map { register(clock, $0, at: 1_000_000_000) }
        #expect(after == [0x20, 0x00, 0x03, 0x01, 0x04, 0x00, 0x00, 0x00])
    }

    @Test func `the periodic interrupt comes at its rate and is cleared by reading`() {
        let clock = RealTimeClock(startSeconds: 0)
        clock.write(port: 0x70, 0x0B, at: 0)
        clock.write(port: 0x71, 0x42, at: 0)
        #expect(clock.nextEvent == 976_562)  // 1024 Hz
        clock.advance(to: 976_561)
        #expect(!clock.interruptLine)
        clock.advance(to: 976_562)
        #expect(clock.interruptLine)
        #expect(register(clock, 0x0C, at: 976_562) & 0xC0 == 0xC0)
        #expect(!clock.interruptLine)
    }

    @Test func `what was written as time is read back`() {
        let clock = RealTimeClock(startSeconds: 0)
        for (index, value) in [(0, 0x12), (2, 0x34), (4, 0x17), (7, 0x31), (8, 0x12), (9, 0x99), (0x32, 0x19)]
            as [(UInt8, UInt8)]
        {
            clock.write(port: 0x70, index, at: 5)
            clock.write(port: 0x71, value, at: 5)
        }
        #expect(
            [0x32, 9, 8, 7, 4, 2, 0].map { register(clock, $0, at: 5) } == [0x19, 0x99, 0x12, 0x31, 0x17, 0x34, 0x12])
    }
}

@Suite struct ATADiskTests {
    private func disk(_ sectors: Int) -> ATADisk {
        ATADisk(content: (0..<sectors * 512).map { UInt8(truncatingIfNeeded: $0 / 512 &+ $0) })
    }

    private func command(_ disk: ATADisk, _ code: UInt8, lba: UInt32, count: UInt8) {
        let values: [UInt8] = [
            count, UInt8(lba & 0xFF), UInt8(lba >> 8 & 0xFF), UInt8(lba >> 16 & 0xFF), 0xE0 | UInt8(lba >> 24), code,
        ]
        for (index, value) in values.enumerated() {
            disk.write(port: 0x1F2 + UInt16(index), byteCount: 1, UInt32(value))
        }
    }

    @Test func `sectors are read by LBA with one interrupt each`() {
        let disk = disk(10)
        command(disk, 0x20, lba: 3, count: 2)
        for sector in 3..<5 {
            #expect(disk.interruptLine)
            #expect(disk.read(port: 0x1F7, byteCount: 1) == 0x58)
            #expect(!disk.interruptLine)
            let bytes = (0..<128).flatMap { _ in
                let word = disk.read(port: 0x1F0, byteCount: 4)
                return (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) }
            }
            #expect(bytes == Array(disk.content[sector * 512..<(sector + 1) * 512]))
        }
        #expect(disk.read(port: 0x1F7, byteCount: 1) == 0x50)
    }

    @Test func `what is written is on the disk`() {
        let disk = disk(10)
        command(disk, 0x30, lba: 9, count: 1)
        #expect(disk.read(port: 0x3F6, byteCount: 1) == 0x58)
        for index in 0..<256 { disk.write(port: 0x1F0, byteCount: 2, UInt32(index * 257)) }
        #expect(disk.read(port: 0x1F7, byteCount: 1) == 0x50)
        #expect(disk.content[9 * 512..<9 * 512 + 6] == [0, 0, 1, 1, 2, 2])
        command(disk, 0x20, lba: 9, count: 1)
        #expect((0..<3).map { _ in disk.read(port: 0x1F0, byteCount: 2) } == [0, 257, 514])
    }

    @Test func `sectors beyond the end are not found`() {
        let disk = disk(10)
        command(disk, 0x20, lba: 9, count: 2)
        #expect(disk.read(port: 0x1F7, byteCount: 1) == 0x51)
        #expect(disk.read(port: 0x1F1, byteCount: 1) == 0x10)
    }

    @Test func `IDENTIFY tells size and LBA`() {
        let disk = disk(2048)
        disk.write(port: 0x1F6, byteCount: 1, 0xA0)
        disk.write(port: 0x1F7, byteCount: 1, 0xEC)
        let words = (0..<256).map { _ in disk.read(port: 0x1F0, byteCount: 2) }
        #expect(words[60] == 2048)
        #expect(words[61] == 0)
        #expect(words[49] & 0x200 != 0)
        #expect(words[1] == 2 && words[3] == 16 && words[6] == 63)
    }

    @Test func `the second drive and an empty channel do not answer`() {
        let disk = disk(1)
        disk.write(port: 0x1F6, byteCount: 1, 0xB0)
        #expect(disk.read(port: 0x1F7, byteCount: 1) == 0)
        #expect(ATADisk(content: nil).read(port: 0x1F7, byteCount: 1) == 0)
    }
}

@Suite struct FirmwareConfigurationTests {
    /// Guest memory of 64 KiB.
    final class Memory: FirmwareConfiguration.Memory {
        var bytes = [UInt8](repeating: 0xEE, count: 65_536)
        func readPhysical(_ address: UInt64, byteCount: Int) -> [UInt8]? {
            guard address <= 65_536, byteCount <= 65_536 - Int(address) else { return nil }
            return Array(bytes[Int(address)..<Int(address) + byteCount])
        }
        func writePhysical(_ address: UInt64, _ data: ArraySlice<UInt8>) -> Bool {
            guard address <= 65_536, data.count <= 65_536 - Int(address) else { return false }
            bytes.replaceSubrange(Int(address)..<Int(address) + data.count, with: data)
            return true
        }
    }

    private func big(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64((count - 1 - $0) * 8)) }
    }

    @Test func `the signature reads byte by byte and ends in zeros`() {
        let device = FirmwareConfiguration()
        device.write(port: 0x510, byteCount: 2, 0)
        #expect((0..<6).map { _ in UInt8(device.read(port: 0x511, byteCount: 1)) } == Array("QEMU".utf8) + [0, 0])
        #expect(device.read(port: 0x514, byteCount: 4) == 0x554D_4551)
    }

    @Test func `DMA selects a file by its number in the directory and reads it`() {
        let (device, memory) = (FirmwareConfiguration(), Memory())
        device.memory = memory
        device.add(file: "etc/b", [4, 5])
        device.add(file: "etc/a", [1, 2, 3])
        device.write(port: 0x510, byteCount: 2, 0x19)
        let directory = (0..<132).map { _ in UInt8(device.read(port: 0x511, byteCount: 1)) }
        #expect(directory[0..<12] == [0, 0, 0, 2, 0, 0, 0, 3, 0, 0x20, 0, 0])
        #expect(String(decoding: directory[12..<17], as: UTF8.self) == "etc/a")
        memory.bytes.replaceSubrange(0x100..<0x110, with: big(0x20 << 16 | 8 | 2, 4) + big(5, 4) + big(0x200, 8))
        device.write(port: 0x514, byteCount: 4, 0)
        device.write(port: 0x518, byteCount: 4, UInt32(0x100).byteSwapped)
        #expect(memory.bytes[0x100..<0x104] == [0, 0, 0, 0])
        #expect(memory.bytes[0x200..<0x206] == [1, 2, 3, 0, 0, 0xEE])
    }

    @Test(arguments: [0xFFFF_FFFF_FFFF_FFF0, 0xFFF8, 0x1_0000_0000, 0] as [UInt64])
    func `DMA outside memory sets the error bit or does nothing`(address: UInt64) {
        let (device, memory) = (FirmwareConfiguration(), Memory())
        device.memory = memory
        memory.bytes.replaceSubrange(0x100..<0x110, with: big(8 | 2, 4) + big(0xFFFF_FFFF, 4) + big(address, 8))
        device.write(port: 0x518, byteCount: 4, UInt32(0x100).byteSwapped)
        #expect(memory.bytes[0x103] == 1)
        device.write(port: 0x514, byteCount: 4, UInt32(truncatingIfNeeded: address >> 32).byteSwapped)
        device.write(port: 0x518, byteCount: 4, UInt32(truncatingIfNeeded: address).byteSwapped)
    }
}

@Suite struct LocalAPICTests {
    private func enabled() -> LocalAPIC {
        let apic = LocalAPIC(id: 1, isBootstrap: false)
        _ = apic.write(0xF0, 0x1FF, at: 0)
        return apic
    }

    private func fixed(_ vector: UInt8) -> InterruptMessage {
        InterruptMessage(
            vector: vector, delivery: .fixed, destination: 1, isLogical: false, isLevel: false, isAssert: true)
    }

    @Test func `the highest vector comes first, priorities below wait for the EOI`() {
        let apic = enabled()
        apic.receive(fixed(0x31))
        apic.receive(fixed(0x52))
        #expect(apic.pendingVector == 0x52)
        apic.acknowledge(0x52)
        #expect(apic.pendingVector == nil)
        _ = apic.write(0xB0, 0, at: 0)
        #expect(apic.pendingVector == 0x31)
        _ = apic.write(0x80, 0x30, at: 0)
        #expect(apic.pendingVector == nil, "task priority 3 holds vectors 0x30 to 0x3F")
    }

    @Test func `the periodic timer comes at its rate`() {
        let apic = enabled()
        _ = apic.write(0x3E0, 0, at: 0)  // divide by 2
        _ = apic.write(0x320, 0x2_0040, at: 0)
        _ = apic.write(0x380, 500, at: 100)
        #expect(apic.nextEvent == 1100)
        #expect(apic.read(0x390, at: 600) == 250)
        apic.advance(to: 1099)
        #expect(apic.pendingVector == nil)
        apic.advance(to: 1100)
        #expect(apic.pendingVector == 0x40)
        #expect(apic.nextEvent == 2100)
    }

    @Test func `interrupt commands carry destination, mode and shorthand`() {
        let apic = enabled()
        _ = apic.write(0x310, 0x0300_0000, at: 0)
        guard case .send(let message) = apic.write(0x300, 0x000C_4610, at: 0) else {
            Issue.record("no message")
            return
        }
        #expect(message.delivery == .startUp)
        #expect(message.vector == 0x10)
        #expect(message.destination == 3)
        #expect(message.shorthand == 3)
    }

    @Test func `a disabled APIC takes nothing`() {
        let apic = LocalAPIC(id: 0, isBootstrap: false)
        apic.receive(fixed(0x40))
        #expect(apic.pendingVector == nil)
    }
}

@Suite struct IOAPICTests {
    @Test func `a rising edge sends the line's entry once, a masked one nothing`() {
        let ioAPIC = IOAPIC()
        var sent: [InterruptMessage] = []
        ioAPIC.send = { sent.append($0) }
        ioAPIC.set(line: 4, true)
        #expect(sent.isEmpty)
        ioAPIC.set(line: 4, false)
        ioAPIC.write(0, 0x18)
        ioAPIC.write(0x10, 0x0000_0034)
        ioAPIC.write(0, 0x19)
        ioAPIC.write(0x10, 0x0200_0000)
        ioAPIC.set(line: 4, true)
        ioAPIC.set(line: 4, true)
        #expect(sent.map(\.vector) == [0x34])
        #expect(sent.map(\.destination) == [2])
    }

    @Test func `a level line is sent again after its EOI while it is high`() {
        let ioAPIC = IOAPIC()
        var count = 0
        ioAPIC.send = { _ in count += 1 }
        ioAPIC.write(0, 0x26)
        ioAPIC.write(0x10, 0x8050)
        ioAPIC.set(line: 11, true)
        ioAPIC.set(line: 11, true)
        #expect(count == 1)
        ioAPIC.endOfInterrupt(0x50)
        #expect(count == 2)
    }
}

@Suite struct Serial16550Tests {
    @Test func `bytes are sent unless DLAB or loopback is on`() {
        var sent: [UInt8] = []
        let serial = Serial16550 { sent.append($0) }
        serial.write(register: 0, 65)
        serial.write(register: 3, 0x83)
        serial.write(register: 0, 1)
        serial.write(register: 3, 0x03)
        serial.write(register: 4, 0x10)
        serial.write(register: 0, 66)
        #expect(sent == [65])
        #expect(serial.read(register: 5) & 1 == 1)
        #expect(serial.read(register: 0) == 66)
    }

    @Test func `the empty transmitter interrupts once it is asked to`() {
        let serial = Serial16550 { _ in }
        serial.write(register: 4, 0x08)
        #expect(!serial.interruptLine)
        serial.write(register: 1, 0x02)
        #expect(serial.interruptLine)
        #expect(serial.read(register: 2) == 0x02)
        #expect(!serial.interruptLine)
    }
}

@Suite struct PCIBusTests {
    @Test func `the host bridge is QEMU's i440FX, and sizing the IDE ports gives 16`() {
        let bus = PCIBus(functions: Chipset440FX.functions())
        bus.write(port: 0xCF8, byteCount: 4, 0x8000_0000)
        #expect(bus.read(port: 0xCFC, byteCount: 4) == 0x1237_8086)
        bus.write(port: 0xCF8, byteCount: 4, 0x8000_092C)
        #expect(bus.read(port: 0xCFC, byteCount: 4) == 0x1100_1AF4)
        bus.write(port: 0xCF8, byteCount: 4, 0x8000_0920)
        bus.write(port: 0xCFC, byteCount: 4, .max)
        #expect(bus.read(port: 0xCFC, byteCount: 4) == 0xFFFF_FFF1)
        bus.write(port: 0xCF8, byteCount: 4, 0x8000_1000)
        #expect(bus.read(port: 0xCFC, byteCount: 4) == .max, "no such device")
    }
}

@Suite struct KeyboardController8042Tests {
    @Test func `self-test and keyboard reset answer as firmware expects`() {
        let controller = KeyboardController8042()
        controller.write(port: 0x64, 0xAA)
        #expect(controller.read(port: 0x64) & 1 == 1)
        #expect(controller.read(port: 0x60) == 0x55)
        controller.write(port: 0x60, 0xFF)
        #expect(controller.read(port: 0x60) == 0xFA)
        #expect(controller.read(port: 0x60) == 0xAA)
        #expect(controller.read(port: 0x64) & 1 == 0)
        controller.write(port: 0x64, 0xFE)
        #expect(controller.wantsReset)
    }
}
