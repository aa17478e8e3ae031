// The layout that the trace format is compared with: a step is a row of 64-bit words, rows stand one after another, and
// as many steps as a block of the format holds are compressed together, at the same zstd level.

import CRowZstd
import NVMM
import TraceFile

struct RowLayout {
    /// Rows as they are, and with each word as its difference to the row before.
    enum Kind { case plain, delta }

    let kind: Kind
    let level: Int32
    let stepsPerBlock: Int
    private(set) var byteCount = 0
    private(set) var stepCount = 0
    private var block: [UInt64] = []
    private var previous: [UInt64] = []

    init(_ kind: Kind, level: Int32, stepsPerBlock: Int) {
        self.kind = kind
        self.level = level
        self.stepsPerBlock = stepsPerBlock
    }

    mutating func add(_ step: Step) {
        let row = Self.row(step)
        if kind == .delta, previous.count == row.count {
            for index in row.indices { block.append(row[index] &- previous[index]) }
        } else {
            block.append(contentsOf: row)
        }
        previous = row
        stepCount += 1
        if stepCount % stepsPerBlock == 0 { close() }
    }

    mutating func close() {
        guard !block.isEmpty else { return }
        byteCount += block.withUnsafeBytes { source in
            var target = [UInt8](repeating: 0, count: ZSTD_compressBound(source.count))
            return target.withUnsafeMutableBytes {
                ZSTD_compress($0.baseAddress, $0.count, source.baseAddress, source.count, level)
            }
        }
        block.removeAll(keepingCapacity: true)
        previous = []
    }

    /// What the columns of the format hold of a step: exit, exit state, event, commit, counts, state after, and the
    /// committed state where it differs from it.
    private static func row(_ step: Step) -> [UInt64] {
        var row: [UInt64] = [
            UInt64(step.vcpu), UInt64(step.kind.rawValue), step.budget ?? .max, step.commit.rawValue,
            step.event.map { UInt64($0.kind.rawValue) << 8 | UInt64($0.vector) } ?? .max, step.event?.errorCode ?? 0,
            step.exit.reason.code, step.exit.state.rflags, step.exit.state.cr8, step.exit.state.interrupt.rawValue,
            step.cached.rawValue, step.retired ?? 0, step.clock, step.exit.reason.npc ?? 0,
        ]
        switch step.exit.reason {
        case .io(let exit):
            row.append(
                UInt64(exit.port) | (exit.isInput ? 1 << 16 : 0) | UInt64(exit.operandBytes) << 24
                    | UInt64(exit.addressBytes) << 32 | (exit.isString ? 1 << 40 : 0) | (exit.isRepeated ? 1 << 41 : 0))
            row.append(0)
        case .memory(let exit): row += [exit.gpa.rawValue, exit.access.rawValue]
        case .readMSR(let exit): row += [UInt64(exit.msr), 0]
        case .writeMSR(let exit): row += [UInt64(exit.msr), exit.value]
        default: row += [0, 0]
        }
        step.state.withWords { words in for index in words.indices { row.append(words[index]) } }
        step.committed.withWords { words in for index in words.indices { row.append(words[index]) } }
        return row
    }
}
