// The figures as lines of text: name, value, what it is compared with, target.

import Glibc

struct Table {
    private var rows: [[String]] = [["figure", "measured", "compared with", "target"]]

    mutating func add(_ figure: String, _ measured: String, against: String = "", target: String = "") {
        rows.append([figure, measured, against, target])
        // Shown as it comes too: the whole takes minutes.
        print("\(figure): \(measured)\(against.isEmpty ? "" : " (\(against))")")
        fflush(nil)
    }

    /// A Markdown table, aligned for terminals.
    var text: String {
        let widths = (0..<4).map { column in rows.map { $0[column].count }.max() ?? 0 }
        func line(_ cells: [String]) -> String {
            let padded = zip(cells, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            return "| " + padded.joined(separator: " | ") + " |"
        }
        let rule = "|" + widths.map { String(repeating: "-", count: $0 + 2) }.joined(separator: "|") + "|"
        return ([line(rows[0]), rule] + rows.dropFirst().map(line)).joined(separator: "\n")
    }
}

/// With `places` decimals.
func number(_ value: Double, _ places: Int = 2) -> String {
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let rounded = (value * scale).rounded() / scale
    var text = "\(rounded)"
    if places == 0, text.hasSuffix(".0") { text.removeLast(2) }
    return text
}
