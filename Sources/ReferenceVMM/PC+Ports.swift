// The PC's I/O ports: which device answers where.

public import Assists
import NVMM

extension PC: AssistCallbacks {
    /// One element of an IN, OUT, INS or OUTS.
    public func access(_ io: inout IOAccess) {
        if io.isInput {
            io.value = readPort(io.port, io.byteCount)
        } else {
            writePort(io.port, io.byteCount, io.value)
        }
        updateLines()
    }

    private func readPort(_ port: UInt16, _ byteCount: Int) -> UInt32 {
        let now = machine.clock
        switch port {
        case 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1: return UInt32(interrupts.read(port: port))
        case 0x40...0x43, 0x61:
            // Who polls the timer waits for it: without the time that such a read takes, which no instruction counts,
            // loops that measure the processor would exit a hundred times as often.
            machine.advanceClock(by: Ticks.perPortRead)
            return UInt32(timer.read(port: port, at: machine.clock))
        case 0x60, 0x64: return UInt32(keyboard.read(port: port))
        case 0x70, 0x71: return UInt32(clock.read(port: port, at: now))
        case 0x92: return UInt32(systemControl)
        case 0x1F0...0x1F7, 0x3F6: return disk.read(port: port, byteCount: byteCount)
        case 0x3F8...0x3FF: return UInt32(serial.read(register: port - 0x3F8))
        case 0x402: return 0xE9  // what tells firmware that somebody listens
        case 0x510...0x51B: return firmware.read(port: port, byteCount: byteCount)
        case 0xCF9: return UInt32(resetControl)
        case 0xCF8...0xCFF: return bus.read(port: port, byteCount: byteCount)
        default:
            if let offset = powerManagementOffset(port) { return power.read(offset: offset, at: now) }
            return .max
        }
    }

    private func writePort(_ port: UInt16, _ byteCount: Int, _ value: UInt32) {
        let now = machine.clock
        let byte = UInt8(truncatingIfNeeded: value)
        switch port {
        case 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1: interrupts.write(port: port, byte)
        case 0x40...0x43, 0x61: timer.write(port: port, byte, at: now)
        case 0x60, 0x64:
            keyboard.write(port: port, byte)
            if keyboard.wantsReset { ending = ending ?? .resetRequested }
        case 0x70, 0x71: clock.write(port: port, byte, at: now)
        case 0x92:
            systemControl = byte & 0xFE
            if byte & 1 != 0 { ending = ending ?? .resetRequested }
        // Where a PC calls its system management code; this one's, as QEMU's without any, does what ACPI asks for.
        case 0xB2: power.handleCommand(byte)
        // QEMU's isa-debug-exit.
        case 0xF4: ending = ending ?? .exited(status: Int(value) << 1 | 1)
        case 0x1F0...0x1F7, 0x3F6: disk.write(port: port, byteCount: byteCount, value)
        case 0x3F8...0x3FF: serial.write(register: port - 0x3F8, byte)
        case 0x402: debugOutput(byte)
        case 0x510...0x51B: firmware.write(port: port, byteCount: byteCount, value)
        case 0xCF9 where byteCount == 1:
            resetControl = byte & 0x06
            if byte & 4 != 0 { ending = ending ?? .resetRequested }
        case 0xCF8...0xCFF: bus.write(port: port, byteCount: byteCount, value)
        default:
            guard let offset = powerManagementOffset(port) else { return }
            power.write(offset: offset, value)
            if power.wantsPowerOff { ending = ending ?? .poweredOff }
        }
    }

    /// PMBASE and the enable bit are in the power management function's configuration space.
    private func powerManagementOffset(_ port: UInt16) -> UInt16? {
        guard let function = bus.function(at: Chipset440FX.powerManagement), function.bytes[0x80] & 1 != 0 else {
            return nil
        }
        let base = UInt16(truncatingIfNeeded: function.word(0x40) & 0xFFC0)
        return port >= base && port - base < 64 ? port - base : nil
    }

    /// One load or store outside of open memory.
    public func access(_ memory: inout MemoryAccess) {
        guard Int(memory.vcpu) < processors.count else { return }
        let address = memory.gpa.rawValue
        switch address & ~0xFFF {
        case LocalAPIC.address: accessLocalAPIC(&memory, of: processors[Int(memory.vcpu)])
        case IOAPIC.address:
            if memory.isWrite {
                ioAPIC.write(address & 0xFFF, UInt32(truncatingIfNeeded: memory.value))
            } else {
                memory.value = UInt64(ioAPIC.read(address & 0xFFF))
            }
        default:
            if let device = slots.first(where: { $0.device.contains(address) })?.device {
                device.access(&memory)
            } else if memory.isWrite {
                self.memory.storeBehindROM(memory)
            } else {
                memory.value = .max
            }
        }
        updateLines()
    }

    private func accessLocalAPIC(_ access: inout MemoryAccess, of processor: Processor) {
        let offset = access.gpa.rawValue & 0xFF0
        let byte = access.gpa.rawValue & 0xF
        guard access.isWrite else {
            // Registers are 32 bits wide in slots of 16 bytes; the rest of a slot reads as zero.
            let value = byte < 4 ? UInt64(processor.apic.read(offset, at: machine.clock)) >> (byte * 8) : 0
            access.value = value
            return
        }
        guard byte == 0 else { return }
        switch processor.apic.write(offset, UInt32(truncatingIfNeeded: access.value), at: machine.clock) {
        case .none: break
        case .send(let message): deliver(message, from: processor)
        case .endOfInterrupt(let vector): ioAPIC.endOfInterrupt(vector)
        }
    }
}
