// The ACPI tables of a PC without firmware: ACPI 6.5, chapter 5, in the layouts of 1.0b and 2.0.

/// Describes the processors, the interrupt controllers and how the machine is switched off.
struct ACPITables {
    /// Where they lie: in the range that systems search, reserved in the memory map.
    static let address: UInt64 = 0xE_0000
    /// Where the power management ports are.
    static let powerManagementBase: UInt16 = 0x600

    /// Where devices of PCI have memory.
    static let deviceMemory: UInt64 = 0xFE00_0000
    /// The interrupt line of each of PIRQA to PIRQD, 0...3: two lines that nothing else of a PC has.
    static func interruptLine(request: Int) -> UInt8 { request & 1 == 0 ? 10 : 11 }

    private static let rootPointerBytes = 20
    private var bytes = [UInt8](repeating: 0, count: rootPointerBytes)
    /// All tables, the root pointer first, to be put at ``address``.
    var image: ArraySlice<UInt8> { bytes[...] }

    init(vcpuCount: Int) {
        let control = add(Self.firmwareControlStructure(), alignment: 64)
        let definitions = add(Self.table("DSDT", revision: 1, Self.definitions))
        let fixed = add(Self.table("FACP", revision: 3, Self.fixedDescription(control: control, dsdt: definitions)))
        let interrupts = add(Self.table("APIC", revision: 1, Self.interruptControllers(vcpuCount: vcpuCount)))
        let root = add(Self.table("RSDT", revision: 1, Self.little(fixed, 4) + Self.little(interrupts, 4)))
        var pointer = Array("RSD PTR ".utf8) + [0] + Self.manufacturer + [0] + Self.little(root, 4)
        pointer[8] = Self.checksum(pointer)
        bytes.replaceSubrange(0..<pointer.count, with: pointer)
    }

    private mutating func add(_ table: [UInt8], alignment: Int = 16) -> UInt64 {
        while bytes.count % alignment != 0 { bytes.append(0) }
        defer { bytes += table }
        return Self.address + UInt64(bytes.count)
    }

    // MARK: - Parts

    private static let manufacturer = Array("EXTRCR".utf8)

    private static func little(_ value: UInt64, _ count: Int) -> [UInt8] { .littleEndian(value, count) }

    /// What makes all bytes add up to zero.
    private static func checksum(_ bytes: [UInt8]) -> UInt8 { 0 &- bytes.reduce(0, &+) }

    /// A description header (section 5.2.6) and what follows it.
    private static func table(_ signature: String, revision: UInt8, _ body: [UInt8]) -> [UInt8] {
        var table = Array(signature.utf8) + little(UInt64(36 + body.count), 4) + [revision, 0]
        table += manufacturer + Array("EXTRACER".utf8) + little(1, 4) + Array("EXTR".utf8) + little(1, 4)
        table += body
        table[9] = checksum(table)
        return table
    }

    private static func firmwareControlStructure() -> [UInt8] {
        Array("FACS".utf8) + little(64, 4) + [UInt8](repeating: 0, count: 56)
    }

    /// Sleep type 0 is soft off; and there is a PCI bus.
    private static let definitions: [UInt8] =
        AML.name("_S5_", AML.package([0, 0, 0, 0].map(AML.integer)))
        + AML.scope("_SB_", AML.device("PCI0", hostBridge))

    /// What bus 0 may use, and which line each slot's INTA to INTD come by: sections 6.2.2 and 6.2.13.
    private static let hostBridge: [UInt8] = {
        let resources =
            AML.addressSpace16(type: 2, flags: 0, 0...0xFF)
            + AML.ports(0xCF8, count: 8)
            + AML.addressSpace16(type: 1, flags: 3, 0...0xCF7)
            + AML.addressSpace16(type: 1, flags: 3, 0xD00...0xFFFF)
            + AML.memory(0xE000_0000...0xFEBF_FFFF)
            + [0x79, 0]  // the end, without a checksum
        let routes = (1..<UInt8(32)).flatMap { slot in
            (0..<4).map { pin in
                let request = Chipset440FX.interruptRequest(slot: slot) + pin
                return AML.package([
                    AML.integer(UInt64(slot) << 16 | 0xFFFF), AML.integer(UInt64(pin)), AML.integer(0),
                    AML.integer(UInt64(interruptLine(request: request))),
                ])
            }
        }
        return AML.name("_HID", AML.integer(0x030A_D041))  // PNP0A03
            + AML.name("_CRS", AML.buffer(resources)) + AML.name("_PRT", AML.package(routes))
    }()

    /// The FADT after its header: section 5.2.9.
    private static func fixedDescription(control: UInt64, dsdt: UInt64) -> [UInt8] {
        var body = [UInt8](repeating: 0, count: 244 - 36)
        func set(_ offset: Int, _ value: UInt64, _ count: Int) {
            body.replaceSubrange(offset - 36..<offset - 36 + count, with: little(value, count))
        }
        let base = UInt64(powerManagementBase)
        set(36, control, 4)
        set(40, dsdt, 4)
        set(46, 9, 2)  // SCI
        set(56, base, 4)  // events
        set(64, base + 4, 4)  // control
        set(76, base + 8, 4)  // timer
        set(88, 4, 1)
        set(89, 2, 1)
        set(91, 4, 1)
        // No C2 and C3.
        set(96, 0xFFFF, 2)
        set(98, 0xFFFF, 2)
        set(108, 0x32, 1)  // century in CMOS memory
        // Devices of ISA, a keyboard controller, no display adapter.
        set(109, 1 << 0 | 1 << 1 | 1 << 2, 2)
        // WBINVD, C1, buttons that are not fixed ones, a reset register.
        set(112, 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10, 4)
        // Generic addresses (section 5.2.3.2): I/O space, bits, offset, access size, address.
        func address(_ offset: Int, _ port: UInt64, bits: UInt64, access: UInt64) {
            set(offset, 1 | bits << 8 | access << 24, 4)
            set(offset + 4, port, 8)
        }
        address(116, 0xCF9, bits: 8, access: 1)
        set(128, 0x06, 1)
        set(132, control, 8)
        set(140, dsdt, 8)
        address(148, base, bits: 32, access: 2)
        address(172, base + 4, bits: 16, access: 2)
        address(208, base + 8, bits: 32, access: 3)
        return body
    }

    /// The MADT after its header: section 5.2.12.
    private static func interruptControllers(vcpuCount: Int) -> [UInt8] {
        var body = little(LocalAPIC.address, 4) + little(1, 4)  // there are two 8259 too
        for index in 0..<vcpuCount {
            body += [0, 8, UInt8(index), UInt8(index)] + little(1, 4)
        }
        // Its identification is what the I/O APIC's own register holds after reset.
        body += [1, 12, 0, 0] + little(IOAPIC.address, 4) + little(0, 4)
        // The timer, IRQ 0, comes at input 2; the SCI is level and active high.
        body += [2, 10, 0, 0] + little(2, 4) + little(0, 2)
        body += [2, 10, 0, 9] + little(9, 4) + little(0x000D, 2)
        // LINT1 of every processor is NMI.
        body += [4, 6, 0xFF] + little(0, 2) + [1]
        return body
    }
}
