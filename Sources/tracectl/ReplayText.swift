// A replay's report for people: the verdict first, then the counts, then the first difference in full.

import Replay

func text(of report: ReplayReport) -> String {
    let totals = report.totals
    let count = totals.stepCount
    var lines: [String] = []
    if report.isClean {
        let steps = totals.explained == 0 ? "all \(counted(count, "step")) identical" : "no real difference"
        lines.append(steps + memory(report))
    } else {
        lines.append("different" + memory(report))
    }
    if !report.isClean || totals.explained > 0 {
        lines.append(
            "  identical \(grouped(totals.identical)), explained \(grouped(totals.explained)),"
                + " divergent \(grouped(totals.divergent)), unverifiable \(grouped(totals.unverifiable))")
    }
    if count > 0 {
        lines.append(
            "  steps \(grouped(report.firstStep)) to \(grouped(report.endStep - min(1, report.endStep)))"
                + (totals.instructions == 0 ? "" : ", \(counted(totals.instructions, "instruction"))"))
    }
    if totals.notRun > 0 {
        lines.append("  not run on this backend, which cannot find where they ended: \(counted(totals.notRun, "step"))")
    }
    if totals.keyframesEqual + totals.keyframesDifferent > 0 {
        lines.append(
            "  keyframes: \(grouped(totals.keyframesEqual)) equal, \(grouped(totals.keyframesDifferent)) different;"
                + " \(counted(totals.pagesCompared, "page")) compared")
    }
    if totals.timedBytes > 0 {
        let bytes = counted(totals.timedBytes, "byte")
        lines.append("  explained: \(bytes) of memory that depend on times which the guest read")
    }
    for reason in report.reasons {
        lines.append("  \(reason.verdict.rawValue): \(reason.text) (\(counted(reason.stepCount, "step")))")
        if reason.verdict == .explained { lines += instructions(report, reason.text) }
    }
    for use in report.knownDifferences {
        let steps = "\(counted(use.stepCount, "step")), \(share(use.stepCount, of: count))"
        let first = use.firstStep.map { "\(steps), the first \(grouped($0))" } ?? "never met"
        lines.append("  known: \(use.rule.instruction), \(use.rule.field) (\(first)): \(use.rule.reason)")
    }
    if report.rawStoreCount > 0 {
        let stores = counted(report.rawStoreCount, "store")
        let verb = report.rawStoreCount == 1 ? "was" : "were"
        lines.append("  \(stores) went past the interface and \(verb) found by comparison")
    }
    if !report.traceIsComplete {
        lines.append("  the trace was not closed: tracectl repair recovers what its writer had in flight")
    }
    var text = lines.joined(separator: "\n") + "\n"
    if let divergence = report.divergence { text += "\n" + divergence.text }
    return text
}

/// The instructions behind a reason, the most frequent first.
private func instructions(_ report: ReplayReport, _ reason: String) -> [String] {
    let shown = 20
    let all = report.explainedInstructions.filter { $0.reason == reason }.sorted { $0.stepCount > $1.stepCount }
    var lines = all.prefix(shown).map { entry in
        "    \(hex(entry.place.rip)) \(entry.place.text)"
            + " (\(counted(entry.stepCount, "step")), the first \(grouped(entry.place.step)))"
    }
    if all.count > shown { lines.append("    and \(counted(all.count - shown, "instruction")) more: see --json") }
    return lines
}

private func memory(_ report: ReplayReport) -> String {
    guard report.totals.keyframesDifferent == 0 else { return ", memory differs" }
    switch report.memoryEqualAtStep {
    case report.endStep?: return ", final memory identical" + (report.totals.timedBytes > 0 ? " but for times" : "")
    // The keyframe that a replay starts from is loaded, and the one at step 0 says little: neither compares anything.
    case let step? where step > report.firstStep:
        return ", memory identical when last compared, before step \(grouped(step))"
    default: return ", memory not compared: no keyframe lies in the range"
    }
}
