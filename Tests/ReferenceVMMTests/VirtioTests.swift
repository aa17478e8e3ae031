// The virtio devices as a driver sees them (VIRTIO 1.2), and as a hostile guest does.

import Assists
import NVMM
@testable import ReferenceVMM
import SoftBackend
import TestSupport
import Testing

/// A driver of one device: rings in memory, registers through the device's range.
private final class VirtioDriver {
    let memory: PCMemory
    let device: VirtioDevice
    static let size: UInt16 = 8
    private var nextIndex: [UInt16]

    init(_ kind: any VirtioKind) throws {
        memory = try PCMemory(machine: SoftBackend().createMachine(), byteCount: 1 << 20, firmware: nil)
        device = VirtioDevice(kind, memory: memory)
        nextIndex = Array(repeating: 0, count: kind.queueCount)
    }

    func descriptors(_ queue: Int) -> UInt64 { 0x1_0000 + UInt64(queue) * 0x4000 }
    func available(_ queue: Int) -> UInt64 { descriptors(queue) + 0x1000 }
    func used(_ queue: Int) -> UInt64 { descriptors(queue) + 0x2000 }

    func register(_ offset: UInt64, _ bytes: Int) -> UInt64 { device.read(offset, byteCount: bytes) }
    func set(_ offset: UInt64, _ bytes: Int, _ value: UInt64) { device.write(offset, byteCount: bytes, value) }
    var status: UInt64 { register(0x14, 1) }

    func put(_ address: UInt64, _ value: UInt64, _ count: Int) {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.setNumber(0, value, count)
        #expect(memory.writePhysical(address, bytes[...]))
    }
    func get(_ address: UInt64, _ count: Int) throws -> UInt64 {
        try #require(memory.readPhysical(address, byteCount: count)).number(0, count)
    }

    /// Section 3.1.1.
    func start() {
        set(0x14, 1, 0)
        set(0x14, 1, 3)
        set(0x08, 4, 1)
        set(0x0C, 4, 1)
        set(0x14, 1, 11)
        for queue in nextIndex.indices {
            nextIndex[queue] = 0
            for address in [available(queue), used(queue)] { put(address, 0, 4) }
            set(0x16, 2, UInt64(queue))
            set(0x18, 2, UInt64(Self.size))
            for (place, address) in [(0x20, descriptors(queue)), (0x28, available(queue)), (0x30, used(queue))] {
                set(UInt64(place), 4, address)
                set(UInt64(place) + 4, 4, 0)
            }
            set(0x1C, 2, 1)
        }
        set(0x14, 1, 15)
    }

    /// Makes a chain of descriptors 0, 1, … available, and notifies.
    func submit(_ queue: Int, _ buffers: [(address: UInt64, count: Int, isWritable: Bool)]) {
        for (index, buffer) in buffers.enumerated() {
            let isLast = index == buffers.count - 1
            let place = descriptors(queue) + UInt64(index) * 16
            put(place, buffer.address, 8)
            put(place + 8, UInt64(buffer.count), 4)
            put(place + 12, (buffer.isWritable ? 2 : 0) | (isLast ? 0 : 1), 2)
            put(place + 14, UInt64(index + 1), 2)
        }
        makeAvailable(queue, head: 0)
    }

    func makeAvailable(_ queue: Int, head: UInt16) {
        put(available(queue) + 4 + UInt64(nextIndex[queue] % Self.size) * 2, UInt64(head), 2)
        nextIndex[queue] &+= 1
        put(available(queue) + 2, UInt64(nextIndex[queue]), 2)
        set(0x3000 + UInt64(queue) * 4, 2, UInt64(queue))
    }

    /// Chains given back so far, and what was written into the last.
    func given(_ queue: Int) throws -> (count: UInt64, written: UInt64) {
        let count = try get(used(queue) + 2, 2)
        return (count, count == 0 ? 0 : try get(used(queue) + 8 + (count - 1) % UInt64(Self.size) * 8, 4))
    }
}

@Suite struct VirtioTests {
    private func disk(sectors: Int) -> [UInt8] { (0..<sectors * 512).map { UInt8(truncatingIfNeeded: $0 / 512 + $0) } }

    /// A request with its header at 0x8000, `count` bytes at 0x9000 and its status at 0x8800.
    private func request(
        _ driver: VirtioDriver, type: UInt64, sector: UInt64, count: Int, isWritable: Bool
    ) throws -> (status: UInt64, written: UInt64) {
        driver.put(0x8000, type, 4)
        driver.put(0x8008, sector, 8)
        driver.put(0x8800, 0xFF, 1)
        driver.submit(0, [(0x8000, 16, false), (0x9000, count, isWritable), (0x8800, 1, true)])
        return (try driver.get(0x8800, 1), try driver.given(0).written)
    }

    @Test func `a disk reads, writes, flushes and says its name`() throws {
        let content = disk(sectors: 8), block = VirtioBlock(content: content)
        let driver = try VirtioDriver(block)
        driver.start()
        #expect(driver.status == 15)
        #expect(driver.register(0x2000, 4) == 8 && driver.register(0x2004, 4) == 0)
        #expect(try request(driver, type: 0, sector: 3, count: 1024, isWritable: true) == (0, 1025))
        #expect(driver.memory.readPhysical(0x9000, byteCount: 1024) == Array(content[1536..<2560]))
        #expect(driver.device.interruptLine)
        #expect(driver.register(0x1000, 1) == 1)
        #expect(!driver.device.interruptLine)
        driver.put(0x9000, 0x1122_3344_5566_7788, 8)
        #expect(try request(driver, type: 1, sector: 7, count: 512, isWritable: false) == (0, 1))
        #expect(Array(block.content[3584..<3592]) == [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11])
        #expect(Array(block.content[..<3584]) == Array(content[..<3584]))
        #expect(try request(driver, type: 4, sector: 0, count: 0, isWritable: false).status == 0)
        #expect(try request(driver, type: 8, sector: 0, count: 20, isWritable: true) == (0, 21))
        #expect(driver.memory.readPhysical(0x9000, byteCount: 11) == Array("EXIT-TRACER".utf8))
        #expect(try driver.given(0).count == 4)
    }

    @Test func `requests beyond the disk or memory fail and change nothing`() throws {
        let content = disk(sectors: 8), block = VirtioBlock(content: content)
        let driver = try VirtioDriver(block)
        driver.start()
        for (sector, count) in [(8, 512), (7, 1024), (UInt64.max, 512), (1 << 55, 512), (0, 100)] as [(UInt64, Int)] {
            #expect(try request(driver, type: 0, sector: sector, count: count, isWritable: true).status == 1)
            #expect(try request(driver, type: 1, sector: sector, count: count, isWritable: false).status == 1)
        }
        #expect(try request(driver, type: 99, sector: 0, count: 512, isWritable: true).status == 2)
        driver.put(0x8000, 1, 4)
        driver.put(0x8008, 0, 8)
        driver.submit(0, [(0x8000, 16, false), (0xF_FF00, 512, false), (0x8800, 1, true)])
        #expect(try driver.get(0x8800, 1) == 1)
        #expect(block.content == content)
        #expect(driver.status == 15)
    }

    @Test func `a driver of the interface before 1_0, or of features that are not offered, is refused`() throws {
        let driver = try VirtioDriver(VirtioBlock(content: disk(sectors: 1)))
        for (low, high) in [(0, 0), (1 << 28, 1), (0, 3)] as [(UInt64, UInt64)] {
            driver.set(0x14, 1, 0)
            driver.set(0x14, 1, 3)
            for (select, value) in [(0, low), (1, high)] as [(UInt64, UInt64)] {
                driver.set(0x08, 4, select)
                driver.set(0x0C, 4, value)
            }
            driver.set(0x14, 1, 11)
            #expect(driver.status == 3, "\(low) \(high)")
        }
        driver.start()
        #expect(driver.status == 15)
    }

    @Test func `a ring that is wrong stops the device until it is reset`() throws {
        let wrongs: [(name: String, wrong: (VirtioDriver) -> Void)] = [
            ("head", { $0.makeAvailable(0, head: 8) }),
            (
                "loop",
                { driver in
                    driver.put(driver.descriptors(0) + 12, 1, 2)
                    driver.put(driver.descriptors(0) + 14, 0, 2)
                    driver.makeAvailable(0, head: 0)
                }
            ),
            (
                "indirect",
                { driver in
                    driver.put(driver.descriptors(0) + 12, 4, 2)
                    driver.makeAvailable(0, head: 0)
                }
            ),
            ("readable behind writable", { $0.submit(0, [(0x9000, 16, true), (0x8000, 16, false)]) }),
            (
                "index",
                { driver in
                    driver.put(driver.available(0) + 2, 9, 2)
                    driver.set(0x3000, 2, 0)
                }
            ),
        ]
        for (name, wrong) in wrongs {
            let driver = try VirtioDriver(VirtioBlock(content: disk(sectors: 1)))
            driver.start()
            wrong(driver)
            #expect(driver.status & 0x40 != 0, "\(name)")
            #expect(driver.register(0x1000, 1) & 2 != 0, "\(name)")
            #expect(try driver.given(0).count == 0, "\(name)")
            driver.start()
            #expect(driver.status == 15, "\(name)")
            #expect(try request(driver, type: 0, sector: 0, count: 512, isWritable: true).status == 0, "\(name)")
        }
    }

    @Test func `a console sends what it is given, and is typed on once it is in use`() throws {
        var sent: [UInt8] = []
        let driver = try VirtioDriver(VirtioConsole(input: Array("typed".utf8)) { sent.append($0) })
        driver.start()
        driver.submit(0, [(0x9000, 3, true), (0x9100, 64, true)])
        #expect(try driver.given(0).count == 0)
        #expect(driver.memory.writePhysical(0x8000, Array("hello".utf8)[...]))
        driver.submit(1, [(0x8000, 2, false), (0x8002, 3, false)])
        #expect(String(decoding: sent, as: UTF8.self) == "hello")
        #expect(try driver.given(1) == (1, 0))
        #expect(try driver.given(0) == (1, 5))
        #expect(driver.memory.readPhysical(0x9000, byteCount: 3) == Array("typ".utf8))
        #expect(driver.memory.readPhysical(0x9100, byteCount: 2) == Array("ed".utf8))
        driver.submit(0, [(0x9000, 3, true)])
        #expect(try driver.given(0).count == 1)
    }

    @Test func `no sequence of accesses and no memory stops a device`() throws {
        var random = SeededGenerator(seed: 7)
        for round in 0..<40 {
            let kind: any VirtioKind =
                round % 2 == 0
                ? VirtioBlock(content: disk(sectors: 4)) : VirtioConsole(input: disk(sectors: 1)) { _ in }
            let driver = try VirtioDriver(kind)
            driver.start()
            for _ in 0..<400 {
                let place = UInt64.random(in: 0x1_0000..<0x1_8000, using: &random) & ~1
                driver.put(place, UInt64.random(in: 0...UInt64.max, using: &random), 2)
                let offset = [0, 0x1000, 0x2000, 0x3000].randomElement(using: &random) ?? 0
                let bytes = [1, 2, 4, 8].randomElement(using: &random) ?? 1
                let register = UInt64(offset) + UInt64.random(in: 0..<0x40, using: &random)
                _ = driver.register(register, bytes)
                if Bool.random(using: &random) {
                    driver.makeAvailable(0, head: UInt16.random(in: 0..<9, using: &random))
                }
                if UInt8.random(in: 0..<8, using: &random) == 0 {
                    driver.set(register, bytes, UInt64.random(in: 0...UInt64.max, using: &random))
                }
                if driver.status & 0x40 != 0 { driver.start() }
            }
            driver.start()
            #expect(driver.status == 15)
        }
    }

    @Test func `the function names its structures inside the range that its BAR asks for`() throws {
        let driver = try VirtioDriver(VirtioBlock(content: disk(sectors: 1)))
        let bus = PCIBus(functions: [driver.device.function(slot: 3)])
        func read(_ offset: UInt32) -> UInt32 {
            bus.write(port: 0xCF8, byteCount: 4, 0x8000_1800 | offset & 0xFC)
            return bus.read(port: 0xCFC, byteCount: 4)
        }
        #expect(read(0) == 0x1042_1AF4)
        bus.write(port: 0xCF8, byteCount: 4, 0x8000_1810)
        bus.write(port: 0xCFC, byteCount: 4, 0xFFFF_FFFF)
        #expect(read(0x10) == ~UInt32(VirtioDevice.rangeBytes - 1))
        #expect(read(0x04) >> 16 & 0x10 != 0)
        var types: Set<UInt32> = []
        var place = read(0x34) & 0xFF
        while place != 0, types.count < 8 {
            let head = read(place)
            #expect(head & 0xFF == 9)
            types.insert(head >> 24)
            #expect(UInt64(read(place + 8)) + UInt64(read(place + 12)) <= VirtioDevice.rangeBytes)
            place = head >> 8 & 0xFF
        }
        #expect(types == [1, 2, 3, 4])
    }
}

@Suite struct SerialInputTests {
    @Test func `what is typed comes once the receiver's interrupt is on, a FIFO's worth at a time`() {
        let text = Array("a line that is longer than a FIFO\n".utf8)
        let serial = Serial16550(input: text) { _ in }
        #expect(serial.read(register: 5) & 1 == 0)
        serial.write(register: 2, 1)
        serial.write(register: 4, 8)
        #expect(!serial.interruptLine)
        serial.write(register: 1, 1)
        #expect(serial.interruptLine)
        var received: [UInt8] = []
        while serial.read(register: 5) & 1 != 0, received.count <= text.count {
            #expect(serial.read(register: 2) & 0xF == 4)
            received.append(serial.read(register: 0))
        }
        #expect(received == text)
        #expect(!serial.interruptLine)
    }
}
