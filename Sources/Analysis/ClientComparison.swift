// What a client did, where a recording answered it in its hypervisor's place, against what it did when that was
// recorded: exit by exit.

internal import NVMM
public import Replay
public import TraceFile

/// The differences of a client from its recording. Exits are the recording's own, in its order; between two of them the
/// client may have been interrupted more often.
public struct ClientComparison: Hashable, Encodable, Sendable {
    public enum Kind: String, CaseIterable, Encodable, Sendable {
        /// Another exit than the recording's: the answers were taken in another order.
        case exits
        /// Registers that the client set.
        case commits
        /// Events that it injected.
        case events
        /// Data that its devices gave.
        case answers
        /// What it or its devices wrote to guest memory, but for writes that came some exits earlier or later.
        case memory
        /// VCPUs and mappings.
        case machine
    }

    public struct Difference: Hashable, Encodable, Sendable {
        public var kind: Kind
        /// Of the recording: the step before which it was.
        public var step: UInt64
        public var fields: [ComparedField]
    }

    /// Exits of the recording that the client was given.
    public var exitCount: UInt64 = 0
    /// Exits of the recording that it did not come to.
    public var missingCount: UInt64 = 0
    /// Runs that it made after the recording's end.
    public var extraCount: UInt64 = 0
    /// How often it had to go on before it did what was recorded next.
    public var waitCount: UInt64 = 0
    /// How often memory was as recorded again after some exits: devices write when the host lets them.
    public var movedWriteCount: UInt64 = 0
    /// Exits with a difference, by kind.
    public var counts: [Kind: UInt64] = [:]
    /// Of the answers that differ, by port or address, the most frequent first.
    public var differingDevices: [Device] = []
    /// The first of each kind.
    public var first: [Difference] = []

    public struct Device: Hashable, Encodable, Sendable {
        public var name: String
        public var count: UInt64
    }

    public var isIdentical: Bool { first.isEmpty && missingCount == 0 && extraCount == 0 }

    /// - Parameters:
    ///   - recorded: the recording.
    ///   - actual: what was recorded of the client that it answered.
    public init(_ recorded: TraceReader, _ actual: TraceReader) throws(TraceError) {
        let (left, right) = (StepInputs.Cursor(try recorded.cursor()), StepInputs.Cursor(try actual.cursor()))
        var devices: [String: UInt64] = [:]
        var memory = WrittenMemory()
        var machine = MachineChanges()
        // What VCPUs did on the way to their next exit.
        var underway: [UInt32: StepInputs] = [:]
        while let expected = try left.next() {
            guard var given = try right.next() else {
                missingCount += 1
                while try left.next() != nil { missingCount += 1 }
                break
            }
            // It was sent on until it did what came next; what it did on the way belongs to that.
            while given.isInterrupted, !expected.isInterrupted || given.step.vcpu != expected.step.vcpu {
                guard let next = try right.next() else { break }
                waitCount += 1
                memory.take([], given.writes, at: exitCount)
                machine.take([], given.machine, at: exitCount)
                let vcpu = given.step.vcpu
                underway[vcpu] = given.following(underway[vcpu])
                given = next
            }
            let early = underway.removeValue(forKey: given.step.vcpu)
            memory.take(expected.writes, given.writes, at: exitCount)
            machine.take(expected.machine, given.machine, at: exitCount)
            given = given.following(early)
            for difference in expected.differences(from: given, at: exitCount) {
                if difference.kind == .answers {
                    for field in difference.fields { devices[field.name, default: 0] += 1 }
                }
                note(difference)
            }
            for difference in [memory.lasting(at: exitCount), machine.lasting(at: exitCount)] {
                if let difference { note(difference) }
            }
            exitCount += 1
        }
        while try right.next() != nil { extraCount += 1 }
        for difference in [memory.lasting(at: nil), machine.lasting(at: nil)] {
            if let difference { note(difference) }
        }
        movedWriteCount = memory.movedCount
        differingDevices = devices.map { Device(name: $0.key, count: $0.value) }
            .sorted { ($1.count, $0.name) < ($0.count, $1.name) }
    }
}

extension ClientComparison {
    /// Exits after which what one side did alone is no longer taken for moved.
    fileprivate static let patienceExits: UInt64 = 256

    private mutating func note(_ difference: Difference) {
        counts[difference.kind, default: 0] += 1
        if !first.contains(where: { $0.kind == difference.kind }) { first.append(difference) }
    }
}

/// What both sides wrote to guest memory, as far as it is not the same.
private struct WrittenMemory {
    private struct Place: Hashable { var object: UInt32, offset: Int }
    /// Both bytes; nil where that side did not write yet.
    private var open: [Place: (expected: UInt8?, actual: UInt8?)] = [:]
    /// The exit since which they differ.
    private var since: UInt64 = 0
    private(set) var movedCount: UInt64 = 0

    mutating func take(_ expected: [MemoryWrite], _ actual: [MemoryWrite], at exit: UInt64) {
        guard !expected.isEmpty || !actual.isEmpty else { return }
        if open.isEmpty { since = exit }
        note(expected, \.expected)
        note(actual, \.actual)
        open = open.filter { $0.value.expected != $0.value.actual }
        if open.isEmpty, since != exit { movedCount += 1 }
    }

    private mutating func note(
        _ writes: [MemoryWrite], _ side: WritableKeyPath<(expected: UInt8?, actual: UInt8?), UInt8?>
    ) {
        for write in writes {
            for (index, byte) in write.bytes.enumerated() {
                let place = Place(object: write.object, offset: write.offset &+ index)
                open[place, default: (nil, nil)][keyPath: side] = byte
            }
        }
    }

    /// What differs for too long, which is then forgotten.
    ///
    /// - Parameter exit: nil at the end, where nothing comes any more.
    mutating func lasting(at exit: UInt64?) -> ClientComparison.Difference? {
        if let exit, open.isEmpty || exit - since < ClientComparison.patienceExits { return nil }
        guard let first = open.min(by: { ($0.key.object, $0.key.offset) < ($1.key.object, $1.key.offset) }) else {
            return nil
        }
        func text(_ byte: UInt8?) -> String { byte.map { "0x" + String($0, radix: 16) } ?? "not written" }
        let name = "object \(first.key.object) offset 0x\(String(first.key.offset, radix: 16))"
        let rest = open.count > 1 ? " and \(open.count - 1) more bytes" : ""
        let difference = ClientComparison.Difference(
            kind: .memory, step: since,
            fields: [
                ComparedField(name: name + rest, expected: text(first.value.expected), actual: text(first.value.actual))
            ])
        open.removeAll()
        return difference
    }
}

/// What both sides did to the machine, as far as it is not the same: threads make their VCPUs in any order.
private struct MachineChanges {
    private var expected: [MachineEvent] = []
    private var actual: [MachineEvent] = []
    private var since: UInt64 = 0

    mutating func take(_ left: [MachineEvent], _ right: [MachineEvent], at exit: UInt64) {
        if expected.isEmpty, actual.isEmpty { since = exit }
        for event in left {
            if let index = actual.firstIndex(of: event) { actual.remove(at: index) } else { expected.append(event) }
        }
        for event in right {
            if let index = expected.firstIndex(of: event) { expected.remove(at: index) } else { actual.append(event) }
        }
    }

    /// What differs for too long, which is then forgotten.
    ///
    /// - Parameter exit: nil at the end.
    mutating func lasting(at exit: UInt64?) -> ClientComparison.Difference? {
        guard !expected.isEmpty || !actual.isEmpty else { return nil }
        if let exit, exit - since < ClientComparison.patienceExits { return nil }
        func text(_ events: [MachineEvent]) -> String {
            events.isEmpty ? "-" : events.map { EventText.line(.machine($0)) }.joined(separator: "; ")
        }
        let field = ComparedField(name: "machine", expected: text(expected), actual: text(actual))
        (expected, actual) = ([], [])
        return ClientComparison.Difference(kind: .machine, step: since, fields: [field])
    }
}

/// All that a client gave before one exit.
private struct StepInputs {
    var step: Step
    var machine: [MachineEvent] = []
    var answers: [Completion] = []
    var writes: [MemoryWrite] = []

    /// As where a signal came.
    var isInterrupted: Bool { step.exit.reason == .none }

    /// With what came before it, which belongs to the same exit of the recording.
    func following(_ before: StepInputs?) -> StepInputs {
        guard let before else { return self }
        var result = self
        result.answers = before.answers + answers
        result.step.event = step.event ?? before.step.event
        let earlier = before.step.commit.subtracting(step.commit)
        result.step.commit.formUnion(earlier)
        result.step.committed.copy(earlier, from: before.step.committed)
        return result
    }

    func differences(from other: StepInputs, at index: UInt64) -> [ClientComparison.Difference] {
        var found: [ClientComparison.Difference] = []
        func add(_ kind: ClientComparison.Kind, _ fields: [ComparedField]) {
            let fields = fields.filter(\.differs)
            if !fields.isEmpty { found.append(ClientComparison.Difference(kind: kind, step: index, fields: fields)) }
        }
        let reasons = (EventText.line(step.exit.reason), EventText.line(other.step.exit.reason))
        add(
            .exits,
            [
                ComparedField(name: "exit", expected: reasons.0, actual: reasons.1),
                ComparedField(name: "VCPU", expected: "\(step.vcpu)", actual: "\(other.step.vcpu)"),
            ])
        add(.commits, commits(against: other))
        let events = (step.event.map(EventText.line) ?? "-", other.step.event.map(EventText.line) ?? "-")
        add(.events, [ComparedField(name: "event", expected: events.0, actual: events.1)])
        add(.answers, Self.compare(answers, other.answers))
        return found
    }

    private func commits(against other: StepInputs) -> [ComparedField] {
        // Of the others the recording does not show what the client had to begin with.
        let shown: StateFlags = [.segments, .gprs, .crs, .interrupt]
        let parts = step.commit.union(other.step.commit).intersection(shown)
        return RegisterFields.differing(step.committed, other.step.committed, parts)
    }

    private static func compare(_ left: [Completion], _ right: [Completion]) -> [ComparedField] {
        (0..<max(left.count, right.count)).map { index in
            let expected = index < left.count ? left[index] : nil
            let actual = index < right.count ? right[index] : nil
            let name = (expected ?? actual).map { "\($0.kind) \(String($0.address, radix: 16))" } ?? "-"
            return ComparedField(
                name: name, expected: expected.map(EventText.line) ?? "-", actual: actual.map(EventText.line) ?? "-")
        }
    }

    /// Reads a trace step by step, each with what came before it.
    struct Cursor {
        private let cursor: TraceCursor

        init(_ cursor: TraceCursor) { self.cursor = cursor }

        func next() throws(TraceError) -> StepInputs? {
            var (machine, answers, writes): ([MachineEvent], [Completion], [MemoryWrite]) = ([], [], [])
            while let event = try cursor.next() {
                switch event {
                case .step(let step):
                    return StepInputs(step: step, machine: machine, answers: answers, writes: writes)
                // What the guest wrote to a device is the recording's own.
                case .machine(.completion(let completion)):
                    if completion.kind.isRead || completion.kind == .msrRefused { answers.append(completion) }
                case .machine(let change): machine.append(change)
                case .memoryWrite(let write): writes.append(write)
                case .guestWrite, .call, .keyframe, .loss: break
                }
            }
            return nil
        }
    }
}
