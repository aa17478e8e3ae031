// Serial port COM1, ports 0x3F8 to 0x3FF: National PC16550D data sheet.

/// A UART that sends at once and receives what is typed once the guest wants to be interrupted by it.
final class Serial16550 {
    private let send: (UInt8) -> Void
    private var input: ArraySlice<UInt8>
    private var divisor: UInt16 = 12
    private var interruptEnable: UInt8 = 0
    private var lineControl: UInt8 = 0x03
    private var modemControl: UInt8 = 0
    private var scratch: UInt8 = 0
    private var fifoIsOn = false
    private var transmitterInterrupt = false
    /// Bytes in loopback mode, at most a FIFO's worth.
    private var received: [UInt8] = []

    /// - Parameters:
    ///   - input: what is typed. It waits until the receiver's interrupt is enabled, as a system does that reads lines.
    ///   - send: gets every byte that the guest transmits.
    init(input: [UInt8] = [], send: @escaping (UInt8) -> Void) {
        self.input = input[...]
        self.send = send
    }

    private func receive() {
        guard received.isEmpty, interruptEnable & 1 != 0, modemControl & 0x10 == 0 else { return }
        received = Array(input.prefix(fifoIsOn ? 16 : 1))
        input = input.dropFirst(received.count)
    }

    private var sendsDivisor: Bool { lineControl & 0x80 != 0 }

    /// IRQ 4, gated by OUT2 as on every PC.
    var interruptLine: Bool { modemControl & 0x08 != 0 && identification & 1 == 0 }

    private var identification: UInt8 {
        if interruptEnable & 1 != 0, !received.isEmpty { return 0x04 }
        if interruptEnable & 2 != 0, transmitterInterrupt { return 0x02 }
        return 0x01
    }

    /// - Parameter register: 0...7.
    func read(register: UInt16) -> UInt8 {
        switch register {
        case 0:
            if sendsDivisor { return UInt8(divisor & 0xFF) }
            guard !received.isEmpty else { return 0 }
            defer { receive() }
            return received.removeFirst()
        case 1: return sendsDivisor ? UInt8(divisor >> 8) : interruptEnable
        case 2:
            let value = identification
            if value == 0x02 { transmitterInterrupt = false }
            return value | (fifoIsOn ? 0xC0 : 0)
        case 3: return lineControl
        case 4: return modemControl
        case 5: return 0x60 | (received.isEmpty ? 0 : 1)
        case 6:
            // In loopback the outputs are the inputs; else carrier, ring off, DSR and CTS.
            guard modemControl & 0x10 != 0 else { return 0xB0 }
            let control = modemControl
            return (control & 0x02) << 3 | (control & 0x01) << 5 | (control & 0x04) << 4 | (control & 0x08) << 4
        default: return scratch
        }
    }

    /// - Parameter register: 0...7.
    func write(register: UInt16, _ value: UInt8) {
        switch register {
        case 0:
            if sendsDivisor {
                divisor = divisor & 0xFF00 | UInt16(value)
            } else {
                if modemControl & 0x10 != 0 {
                    if received.count < 16 { received.append(value) }
                } else {
                    send(value)
                }
                transmitterInterrupt = true
            }
        case 1:
            if sendsDivisor {
                divisor = divisor & 0xFF | UInt16(value) << 8
            } else {
                // Turning the interrupt on with an empty transmitter raises it.
                if value & ~interruptEnable & 2 != 0 { transmitterInterrupt = true }
                interruptEnable = value & 0x0F
                receive()
            }
        case 2:
            fifoIsOn = value & 1 != 0
            if value & 2 != 0 { received = [] }
        case 3: lineControl = value
        case 4: modemControl = value & 0x1F
        case 7: scratch = value
        default: break
        }
    }
}
