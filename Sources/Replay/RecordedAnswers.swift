// The devices of a recording: they answer an instruction's accesses with what the trace says, and hold what the guest
// writes against it.

internal import Assists
internal import NVMM
internal import TraceFile

/// Answers of the exits of one instruction, in order, consumed byte by byte: hypervisors cut accesses in pieces of
/// their own.
final class RecordedAnswers: AssistCallbacks {
    private let completions: [Completion]
    private var next = 0
    /// Bytes taken of the next completion.
    private var taken = 0
    /// The access that nothing answers yet.
    private(set) var unanswered: (isWrite: Bool, gpa: GPA)?
    /// The first access that was not the recorded one, or wrote something else.
    private(set) var difference: ComparedField?

    private let comparesValues: Bool

    /// - Parameter comparesValues: whether what the guest writes is held against what it wrote.
    init(_ completions: [Completion], comparesValues: Bool = true) {
        self.completions = completions
        self.comparesValues = comparesValues
    }

    var lacksAnswer: Bool { unanswered != nil || difference != nil }

    /// Elements of a port that wait in the next completion.
    var elementCount: Int {
        guard next < completions.count else { return 0 }
        return (completions[next].bytes.count - taken) / Int(completions[next].elementBytes)
    }

    /// What the instruction has not asked for, as a difference.
    var leftOver: ComparedField? {
        guard difference == nil, next < completions.count else { return nil }
        return ComparedField(name: "device", expected: EventText.line(completions[next]), actual: "-")
    }

    func access(_ io: inout IOAccess) {
        let kind: Completion.Kind = io.isInput ? .portRead : .portWrite
        var value = UInt64(io.value)
        exchange(kind, UInt64(io.port), advances: false, byteCount: io.byteCount, &value)
        io.value = UInt32(truncatingIfNeeded: value)
    }

    func access(_ memory: inout MemoryAccess) {
        let kind: Completion.Kind = memory.isWrite ? .memoryWrite : .memoryRead
        exchange(kind, memory.gpa.rawValue, advances: true, byteCount: memory.byteCount, &memory.value)
    }

    /// Gives `value` the recorded bytes, or compares it with them.
    ///
    /// - Parameter advances: whether the address counts on with the bytes, as memory does and ports do not.
    private func exchange(
        _ kind: Completion.Kind, _ address: UInt64, advances: Bool, byteCount: Int, _ value: inout UInt64
    ) {
        guard !lacksAnswer else { return }
        var result: UInt64 = 0
        for index in 0..<byteCount {
            guard next < completions.count else {
                unanswered = (!kind.isRead, GPA(advances ? address &+ UInt64(index) : address))
                return
            }
            let completion = completions[next]
            let expected = advances ? completion.address &+ UInt64(taken) : completion.address
            let here = advances ? address &+ UInt64(index) : address
            guard completion.kind == kind, expected == here, taken < completion.bytes.count else {
                return differ(kind, address, byteCount, value)
            }
            result |= UInt64(completion.bytes[taken]) << UInt64(index * 8)
            taken += 1
            if taken == completion.bytes.count {
                next += 1
                taken = 0
            }
        }
        if kind.isRead {
            value = result
        } else if comparesValues, value & lowBytes(byteCount) != result {
            let bytes = EventText.bytes(of: result, count: byteCount)
            difference = ComparedField(
                name: "device", expected: line(kind, address, bytes),
                actual: line(kind, address, EventText.bytes(of: value, count: byteCount)))
        }
    }

    private func lowBytes(_ count: Int) -> UInt64 { count >= 8 ? .max : (1 << UInt64(count * 8)) - 1 }

    private func differ(_ kind: Completion.Kind, _ address: UInt64, _ byteCount: Int, _ value: UInt64) {
        difference = ComparedField(
            name: "device", expected: EventText.line(completions[next]),
            actual: line(kind, address, kind.isRead ? [] : EventText.bytes(of: value, count: byteCount)))
    }

    private func line(_ kind: Completion.Kind, _ address: UInt64, _ bytes: [UInt8]) -> String {
        EventText.line(Completion(vcpu: 0, kind: kind, address: address, elementBytes: 1, bytes: bytes))
    }
}
