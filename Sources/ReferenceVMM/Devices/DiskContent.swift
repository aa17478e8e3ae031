// Sectors of a disk whose content lives in memory.

enum DiskContent {
    static let sectorBytes = 512

    /// The content with a part sector at its end filled with zeros.
    static func wholeSectors(_ content: [UInt8]) -> [UInt8] {
        let tail = content.count % sectorBytes
        return tail == 0 ? content : content + [UInt8](repeating: 0, count: sectorBytes - tail)
    }
}
