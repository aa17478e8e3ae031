// Names of a guest's functions: a System.map, or the symbol table of an ELF file (System V ABI, chapter 4).

/// What is wrong with a file of symbols.
public enum SymbolTableError: Error, Equatable, Sendable {
    /// Neither ELF nor lines of address, type and name. From 1.
    case line(Int)
    /// An ELF file whose headers lead outside of it, or of another byte order.
    case damagedELF
    /// No symbol of a function is in it.
    case empty
}

/// Function symbols, ascending.
public struct SymbolTable: Sendable {
    private var addresses: [UInt64] = []
    private var names: [String] = []

    /// Above every symbol no more bytes than this are taken for its function's.
    private static let reach: UInt64 = 1 << 20

    /// - Parameter bytes: of the whole file.
    public init(_ bytes: [UInt8]) throws(SymbolTableError) {
        let symbols = bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) ? try Self.elf(bytes) : try Self.map(bytes)
        guard !symbols.isEmpty else { throw .empty }
        for (address, name) in symbols.sorted(by: { ($0.address, $0.name) < ($1.address, $1.name) })
        where addresses.last != address {
            addresses.append(address)
            names.append(name)
        }
    }

    /// `name`, or `name+0x12`; nil where no function is near.
    public func name(of address: UInt64) -> String? {
        var (low, high) = (0, addresses.count)
        while low < high {
            let middle = (low + high) / 2
            if addresses[middle] <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let distance = address - addresses[low - 1]
        guard distance < Self.reach else { return nil }
        return distance == 0 ? names[low - 1] : "\(names[low - 1])+0x\(String(distance, radix: 16))"
    }

    private static func map(_ bytes: [UInt8]) throws(SymbolTableError) -> [(address: UInt64, name: String)] {
        var symbols: [(address: UInt64, name: String)] = []
        for (index, line) in bytes.split(separator: UInt8(ascii: "\n")).enumerated() {
            let words = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
            guard words.count == 3, words[1].count == 1, let address = UInt64(text(words[0]), radix: 16) else {
                throw .line(index + 1)
            }
            if [UInt8(ascii: "t"), UInt8(ascii: "T"), UInt8(ascii: "W"), UInt8(ascii: "w")].contains(words[1].first) {
                symbols.append((address, text(words[2])))
            }
        }
        return symbols
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
    }

    private static func elf(_ bytes: [UInt8]) throws(SymbolTableError) -> [(address: UInt64, name: String)] {
        guard bytes.count > 52, bytes[5] == 1 else { throw .damagedELF }
        let isWide = bytes[4] == 2
        func number(_ offset: UInt64, _ count: UInt64) throws(SymbolTableError) -> UInt64 {
            guard offset < UInt64(bytes.count), count <= UInt64(bytes.count) - offset else { throw .damagedELF }
            return (0..<count).reduce(0) { $0 | UInt64(bytes[Int(offset + $1)]) << ($1 * 8) }
        }
        func section(_ index: UInt64, _ field: (wide: UInt64, narrow: UInt64, isWord: Bool)) throws(SymbolTableError)
            -> UInt64
        {
            let headers = try number(isWide ? 40 : 32, isWide ? 8 : 4)
            let (start, overflow) = headers.addingReportingOverflow(index * (isWide ? 64 : 40))
            guard !overflow, start < UInt64(bytes.count) else { throw .damagedELF }
            return try number(start + (isWide ? field.wide : field.narrow), isWide && !field.isWord ? 8 : 4)
        }
        var symbols: [(address: UInt64, name: String)] = []
        let size: UInt64 = isWide ? 24 : 16
        for index in 0..<(try number(isWide ? 60 : 48, 2)) where try section(index, (4, 4, true)) == 2 {
            let start = try section(index, (24, 16, false))
            let byteCount = try section(index, (32, 20, false))
            let names = try section(try section(index, (40, 24, true)), (24, 16, false))
            guard start <= UInt64(bytes.count), byteCount <= UInt64(bytes.count) - start, names < UInt64(bytes.count)
            else { throw .damagedELF }
            for symbol in 0..<byteCount / size {
                let place = start + symbol * size
                let info = try number(place + (isWide ? 4 : 12), 1)
                let address = try number(place + (isWide ? 8 : 4), isWide ? 8 : 4)
                let (name, overflow) = names.addingReportingOverflow(try number(place, 4))
                // STT_FUNC, and labels of assembly, which have no type.
                guard info & 15 == 2 || info & 15 == 0, address != 0, !overflow, name < UInt64(bytes.count) else {
                    continue
                }
                let end = bytes[Int(name)...].prefix(512).firstIndex(of: 0) ?? Int(name)
                if end > Int(name) { symbols.append((address, text(bytes[Int(name)..<end]))) }
            }
        }
        return symbols
    }
}
