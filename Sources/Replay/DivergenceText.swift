// The report of a divergence as text for people. Stable: golden transcripts hold it.

extension Divergence {
    /// The report, several lines, each ended by a line break.
    public var text: String {
        var lines = [title]
        if let injected { lines.append("Event injected with this step: \(injected).") }
        appendFields(to: &lines)
        appendInstructions(to: &lines)
        appendWrongInstruction(to: &lines)
        appendMemory(to: &lines)
        lines += ["", "Last events, each with the number of steps before it:"]
        for event in lastEvents { lines.append("  [\(event.step)] \(event.text)") }
        return lines.joined(separator: "\n") + "\n"
    }

    private var title: String {
        guard let vcpu else {
            let since = memoryEqualAtStep.map { "steps \($0) to \(step)" } ?? "the first \(step) steps"
            let what = kind == .memory ? "guest memory differs" : "state that only the backend sees differs"
            return "Divergence in \(since): all exits are equal, but \(what)."
        }
        let what =
            switch kind {
            case .registers: "the same exit, with other registers or counts"
            case .exitPayload: "another exit"
            case .missingExit: "the recorded exit is missing"
            case .extraExit: "an exit that is not in the trace"
            case .injection: "the event was accepted or delivered otherwise"
            case .memory: "guest memory differs"
            case .privateState: "state that only the backend sees differs"
            }
        return "Divergence at step \(step) of VCPU \(vcpu): \(what)."
    }

    private func appendFields(to lines: inout [String]) {
        guard !fields.isEmpty else { return }
        lines.append("")
        lines += Self.table(fields)
    }

    /// Both sides in columns; `*` marks what differs.
    static func table(_ fields: [ComparedField]) -> [String] {
        let nameWidth = max(fields.map(\.name.count).max() ?? 0, 5)
        let valueWidth = max(fields.map(\.expected.count).max() ?? 0, 8)
        var lines = ["  " + "field".padded(nameWidth) + "  " + "expected".padded(valueWidth) + "  actual"]
        for field in fields {
            let mark = field.differs ? "* " : "  "
            lines.append(
                mark + field.name.padded(nameWidth) + "  " + field.expected.padded(valueWidth) + "  " + field.actual)
        }
        return lines
    }

    private func appendInstructions(to lines: inout [String]) {
        if let instructionAtExit { lines += ["", "Instruction at the recorded exit:", Self.line(instructionAtExit)] }
        if let instructionAtActualExit {
            lines += ["Instruction at the replayed exit:", Self.line(instructionAtActualExit)]
        }
        guard !instructionsBefore.isEmpty else { return }
        lines += ["", wrongInstruction == nil ? "Executed before the exit:" : "Executed before the wrong instruction:"]
        lines += instructionsBefore.map(Self.line)
    }

    private func appendWrongInstruction(to lines: inout [String]) {
        if referenceAgreesWithReplay {
            lines += ["", "The reference backend does the same as this one: the trace says otherwise."]
        }
        guard let wrong = wrongInstruction else { return }
        let place = "step \(wrong.place.step), after \(wrong.index) instructions of it:"
        let title =
            wrong.isEventDelivery
            ? "Wrong delivery of the event that interrupted this instruction" : "Wrong instruction"
        lines += ["", "\(title), \(place)", Self.line(wrong.place)]
        if !wrong.fields.isEmpty { lines += Self.table(wrong.fields) }
        lines += wrong.memory.flatMap(Self.lines)
    }

    private func appendMemory(to lines: inout [String]) {
        lines.append("")
        guard memoryWasCompared else {
            lines.append("Memory: not compared here; " + equalSince + ".")
            return
        }
        guard !memory.isEmpty else {
            lines.append("Memory: no difference.")
            return
        }
        lines.append("Memory that differs (" + equalSince + "):")
        lines += memory.flatMap(Self.lines)
        if memory.count >= Self.memoryRangesMax { lines.append("  (further ranges are not listed)") }
    }

    private var equalSince: String {
        memoryEqualAtStep.map { "all of it was equal after \($0) steps" } ?? "no earlier comparison"
    }

    private static func line(_ place: InstructionPlace) -> String {
        let text = place.text.isEmpty ? "(not readable)" : place.text
        return "  rip \(hex(place.rip))  \(hexBytes(place.bytes).padded(23))  \(text)"
    }

    private static func lines(_ difference: MemoryDifference) -> [String] {
        let place = difference.gpa.map { "gpa \(hex($0))" } ?? "not mapped"
        let count = difference.byteCount == 1 ? "1 byte" : "\(difference.byteCount) bytes"
        let cut = difference.byteCount > difference.expected.count ? " ..." : ""
        return [
            "* object \(difference.object) offset \(hex(UInt64(clamping: difference.offset), digits: 8)), "
                + "\(place), \(count)",
            "    expected  \(hexBytes(difference.expected))\(cut)",
            "    actual    \(hexBytes(difference.actual))\(cut)",
        ]
    }
}

extension String {
    fileprivate func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
