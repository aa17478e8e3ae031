// The real-time clock with its CMOS memory, ports 0x70 and 0x71: Motorola MC146818 data sheet; the memory's content
// as QEMU's `hw/i386/pc.c` fills it and SeaBIOS reads it.

/// A fixed date at clock 0, running on with the machine's clock.
final class RealTimeClock {
    private var memory = [UInt8](repeating: 0, count: 128)
    private var index: UInt8 = 0
    /// Seconds since 1970-01-01 that are added to the clock's seconds. Writing the time changes it.
    private var epoch: Int64
    private var flags: UInt8 = 0
    /// Clock up to which interrupts have been looked at.
    private var seen: UInt64 = 0

    /// - Parameter startSeconds: the date at clock 0, in seconds since 1970-01-01 00:00 UTC.
    init(startSeconds: Int64) {
        epoch = min(max(startSeconds, 0), 253_402_300_799)
        memory[0x0A] = 0x26
        memory[0x0B] = 0x02
        memory[0x0D] = 0x80
    }

    /// Sets a byte that the VMM provides.
    ///
    /// - Parameter address: 0x0E...0x7F.
    func set(_ address: Int, _ value: UInt8) { memory[address & 0x7F] = value }

    var interruptLine: Bool { flags & 0x80 != 0 }

    private static let second = Ticks.clockFrequency

    /// Period of the periodic interrupt in ticks of the clock, nil where it is off.
    private var period: UInt64? {
        let rate = UInt64(memory[0x0A] & 0xF)
        guard rate != 0 else { return nil }
        let cycles: UInt64 = rate < 3 ? 1 << (rate + 6) : 1 << (rate - 1)
        return cycles * Self.second / 32_768
    }

    /// Clock of the next interrupt that is enabled; the largest number where there is none.
    var nextEvent: UInt64 {
        var next: UInt64 = .max
        if memory[0x0B] & 0x40 != 0, let period { next = (seen / period + 1) &* period }
        if memory[0x0B] & 0x30 != 0 { next = min(next, (seen / Self.second + 1) &* Self.second) }
        return next
    }

    /// Sets the interrupt flags of everything that happened up to `clock`.
    func advance(to clock: UInt64) {
        guard clock > seen else { return }
        if let period, clock / period != seen / period { flags |= 0x40 }
        if memory[0x0B] & 0x80 == 0, clock / Self.second != seen / Self.second {
            flags |= 0x10
            if memory[0x0B] & 0x20 != 0, alarmIsIn(seen / Self.second + 1...clock / Self.second) { flags |= 0x20 }
        }
        seen = clock
        if flags & memory[0x0B] & 0x70 != 0 { flags |= 0x80 }
    }

    /// A waiting guest is advanced to each second by itself, so that only long runs see several; a day has them all.
    private func alarmIsIn(_ seconds: ClosedRange<UInt64>) -> Bool {
        for second in seconds.prefix(86_400) {
            let time = date(at: second &* Self.second)
            func matches(_ address: Int, _ value: Int) -> Bool {
                memory[address] >= 0xC0 || memory[address] == encode(value, isHour: address == 5)
            }
            if matches(1, time.second), matches(3, time.minute), matches(5, time.hour) { return true }
        }
        return false
    }

    func read(port: UInt16, at clock: UInt64) -> UInt8 {
        guard port & 1 != 0 else { return 0xFF }
        let time = date(at: clock)
        switch index {
        case 0x00: return encode(time.second)
        case 0x02: return encode(time.minute)
        case 0x04: return encode(time.hour, isHour: true)
        case 0x06: return encode(time.weekday)
        case 0x07: return encode(time.day)
        case 0x08: return encode(time.month)
        case 0x09: return encode(time.year % 100)
        case 0x32: return encode(time.year / 100)
        case 0x0A:
            // Update in progress: the last 244 microseconds of every second.
            let updating = clock % Self.second >= Self.second - 244_000
            return memory[0x0A] & 0x7F | (updating ? 0x80 : 0)
        case 0x0C:
            defer { flags = 0 }
            return flags
        default: return memory[Int(index)]
        }
    }

    func write(port: UInt16, _ value: UInt8, at clock: UInt64) {
        guard port & 1 != 0 else {
            index = value & 0x7F
            return
        }
        var time = date(at: clock)
        switch index {
        case 0x00: time.second = decode(value, 0...59)
        case 0x02: time.minute = decode(value, 0...59)
        case 0x04: time.hour = decodeHour(value)
        case 0x06: return
        case 0x07: time.day = decode(value, 1...31)
        case 0x08: time.month = decode(value, 1...12)
        case 0x09: time.year = time.year / 100 * 100 + decode(value, 0...99)
        case 0x32: time.year = decode(value, 0...99) * 100 + time.year % 100
        case 0x0A:
            memory[0x0A] = value & 0x7F
            return
        case 0x0C, 0x0D: return
        default:
            memory[Int(index)] = value
            return
        }
        epoch = time.secondsSince1970 - Int64(clock / Self.second)
    }

    private func date(at clock: UInt64) -> CalendarDate {
        CalendarDate(secondsSince1970: epoch + Int64(clock / Self.second))
    }

    private var isBinary: Bool { memory[0x0B] & 0x04 != 0 }
    private var is24Hour: Bool { memory[0x0B] & 0x02 != 0 }

    private func encode(_ value: Int, isHour: Bool = false) -> UInt8 {
        var value = value
        var afternoon: UInt8 = 0
        if isHour, !is24Hour {
            afternoon = value >= 12 ? 0x80 : 0
            value = value % 12 == 0 ? 12 : value % 12
        }
        return afternoon | UInt8(isBinary ? value : (value / 10) << 4 | value % 10)
    }

    private func decode(_ value: UInt8, _ range: ClosedRange<Int>) -> Int {
        let number = isBinary ? Int(value) : Int(value >> 4) * 10 + Int(value & 0xF)
        return min(max(number, range.lowerBound), range.upperBound)
    }

    private func decodeHour(_ value: UInt8) -> Int {
        guard !is24Hour else { return decode(value, 0...23) }
        return decode(value & 0x7F, 1...12) % 12 + (value & 0x80 != 0 ? 12 : 0)
    }
}

/// A date of the Gregorian calendar, UTC.
struct CalendarDate {
    var year, month, day, hour, minute, second, weekday: Int

    init(secondsSince1970: Int64) {
        // The chip counts four digits of years: keep within 1970 to 9999.
        let bounded = Int(min(max(secondsSince1970, 0), 253_402_300_799))
        (hour, minute, second) = (bounded / 3600 % 24, bounded / 60 % 60, bounded % 60)
        var days = bounded / 86_400
        weekday = (days + 4) % 7 + 1
        var yearNow = 1970
        // By four centuries, then by years: at most 400 turns.
        yearNow += days / 146_097 * 400
        days %= 146_097
        while days >= Self.days(inYear: yearNow) {
            days -= Self.days(inYear: yearNow)
            yearNow += 1
        }
        var monthNow = 1
        while days >= Self.days(inMonth: monthNow, year: yearNow) {
            days -= Self.days(inMonth: monthNow, year: yearNow)
            monthNow += 1
        }
        (year, month, day) = (yearNow, monthNow, days + 1)
    }

    var secondsSince1970: Int64 {
        let bounded = min(max(year, 1970), 9999)
        var days = day - 1
        for past in 1970..<bounded { days += Self.days(inYear: past) }
        for past in 1..<max(month, 1) { days += Self.days(inMonth: past, year: bounded) }
        return Int64(days * 86_400 + hour * 3600 + minute * 60 + second)
    }

    private static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }
    private static func days(inYear year: Int) -> Int { isLeap(year) ? 366 : 365 }
    private static func days(inMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}
