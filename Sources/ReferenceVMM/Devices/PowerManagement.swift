// ACPI power management ports of the PIIX4, at PMBASE: 82371AB data sheet, section 7.2; ACPI 1.0b, section 4.7.

/// Event and control registers, and the timer at 3.579545 MHz.
final class PowerManagement {
    private static let ticks = Ticks(frequency: 3_579_545)
    private var status: UInt16 = 0
    private var enable: UInt16 = 0
    private var control: UInt16 = 0
    /// The guest asked to be switched off (S5).
    private(set) var wantsPowerOff = false

    /// Sets SCI_EN, as firmware does when it is asked to.
    func enterACPIMode() { control |= 1 }

    /// The command port's values that SeaBIOS' FADT names: ACPI 1.0b, section 4.7.2.5.
    func handleCommand(_ value: UInt8) {
        switch value {
        case 0xF1: enterACPIMode()
        case 0xF0: control &= ~1
        default: break
        }
    }

    /// - Parameter offset: from PMBASE, 0...63.
    func read(offset: UInt16, at clock: UInt64) -> UInt32 {
        switch offset {
        case 0x00: UInt32(status) | UInt32(enable) << 16
        case 0x02: UInt32(enable)
        case 0x04: UInt32(control)
        // 24 bits, as the FADT of firmware for this chip says.
        case 0x08: UInt32(truncatingIfNeeded: Self.ticks.count(at: clock) & 0xFF_FFFF)
        default: 0
        }
    }

    func write(offset: UInt16, _ value: UInt32) {
        let word = UInt16(truncatingIfNeeded: value)
        switch offset {
        case 0x00: status &= ~word
        case 0x02: enable = word
        case 0x04:
            control = word & ~0x2000
            // SLP_EN with sleep type 0: soft off on this chip.
            if word & 0x2000 != 0, word >> 10 & 7 == 0 { wantsPowerOff = true }
        default: break
        }
    }
}
