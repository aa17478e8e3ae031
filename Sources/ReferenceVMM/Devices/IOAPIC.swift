// I/O APIC, one page at 0xFEC00000: Intel 82093AA data sheet.

/// 24 lines, each with a redirection entry.
final class IOAPIC {
    static let address: UInt64 = 0xFEC0_0000
    private var select: UInt8 = 0
    private var id: UInt32 = 0
    private var entries = [UInt64](repeating: 0x1_0000, count: 24)
    private var levels: UInt32 = 0
    /// Sends a message to the local APICs.
    var send: ((InterruptMessage) -> Void)?

    /// - Parameter line: 0...23.
    func set(line: Int, _ level: Bool) {
        let bit: UInt32 = 1 << UInt32(line)
        let rose = level && levels & bit == 0
        if level { levels |= bit } else { levels &= ~bit }
        if entries[line] & 1 << 15 != 0 { if level { deliver(line) } } else if rose { deliver(line) }
    }

    func isMasked(line: Int) -> Bool { entries[line] & 0x1_0000 != 0 }

    private func deliver(_ line: Int) {
        let entry = entries[line]
        let isLevel = entry & 1 << 15 != 0
        guard entry & 0x1_0000 == 0, !(isLevel && entry & 1 << 14 != 0) else { return }
        if isLevel { entries[line] |= 1 << 14 }
        send?(
            InterruptMessage(
                vector: UInt8(entry & 0xFF), delivery: .init(rawValue: UInt8(entry >> 8 & 7)) ?? .reserved,
                destination: UInt8(truncatingIfNeeded: entry >> 56), isLogical: entry & 0x800 != 0, isLevel: isLevel,
                isAssert: true))
    }

    func endOfInterrupt(_ vector: UInt8) {
        for line in entries.indices where entries[line] & 1 << 14 != 0 && UInt8(entries[line] & 0xFF) == vector {
            entries[line] &= ~(1 << 14)
            if levels >> UInt32(line) & 1 != 0 { deliver(line) }
        }
    }

    /// - Parameter offset: within the page.
    func read(_ offset: UInt64) -> UInt32 {
        switch offset {
        case 0x00: return UInt32(select)
        case 0x10:
            switch select {
            case 0: return id
            case 1: return 0x0017_0011
            case 2: return id
            case 0x10...0x3F:
                let entry = entries[Int(select - 0x10) / 2]
                return UInt32(truncatingIfNeeded: select & 1 == 0 ? entry : entry >> 32)
            default: return 0
            }
        default: return 0
        }
    }

    func write(_ offset: UInt64, _ value: UInt32) {
        switch offset {
        case 0x00: select = UInt8(value & 0xFF)
        case 0x10:
            switch select {
            case 0: id = value & 0x0F00_0000
            case 0x10...0x3F:
                let line = Int(select - 0x10) / 2
                if select & 1 == 0 {
                    // Delivery status and remote IRR are the chip's own.
                    entries[line] = entries[line] & 0xFFFF_FFFF_0000_5000 | UInt64(value & 0x1_AFFF)
                    if levels >> UInt32(line) & 1 != 0, entries[line] & 1 << 15 != 0 { deliver(line) }
                } else {
                    entries[line] = entries[line] & 0xFFFF_FFFF | UInt64(value) << 32
                }
            default: break
            }
        case 0x40: endOfInterrupt(UInt8(value & 0xFF))
        default: break
        }
    }
}
