// Names of the columns of a steps frame: Docs/trace-format.md, "Columns".

/// A column, by its number in the file.
public struct ColumnID: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Many small columns, compressed together.
    static let shared = ColumnID(rawValue: 0)
    /// For each step, its template.
    static let template = ColumnID(rawValue: 1)
    /// For each template, its parts by number.
    static let templateExit = ColumnID(rawValue: 2)
    static let templateInput = ColumnID(rawValue: 3)
    static let templatePattern = ColumnID(rawValue: 4)
    static let templateShape = ColumnID(rawValue: 5)
    static let templateCommitShape = ColumnID(rawValue: 6)
    static let templateRIP = ColumnID(rawValue: 7)
    /// The tables that templates point into.
    static let exits = ColumnID(rawValue: 8)
    static let inputs = ColumnID(rawValue: 9)
    static let patterns = ColumnID(rawValue: 10)
    static let shapes = ColumnID(rawValue: 11)
    /// The block's key state.
    static let key = ColumnID(rawValue: 12)
    static let gpa = ColumnID(rawValue: 13)
    static let msrValue = ColumnID(rawValue: 14)
    static let retired = ColumnID(rawValue: 15)
    static let clock = ColumnID(rawValue: 16)
    static let stepIndex = ColumnID(rawValue: 17)
    static let budget = ColumnID(rawValue: 18)
    static let exitRFLAGS = ColumnID(rawValue: 19)
    static let exitCR8 = ColumnID(rawValue: 20)
    static let exitInterrupt = ColumnID(rawValue: 21)
    static let guestTime = ColumnID(rawValue: 22)
    static let vmmTime = ColumnID(rawValue: 23)
    static let memoryObject = ColumnID(rawValue: 24)
    static let memoryOffset = ColumnID(rawValue: 25)
    static let memoryLength = ColumnID(rawValue: 26)
    static let memoryBytes = ColumnID(rawValue: 27)
    static let advance = ColumnID(rawValue: 28)
    static let machine = ColumnID(rawValue: 29)

    /// Word `word` of the state after the exit, in the steps whose shape has it.
    static func state(_ word: Int) -> ColumnID { ColumnID(rawValue: UInt16(128 + word)) }
    var stateWord: Int? { 128..<128 + 126 ~= rawValue ? Int(rawValue) - 128 : nil }
    var committedWord: Int? { 256..<256 + 126 ~= rawValue ? Int(rawValue) - 256 : nil }

    /// Word `word` of the committed state, likewise.
    static func committed(_ word: Int) -> ColumnID { ColumnID(rawValue: UInt16(256 + word)) }
}
