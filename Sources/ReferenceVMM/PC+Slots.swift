// The PC's slots for PCI devices: what stands in them, where its memory is, and which interrupt line it has.

/// A device in a slot.
struct PCISlot {
    let number: UInt8
    let device: VirtioDevice
    /// The line that INTA is routed to: 1...15; nil where it is routed nowhere.
    var line: Int?

    var place: UInt8 { number << 3 }
}

extension PC {
    func addVirtioDevices(_ configuration: PCConfiguration) {
        var kinds: [any VirtioKind] = []
        if let content = configuration.virtioDisk { kinds.append(VirtioBlock(content: content)) }
        if configuration.hasVirtioConsole {
            kinds.append(VirtioConsole(input: configuration.input, send: configuration.serialOutput))
        }
        for (index, kind) in kinds.enumerated() {
            let slot = PCISlot(
                number: Chipset440FX.firstSlot + UInt8(index), device: VirtioDevice(kind, memory: memory))
            bus.add(slot.device.function(slot: slot.number))
            slots.append(slot)
        }
    }

    /// What firmware does: gives memory and interrupt lines to what stands in the slots.
    func placeSlots() {
        for register in Chipset440FX.interruptRoutes {
            bus.change(Chipset440FX.isaBridge) { bridge in
                bridge.set(
                    register, ACPITables.interruptLine(request: register - Chipset440FX.interruptRoutes.lowerBound))
            }
        }
        for (index, slot) in slots.enumerated() {
            let request = Chipset440FX.interruptRequest(slot: slot.number)
            bus.change(slot.place) { function in
                let base = ACPITables.deviceMemory + UInt64(index) * VirtioDevice.rangeBytes
                function.set(0x10, UInt16(truncatingIfNeeded: base))
                function.set(0x12, UInt16(truncatingIfNeeded: base >> 16))
                function.set(0x3C, ACPITables.interruptLine(request: request))
                function.set(0x04, 0x0006 as UInt16)  // answers in memory, reads and writes it
            }
        }
        followSlots()
    }

    /// Takes over what the configuration spaces say now.
    func followSlots() {
        guard !slots.isEmpty, let bridge = bus.function(at: Chipset440FX.isaBridge) else { return }
        for index in slots.indices {
            guard let function = bus.function(at: slots[index].place) else { continue }
            let answers = function.bytes[0x04] & 2 != 0
            slots[index].device.base = answers ? UInt64(function.word(0x10) & ~0xF) : nil
            let request = Chipset440FX.interruptRequest(slot: slots[index].number)
            let route = bridge.bytes[Chipset440FX.interruptRoutes.lowerBound + request]
            // 82371SB data sheet, section 2.2.5: bit 7 switches the routing off.
            slots[index].line = route & 0x80 == 0 && route & 0xF != 0 ? Int(route & 0xF) : nil
        }
    }
}
