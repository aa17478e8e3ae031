// JSON documents that are the same bytes for the same values.

internal import Foundation

/// One JSON document of a value: keys ascending, two spaces of indentation where it has several lines.
public enum StableJSON {
    /// - Parameter isPretty: several lines for people; otherwise one line, as `dump` prints an object.
    public static func text(_ value: some Encodable, isPretty: Bool = true) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if isPretty { encoder.outputFormatting.insert(.prettyPrinted) }
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
