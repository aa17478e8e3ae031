// The PC's interval timer, ports 0x40 to 0x43 and the timer bits of 0x61: Intel 8254 data sheet.

/// Three counters at 1193182 Hz. Counter 0 raises IRQ 0, counter 2 is the speaker's.
final class IntervalTimer8254 {
    static let ticks = Ticks(frequency: 1_193_182)
    private var counters = [Counter(), Counter(), Counter()]
    private var speakerBits: UInt8 = 0
    /// Ticks up to which counter 0's output has been looked at.
    private var seenTicks: UInt64 = 0
    /// Clock of counter 0's next rising edge; the largest number where there is none.
    private(set) var nextEdge: UInt64 = .max

    init() { counters[2].gate = false }

    /// - Returns: whether counter 0's output rose since the last call.
    func advance(to clock: UInt64) -> Bool {
        guard clock >= nextEdge else { return false }
        seenTicks = Self.ticks.count(at: clock)
        schedule()
        return true
    }

    private func schedule() {
        nextEdge = counters[0].edge(after: seenTicks).map { Self.ticks.clock(of: $0) } ?? .max
    }

    func read(port: UInt16, at clock: UInt64) -> UInt8 {
        let now = Self.ticks.count(at: clock)
        switch port {
        case 0x40...0x42: return counters[Int(port - 0x40)].read(at: now)
        case 0x61:
            // Bit 4 toggles with every DRAM refresh, about 15 microseconds apart.
            let refresh: UInt8 = clock / 15_085 & 1 != 0 ? 0x10 : 0
            return speakerBits & 0x0F | refresh | (counters[2].output(at: now) ? 0x20 : 0)
        default: return 0xFF
        }
    }

    func write(port: UInt16, _ value: UInt8, at clock: UInt64) {
        let now = Self.ticks.count(at: clock)
        switch port {
        case 0x40...0x42: counters[Int(port - 0x40)].write(value, at: now)
        case 0x43:
            if value >> 6 == 3 {
                for index in 0..<3 where value >> (index + 1) & 1 != 0 {
                    if value & 0x20 == 0 { counters[index].latchCount(at: now) }
                    if value & 0x10 == 0 { counters[index].latchStatus(at: now) }
                }
                return
            }
            counters[Int(value >> 6)].control(value, at: now)
        case 0x61:
            speakerBits = value & 0x0F
            counters[2].setGate(value & 1 != 0, at: now)
        default: return
        }
        seenTicks = now
        schedule()
    }
}

/// One counter; times are ticks of the timer's input.
private struct Counter {
    var gate = true
    private var mode: UInt8 = 0
    private var access: UInt8 = 3
    private var isBCD = false
    /// 1...65536; 0 while no count was written.
    private var reload: UInt64 = 0
    private var start: UInt64 = 0
    private var latched: UInt16?
    private var latchedStatus: UInt8?
    private var writesHigh = false
    private var lowByte: UInt8 = 0
    private var readsHigh = false

    private var isPeriodic: Bool { mode == 2 || mode == 3 }
    private var modulus: UInt64 { isBCD ? 10_000 : 65_536 }

    mutating func control(_ value: UInt8, at now: UInt64) {
        if value & 0x30 == 0 { return latchCount(at: now) }
        access = value >> 4 & 3
        let raw = value >> 1 & 7
        mode = raw > 5 ? raw - 4 : raw
        isBCD = value & 1 != 0
        reload = 0
        start = now
        writesHigh = false
        readsHigh = false
        latched = nil
        latchedStatus = nil
    }

    mutating func setGate(_ level: Bool, at now: UInt64) {
        let rises = level && !gate
        gate = level
        // The gate starts modes 1, 2, 3 and 5 anew; modes 0 and 4 would pause, which no known guest relies on.
        if rises, mode != 0, mode != 4 { start = now }
    }

    mutating func write(_ value: UInt8, at now: UInt64) {
        switch access {
        case 1: load(UInt64(value), at: now)
        case 2: load(UInt64(value) << 8, at: now)
        default:
            if writesHigh {
                load(UInt64(value) << 8 | UInt64(lowByte), at: now)
            } else {
                lowByte = value
            }
            writesHigh.toggle()
        }
    }

    private mutating func load(_ raw: UInt64, at now: UInt64) {
        var count = raw
        if isBCD {
            count = 0
            for shift in [12, 8, 4, 0] as [UInt64] { count = count * 10 + min(raw >> shift & 0xF, 9) }
        }
        reload = count == 0 ? modulus : count
        // A count of 1 is illegal in modes 2 and 3.
        if isPeriodic { reload = max(reload, 2) }
        start = now
    }

    private func value(at now: UInt64) -> UInt16 {
        guard reload != 0 else { return 0 }
        let elapsed = now &- start
        let count: UInt64
        switch mode {
        case 2: count = reload - elapsed % reload
        case 3:
            // Counts down by two, twice per period.
            let position = elapsed % reload
            let half = (reload + 1) / 2
            let inHalf = position < half ? position : position - half
            count = (reload & ~1) &- 2 &* inHalf
        default: count = (reload &- elapsed) % modulus
        }
        let wrapped = count % modulus
        guard isBCD else { return UInt16(truncatingIfNeeded: wrapped) }
        var digits: UInt16 = 0
        var rest = wrapped
        for shift in [0, 4, 8, 12] as [UInt16] {
            digits |= UInt16(rest % 10) << shift
            rest /= 10
        }
        return digits
    }

    func output(at now: UInt64) -> Bool {
        guard reload != 0 else { return mode != 0 }
        let elapsed = now &- start
        switch mode {
        case 2: return elapsed % reload != reload - 1
        case 3: return elapsed % reload < (reload + 1) / 2
        case 4, 5: return elapsed != reload
        default: return elapsed >= reload
        }
    }

    /// Tick of the first rising edge of the output after `now`.
    func edge(after now: UInt64) -> UInt64? {
        guard reload != 0 else { return nil }
        if isPeriodic {
            let periods = (now &- start) / reload &+ 1
            let (ticks, overflow) = periods.multipliedReportingOverflow(by: reload)
            let (sum, overflow2) = start.addingReportingOverflow(ticks)
            return overflow || overflow2 ? nil : sum
        }
        let (end, overflow) = start.addingReportingOverflow(reload)
        return overflow || end <= now ? nil : end
    }

    mutating func latchCount(at now: UInt64) {
        if latched == nil { latched = value(at: now) }
    }

    mutating func latchStatus(at now: UInt64) {
        guard latchedStatus == nil else { return }
        let null: UInt8 = reload == 0 ? 0x40 : 0
        latchedStatus = (output(at: now) ? 0x80 : 0) | null | access << 4 | mode << 1 | (isBCD ? 1 : 0)
    }

    mutating func read(at now: UInt64) -> UInt8 {
        if let status = latchedStatus {
            latchedStatus = nil
            return status
        }
        let current = latched ?? value(at: now)
        let low = UInt8(truncatingIfNeeded: current)
        let high = UInt8(truncatingIfNeeded: current >> 8)
        switch access {
        case 1:
            latched = nil
            return low
        case 2:
            latched = nil
            return high
        default:
            defer { readsHigh.toggle() }
            guard readsHigh else { return low }
            latched = nil
            return high
        }
    }
}
