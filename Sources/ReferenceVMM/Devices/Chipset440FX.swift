// The functions of the i440FX chip set on bus 0: Intel 82441FX data sheet (PAM registers: section 3.2.19), 82371SB
// (PIIX3) and 82371AB (PIIX4 power management) data sheets.

/// Places on bus 0 and what stands there.
enum Chipset440FX {
    static let hostBridge: UInt8 = 0 << 3
    static let isaBridge: UInt8 = 1 << 3
    static let powerManagement: UInt8 = 1 << 3 | 3
    /// Where the ISA bridge routes PIRQA to PIRQD.
    static let interruptRoutes = 0x60...0x63
    /// Slots of the board that devices can be put into.
    static let firstSlot: UInt8 = 3

    /// Which of PIRQA to PIRQD a slot's INTA is wired to: 0...3, as on QEMU's board.
    static func interruptRequest(slot: UInt8) -> Int { Int(slot &- 1) & 3 }

    static func functions() -> [PCIFunction] {
        var host = PCIFunction(device: 0, function: 0, vendor: 0x8086, id: 0x1237, classCode: 0x0600_0002)
        for register in 0x59...0x5F { host.allow(register, 0x33) }
        host.allow(0x72, 0x7F)  // SMRAM control: held, without effect

        var bridge = PCIFunction(
            device: 1, function: 0, vendor: 0x8086, id: 0x7000, classCode: 0x0601_0000, isMultifunction: true)
        bridge.set(0x04, 0x0007 as UInt16)
        for register in interruptRoutes {
            bridge.set(register, 0x80 as UInt8)  // PIRQ routing: off
            bridge.allow(register, 0x8F)
        }
        for register in 0x4C...0x4F { bridge.allow(register, 0xFF) }

        var ide = PCIFunction(device: 1, function: 1, vendor: 0x8086, id: 0x7010, classCode: 0x0101_8000)
        ide.set(0x20, 0x01 as UInt8)  // BAR 4: 16 ports for bus mastering, which is not there
        ide.allow(0x20, 0xF0)
        // All upper bits answer when the size is probed, although ports end at 16 bits.
        for register in 0x21...0x23 { ide.allow(register, 0xFF) }
        for register in 0x40...0x43 { ide.allow(register, 0xFF) }

        var power = PCIFunction(device: 1, function: 3, vendor: 0x8086, id: 0x7113, classCode: 0x0680_0003)
        power.set(0x3D, 0x01 as UInt8)  // INTA
        power.set(0x40, 0x01 as UInt8)  // PMBASE: I/O space
        power.allow(0x40, 0xC0)
        power.allow(0x41, 0xFF)
        power.allow(0x80, 0x01)
        power.set(0x90, 0x01 as UInt8)
        power.allow(0x90, 0xF0)
        power.allow(0x91, 0xFF)
        power.allow(0xD2, 0x0F)
        return [host, bridge, ide, power]
    }
}

extension PCIBus {
    /// What firmware does before it tells the system where the ports are.
    func enablePowerManagement(at base: UInt16) {
        change(Chipset440FX.powerManagement) { function in
            function.set(0x40, base | 1)
            function.set(0x80, 0x01 as UInt8)
        }
    }
}

/// The thirteen ranges between 768 KiB and 1 MiB that the host bridge switches between memory and ROM.
struct ShadowRange: Hashable {
    let start: UInt64
    let byteCount: Int
    /// Register and bit of the two attribute bits: read enable, write enable.
    let register: Int
    let shift: UInt8

    static let all: [ShadowRange] =
        (0..<12).map { index in
            ShadowRange(
                start: 0xC0000 + UInt64(index) * 0x4000, byteCount: 0x4000, register: 0x5A + index / 2,
                shift: index % 2 == 0 ? 0 : 4)
        } + [ShadowRange(start: 0xF0000, byteCount: 0x10000, register: 0x59, shift: 4)]

    static func containing(_ address: UInt64) -> Int? {
        switch address {
        case 0xC0000..<0xF0000: Int((address - 0xC0000) / 0x4000)
        case 0xF0000..<0x100000: 12
        default: nil
        }
    }
}
