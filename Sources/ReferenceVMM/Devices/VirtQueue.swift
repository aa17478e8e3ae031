// A split virtqueue: VIRTIO 1.2, section 2.7. Everything in it is the guest's, so nothing of it is believed.

/// One piece of guest memory that a driver hands over.
struct VirtBuffer {
    var address: UInt64
    var byteCount: Int
}

/// A chain of descriptors: what the device reads comes before what it writes (section 2.7.4.2).
struct VirtChain {
    /// Index of the first descriptor, which the used ring names.
    var head: UInt16
    var readable: [VirtBuffer] = []
    var writable: [VirtBuffer] = []
}

struct VirtQueue {
    static let sizeMaximum: UInt16 = 256

    /// Descriptors: a power of two, at most ``sizeMaximum``.
    var size = sizeMaximum
    var isEnabled = false
    var descriptors: UInt64 = 0
    /// The driver's area, the available ring, and the device's area, the used ring.
    var available: UInt64 = 0
    var used: UInt64 = 0
    private var nextAvailable: UInt16 = 0
    private var nextUsed: UInt16 = 0

    /// What a driver got wrong; the device then needs a reset (section 2.1.1).
    enum RingError: Error, Equatable {
        /// A ring, or a table of descriptors, does not lie in memory.
        case outsideMemory(gpa: UInt64)
        /// An index of a descriptor beyond the queue's size.
        case badDescriptor(UInt16)
        /// A chain with more descriptors than there are.
        case endlessChain(head: UInt16)
        /// More chains are available than the queue has descriptors.
        case badIndex(UInt16)
        /// A readable descriptor behind a writable one, or an indirect one, which is not offered.
        case badFlags(UInt16)
    }

    private enum Flag {
        static let next: UInt16 = 1, writable: UInt16 = 2, indirect: UInt16 = 4
    }

    /// The next chain that the driver made available; nil where there is none.
    mutating func next(in memory: PCMemory) throws(RingError) -> VirtChain? {
        let index = try half(available &+ 2, memory)
        let waiting = index &- nextAvailable
        guard waiting != 0 else { return nil }
        guard waiting <= size else { throw .badIndex(index) }
        let head = try half(available &+ 4 &+ UInt64(nextAvailable % size) * 2, memory)
        let chain = try chain(from: head, memory)
        nextAvailable &+= 1
        return chain
    }

    private func chain(from head: UInt16, _ memory: PCMemory) throws(RingError) -> VirtChain {
        var chain = VirtChain(head: head)
        var index = head
        for _ in 0..<size {
            guard index < size else { throw .badDescriptor(index) }
            let bytes = try read(descriptors &+ UInt64(index) * 16, 16, memory)
            let flags = UInt16(bytes.number(12, 2))
            let buffer = VirtBuffer(address: bytes.number(0, 8), byteCount: Int(bytes.number(8, 4)))
            guard flags & Flag.indirect == 0 else { throw .badFlags(index) }
            if flags & Flag.writable != 0 {
                chain.writable.append(buffer)
            } else {
                guard chain.writable.isEmpty else { throw .badFlags(index) }
                chain.readable.append(buffer)
            }
            guard flags & Flag.next != 0 else { return chain }
            index = UInt16(bytes.number(14, 2))
        }
        throw .endlessChain(head: head)
    }

    /// Gives a chain back.
    ///
    /// - Parameter written: bytes that the device wrote into it.
    mutating func give(_ chain: VirtChain, written: Int, in memory: PCMemory) throws(RingError) {
        let element = [UInt8].littleEndian(UInt64(chain.head), 4) + .littleEndian(UInt64(written), 4)
        try write(used &+ 4 &+ UInt64(nextUsed % size) * 8, element, memory)
        nextUsed &+= 1
        try write(used &+ 2, .littleEndian(UInt64(nextUsed), 2), memory)
    }

    /// Whether the driver asks not to be interrupted (section 2.7.7).
    func suppressesInterrupts(in memory: PCMemory) throws(RingError) -> Bool {
        try half(available, memory) & 1 != 0
    }

    // MARK: - Guest memory

    private func half(_ address: UInt64, _ memory: PCMemory) throws(RingError) -> UInt16 {
        UInt16(try read(address, 2, memory).number(0, 2))
    }

    private func read(_ address: UInt64, _ count: Int, _ memory: PCMemory) throws(RingError) -> [UInt8] {
        guard let bytes = memory.readPhysical(address, byteCount: count) else { throw .outsideMemory(gpa: address) }
        return bytes
    }

    private func write(_ address: UInt64, _ bytes: [UInt8], _ memory: PCMemory) throws(RingError) {
        guard memory.writePhysical(address, bytes[...]) else { throw .outsideMemory(gpa: address) }
    }
}
