// The firmware configuration device, ports 0x510 to 0x51B: QEMU's docs/specs/fw_cfg.rst.

/// Items by number and files by name, read byte by byte or through DMA.
final class FirmwareConfiguration {
    /// Numbers of the items: `include/standard-headers/linux/qemu_fw_cfg.h`.
    enum Item {
        static let signature: UInt16 = 0x00
        static let id: UInt16 = 0x01
        static let memoryBytes: UInt16 = 0x03
        static let processorCount: UInt16 = 0x05
        static let nodes: UInt16 = 0x0D
        static let bootMenu: UInt16 = 0x0E
        static let maximumProcessors: UInt16 = 0x0F
        static let fileDirectory: UInt16 = 0x19
        static let firstFile: UInt16 = 0x20
        /// Whether IRQ 0 comes at input 2 of the I/O APIC.
        static let timerIsOverridden: UInt16 = 0x8002
    }

    /// Guest memory as the device sees it.
    protocol Memory: AnyObject {
        /// - Returns: nil where the range is not memory.
        func readPhysical(_ address: UInt64, byteCount: Int) -> [UInt8]?
        /// - Returns: false where the range is not memory; nothing is then written.
        func writePhysical(_ address: UInt64, _ bytes: ArraySlice<UInt8>) -> Bool
    }

    weak var memory: (any Memory)?
    private var items: [UInt16: [UInt8]] = [:]
    private var files: [(name: String, bytes: [UInt8])] = []
    private var selected: UInt16 = 0
    private var offset = 0
    private var dmaAddress: UInt64 = 0

    init() {
        items[Item.signature] = Array("QEMU".utf8)
        // Bit 0: the traditional interface, bit 1: DMA.
        items[Item.id] = [3, 0, 0, 0]
        items[Item.nodes] = [UInt8](repeating: 0, count: 8)
        items[Item.bootMenu] = [0, 0]
        items[Item.timerIsOverridden] = [1]
        rebuildDirectory()
    }

    func set(_ item: UInt16, _ bytes: [UInt8]) { items[item] = bytes }

    /// - Parameter name: at most 55 bytes.
    func add(file name: String, _ bytes: [UInt8]) {
        files.append((name, bytes))
        files.sort { $0.name < $1.name }
        rebuildDirectory()
    }

    private func rebuildDirectory() {
        var directory = bigEndian(UInt32(files.count))
        for (index, file) in files.enumerated() {
            let number = Item.firstFile + UInt16(index)
            items[number] = file.bytes
            directory += bigEndian(UInt32(truncatingIfNeeded: file.bytes.count))
            directory += [UInt8(number >> 8), UInt8(number & 0xFF), 0, 0]
            let name = Array(file.name.utf8.prefix(55))
            directory += name + [UInt8](repeating: 0, count: 56 - name.count)
        }
        items[Item.fileDirectory] = directory
    }

    private func bigEndian(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }

    private var current: [UInt8] { items[selected] ?? [] }

    /// One byte of port 0x511: zero past the end.
    private func nextByte() -> UInt8 {
        let bytes = current
        guard offset < bytes.count else { return 0 }
        defer { offset += 1 }
        return bytes[offset]
    }

    func read(port: UInt16, byteCount: Int) -> UInt32 {
        switch port {
        case 0x510: return UInt32(selected)
        case 0x511: return UInt32(nextByte())
        case 0x514...0x51B:
            // "QEMU CFG" tells that DMA is there.
            let signature = Array("QEMU CFG".utf8)
            var value: UInt32 = 0
            for index in 0..<byteCount {
                let place = Int(port - 0x514) + index
                value |= UInt32(place < 8 ? signature[place] : 0xFF) << UInt32(index * 8)
            }
            return value
        default: return .max
        }
    }

    func write(port: UInt16, byteCount: Int, _ value: UInt32) {
        switch (port, byteCount) {
        case (0x510, _): select(UInt16(truncatingIfNeeded: value))
        case (0x514, 4): dmaAddress = UInt64(value.byteSwapped) << 32
        case (0x518, 4):
            dmaAddress |= UInt64(value.byteSwapped)
            transfer()
        default: break
        }
    }

    private func select(_ item: UInt16) {
        selected = item
        offset = 0
    }

    private enum Control {
        static let error: UInt32 = 1
        static let read: UInt32 = 2
        static let skip: UInt32 = 4
        static let select: UInt32 = 8
        static let write: UInt32 = 16
    }

    /// Executes the descriptor at `dmaAddress`: control, length and address, big-endian.
    private func transfer() {
        let descriptor = dmaAddress
        dmaAddress = 0
        guard let memory, let raw = memory.readPhysical(descriptor, byteCount: 16) else { return }
        func number(_ range: Range<Int>) -> UInt64 { raw[range].reduce(0) { $0 << 8 | UInt64($1) } }
        let control = UInt32(truncatingIfNeeded: number(0..<4))
        let length = Int(number(4..<8))
        let address = number(8..<16)
        if control & Control.select != 0 { select(UInt16(truncatingIfNeeded: control >> 16)) }

        var failed = false
        let available = current
        let start = min(offset, available.count)
        let taken = min(length, available.count - start)
        if control & Control.read != 0 {
            failed = !memory.writePhysical(address, available[start..<start + taken])
            // Past its end an item reads as zeros, a page at a time: the guest chooses the length.
            var done = taken
            while !failed, done < length {
                let part = min(length - done, 4096)
                let zeros = [UInt8](repeating: 0, count: part)
                failed = !memory.writePhysical(address &+ UInt64(done), zeros[...])
                done += part
            }
            offset = start + taken
        } else if control & Control.skip != 0 {
            offset = start + taken
        } else if control & Control.write != 0 {
            failed = true  // no item can be written
        }
        let answer = bigEndian(failed ? Control.error : 0)
        _ = memory.writePhysical(descriptor, answer[...])
    }
}
