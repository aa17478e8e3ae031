// Encodings of the ACPI machine language and of resource descriptors, as far as the tables here need them:
// ACPI 6.5, chapter 20 and section 6.4.

enum AML {
    /// A length (section 20.2.4), which counts itself, before `content`.
    private static func withLength(_ content: [UInt8]) -> [UInt8] {
        var count = content.count + 1
        if count < 0x40 { return [UInt8(count)] + content }
        // Four bits in the first byte, eight in each of the one or two that follow.
        count += 1
        let following = count < 0x1000 ? 1 : 2
        count += following - 1
        var bytes = [UInt8(following << 6 | count & 0xF)]
        for index in 0..<following { bytes.append(UInt8(count >> (4 + index * 8) & 0xFF)) }
        return bytes + content
    }

    static func integer(_ value: UInt64) -> [UInt8] {
        switch value {
        case 0, 1: return [UInt8(value)]
        case 2...0xFF: return [0x0A, UInt8(value)]
        case 0x100...0xFFFF: return [0x0B] + .littleEndian(value, 2)
        default: return [0x0C] + .littleEndian(value, 4)
        }
    }

    /// - Parameter name: four characters.
    static func name(_ name: String, _ value: [UInt8]) -> [UInt8] { [0x08] + Array(name.utf8) + value }
    static func scope(_ name: String, _ content: [UInt8]) -> [UInt8] { [0x10] + withLength(Array(name.utf8) + content) }
    static func device(_ name: String, _ content: [UInt8]) -> [UInt8] {
        [0x5B, 0x82] + withLength(Array(name.utf8) + content)
    }
    /// - Parameter elements: at most 255.
    static func package(_ elements: [[UInt8]]) -> [UInt8] {
        [0x12] + withLength([UInt8(elements.count)] + elements.flatMap { $0 })
    }
    static func buffer(_ bytes: [UInt8]) -> [UInt8] { [0x11] + withLength(integer(UInt64(bytes.count)) + bytes) }

    // MARK: - Resources

    /// I/O ports with 16 bits decoded (section 6.4.2.5).
    static func ports(_ first: UInt64, count: UInt8) -> [UInt8] {
        [0x47, 1] + .littleEndian(first, 2) + .littleEndian(first, 2) + [1, count]
    }

    /// Section 6.4.3.5.3: both ends are fixed.
    ///
    /// - Parameter type: 1 for ports, 2 for bus numbers.
    static func addressSpace16(type: UInt8, flags: UInt8, _ range: ClosedRange<UInt64>) -> [UInt8] {
        addressSpace(0x88, fieldBytes: 2, [type, 0x0C, flags], range)
    }

    /// Section 6.4.3.5.2: not cached, readable and writable.
    static func memory(_ range: ClosedRange<UInt64>) -> [UInt8] {
        addressSpace(0x87, fieldBytes: 4, [0, 0x0C, 1], range)
    }

    /// Granularity, minimum, maximum, translation and length behind three bytes.
    private static func addressSpace(
        _ tag: UInt8, fieldBytes: Int, _ kind: [UInt8], _ range: ClosedRange<UInt64>
    ) -> [UInt8] {
        let length = range.upperBound - range.lowerBound + 1
        let fields = [0, range.lowerBound, range.upperBound, 0, length].flatMap { [UInt8].littleEndian($0, fieldBytes) }
        return [tag] + .littleEndian(UInt64(kind.count + fields.count), 2) + kind + fields
    }
}
