// Values of arguments: names of traces, sizes, addresses, ranges of exits.

import ArgumentParser
import NVMM
import SystemPackage

/// The trace that a verb reads. `-` is standard input, which must be a file too.
struct TraceName: ExpressibleByArgument {
    static let help: ArgumentHelp = "The trace; - for standard input, where that is a file."

    /// As an error names it.
    var text: String
    var path: FilePath

    init(argument: String) {
        text = argument == "-" ? "standard input" : argument
        path = FilePath(argument == "-" ? "/dev/stdin" : argument)
    }
}

/// A value of an option that says what it takes where it is given something else. The option takes whatever stands
/// behind it, so that a negative number is refused as what it is and not as a missing value:
///
///     @Option(parsing: .unconditional, transform: UInt64.parse) var from: UInt64?
protocol OptionValue {
    /// What is accepted, with an example.
    static var form: String { get }
    init?(argument: String)
}

extension OptionValue {
    /// - Throws: a sentence that the parser puts behind the value and the name of its option.
    static func parse(_ argument: String) throws -> Self {
        guard let value = Self(argument: argument) else { throw ValidationError("give \(form)") }
        return value
    }
}

extension UInt64: OptionValue {
    static var form: String { "a whole number, 0 or more, such as 5000" }
}

extension Int: OptionValue {
    static var form: String { "a whole number, such as 2" }
}

/// `64M`, `65536`, `1G`: a number of bytes, in powers of 1,024.
struct ByteCount: OptionValue, CustomStringConvertible, Equatable {
    static let form = "a number of bytes, or of K, M or G, such as 65536 or 64M"
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

    var description: String {
        bytes % (1 << 20) == 0 ? "\(bytes >> 20)M" : "\(bytes)"
    }
}

/// `0x7c00` or `31744`.
struct Address: OptionValue, Equatable {
    static let form = "an address, such as 0x7c00 or 31744"
    var value: UInt64

    init(_ value: UInt64) { self.value = value }

    init?(argument: String) {
        let isHex = argument.hasPrefix("0x") || argument.hasPrefix("0X")
        guard let value = isHex ? UInt64(argument.dropFirst(2), radix: 16) : UInt64(argument) else { return nil }
        self.value = value
    }
}

/// `A..B`, both included; `A..` to the end, `..B` from the start, `A` alone.
struct StepRange: OptionValue, Equatable {
    static let form = "two steps, the smaller first, or one: 5..10, 5.., ..10 or 5"
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
struct FaultRequest: OptionValue, CustomStringConvertible, Equatable {
    static let form = "the name of a fault, with or without the step it begins at: adc-carry or adc-carry@100"
    var name: String
    var step: UInt64

    var description: String { "\(name)@\(step)" }

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
enum BackendName: String, ExpressibleByArgument, CaseIterable { case soft, kvm }
