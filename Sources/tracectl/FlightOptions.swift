// --ring and --trigger of tracectl record: keep the newest part of a recording, write it when something happens.

import ArgumentParser
import NVMM

/// When what is kept is written.
enum Trigger: Equatable {
    /// The exit SHUTDOWN, which a triple fault gives: NVMM has no other.
    case shutdown
    /// The exit INVALID.
    case invalid
    /// No exit but NONE for so long.
    case stall(Duration)
    /// A signal ended the command, or asked tracectl.
    case signal
}

/// `shutdown,stall=2s`: one or more, with commas between.
struct Triggers: OptionValue, Equatable {
    static let form =
        "one or more of shutdown (or triple-fault), invalid, signal, and stall=SECONDS, with commas between: "
        + "shutdown,stall=2s"
    static let standard = Triggers(all: [.shutdown, .invalid, .signal])

    var all: [Trigger]

    init(all: [Trigger]) { self.all = all }

    init?(argument: String) {
        all = []
        for name in argument.split(separator: ",", omittingEmptySubsequences: false) {
            switch name {
            case "shutdown", "triple-fault": all.append(.shutdown)
            case "invalid": all.append(.invalid)
            case "signal": all.append(.signal)
            default:
                guard name.hasPrefix("stall="), let time = Self.duration(name.dropFirst(6)) else { return nil }
                all.append(.stall(time))
            }
        }
    }

    /// `2s`, `500ms` or `2`; more than nothing, at most a day.
    private static func duration(_ text: Substring) -> Duration? {
        let (digits, unit): (Substring, Int) =
            text.hasSuffix("ms") ? (text.dropLast(2), 1) : text.hasSuffix("s") ? (text.dropLast(), 1000) : (text, 1000)
        guard let number = Int(digits), number > 0, number <= 86_400_000 / unit else { return nil }
        return .milliseconds(number * unit)
    }

    func endsAfter(_ exit: ExitReason) -> Bool {
        switch exit {
        case .shutdown: all.contains(.shutdown)
        case .invalid: all.contains(.invalid)
        default: false
        }
    }

    var stall: Duration? {
        all.lazy.compactMap { if case .stall(let time) = $0 { time } else { nil } }.min()
    }
}
