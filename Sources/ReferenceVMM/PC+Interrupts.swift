// Who interrupts whom: device lines, messages between APICs, and the deadlines of everything that counts time.

import NVMM

extension PC {
    /// Lets every device catch up with the machine's clock and puts its line to the interrupt controllers.
    func advanceDevices() {
        let now = machine.clock
        if timer.advance(to: now) {
            // The controllers take the rising edge.
            setLine(0, false)
            setLine(0, true)
        }
        clock.advance(to: now)
        for processor in processors { processor.apic.advance(to: now) }
        updateLines()
    }

    func updateLines() {
        var levels: UInt16 =
            (keyboard.interruptLine ? 1 << 1 : 0) | (serial.interruptLine ? 1 << 4 : 0)
            | (clock.interruptLine ? 1 << 8 : 0) | (disk.interruptLine ? 1 << 14 : 0)
        for slot in slots { if let line = slot.line, slot.device.interruptLine { levels |= 1 << UInt16(line) } }
        // Nearly always nothing has changed, and this comes twice an exit. The timer's line is an edge of its own.
        let changed = (lineLevels ^ levels) & ~1
        guard changed != 0 else { return }
        for line in 1..<16 where changed & 1 << UInt16(line) != 0 {
            setLine(line, levels & 1 << UInt16(line) != 0)
        }
    }

    private func setLine(_ line: Int, _ level: Bool) {
        let bit: UInt16 = 1 << UInt16(line)
        guard (lineLevels & bit != 0) != level else { return }
        lineLevels ^= bit
        interrupts.set(line: line, level)
        // The timer is wired to input 2 of the I/O APIC, where the cascade would be.
        ioAPIC.set(line: line == 0 ? 2 : line, level)
    }

    /// Clock of the next interrupt of a timer that somebody listens to; nil where there is none.
    func nextDeadline() -> UInt64? {
        var next: UInt64 = .max
        let legacyIsHeard = processors[0].apic.acceptsExternalInterrupts
        if (legacyIsHeard && !interrupts.isMasked(line: 0)) || !ioAPIC.isMasked(line: 2) { next = timer.nextEdge }
        if (legacyIsHeard && !interrupts.isMasked(line: 8)) || !ioAPIC.isMasked(line: 8) {
            next = min(next, clock.nextEvent)
        }
        for processor in processors where !processor.waitsForStartUp { next = min(next, processor.apic.nextEvent) }
        return next == .max ? nil : next
    }

    /// Whether the PC's interrupt controller asserts INTR to a processor: only the first one is wired.
    private func hasExternalInterrupt(_ processor: Processor) -> Bool {
        processor === processors[0] && processor.apic.acceptsExternalInterrupts && interrupts.hasInterrupt
    }

    func hasInterrupt(_ processor: Processor) -> Bool {
        processor.apic.pendingVector != nil || hasExternalInterrupt(processor)
    }

    /// Takes the interrupt out of the controller that has it.
    func acknowledgeInterrupt(_ processor: Processor) -> UInt8 {
        if let vector = processor.apic.pendingVector {
            processor.apic.acknowledge(vector)
            return vector
        }
        return interrupts.acknowledge()
    }

    /// Delivers a message to the local APICs that it names.
    func deliver(_ message: InterruptMessage, from sender: Processor?) {
        let targets: [Processor] =
            switch message.shorthand {
            case 1: sender.map { [$0] } ?? []
            case 2: processors
            case 3: processors.filter { $0 !== sender }
            default: processors.filter { $0.apic.matches(message) }
            }
        do {
            for target in targets {
                switch message.delivery {
                case .initialise:
                    // The level de-assert message of old start-up protocols does nothing here.
                    if message.isLevel, !message.isAssert { continue }
                    try target.initialise()
                case .startUp: try target.startUp(vector: message.vector)
                case .external:
                    if target === processors[0], interrupts.hasInterrupt {
                        var fixed = message
                        fixed.delivery = .fixed
                        fixed.vector = interrupts.acknowledge()
                        target.apic.receive(fixed)
                    }
                case .lowestPriority:
                    target.apic.receive(message)
                    return
                default: target.apic.receive(message)
                }
            }
        } catch {
            failure = failure ?? error
        }
    }
}
