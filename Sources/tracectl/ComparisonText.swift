// The difference of two recordings for people.

import Analysis
import Replay

func text(of comparison: TraceComparison) -> String {
    var lines: [String] = []
    if comparison.isSame {
        lines.append("the same\(heading(comparison)): \(counted(comparison.alignedCount, "step")) aligned")
    } else {
        lines.append("different")
    }
    if !comparison.headerFields.isEmpty { lines += ["", "recorded otherwise (left | right):"] }
    for field in comparison.headerFields {
        lines.append("  \(field.name): \(field.expected) | \(field.actual)")
    }
    if let difference = comparison.firstDifference {
        lines += ["", "first difference: " + words(difference.kind)]
        lines.append("  left   " + text(of: difference.left))
        lines.append("  right  " + text(of: difference.right))
        for field in difference.fields { lines.append("  * \(field.name): \(field.expected) | \(field.actual)") }
    }
    lines += [
        "", "steps: left \(grouped(comparison.leftStepCount)), right \(grouped(comparison.rightStepCount))",
        "  aligned \(grouped(comparison.alignedCount)),"
            + " of these with other registers or events \(grouped(comparison.registerDifferenceCount))",
        "  only left \(text(of: comparison.onlyLeft)), only right \(text(of: comparison.onlyRight))",
    ]
    return lines.joined(separator: "\n") + "\n"
}

/// How far "the same" reaches where one of the traces holds less than the other.
private func heading(_ comparison: TraceComparison) -> String {
    comparison.headerFields.contains { $0.name == "level" } ? " in exits and registers, which both levels hold" : ""
}

private func words(_ kind: TraceComparison.Difference.Kind) -> String {
    switch kind {
    case .registers: "the same exit with another event or other registers"
    case .onlyLeft: "a step that only the left trace has"
    case .onlyRight: "a step that only the right trace has"
    case .replaced: "other steps on both sides"
    }
}

private func text(of step: TraceComparison.StepSummary?) -> String {
    guard let step else { return "(the trace has ended)" }
    let event = step.event.map { ", injected \($0)" } ?? ""
    return "step \(step.step) of VCPU \(step.vcpu): \(step.exit) at rip \(hex(step.rip))\(event)"
}

private func text(of unaligned: TraceComparison.Unaligned) -> String {
    let asynchronous = unaligned.asynchronous > 0 ? " (and \(grouped(unaligned.asynchronous)) asynchronous)" : ""
    return grouped(unaligned.synchronous) + asynchronous
}
