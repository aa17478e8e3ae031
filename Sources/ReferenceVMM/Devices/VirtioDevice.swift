// A virtio device on PCI, without the transitional interface: VIRTIO 1.2, sections 2 to 4.1. Its structures are in one
// range of memory, its interrupt is INTA.

import Assists
import NVMM

/// What one kind of virtio device has of its own.
protocol VirtioKind: AnyObject {
    /// Section 5.
    var deviceID: UInt16 { get }
    /// PCI class, subclass, interface and revision.
    var classCode: UInt32 { get }
    var queueCount: Int { get }
    /// Offered beyond VIRTIO_F_VERSION_1.
    var features: UInt64 { get }
    /// The device-specific structure.
    var configuration: [UInt8] { get }
    /// Handles a chain of a queue.
    ///
    /// - Returns: bytes written into it.
    func handle(_ chain: VirtChain, queue: Int, in memory: PCMemory) -> Int
    /// Whether a queue's chains are wanted now.
    func wants(queue: Int) -> Bool
}

final class VirtioDevice {
    /// Bytes of the memory range, and where in it the structures begin.
    static let rangeBytes: UInt64 = 0x4000
    private enum Place {
        static let common: UInt64 = 0x0000, commonBytes: UInt64 = 0x38
        static let interruptStatus: UInt64 = 0x1000, specific: UInt64 = 0x2000, notify: UInt64 = 0x3000
    }
    private enum Status {
        static let driverOK: UInt8 = 4, featuresOK: UInt8 = 8, needsReset: UInt8 = 0x40
    }
    private static let version1: UInt64 = 1 << 32

    let kind: any VirtioKind
    private let memory: PCMemory
    private var queues: [VirtQueue]
    private var status: UInt8 = 0
    private var interruptStatus: UInt8 = 0
    private var deviceFeatureSelect: UInt32 = 0
    private var driverFeatureSelect: UInt32 = 0
    private var driverFeatures: UInt64 = 0
    private var queueSelect: UInt16 = 0
    /// Where the range is; nil where the guest has switched it off.
    var base: UInt64?

    init(_ kind: any VirtioKind, memory: PCMemory) {
        self.kind = kind
        self.memory = memory
        queues = Array(repeating: VirtQueue(), count: kind.queueCount)
    }

    var interruptLine: Bool { interruptStatus != 0 }

    private var offered: UInt64 { kind.features | Self.version1 }

    /// The function for the bus: capabilities name the structures (section 4.1.4).
    func function(slot: UInt8) -> PCIFunction {
        var function = PCIFunction(
            device: slot, function: 0, vendor: 0x1AF4, id: 0x1040 + kind.deviceID, classCode: kind.classCode)
        function.set(0x06, 0x10 as UInt16)  // there are capabilities
        function.set(0x34, 0x40 as UInt8)
        function.set(0x3D, 0x01 as UInt8)
        function.allow(0x11, 0xC0)
        function.allow(0x12, 0xFF)
        function.allow(0x13, 0xFF)
        let structures: [(type: UInt8, place: UInt64, byteCount: UInt64)] = [
            (1, Place.common, Place.commonBytes), (3, Place.interruptStatus, 1),
            (4, Place.specific, UInt64(kind.configuration.count)), (2, Place.notify, UInt64(kind.queueCount) * 4),
        ]
        var offset = 0x40
        for (index, structure) in structures.enumerated() {
            let isLast = index == structures.count - 1
            // The last one, for notifications, has the distance between two queues' words too.
            var capability: [UInt8] = [0x09, isLast ? 0 : UInt8(offset + 16), isLast ? 20 : 16, structure.type]
            capability += [UInt8](repeating: 0, count: isLast ? 16 : 12)
            capability.setNumber(8, structure.place, 4)
            capability.setNumber(12, structure.byteCount, 4)
            if isLast { capability.setNumber(16, 4, 4) }
            for (place, byte) in capability.enumerated() { function.set(offset + place, byte) }
            offset += capability.count
        }
        return function
    }

    // MARK: - The range

    func contains(_ address: UInt64) -> Bool { base.map { address &- $0 < Self.rangeBytes } ?? false }

    /// An access to an address that ``contains(_:)`` has.
    func access(_ access: inout MemoryAccess) {
        let offset = access.gpa.rawValue &- (base ?? 0)
        if access.isWrite {
            write(offset, byteCount: access.byteCount, access.value)
        } else {
            access.value = read(offset, byteCount: access.byteCount)
        }
    }

    /// - Parameter offset: within the range.
    func read(_ offset: UInt64, byteCount: Int) -> UInt64 {
        switch offset {
        case Place.interruptStatus:
            // Section 4.1.4.5.1: reading takes the interrupt back.
            defer { interruptStatus = 0 }
            return UInt64(interruptStatus)
        case Place.common..<Place.common + Place.commonBytes:
            return Self.bytes(common, offset - Place.common, byteCount)
        case Place.specific..<Place.notify:
            return Self.bytes(kind.configuration, offset - Place.specific, byteCount)
        default: return 0
        }
    }

    private static func bytes(_ bytes: [UInt8], _ offset: UInt64, _ byteCount: Int) -> UInt64 {
        (0..<byteCount).reduce(0) { value, index in
            let place = Int(offset) + index
            return place < bytes.count ? value | UInt64(bytes[place]) << UInt64(index * 8) : value
        }
    }

    private var selected: VirtQueue? { queueSelect < queues.count ? queues[Int(queueSelect)] : nil }

    /// The common configuration as it reads now: section 4.1.4.3.
    private var common: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(Place.commonBytes))
        func part(_ features: UInt64, _ select: UInt32) -> UInt64 {
            select < 2 ? features >> UInt64(select * 32) & 0xFFFF_FFFF : 0
        }
        bytes.setNumber(0x00, UInt64(deviceFeatureSelect), 4)
        bytes.setNumber(0x04, part(offered, deviceFeatureSelect), 4)
        bytes.setNumber(0x08, UInt64(driverFeatureSelect), 4)
        bytes.setNumber(0x0C, part(driverFeatures, driverFeatureSelect), 4)
        bytes.setNumber(0x10, 0xFFFF, 2)  // no MSI-X
        bytes.setNumber(0x12, UInt64(queues.count), 2)
        bytes[0x14] = status
        bytes.setNumber(0x16, UInt64(queueSelect), 2)
        bytes.setNumber(0x1A, 0xFFFF, 2)
        guard let queue = selected else { return bytes }
        bytes.setNumber(0x18, UInt64(queue.size), 2)
        bytes.setNumber(0x1C, queue.isEnabled ? 1 : 0, 2)
        bytes.setNumber(0x1E, UInt64(queueSelect), 2)
        bytes.setNumber(0x20, queue.descriptors, 8)
        bytes.setNumber(0x28, queue.available, 8)
        bytes.setNumber(0x30, queue.used, 8)
        return bytes
    }

    /// - Parameter offset: within the range.
    func write(_ offset: UInt64, byteCount: Int, _ value: UInt64) {
        switch offset {
        case Place.common..<Place.common + Place.commonBytes: writeCommon(Int(offset - Place.common), byteCount, value)
        // What one queue has said may be what another one has waited for.
        case Place.notify..<Place.notify + UInt64(queues.count) * 4: processQueues()
        default: break
        }
    }

    private func writeCommon(_ offset: Int, _ byteCount: Int, _ value: UInt64) {
        let word = UInt32(truncatingIfNeeded: value), half = UInt16(truncatingIfNeeded: value)
        switch (offset, byteCount) {
        case (0x00, 4): deviceFeatureSelect = word
        case (0x08, 4): driverFeatureSelect = word
        case (0x0C, 4):
            guard driverFeatureSelect < 2, status & Status.featuresOK == 0 else { return }
            let shift = UInt64(driverFeatureSelect * 32)
            driverFeatures = driverFeatures & ~(0xFFFF_FFFF << shift) | UInt64(word) << shift
        case (0x14, 1): setStatus(UInt8(truncatingIfNeeded: value))
        case (0x16, 2): queueSelect = half
        default:
            guard queueSelect < queues.count, !queues[Int(queueSelect)].isEnabled else { return }
            configure(&queues[Int(queueSelect)], offset, byteCount, value)
        }
    }

    /// A queue can be changed until it is enabled.
    private func configure(_ queue: inout VirtQueue, _ offset: Int, _ byteCount: Int, _ value: UInt64) {
        func replace(_ address: inout UInt64, _ start: Int) {
            let shift = UInt64((offset - start) * 8)
            address = byteCount == 8 ? value : address & ~(0xFFFF_FFFF << shift) | (value & 0xFFFF_FFFF) << shift
        }
        switch (offset, byteCount) {
        case (0x18, 2):
            let size = UInt16(truncatingIfNeeded: value)
            if size > 0, size <= VirtQueue.sizeMaximum, size & (size - 1) == 0 { queue.size = size }
        case (0x1C, 2): queue.isEnabled = value & 1 != 0
        case (0x20, 4), (0x24, 4), (0x20, 8): replace(&queue.descriptors, 0x20)
        case (0x28, 4), (0x2C, 4), (0x28, 8): replace(&queue.available, 0x28)
        case (0x30, 4), (0x34, 4), (0x30, 8): replace(&queue.used, 0x30)
        default: break
        }
    }

    private func setStatus(_ value: UInt8) {
        guard value != 0 else { return reset() }
        status = value | status & Status.needsReset
        // Section 2.2: what is not offered is refused, and so is a driver of the interface before 1.0.
        if driverFeatures & ~offered != 0 || driverFeatures & Self.version1 == 0 { status &= ~Status.featuresOK }
        processQueues()
    }

    private func reset() {
        queues = Array(repeating: VirtQueue(), count: queues.count)
        (status, interruptStatus, queueSelect) = (0, 0, 0)
        (deviceFeatureSelect, driverFeatureSelect, driverFeatures) = (0, 0, 0)
    }

    // MARK: - Queues

    private func processQueues() {
        // Backwards: a console's output goes before its input.
        for queue in queues.indices.reversed() { process(queue: queue) }
    }

    private func process(queue index: Int) {
        guard status & Status.driverOK != 0, status & Status.needsReset == 0, queues[index].isEnabled else { return }
        do throws(VirtQueue.RingError) {
            var hasGiven = false
            // A queue has no more chains than descriptors; what is made available meanwhile is notified again.
            for _ in 0..<queues[index].size where kind.wants(queue: index) {
                guard let chain = try queues[index].next(in: memory) else { break }
                let written = kind.handle(chain, queue: index, in: memory)
                try queues[index].give(chain, written: written, in: memory)
                hasGiven = true
            }
            if hasGiven, try !queues[index].suppressesInterrupts(in: memory) { interruptStatus |= 1 }
        } catch {
            // Section 2.1.1: the driver is told, and nothing is done until it resets.
            status |= Status.needsReset
            interruptStatus |= 2
        }
    }
}
