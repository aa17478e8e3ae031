// One line that says how far long work is, on a terminal only.

import Glibc

/// Rewrites a line on standard error, at most ten times a second; silent where that is no terminal.
struct Progress {
    private let clock = ContinuousClock()
    private let start: ContinuousClock.Instant
    private var shown: ContinuousClock.Instant?

    init() { start = clock.now }

    var elapsed: Duration { clock.now - start }

    /// - Parameter text: asked for only when it will be shown.
    mutating func update(_ text: (_ seconds: Double) -> String) {
        guard StandardError.isTerminal else { return }
        let now = clock.now
        if let shown, now - shown < .milliseconds(100) { return }
        // Short work shows nothing.
        guard shown != nil || now - start > .milliseconds(300) else { return }
        shown = now
        StandardError.write("\r\u{1B}[K" + text((now - start) / .seconds(1)))
    }

    /// Takes the line away.
    mutating func end() {
        if shown != nil { StandardError.write("\r\u{1B}[K") }
        shown = nil
    }
}
