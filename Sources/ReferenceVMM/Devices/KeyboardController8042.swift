// Keyboard controller, ports 0x60 and 0x64: IBM PC/AT technical reference; as much as firmware and boot loaders touch.

/// A controller with a keyboard on which nobody types, and no mouse.
final class KeyboardController8042 {
    private var commandByte: UInt8 = 0x45
    private var outputPort: UInt8 = 0x03
    /// What the next write to port 0x60 is for.
    private var pendingCommand: UInt8?
    private var keyboardTakesParameter = false
    /// Bytes for port 0x60, oldest first; never more than a few.
    private var output: [UInt8] = []
    /// The guest asked for a reset of the processor.
    private(set) var wantsReset = false

    /// IRQ 1.
    var interruptLine: Bool { !output.isEmpty && commandByte & 1 != 0 }

    func read(port: UInt16) -> UInt8 {
        guard port == 0x60 else {
            // System flag, keyboard not locked; input buffer always empty.
            return 0x10 | (commandByte & 4) | (output.isEmpty ? 0 : 1)
        }
        return output.isEmpty ? 0 : output.removeFirst()
    }

    func write(port: UInt16, _ value: UInt8) {
        if port == 0x64 { writeCommand(value) } else { writeData(value) }
    }

    private func reply(_ bytes: UInt8...) {
        // The real buffers are of this order; a guest that never reads must not grow it.
        if output.count < 16 { output += bytes }
    }

    private func writeCommand(_ value: UInt8) {
        pendingCommand = nil
        switch value {
        case 0x20: reply(commandByte)
        case 0x60, 0xD1, 0xD2, 0xD3, 0xD4: pendingCommand = value
        case 0xA7: commandByte |= 0x20
        case 0xA8: commandByte &= ~0x20
        case 0xA9, 0xAB: reply(0x00)
        case 0xAA:
            commandByte |= 4
            reply(0x55)
        case 0xAD: commandByte |= 0x10
        case 0xAE: commandByte &= ~0x10
        case 0xC0: reply(0x80)
        case 0xD0: reply(outputPort)
        case 0xF0...0xFF: if value & 1 == 0 { wantsReset = true }
        default: break
        }
    }

    private func writeData(_ value: UInt8) {
        let command = pendingCommand
        pendingCommand = nil
        switch command {
        case 0x60: commandByte = value
        case 0xD1:
            outputPort = value
            if value & 1 == 0 { wantsReset = true }
        case 0xD2, 0xD3: reply(value)
        case 0xD4: break  // no mouse answers
        default: keyboard(value)
        }
    }

    private func keyboard(_ value: UInt8) {
        if keyboardTakesParameter {
            keyboardTakesParameter = false
            return reply(0xFA)
        }
        switch value {
        case 0xED, 0xF0, 0xF3:
            keyboardTakesParameter = true
            reply(0xFA)
        case 0xEE: reply(0xEE)
        case 0xF2: reply(0xFA, 0xAB, 0x83)
        case 0xFF: reply(0xFA, 0xAA)
        default: reply(0xFA)
        }
    }
}
