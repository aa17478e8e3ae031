// A flat image with stop points: Images/common.inc lays down where they and the memory to compare are listed.

import Foundation

/// An image as nasm made it, with the tables in it.
struct SystemImage: Sendable {
    /// Where images are loaded and entered, in real mode.
    static let loadAddress: UInt64 = 0x7C00

    struct Entry: Sendable, Equatable {
        var name: String
        var address: UInt64
        /// Bytes of a memory range; 0 for a stop point.
        var count: Int
    }

    var name: String
    var bytes: [UInt8]
    /// HLT instructions, by linear address.
    var stops: [Entry] = []
    /// Guest physical memory that must be the same at each stop.
    var ranges: [Entry] = []

    enum LoadError: Error, Equatable {
        case missing(path: String)
        case badTable(image: String)
    }

    /// - Parameter name: file name without extension.
    init(_ name: String) throws {
        self.name = name
        let path = Self.folder.appendingPathComponent(name + ".bin")
        guard let data = try? Data(contentsOf: path) else { throw LoadError.missing(path: path.lastPathComponent) }
        bytes = [UInt8](data)
        // Four words at offset 0x10: end of the code, start of stops, start of ranges, end of ranges.
        func word(_ place: Int) throws(LoadError) -> Int {
            guard place >= 0, place + 4 <= bytes.count else { throw .badTable(image: name) }
            return (0..<4).reduce(0) { $0 | Int(bytes[place + $1]) << ($1 * 8) }
        }
        let base = Int(Self.loadAddress)
        let stopsStart = try word(0x10) - base, rangesStart = try word(0x14) - base, end = try word(0x18) - base
        func entries(_ start: Int, _ end: Int) throws(LoadError) -> [Entry] {
            var found: [Entry] = []
            var place = start
            while place + 48 <= end {
                let text = bytes[place + 8..<min(place + 48, bytes.count)].prefix { $0 != 0 }
                found.append(
                    Entry(
                        name: String(decoding: text, as: UTF8.self), address: UInt64(try word(place)),
                        count: try word(place + 4)))
                place += 48
            }
            return found
        }
        stops = try entries(stopsStart, rangesStart)
        ranges = try entries(rangesStart, end)
    }

    /// `Images` beside this file's folder.
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Images")

    static var names: [String] {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".asm") }.map { String($0.dropLast(4)) }.sorted()
    }
}
