// Numbers as people read them: hexadecimal addresses, grouped counts, sizes with a unit.

func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

/// `1234567` as `1,234,567`.
func grouped(_ value: some BinaryInteger) -> String {
    var digits = String(value)
    let sign = digits.hasPrefix("-") ? String(digits.removeFirst()) : ""
    var groups: [Substring] = []
    var rest = digits[...]
    while rest.count > 3 {
        groups.append(rest.suffix(3))
        rest = rest.dropLast(3)
    }
    groups.append(rest)
    return sign + groups.reversed().joined(separator: ",")
}

/// `1 exit`, `2 exits`.
func counted(_ value: some BinaryInteger, _ noun: String, plural: String? = nil) -> String {
    "\(grouped(value)) \(value == 1 ? noun : plural ?? noun + "s")"
}

/// Two decimals, without a formatter: `3.14`.
func decimals(_ value: Double, _ places: Int = 2) -> String {
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let scaled = (value * scale).rounded()
    guard scaled.magnitude < 1e15 else { return "\(value)" }
    let whole = Int64(scaled.magnitude)
    let unit = Int64(scale)
    let fraction = String(whole % unit)
    let zeros = String(repeating: "0", count: max(places - fraction.count, 0))
    return (scaled < 0 ? "-" : "") + grouped(whole / unit) + (places > 0 ? "." + zeros + fraction : "")
}

/// Bytes in the largest unit that leaves at least one: `1.50 MiB`.
func sized(_ byteCount: some BinaryInteger) -> String {
    let bytes = Double(byteCount)
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] where bytes >= Double(1 << shift) {
        return "\(decimals(bytes / Double(1 << shift))) \(unit)"
    }
    return counted(byteCount, "byte")
}

/// A part of a whole, in percent, as finely as 0.01 %.
func share(_ part: UInt64, of whole: UInt64) -> String {
    decimals(Double(part) * 100 / Double(max(whole, 1)), 2) + " %"
}
