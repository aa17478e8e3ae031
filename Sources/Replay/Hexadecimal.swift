// Addresses in JSON documents: strings of hex digits, as people see them and as `dump` writes them.

/// An address, register or number of the processor's that a JSON document holds as a string, `"0x7c00"`: readers whose
/// numbers are floating point lose nothing.
@propertyWrapper
public struct Hexadecimal<Value: FixedWidthInteger & UnsignedInteger & Sendable>: Hashable, Codable, Sendable {
    /// The number.
    public var wrappedValue: Value

    /// A number as it is.
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }

    /// Reads what ``encode(to:)`` wrote.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard text.hasPrefix("0x"), let value = Value(text.dropFirst(2), radix: 16) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not 0x and hex digits: \(text)")
        }
        wrappedValue = value
    }

    /// Writes `0x` and the digits, without leading zeros.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode("0x" + String(wrappedValue, radix: 16))
    }
}
