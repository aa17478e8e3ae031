// Traces in the formats of other tools: Docs/export.md.

public import Database
internal import NVMM
public import TraceFile

/// Failures of an export.
public enum ExportError: Error, Equatable, Sendable {
    case trace(TraceError)
    case database(DatabaseError)
    /// The window holds no step: it begins behind the last one, which this follows.
    case noSuchStep(UInt64, end: UInt64)
}

/// Steps of a trace, both included.
public struct ExportWindow: Hashable, Sendable {
    public var first: UInt64
    public var last: UInt64

    public init(first: UInt64 = 0, last: UInt64 = .max) {
        self.first = first
        self.last = last
    }
}

/// Exports of one trace.
public struct TraceExport {
    private let reader: TraceReader
    private let window: ExportWindow
    private let progress: (UInt64) -> Void

    /// - Parameter progress: called with the step reached, now and then.
    public init(_ reader: TraceReader, _ window: ExportWindow, progress: @escaping (UInt64) -> Void = { _ in }) {
        self.reader = reader
        self.window = window
        self.progress = progress
    }

    /// Hands over the events of the window; with each the number of the step that it is, or that comes next.
    public func forEach<Failure: Error>(
        wrapping: (ExportError) -> Failure, _ body: (TraceEvent, UInt64) throws(Failure) -> Void
    ) throws(Failure) {
        let (end, cursor): (UInt64, TraceCursor)
        do throws(TraceError) {
            end = try reader.stepEnd()
            cursor = window.first == 0 ? try reader.cursor() : try reader.cursor(fromStep: window.first)
        } catch { throw wrapping(.trace(error)) }
        guard window.first < end else { throw wrapping(.noSuchStep(window.first, end: end)) }
        while cursor.nextStepIndex <= window.last {
            let next: TraceEvent?
            do throws(TraceError) { next = try cursor.next() } catch { throw wrapping(.trace(error)) }
            guard let event = next else { return }
            guard case .step = event else {
                try body(event, cursor.nextStepIndex)
                continue
            }
            let number = cursor.nextStepIndex - 1
            try body(event, number)
            if number % 16384 == 0 { progress(number) }
        }
    }

    /// Steps as comma-separated values (RFC 4180), a line of names first.
    public func writeCSV(_ write: (String) -> Void) throws(ExportError) {
        write(StepRow.columns.map(\.name).joined(separator: ",") + "\r\n")
        try forEach(wrapping: { $0 }) { (event, number) throws(ExportError) in
            guard case .step(let step) = event else { return }
            let fields = StepRow(step, number: number).cells.map { cell in
                switch cell {
                case .none: ""
                case .number(let number): String(number)
                // Words of our own: no comma, quote or end of line is in them.
                case .text(let text): text
                }
            }
            write(fields.joined(separator: ",") + "\r\n")
        }
    }

    /// Steps, calls, memory writes and what the header says, as tables of an SQLite database.
    ///
    /// - Parameter path: of a file that is not there.
    public func writeSQLite(to path: String) throws(ExportError) {
        func database<Result>(_ body: () throws(DatabaseError) -> Result) throws(ExportError) -> Result {
            do throws(DatabaseError) { return try body() } catch { throw .database(error) }
        }
        let file = try database { () throws(DatabaseError) in try Database(path, .creating) }
        let columns = StepRow.columns.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        try database { () throws(DatabaseError) in
            try file.execute(
                """
                CREATE TABLE trace (key TEXT PRIMARY KEY, value TEXT);
                CREATE TABLE step (\(columns));
                CREATE TABLE call (before_step INTEGER, vcpu INTEGER, kind TEXT, parts TEXT, is_system_call INTEGER);
                CREATE TABLE memory_write (before_step INTEGER, object INTEGER, offset INTEGER, byte_count INTEGER,
                    is_guest INTEGER);
                """)
        }
        try file.transaction(wrapping: { .database($0) }) { () throws(ExportError) in
            let places = StepRow.columns.map { _ in "?" }.joined(separator: ", ")
            let (header, step, call, write) = try database { () throws(DatabaseError) in
                (
                    try file.prepare("INSERT INTO trace VALUES (?, ?)"),
                    try file.prepare("INSERT INTO step VALUES (\(places))"),
                    try file.prepare("INSERT INTO call VALUES (?, ?, ?, ?, ?)"),
                    try file.prepare("INSERT INTO memory_write VALUES (?, ?, ?, ?, ?)")
                )
            }
            for (key, value) in facts {
                try database { () throws(DatabaseError) in try header.insert([.text(key), .text(value)]) }
            }
            try forEach(wrapping: { $0 }) { (event, number) throws(ExportError) in
                try database { () throws(DatabaseError) in
                    switch event {
                    case .step(let value): try step.insert(StepRow(value, number: number).cells)
                    case .call(let value):
                        try call.insert([
                            .number(number), .number(UInt64(value.vcpu)), .text("\(value.kind)"),
                            .text(value.flags.list), .number(value.cost == .systemCall ? 1 : 0),
                        ])
                    case .memoryWrite(let value): try write.insert(value.cells(before: number, isGuest: false))
                    case .guestWrite(let value): try write.insert(value.cells(before: number, isGuest: true))
                    case .machine, .keyframe, .loss: break
                    }
                }
            }
        }
    }

    private var facts: [(String, String)] {
        let header = reader.header
        return [
            ("tool", header.tool), ("backend", header.backendName), ("processor", header.processorModel),
            ("level", "\(header.level)"), ("steps", "\(reader.totals.stepCount)"),
        ] + header.parameters.map { ("parameter " + $0.key, $0.value) }
    }
}

extension DatabaseStatement {
    fileprivate func insert(_ cells: [Cell]) throws(DatabaseError) {
        for (index, cell) in cells.enumerated() {
            let place = Int32(index + 1)
            switch cell {
            case .none: try bind(nil as Int64?, at: place)
            case .number(let number): try bind(Int64(bitPattern: number), at: place)
            case .text(let text): try bind(text, at: place)
            }
        }
        _ = try step()
        reset()
    }
}

extension MemoryWrite {
    fileprivate func cells(before step: UInt64, isGuest: Bool) -> [Cell] {
        [
            .number(step), .number(UInt64(object)), .number(UInt64(offset)), .number(UInt64(bytes.count)),
            .number(isGuest ? 1 : 0),
        ]
    }
}
