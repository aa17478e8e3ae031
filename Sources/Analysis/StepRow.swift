// A step as a row of a table: what CSV and SQLite exports hold. Docs/export.md has the columns.

internal import NVMM
internal import TraceFile

/// One value of a row.
enum Cell {
    case none
    /// Of 64 bits, as SQLite has them: numbers from 2^63 on are negative there.
    case number(UInt64)
    case text(String)
}

/// The columns of a step, in their order.
struct StepRow {
    static let columns: [(name: String, type: String)] = [
        ("number", "INTEGER PRIMARY KEY"), ("vcpu", "INTEGER"), ("reason", "TEXT"), ("code", "INTEGER"),
        ("port", "INTEGER"), ("is_input", "INTEGER"), ("operand_bytes", "INTEGER"), ("gpa", "INTEGER"),
        ("access", "TEXT"), ("msr", "INTEGER"), ("value", "INTEGER"), ("cs_base", "INTEGER"), ("rip", "INTEGER"),
        ("rflags", "INTEGER"), ("retired", "INTEGER"), ("clock", "INTEGER"), ("event", "TEXT"),
        ("vector", "INTEGER"), ("committed", "TEXT"), ("cached", "TEXT"), ("entered", "INTEGER"),
        ("guest_ns", "INTEGER"), ("vmm_ns", "INTEGER"),
    ]

    let cells: [Cell]

    init(_ step: Step, number: UInt64) {
        var (port, isInput, operandBytes, gpa): (Cell, Cell, Cell, Cell) = (.none, .none, .none, .none)
        var (access, msr, value): (Cell, Cell, Cell) = (.none, .none, .none)
        switch step.exit.reason {
        case .io(let exit):
            port = .number(UInt64(exit.port))
            isInput = .number(exit.isInput ? 1 : 0)
            operandBytes = .number(UInt64(exit.operandBytes))
        case .memory(let exit):
            gpa = .number(exit.gpa.rawValue)
            access = .text(StatisticsCollector.accessName(exit.access.rawValue))
        case .readMSR(let exit): msr = .number(UInt64(exit.msr))
        case .writeMSR(let exit):
            msr = .number(UInt64(exit.msr))
            value = .number(exit.value)
        default: break
        }
        let isKnown = step.coverage.contains(.gprs)
        let event = step.event
        cells = [
            .number(number), .number(UInt64(step.vcpu)), .text(step.exit.reason.name),
            .number(step.exit.reason.code), port, isInput, operandBytes, gpa, access, msr, value,
            step.coverage.contains(.segments) ? .number(step.state[.cs].base) : .none,
            isKnown ? .number(step.state[.rip]) : .none, isKnown ? .number(step.state[.rflags]) : .none,
            step.retired.map { .number($0) } ?? .none, .number(step.clock),
            event.map { .text(StatisticsCollector.eventName($0.kind.rawValue)) } ?? .none,
            event.map { .number(UInt64($0.vector)) } ?? .none, .text(step.commit.list), .text(step.cached.list),
            .number(step.kind == .entered ? 1 : 0), step.time.map { .number($0.guestNanoseconds) } ?? .none,
            step.time.map { .number($0.vmmNanoseconds) } ?? .none,
        ]
    }
}

extension StateFlags {
    /// Names of the parts, with spaces between them.
    var list: String {
        VCPUState.names(of: self).joined(separator: " ")
    }
}
