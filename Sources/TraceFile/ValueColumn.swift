// Columns of 64-bit values: Docs/trace-format.md, "Value columns".

/// How the values of a column are written.
enum ValueCoding: UInt8 {
    /// The distinct values in order of appearance, then the place of each.
    case dictionary = 0
    /// Each value as its difference from the one before.
    case differences = 1
    /// Each value by itself.
    case plain = 2
}

extension ByteWriter {
    /// Appends a value column as a dictionary.
    ///
    /// - Returns: the number of distinct values; more than half of all, and nothing is appended: differences are
    ///   smaller then.
    mutating func dictionaryColumn(_ values: [UInt64]) -> Int {
        var table = Interned<UInt64>()
        var indices: [Int] = []
        indices.reserveCapacity(values.count)
        let most = max(1, values.count / 2)
        for value in values {
            indices.append(table.place(of: value))
            if table.elements.count > most { return values.count }
        }
        let distinct = table.elements
        varint(values.count)
        byte(ValueCoding.dictionary.rawValue)
        varint(distinct.count)
        var previous: UInt64 = 0
        for value in distinct {
            difference(value &- previous)
            previous = value
        }
        if distinct.count > 1 { indexPlanes(indices, tableCount: distinct.count) }
        return distinct.count
    }

    /// Appends a value column as differences.
    mutating func differenceColumn(_ values: [UInt64]) {
        varint(values.count)
        byte(ValueCoding.differences.rawValue)
        var previous: UInt64 = 0
        for value in values {
            difference(value &- previous)
            previous = value
        }
    }

    /// Numbers below `tableCount`: all low bytes, then all next bytes, in as many planes as `tableCount - 1` has bytes.
    mutating func indexPlanes(_ indices: [Int], tableCount: Int) {
        var shift = 0
        repeat {
            for index in indices { byte(UInt8(truncatingIfNeeded: index >> shift)) }
            shift += 8
        } while (tableCount - 1) >> shift != 0
    }
}

extension ByteReader {
    /// - Parameter budget: values that may still be made, reduced by those of this column.
    mutating func values(budget: inout Int) throws(TraceError) -> [UInt64] {
        let count = try self.count(max: Int.max)
        if count == 0 { return [] }
        guard count <= budget else {
            throw .limitExceeded(
                .blockBytes, value: UInt64(count) &* 8, maximum: UInt64(budget) &* 8, offset: place.frame)
        }
        budget -= count
        guard let coding = ValueCoding(rawValue: try byte()) else { throw failure(.unknownValue) }
        var result: [UInt64] = []
        switch coding {
        case .plain:
            guard count <= remaining else { throw failure(.shortOfBytes) }
            result.reserveCapacity(count)
            for _ in 0..<count { result.append(try varint()) }
        case .differences:
            guard count <= remaining else { throw failure(.shortOfBytes) }
            result.reserveCapacity(count)
            var previous: UInt64 = 0
            for _ in 0..<count {
                previous &+= try difference()
                result.append(previous)
            }
        case .dictionary:
            let distinct = try self.count(max: min(count, remaining))
            guard distinct > 0 else { throw failure(.inconsistent) }
            var table: [UInt64] = []
            table.reserveCapacity(distinct)
            var previous: UInt64 = 0
            for _ in 0..<distinct {
                previous &+= try difference()
                table.append(previous)
            }
            if distinct == 1 { return [UInt64](repeating: previous, count: count) }
            let indices = try indexPlanes(count: count, tableCount: distinct)
            result.reserveCapacity(count)
            for index in indices { result.append(table[Int(index)]) }
        }
        return result
    }

    /// - Returns: `count` numbers, each below `tableCount`.
    mutating func indexPlanes(count: Int, tableCount: Int) throws(TraceError) -> [UInt32] {
        guard tableCount > 0, tableCount <= Int(UInt32.max) else { throw failure(.inconsistent) }
        var planes = 1
        while (tableCount - 1) >> (planes * 8) != 0 { planes += 1 }
        guard count <= remaining / planes else { throw failure(.shortOfBytes) }
        var result: [UInt32] = []
        result.reserveCapacity(count)
        let start = position
        if planes == 1 {
            for value in try slice(count) { result.append(UInt32(value)) }
        } else {
            for index in 0..<count {
                var value: UInt32 = 0
                for plane in 0..<planes {
                    value |= UInt32(bytes[start + plane * count + index]) << UInt32(8 * plane)
                }
                result.append(value)
            }
            _ = try slice(count * planes)
        }
        for value in result where Int(value) >= tableCount { throw failure(.indexOutOfRange) }
        return result
    }
}
