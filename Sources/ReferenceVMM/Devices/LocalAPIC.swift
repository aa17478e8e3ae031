// Local APIC, one page at 0xFEE00000: SDM vol. 3, chapter 10 (xAPIC mode).

/// What an APIC asks others to deliver: an interrupt command or a redirection entry.
struct InterruptMessage {
    enum Delivery: UInt8 { case fixed, lowestPriority, smi, reserved, nmi, initialise, startUp, external }
    var vector: UInt8
    var delivery: Delivery
    var destination: UInt8
    var isLogical: Bool
    var isLevel: Bool
    var isAssert: Bool
    /// 0 by destination, 1 self, 2 all, 3 all others.
    var shorthand: UInt8 = 0
}

/// The interrupt controller of one VCPU. Its timer counts ticks of the machine's clock.
final class LocalAPIC {
    static let address: UInt64 = 0xFEE0_0000
    let id: UInt8
    /// MSR APICBASE.
    var base: UInt64
    private var version: UInt32 { 0x0005_0014 }
    /// Task priority register. Bits 7:4 are CR8.
    var taskPriority: UInt8 = 0
    private var logicalDestination: UInt8 = 0
    private var destinationFormat: UInt32 = .max
    private var spurious: UInt32 = 0xFF
    private var requests = VectorSet()
    private var inService = VectorSet()
    private var levelTriggered = VectorSet()
    private var errorStatus: UInt32 = 0
    private var command: (low: UInt32, high: UInt32) = (0, 0)
    /// Timer, thermal, performance, LINT0, LINT1, error.
    private var vectors = [UInt32](repeating: 0x1_0000, count: 6)
    private var divide: UInt32 = 0
    private var initialCount: UInt32 = 0
    private var timerStart: UInt64 = 0
    private var timerFired = false
    private var nmiPending = false

    /// - Parameter isBootstrap: the first processor; its LINT0 lets the PC's interrupt controller through, as
    ///   QEMU does it for firmware that expects so.
    init(id: UInt8, isBootstrap: Bool) {
        self.id = id
        base = Self.address | 0x800 | (isBootstrap ? 0x100 : 0)
        if isBootstrap { vectors[3] = 0x700 }
    }

    /// What INIT leaves: all but the ID and the base.
    func initialise() {
        taskPriority = 0
        logicalDestination = 0
        destinationFormat = .max
        spurious = 0xFF
        requests = VectorSet()
        inService = VectorSet()
        levelTriggered = VectorSet()
        vectors = [UInt32](repeating: 0x1_0000, count: 6)
        if base & 0x100 != 0 { vectors[3] = 0x700 }
        divide = 0
        initialCount = 0
        nmiPending = false
    }

    private var isEnabled: Bool { base & 0x800 != 0 && spurious & 0x100 != 0 }

    /// Whether the PC's interrupt controller reaches the processor through LINT0 (virtual wire mode).
    var acceptsExternalInterrupts: Bool {
        base & 0x800 == 0 || (vectors[3] & 0x1_0000 == 0 && vectors[3] >> 8 & 7 == 7)
    }

    // MARK: - Interrupts

    private var processorPriority: UInt8 {
        let serving = inService.highest.map { $0 & 0xF0 } ?? 0
        return taskPriority & 0xF0 >= serving ? taskPriority : serving
    }

    /// The vector that would be taken now.
    var pendingVector: UInt8? {
        guard isEnabled, let vector = requests.highest, vector & 0xF0 > processorPriority & 0xF0 else { return nil }
        return vector
    }

    func acknowledge(_ vector: UInt8) {
        requests.remove(vector)
        inService.insert(vector)
    }

    var hasNMI: Bool { nmiPending }
    func takeNMI() { nmiPending = false }

    /// Receives a fixed, lowest-priority or NMI message.
    func receive(_ message: InterruptMessage) {
        switch message.delivery {
        case .fixed, .lowestPriority:
            guard isEnabled else { return }
            guard message.vector >= 16 else {
                errorStatus |= 0x40
                return
            }
            requests.insert(message.vector)
            if message.isLevel { levelTriggered.insert(message.vector) } else { levelTriggered.remove(message.vector) }
        case .nmi: nmiPending = true
        default: break
        }
    }

    func matches(_ message: InterruptMessage) -> Bool {
        if !message.isLogical { return message.destination == 0xFF || message.destination == id }
        if destinationFormat >> 28 == 0xF { return message.destination & logicalDestination != 0 }
        return message.destination >> 4 == logicalDestination >> 4
            && message.destination & logicalDestination & 0xF != 0
    }

    // MARK: - Timer

    private var divisor: UInt64 {
        let code = divide & 3 | divide >> 1 & 4
        return code == 7 ? 1 : 2 << UInt64(code)
    }
    private var isPeriodic: Bool { vectors[0] & 0x2_0000 != 0 }

    /// Clock at which the timer's interrupt comes; the largest number where it will not.
    var nextEvent: UInt64 {
        guard initialCount != 0, vectors[0] & 0x1_0000 == 0, isEnabled, !timerFired else { return .max }
        return timerStart &+ UInt64(initialCount) &* divisor
    }

    func advance(to clock: UInt64) {
        guard initialCount != 0, !timerFired else { return }
        let period = UInt64(initialCount) &* divisor
        let elapsed = clock &- timerStart
        guard elapsed >= period else { return }
        if isPeriodic { timerStart &+= elapsed / period &* period } else { timerFired = true }
        if vectors[0] & 0x1_0000 == 0 {
            receive(
                InterruptMessage(
                    vector: UInt8(vectors[0] & 0xFF), delivery: .fixed, destination: id, isLogical: false,
                    isLevel: false, isAssert: true))
        }
    }

    private func currentCount(at clock: UInt64) -> UInt32 {
        guard initialCount != 0, !timerFired else { return 0 }
        let passed = (clock &- timerStart) / divisor
        return passed >= UInt64(initialCount) ? 0 : initialCount &- UInt32(passed)
    }

    // MARK: - Registers

    /// - Parameter offset: within the page, a multiple of 16.
    func read(_ offset: UInt64, at clock: UInt64) -> UInt32 {
        switch offset {
        case 0x020: UInt32(id) << 24
        case 0x030: version
        case 0x080: UInt32(taskPriority)
        case 0x0A0: UInt32(processorPriority)
        case 0x0D0: UInt32(logicalDestination) << 24
        case 0x0E0: destinationFormat
        case 0x0F0: spurious
        case 0x100...0x170: inService.word(Int(offset >> 4 & 7))
        case 0x180...0x1F0: levelTriggered.word(Int(offset >> 4 & 7))
        case 0x200...0x270: requests.word(Int(offset >> 4 & 7))
        case 0x280: errorStatus
        case 0x300: command.low
        case 0x310: command.high
        case 0x320...0x370: vectors[Int(offset - 0x320) >> 4]
        case 0x380: initialCount
        case 0x390: currentCount(at: clock)
        case 0x3E0: divide
        default: 0
        }
    }

    /// What a register write asks of the rest of the machine.
    enum Effect {
        case none
        case send(InterruptMessage)
        /// End of a level-triggered interrupt: the I/O APIC wants to know.
        case endOfInterrupt(UInt8)
    }

    /// - Parameter offset: within the page, a multiple of 16.
    func write(_ offset: UInt64, _ value: UInt32, at clock: UInt64) -> Effect {
        switch offset {
        case 0x080: taskPriority = UInt8(value & 0xFF)
        case 0x0B0:
            guard let vector = inService.highest else { return .none }
            inService.remove(vector)
            if levelTriggered.contains(vector) { return .endOfInterrupt(vector) }
        case 0x0D0: logicalDestination = UInt8(value >> 24)
        case 0x0E0: destinationFormat = value | 0x0FFF_FFFF
        case 0x0F0:
            spurious = value & 0x1FF
            // Software-disabling masks every entry (section 10.4.7.2).
            if !isEnabled { for index in vectors.indices { vectors[index] |= 0x1_0000 } }
        case 0x280: errorStatus = 0
        case 0x300:
            command.low = value & 0x000C_CFFF
            return .send(message)
        case 0x310: command.high = value & 0xFF00_0000
        case 0x320...0x370:
            let masked = spurious & 0x100 == 0 ? 0x1_0000 as UInt32 : 0
            let allowed: [UInt32] = [0x3_00FF, 0x1_07FF, 0x1_07FF, 0x1_A7FF, 0x1_A7FF, 0x1_00FF]
            let index = Int(offset - 0x320) >> 4
            vectors[index] = value & allowed[index] | masked
        case 0x380:
            initialCount = value
            timerStart = clock
            timerFired = false
        case 0x3E0:
            let remaining = currentCount(at: clock)
            divide = value & 0xB
            // The count goes on from where it is, at the new rate.
            timerStart = clock &- UInt64(initialCount &- remaining) &* divisor
        default: break
        }
        return .none
    }

    private var message: InterruptMessage {
        InterruptMessage(
            vector: UInt8(command.low & 0xFF), delivery: .init(rawValue: UInt8(command.low >> 8 & 7)) ?? .reserved,
            destination: UInt8(command.high >> 24), isLogical: command.low & 0x800 != 0,
            isLevel: command.low & 0x8000 != 0, isAssert: command.low & 0x4000 != 0,
            shorthand: UInt8(command.low >> 18 & 3))
    }
}

/// 256 bits, one per vector.
struct VectorSet {
    private var words: InlineArray<4, UInt64> = .init(repeating: 0)

    mutating func insert(_ vector: UInt8) { words[Int(vector >> 6)] |= 1 << UInt64(vector & 63) }
    mutating func remove(_ vector: UInt8) { words[Int(vector >> 6)] &= ~(1 << UInt64(vector & 63)) }
    func contains(_ vector: UInt8) -> Bool { words[Int(vector >> 6)] >> UInt64(vector & 63) & 1 != 0 }

    var highest: UInt8? {
        for index in [3, 2, 1, 0] where words[index] != 0 {
            return UInt8(index * 64 + 63 - words[index].leadingZeroBitCount)
        }
        return nil
    }

    /// - Parameter index: 0...7, 32 vectors each.
    func word(_ index: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: words[index / 2] >> UInt64(index % 2 * 32))
    }
}
