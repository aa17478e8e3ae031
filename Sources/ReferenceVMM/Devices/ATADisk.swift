// The primary IDE channel with one disk as master, ports 0x1F0 to 0x1F7 and 0x3F6: ATA/ATAPI-5 (T13 1321D), PIO only.

/// A disk whose content lives in memory.
final class ATADisk {
    static let sectorBytes = DiskContent.sectorBytes
    private(set) var content: [UInt8]
    /// False: the channel has no disk.
    private let isPresent: Bool

    private var features: UInt8 = 0
    /// Task file registers with the value written before: LBA48 commands use both.
    private var sectorCount: (now: UInt8, before: UInt8) = (1, 0)
    private var low: (now: UInt8, before: UInt8) = (1, 0)
    private var middle: (now: UInt8, before: UInt8) = (0, 0)
    private var high: (now: UInt8, before: UInt8) = (0, 0)
    private var device: UInt8 = 0
    private var error: UInt8 = 1
    private var status: UInt8 = 0x50
    private var control: UInt8 = 0
    private var interruptPending = false

    /// Bytes of the block that the data port moves now, and how far it is.
    private var block: [UInt8] = []
    private var position = 0
    private var writes = false
    /// Sectors still to move after this block, and where.
    private var remaining = 0
    private var sector = 0
    private var is48Bit = false
    private var sectorsPerBlock = 1
    /// SET MULTIPLE MODE; 0 is off.
    private var multiple = 0

    /// - Parameter content: the whole disk; a part sector at the end is filled with zeros. nil: no disk.
    init(content: [UInt8]?) {
        isPresent = content != nil
        self.content = DiskContent.wholeSectors(content ?? [])
        if !isPresent { status = 0 }
    }

    var sectors: Int { content.count / Self.sectorBytes }
    var cylinders: Int { min(max(sectors / (16 * 63), 1), 16_383) }

    /// IRQ 14.
    var interruptLine: Bool { interruptPending && control & 2 == 0 }

    private var isSelected: Bool { isPresent && device & 0x10 == 0 }

    // MARK: - Registers

    /// - Parameter port: 0x1F0...0x1F7 or 0x3F6.
    func read(port: UInt16, byteCount: Int) -> UInt32 {
        guard isPresent else { return port == 0x1F7 || port == 0x3F6 ? 0 : 0xFF }
        let previous = control & 0x80 != 0
        switch port {
        case 0x1F0: return readData(byteCount)
        case 0x1F1: return UInt32(isSelected ? error : 0)
        case 0x1F2: return UInt32(previous ? sectorCount.before : sectorCount.now)
        case 0x1F3: return UInt32(previous ? low.before : low.now)
        case 0x1F4: return UInt32(previous ? middle.before : middle.now)
        case 0x1F5: return UInt32(previous ? high.before : high.now)
        case 0x1F6: return UInt32(device | 0xA0)
        case 0x1F7:
            if isSelected { interruptPending = false }
            return UInt32(isSelected ? status : 0)
        case 0x3F6: return UInt32(isSelected ? status : 0)
        default: return 0xFF
        }
    }

    func write(port: UInt16, byteCount: Int, _ value: UInt32) {
        guard isPresent else { return }
        let byte = UInt8(truncatingIfNeeded: value)
        switch port {
        case 0x1F0: writeData(byteCount, value)
        case 0x1F1: features = byte
        case 0x1F2: sectorCount = (byte, sectorCount.now)
        case 0x1F3: low = (byte, low.now)
        case 0x1F4: middle = (byte, middle.now)
        case 0x1F5: high = (byte, high.now)
        case 0x1F6: device = byte
        case 0x1F7: if isSelected { command(byte) }
        case 0x3F6:
            if control & 4 != 0, byte & 4 == 0 { reset() }
            control = byte
        default: break
        }
        if port != 0x3F6 { control &= 0x7F }
    }

    /// The signature that tells a disk from an ATAPI device (section 9.12).
    private func signature() {
        (sectorCount, low, middle, high) = ((1, 0), (1, 0), (0, 0), (0, 0))
        device &= 0x10
        error = 1
    }

    private func reset() {
        signature()
        device = 0
        status = 0x50
        block = []
        multiple = 0
        interruptPending = false
    }

    // MARK: - Commands

    private func command(_ code: UInt8) {
        interruptPending = false
        error = 0
        status = 0x50
        block = []
        position = 0
        switch code {
        case 0x20, 0x21, 0x24, 0xC4, 0x29: startTransfer(code, writes: false)
        case 0x30, 0x31, 0x34, 0xC5, 0x39: startTransfer(code, writes: true)
        case 0xEC:
            block = identification()
            writes = false
            remaining = 0
            status = 0x58
            interruptPending = true
        case 0x40, 0x41, 0x42:
            is48Bit = code == 0x42
            if address(count: transferCount) == nil { return fail(0x10) }
            complete()
        case 0xC6:
            let count = Int(sectorCount.now)
            guard count <= 16, count & (count - 1) == 0 || count == 0 else { return fail(0x04) }
            multiple = count
            complete()
        case 0x90:
            signature()
            complete()
        case 0x08:
            signature()
            fail(0x04)
        case 0xA1:
            // A disk that is asked to identify as ATAPI aborts and shows its signature.
            signature()
            fail(0x04)
        case 0x10...0x1F, 0x70...0x7F, 0x91, 0xE7, 0xEA, 0xE0, 0xE1, 0xE2, 0xE3, 0xEF: complete()
        case 0xE5:
            sectorCount.now = 0xFF  // active
            complete()
        case 0xF8:
            let last = max(sectors, 1) - 1
            low.now = UInt8(last & 0xFF)
            middle.now = UInt8(last >> 8 & 0xFF)
            high.now = UInt8(last >> 16 & 0xFF)
            device = device & 0xF0 | UInt8(last >> 24 & 0xF)
            complete()
        default: fail(0x04)
        }
    }

    private func complete() {
        status = 0x50
        interruptPending = true
    }

    /// - Parameter bits: of the error register: 0x04 aborted, 0x10 address not found.
    private func fail(_ bits: UInt8) {
        error = bits
        status = 0x51
        block = []
        remaining = 0
        interruptPending = true
    }

    private var transferCount: Int {
        if is48Bit {
            let count = Int(sectorCount.before) << 8 | Int(sectorCount.now)
            return count == 0 ? 65_536 : count
        }
        return sectorCount.now == 0 ? 256 : Int(sectorCount.now)
    }

    /// First sector of the addressed range; nil where it does not lie on the disk.
    private func address(count: Int) -> Int? {
        let first: Int
        if is48Bit {
            let upper = Int(high.before) << 40 | Int(middle.before) << 32 | Int(low.before) << 24
            first = upper | Int(high.now) << 16 | Int(middle.now) << 8 | Int(low.now)
        } else if device & 0x40 != 0 {
            first = Int(device & 0xF) << 24 | Int(high.now) << 16 | Int(middle.now) << 8 | Int(low.now)
        } else {
            let cylinder = Int(high.now) << 8 | Int(middle.now)
            guard low.now >= 1, low.now <= 63 else { return nil }
            first = (cylinder * 16 + Int(device & 0xF)) * 63 + Int(low.now) - 1
        }
        return first <= sectors && count <= sectors - first ? first : nil
    }

    private func startTransfer(_ code: UInt8, writes: Bool) {
        is48Bit = code == 0x24 || code == 0x34 || code == 0x29 || code == 0x39
        let isMultiple = code == 0xC4 || code == 0xC5 || code == 0x29 || code == 0x39
        if isMultiple, multiple == 0 { return fail(0x04) }
        sectorsPerBlock = isMultiple ? multiple : 1
        guard let first = address(count: transferCount) else { return fail(0x10) }
        self.writes = writes
        sector = first
        remaining = transferCount
        nextBlock()
        // The first block of a write is asked for without an interrupt.
        interruptPending = !writes
    }

    private func nextBlock() {
        let count = min(remaining, sectorsPerBlock)
        remaining -= count
        let range = sector * Self.sectorBytes..<(sector + count) * Self.sectorBytes
        block = writes ? [UInt8](repeating: 0, count: range.count) : Array(content[range])
        position = 0
        status = 0x58
        interruptPending = true
        if !writes { sector += count }
    }

    // MARK: - Data port

    private func readData(_ byteCount: Int) -> UInt32 {
        guard isSelected, status & 8 != 0, !writes else { return 0 }
        var value: UInt32 = 0
        for index in 0..<byteCount where position < block.count {
            value |= UInt32(block[position]) << UInt32(index * 8)
            position += 1
        }
        if position >= block.count { finishBlock() }
        return value
    }

    private func writeData(_ byteCount: Int, _ value: UInt32) {
        guard isSelected, status & 8 != 0, writes else { return }
        for index in 0..<byteCount where position < block.count {
            block[position] = UInt8(truncatingIfNeeded: value >> UInt32(index * 8))
            position += 1
        }
        guard position >= block.count else { return }
        let start = sector * Self.sectorBytes
        content.replaceSubrange(start..<start + block.count, with: block)
        sector += block.count / Self.sectorBytes
        finishBlock()
    }

    private func finishBlock() {
        if remaining > 0 { return nextBlock() }
        block = []
        status = 0x50
        // A read ends silently with its last byte, a write with an interrupt.
        if writes { interruptPending = true }
    }

    /// IDENTIFY DEVICE, 256 words (section 8.12).
    private func identification() -> [UInt8] {
        var words = [UInt16](repeating: 0, count: 256)
        func text(_ string: String, _ range: Range<Int>) {
            var bytes = Array(string.utf8.prefix(range.count * 2))
            bytes += [UInt8](repeating: 0x20, count: range.count * 2 - bytes.count)
            for (index, word) in range.enumerated() {
                words[word] = UInt16(bytes[index * 2]) << 8 | UInt16(bytes[index * 2 + 1])
            }
        }
        words[0] = 0x0040
        words[1] = UInt16(cylinders)
        words[3] = 16
        words[6] = 63
        text("XT00001", 10..<20)
        text("1.0", 23..<27)
        text("EXIT-TRACER DISK", 27..<47)
        words[47] = 0x8010
        words[49] = 0x0200  // LBA, no DMA
        words[51] = 0x0200
        words[53] = 0x0001
        words[54] = words[1]
        words[55] = 16
        words[56] = 63
        let chs = cylinders * 16 * 63
        (words[57], words[58]) = (UInt16(chs & 0xFFFF), UInt16(chs >> 16))
        if multiple > 0 { words[59] = 0x0100 | UInt16(multiple) }
        let lba28 = min(sectors, 0x0FFF_FFFF)
        (words[60], words[61]) = (UInt16(lba28 & 0xFFFF), UInt16(lba28 >> 16))
        words[80] = 0x0030
        words[82] = 0x4000
        words[83] = 0x7400  // LBA48, FLUSH CACHE
        words[84] = 0x4000
        words[86] = 0x3400
        words[87] = 0x4000
        for index in 0..<4 { words[100 + index] = UInt16(truncatingIfNeeded: sectors >> (index * 16)) }
        return words.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    }
}
