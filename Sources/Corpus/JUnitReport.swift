// Results as the XML that CI systems read (the Jenkins JUnit plugin's schema).

/// Results in JUnit's format.
public enum JUnitReport {
    /// - Parameter suite: the name that CI shows for the run.
    public static func text(_ results: [ReplayResult], suite: String) -> String {
        let failures = results.filter { !$0.isAsExpected && $0.verdict.isFailure }.count
        let errors = results.filter { !$0.isAsExpected && $0.verdict == .unusable }.count
        let skipped = results.filter { $0.verdict == .unavailable }.count
        let seconds = results.reduce(0) { $0 + $1.seconds }
        let counts =
            "tests=\"\(results.count)\" failures=\"\(failures)\" errors=\"\(errors)\" skipped=\"\(skipped)\""
            + " time=\"\(time(seconds))\""
        var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        text += "<testsuites \(counts)>\n<testsuite name=\"\(escaped(suite))\" \(counts)>\n"
        for result in results.sorted(by: { ($0.name, $0.backend) < ($1.name, $1.backend) }) {
            text +=
                "<testcase classname=\"\(escaped(suite)).\(escaped(result.backend))\" name=\"\(escaped(result.name))\""
                + " time=\"\(time(result.seconds))\""
            let body = element(result)
            text += body.isEmpty ? "/>\n" : ">\n\(body)</testcase>\n"
        }
        return text + "</testsuite>\n</testsuites>\n"
    }

    private static func element(_ result: ReplayResult) -> String {
        if result.isAsExpected { return "" }
        let message = escaped(
            result.verdict == .identical ? "identical, but a difference was expected" : result.detail)
        let type = result.verdict.rawValue
        switch result.verdict {
        case .unavailable: return "<skipped message=\"\(message)\"/>\n"
        case .unusable: return "<error type=\"\(type)\" message=\"\(message)\"/>\n"
        default: return "<failure type=\"\(type)\" message=\"\(message)\">\(message)</failure>\n"
        }
    }

    private static func time(_ seconds: Double) -> String {
        let milliseconds = Int((seconds * 1000).rounded())
        let digits = String(1000 + milliseconds % 1000).dropFirst()
        return "\(milliseconds / 1000).\(digits)"
    }

    /// XML 1.0 has no way to write most control characters: they become spaces.
    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\n": result += "&#10;"
            case _ where scalar.value < 32 || scalar.value == 0xFFFE || scalar.value == 0xFFFF: result += " "
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

extension CorpusVerdict {
    /// Whether the trace is at fault for what it was replayed on, or the other way round.
    fileprivate var isFailure: Bool { self != .unusable && self != .unavailable }
}
