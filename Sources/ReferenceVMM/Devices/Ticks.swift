// Conversion between the machine's clock (ticks of a nominal nanosecond) and the counters of devices.

/// A counter of fixed frequency that runs from clock 0.
struct Ticks {
    /// In Hz, 1 to 10^9.
    let frequency: UInt64
    static let clockFrequency: UInt64 = 1_000_000_000
    /// What reading a port takes on the ISA bus: eight cycles at 8 MHz, about a microsecond.
    static let perPortRead: UInt64 = 1000

    /// Whole ticks that have passed at a clock.
    func count(at clock: UInt64) -> UInt64 { Self.scale(clock, by: frequency, over: Self.clockFrequency).quotient }

    /// The first clock at which `count` ticks have passed; the largest number where it is beyond all time.
    func clock(of count: UInt64) -> UInt64 {
        let scaled = Self.scale(count, by: Self.clockFrequency, over: frequency)
        return scaled.remainder == 0 ? scaled.quotient : scaled.quotient &+ (scaled.quotient == .max ? 0 : 1)
    }

    private static func scale(
        _ value: UInt64, by factor: UInt64, over divisor: UInt64
    ) -> (quotient: UInt64, remainder: UInt64) {
        let product = value.multipliedFullWidth(by: factor)
        guard product.high < divisor else { return (.max, 0) }
        return divisor.dividingFullWidth(product)
    }
}
