// A report on a client as text for people, and as the document that crosses from its process to tracectl.

extension ClientDifference {
    /// Several lines, each ended by a line break. Stable: golden transcripts hold it.
    public var text: String {
        let place = vcpu.map { "at step \(step), a run of VCPU \($0)" } ?? "before step \(step)"
        var lines = ["Difference \(place): \(title).", ""]
        lines += Divergence.table(fields.filter(\.differs))
        if fields.count >= Self.fieldsMax { lines.append("  (further ones are not listed)") }
        lines += ["", "Last events of the recording, each with the number of steps before it:"]
        for event in lastEvents { lines.append("  [\(event.step)] \(event.text)") }
        return lines.joined(separator: "\n") + "\n"
    }

    private var title: String {
        switch kind {
        case .order: "the client does something else than was recorded"
        case .commit: "the client commits other state"
        case .event: "the client injects otherwise"
        case .budget: "the client bounds the run otherwise"
        case .memory: "guest memory is not as the client had left it"
        case .pastEnd: "the client goes on where the recording ends"
        case .endsEarly: "the client ended before the recording did"
        }
    }
}

extension ClientReport {
    /// What stands in ``trouble``. The error itself cannot cross to another process.
    static func words(_ error: ReplayError) -> String {
        switch error {
        case .secondMachine(let step): "the client makes a second machine before step \(step), and a trace is of one"
        case .eventsMissing(let step): "events were lost before step \(step)"
        case .unknownObject(let ordinal, let step): "memory object \(ordinal) does not exist at step \(step)"
        case .outsideObject(let ordinal, let offset, let step):
            "a write at step \(step) lies outside memory object \(ordinal), at offset \(offset)"
        default: "\(error)"
        }
    }

    /// One JSON object. Written by hand: the library in the client's process carries no encoder.
    public var json: String {
        var parts = [
            "\"runCount\":\(runCount)", "\"stepCount\":\(stepCount)", "\"machineCallCount\":\(machineCallCount)",
            "\"guestBytes\":\(guestBytes)",
        ]
        if let trouble { parts.append("\"trouble\":\(Self.quoted(trouble))") }
        if let difference { parts.append("\"difference\":\(Self.json(difference))") }
        return "{" + parts.joined(separator: ",") + "}"
    }

    private static func json(_ difference: ClientDifference) -> String {
        let fields = difference.fields.map {
            "{\"name\":\(quoted($0.name)),\"expected\":\(quoted($0.expected)),\"actual\":\(quoted($0.actual))}"
        }
        let events = difference.lastEvents.map { "{\"step\":\($0.step),\"text\":\(quoted($0.text))}" }
        var parts = ["\"kind\":\(quoted(difference.kind.rawValue))", "\"step\":\(difference.step)"]
        if let vcpu = difference.vcpu { parts.append("\"vcpu\":\(vcpu)") }
        parts.append("\"fields\":[" + fields.joined(separator: ",") + "]")
        parts.append("\"lastEvents\":[" + events.joined(separator: ",") + "]")
        return "{" + parts.joined(separator: ",") + "}"
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
