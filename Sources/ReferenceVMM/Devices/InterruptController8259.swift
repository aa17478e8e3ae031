// The PC's pair of interrupt controllers, ports 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1: Intel 8259A data sheet;
// edge/level registers: 82371SB (PIIX3) data sheet.

/// Sixteen interrupt lines in two cascaded 8259A chips.
final class InterruptController8259 {
    private var primary = Chip(slaveLine: 2)
    private var secondary = Chip(slaveLine: nil)

    /// Whether INTR is asserted.
    var hasInterrupt: Bool { primary.highestPending != nil }

    /// - Parameter line: 0...15 except 2.
    func set(line: Int, _ level: Bool) {
        if line < 8 {
            primary.set(line: line, level)
        } else {
            secondary.set(line: line - 8, level)
        }
        cascade()
    }

    func isMasked(line: Int) -> Bool {
        line < 8 ? primary.mask >> line & 1 != 0 : secondary.mask >> (line - 8) & 1 != 0 || primary.mask & 4 != 0
    }

    /// The INTA cycle.
    ///
    /// - Returns: the vector; the spurious one (line 7) where nothing is pending any more.
    func acknowledge() -> UInt8 {
        guard let line = primary.highestPending else { return primary.vectorBase | 7 }
        primary.acknowledge(line: line)
        guard line == 2 else { return primary.vectorBase | UInt8(line) }
        defer { cascade() }
        guard let secondaryLine = secondary.highestPending else { return secondary.vectorBase | 7 }
        secondary.acknowledge(line: secondaryLine)
        return secondary.vectorBase | UInt8(secondaryLine)
    }

    func read(port: UInt16) -> UInt8 {
        switch port {
        case 0x20: primary.readCommand()
        case 0x21: primary.mask
        case 0xA0: secondary.readCommand()
        case 0xA1: secondary.mask
        case 0x4D0: primary.levelTriggered
        case 0x4D1: secondary.levelTriggered
        default: 0xFF
        }
    }

    func write(port: UInt16, _ value: UInt8) {
        switch port {
        case 0x20: primary.writeCommand(value)
        case 0x21: primary.writeData(value)
        case 0xA0: secondary.writeCommand(value)
        case 0xA1: secondary.writeData(value)
        // Lines 0, 1, 2, 8 and 13 are always edge-triggered.
        case 0x4D0: primary.levelTriggered = value & 0xF8
        case 0x4D1: secondary.levelTriggered = value & 0xDE
        default: break
        }
        cascade()
    }

    private func cascade() { primary.set(line: 2, secondary.highestPending != nil) }
}

/// One 8259A.
private struct Chip {
    let slaveLine: Int?
    var mask: UInt8 = 0xFF
    var vectorBase: UInt8 = 0
    var levelTriggered: UInt8 = 0
    private var requests: UInt8 = 0
    private var inService: UInt8 = 0
    private var levels: UInt8 = 0
    private var lowestPriority = 7
    private var readsInService = false
    private var polls = false
    private var specialMask = false
    private var automaticEOI = false
    private var rotatesOnAutomaticEOI = false
    /// Which initialisation command word comes next; 0 outside of initialisation.
    private var expectedWord = 0
    private var takesWord4 = false
    private var isSingle = false

    init(slaveLine: Int?) { self.slaveLine = slaveLine }

    mutating func set(line: Int, _ level: Bool) {
        let bit: UInt8 = 1 << line
        if level {
            if levelTriggered & bit != 0 || levels & bit == 0 { requests |= bit }
            levels |= bit
        } else {
            levels &= ~bit
            // A request that goes away before it is acknowledged is lost: what makes an interrupt spurious.
            if levelTriggered & bit != 0 || line == slaveLine { requests &= ~bit }
        }
    }

    private func priority(_ line: Int) -> Int { (line - lowestPriority - 1) & 7 }

    private func highest(_ lines: UInt8) -> Int? {
        (0..<8).filter { lines >> $0 & 1 != 0 }.min { priority($0) < priority($1) }
    }

    var highestPending: Int? {
        let open = requests & ~mask
        guard open != 0, let line = highest(open) else { return nil }
        let blocking = specialMask ? inService & ~mask : inService
        guard let serving = highest(blocking) else { return line }
        if priority(line) < priority(serving) { return line }
        // The primary lets further interrupts of the secondary through (its own priority decides there).
        return nil
    }

    mutating func acknowledge(line: Int) {
        let bit: UInt8 = 1 << line
        if levelTriggered & bit == 0 { requests &= ~bit }
        if automaticEOI {
            if rotatesOnAutomaticEOI { lowestPriority = line }
        } else {
            inService |= bit
        }
    }

    mutating func readCommand() -> UInt8 {
        if polls {
            polls = false
            guard let line = highestPending else { return 0 }
            acknowledge(line: line)
            return 0x80 | UInt8(line)
        }
        return readsInService ? inService : requests
    }

    mutating func writeCommand(_ value: UInt8) {
        if value & 0x10 != 0 {  // ICW1
            mask = 0
            inService = 0
            requests &= levelTriggered
            lowestPriority = 7
            readsInService = false
            specialMask = false
            automaticEOI = false
            rotatesOnAutomaticEOI = false
            takesWord4 = value & 1 != 0
            isSingle = value & 2 != 0
            expectedWord = 2
        } else if value & 0x08 != 0 {  // OCW3
            if value & 0x04 != 0 { polls = true }
            if value & 0x02 != 0 { readsInService = value & 1 != 0 }
            if value & 0x40 != 0 { specialMask = value & 0x20 != 0 }
        } else {  // OCW2
            endOfInterrupt(value)
        }
    }

    private mutating func endOfInterrupt(_ value: UInt8) {
        let named = Int(value & 7)
        switch value >> 5 {
        case 0: rotatesOnAutomaticEOI = false
        case 4: rotatesOnAutomaticEOI = true
        case 1, 5:
            guard let line = highest(inService) else { return }
            inService &= ~(1 << line)
            if value >> 5 == 5 { lowestPriority = line }
        case 3: inService &= ~(1 << named)
        case 6: lowestPriority = named
        case 7:
            inService &= ~(1 << named)
            lowestPriority = named
        default: break
        }
    }

    mutating func writeData(_ value: UInt8) {
        switch expectedWord {
        case 2:
            vectorBase = value & 0xF8
            expectedWord = isSingle ? (takesWord4 ? 4 : 0) : 3
        case 3: expectedWord = takesWord4 ? 4 : 0
        case 4:
            automaticEOI = value & 2 != 0
            expectedWord = 0
        default: mask = value
        }
    }
}
