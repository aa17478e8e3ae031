// Swift source with comments and the contents of string literals blanked, so that searches see code only.

/// Replaces comments and literal text by spaces and keeps line breaks and interpolated code.
func codeOnly(_ source: String) -> String {
    let input = Array(source.unicodeScalars)
    var output = String.UnicodeScalarView()
    var index = 0
    /// Open string literals, innermost last: quotes that end it, `#` count, open parentheses of its interpolation.
    var literals: [(isMultiline: Bool, pounds: Int, parentheses: Int)] = []
    /// Whether the scanner stands in a literal's text, and not in code (which may be interpolated).
    var inText = false

    func at(_ offset: Int, _ expected: String) -> Bool {
        var position = index + offset
        for scalar in expected.unicodeScalars {
            guard position < input.count, input[position] == scalar else { return false }
            position += 1
        }
        return true
    }
    func blank(_ count: Int) {
        for _ in 0..<count where index < input.count {
            output.append(input[index] == "\n" ? "\n" : " ")
            index += 1
        }
    }

    while index < input.count {
        if inText, let literal = literals.last {
            let pounds = String(repeating: "#", count: literal.pounds)
            let quotes = (literal.isMultiline ? "\"\"\"" : "\"") + pounds
            if at(0, quotes) {
                blank(quotes.unicodeScalars.count)
                literals.removeLast()
                inText = false
            } else if at(0, "\\" + pounds + "(") {
                blank(2 + literal.pounds)
                literals[literals.count - 1].parentheses = 1
                inText = false
            } else if at(0, "\\" + pounds) {
                blank(2 + literal.pounds)
            } else {
                blank(1)
            }
            continue
        }
        if at(0, "//") {
            while index < input.count, input[index] != "\n" { blank(1) }
        } else if at(0, "/*") {
            var depth = 0
            repeat {
                if at(0, "/*") { depth += 1; blank(2) } else if at(0, "*/") { depth -= 1; blank(2) } else { blank(1) }
            } while depth > 0 && index < input.count
        } else if at(0, "\"") || at(0, "#\"") || at(0, "##\"") {
            var pounds = 0
            while at(0, "#") { pounds += 1; blank(1) }
            let isMultiline = at(0, "\"\"\"")
            blank(isMultiline ? 3 : 1)
            literals.append((isMultiline, pounds, 0))
            inText = true
        } else if at(0, "`") {
            // A raw identifier: a test's sentence may hold any sign.
            repeat { blank(1) } while index < input.count && !at(0, "`") && input[index] != "\n"
            blank(1)
        } else {
            if let literal = literals.last, literal.parentheses > 0 {
                if at(0, "(") { literals[literals.count - 1].parentheses += 1 }
                if at(0, ")") {
                    literals[literals.count - 1].parentheses -= 1
                    if literals[literals.count - 1].parentheses == 0 {
                        blank(1)
                        inText = true
                        continue
                    }
                }
            }
            output.append(input[index])
            index += 1
        }
    }
    return String(output)
}
