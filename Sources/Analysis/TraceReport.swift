// A report of one trace as a page that needs no network: the numbers as JSON in it, drawn by the page itself.

public import Replay

/// What a report tells, and the JSON document in its page.
public struct TraceReport: Encodable, Sendable {
    /// The trace's name, for the title.
    public var name: String
    /// How it was recorded, one phrase each.
    public var recorded: [String]
    /// As `tracectl stats --json` has them.
    public var statistics: TraceStatistics
    public var profile: TraceProfile
    /// Of a replay, where one was made: its verdict in a line, and the first divergence in full.
    public var replay: ReplayVerdict?

    public struct ReplayVerdict: Encodable, Sendable {
        public var isClean: Bool
        public var summary: String
        public var divergence: Divergence?

        public init(isClean: Bool, summary: String, divergence: Divergence?) {
            self.isClean = isClean
            self.summary = summary
            self.divergence = divergence
        }
    }

    public init(
        name: String, recorded: [String], statistics: TraceStatistics, profile: TraceProfile, replay: ReplayVerdict?
    ) {
        self.name = name
        self.recorded = recorded
        self.statistics = statistics
        self.profile = profile
        self.replay = replay
    }

    /// The whole page.
    public func page() throws -> String {
        // The only ways out of a script element.
        let json = try StableJSON.text(self, isPretty: false)
            .replacing("<", with: "\\u003c").replacing("\u{2028}", with: "\\u2028")
        return ReportPage.head + Self.escaped(name) + ReportPage.style + ReportPage.body
            + "<script type=\"application/json\" id=\"data\">" + json + "</script>\n<script>"
            + ReportPage.script + "</script>\n</body>\n</html>\n"
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}
