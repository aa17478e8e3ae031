// Values of options: sizes, addresses, ranges of exits.

import ArgumentParser
import NVMM

/// `64M`, `65536`, `1G`: a number of bytes, in powers of 1,024.
struct ByteCount: ExpressibleByArgument, Equatable {
    var bytes: Int

    init(bytes: Int) { self.bytes = bytes }

    init?(argument: String) {
        let units: [Character: Int] = ["K": 10, "M": 20, "G": 30]
        var digits = argument[...]
        var shift = 0
        if let last = digits.last.flatMap({ units[Character($0.uppercased())] }) {
            shift = last
            digits.removeLast()
        }
        guard let number = Int(digits), number > 0, number <= Int.max >> shift else { return nil }
        bytes = number << shift
    }

    var defaultValueDescription: String {
        bytes % (1 << 20) == 0 ? "\(bytes >> 20)M" : "\(bytes)"
    }
}

/// `0x7c00` or `31744`.
struct Address: ExpressibleByArgument, Equatable {
    var value: UInt64

    init(_ value: UInt64) { self.value = value }

    init?(argument: String) {
        let isHex = argument.hasPrefix("0x") || argument.hasPrefix("0X")
        guard let value = isHex ? UInt64(argument.dropFirst(2), radix: 16) : UInt64(argument) else { return nil }
        self.value = value
    }

    var defaultValueDescription: String { hex(value) }
}

/// `A..B`, both included; `A..` to the end, `..B` from the start, `A` alone.
struct StepRange: ExpressibleByArgument, Equatable {
    var first: UInt64
    /// nil: to the end.
    var last: UInt64?

    init?(argument: String) {
        guard let dots = argument.firstRange(of: "..") else {
            guard let step = UInt64(argument) else { return nil }
            (first, last) = (step, step)
            return
        }
        let (left, right) = (argument[..<dots.lowerBound], argument[dots.upperBound...])
        guard let first = left.isEmpty ? 0 : UInt64(left) else { return nil }
        self.first = first
        guard !right.isEmpty else { return }
        guard let last = UInt64(right), last >= first else { return nil }
        self.last = last
    }
}

/// `NAME` or `NAME@STEP`: what the backend is to compute wrongly, from which step on.
struct FaultRequest: ExpressibleByArgument, Equatable {
    var name: String
    var step: UInt64

    init?(argument: String) {
        let parts = argument.split(separator: "@", omittingEmptySubsequences: false)
        guard let name = parts.first, !name.isEmpty, parts.count <= 2 else { return nil }
        self.name = String(name)
        guard parts.count == 2 else {
            step = 0
            return
        }
        guard let step = UInt64(parts[1]) else { return nil }
        self.step = step
    }
}

/// A name of an exit reason as NVMM has it, in any case: `io`, `INT_READY`.
struct ReasonName: ExpressibleByArgument, Equatable {
    var code: UInt64

    init?(argument: String) {
        let name = argument.uppercased()
        guard let found = ExitReason.names.first(where: { $0.name == name }) else { return nil }
        code = found.code
    }

    static var allValueStrings: [String] { ExitReason.names.map(\.name) }
}

/// The backends that this program holds.
enum BackendName: String, ExpressibleByArgument, CaseIterable { case soft }
