// A trace as Perfetto's: https://perfetto.dev/docs/reference/synthetic-track-event. Runs and what the VMM did between
// them are slices on two tracks of each VCPU, injected events are instants, and flows lead from each to the next.

internal import NVMM
internal import PerfettoFormat
internal import SwiftProtobuf
internal import TraceFile

extension TraceExport {
    /// Writes pieces which together are one file.
    ///
    /// A timestamp is host time where the trace holds it (runs and the time between them one after the other), else the
    /// machine's clock, a tick for a nanosecond.
    public func writePerfetto(_ write: ([UInt8]) -> Void) throws(ExportError) {
        var writer = PerfettoWriter()
        try forEach(wrapping: { $0 }) { (event, number) throws(ExportError) in
            writer.add(event, number)
            if let piece = writer.takePiece(isLast: false) { write(piece) }
        }
        writer.finish()
        if let piece = writer.takePiece(isLast: true) { write(piece) }
    }
}

/// Makes packets, and keeps what has to be known from one to the next.
private struct PerfettoWriter {
    private typealias Packet = Perfetto_Protos_TracePacket

    /// What the VMM did since the VCPU's last exit.
    private struct Pause {
        var begin: UInt64
        var step: UInt64
        var reason: String
        var read: StateFlags = []
        var written: StateFlags = []
    }

    private var packets: [Packet] = []
    private var names: [String: UInt64] = [:]
    private var tracks: Set<UInt32> = []
    private var pauses: [UInt32: Pause] = [:]
    private var time: UInt64 = 0
    private var hasBegun = false
    private static let packetsPerPiece = 512
    private static let sequence: UInt32 = 1
    /// SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE.
    private static let (clears, needs): (UInt32, UInt32) = (1, 2)

    mutating func add(_ event: TraceEvent, _ number: UInt64) {
        switch event {
        case .step(let step): add(step, number)
        case .call(let call):
            switch call.kind {
            case .getState: pauses[call.vcpu]?.read.formUnion(call.flags)
            case .setState: pauses[call.vcpu]?.written.formUnion(call.flags)
            case .inject, .stop: break
            }
        default: break
        }
    }

    private mutating func add(_ step: Step, _ number: UInt64) {
        describe(step.vcpu)
        let begin: UInt64
        let end: UInt64
        if let host = step.time {
            begin = time &+ host.vmmNanoseconds
            end = begin &+ host.guestNanoseconds
        } else {
            end = max(step.clock, time)
            begin = max(time, step.clock &- min(step.retired ?? 0, step.clock))
        }
        if let pause = pauses.removeValue(forKey: step.vcpu) { add(pause, of: step.vcpu, until: begin) }
        let guest = Self.guestTrack(step.vcpu)
        if let event = step.event {
            let name = "\(StatisticsCollector.eventName(event.kind.rawValue)) 0x\(String(event.vector, radix: 16))"
            append(begin, .instant, guest, name)
        }
        append(
            begin, .sliceBegin, guest, step.exit.reason.name, notes(of: step, number),
            flowsFrom: hasBegun ? [Self.flow(number, isExit: false)] : [], flowsTo: [Self.flow(number, isExit: true)])
        append(end, .sliceEnd, guest)
        hasBegun = true
        pauses[step.vcpu] = Pause(begin: end, step: number, reason: step.exit.reason.name)
        time = end
    }

    private mutating func add(_ pause: Pause, of vcpu: UInt32, until end: UInt64) {
        var notes: [Perfetto_Protos_DebugAnnotation] = []
        if !pause.read.isEmpty { notes.append(.text("read", pause.read.list)) }
        if !pause.written.isEmpty { notes.append(.text("written", pause.written.list)) }
        let track = Self.vmmTrack(vcpu)
        append(
            pause.begin, .sliceBegin, track, "after \(pause.reason)", notes,
            flowsFrom: [Self.flow(pause.step, isExit: true)], flowsTo: [Self.flow(pause.step + 1, isExit: false)])
        append(max(end, pause.begin), .sliceEnd, track)
    }

    private func notes(of step: Step, _ number: UInt64) -> [Perfetto_Protos_DebugAnnotation] {
        var notes: [Perfetto_Protos_DebugAnnotation] = [.number("step", number), .address("rip", step.state[.rip])]
        if let retired = step.retired { notes.append(.number("instructions", retired)) }
        if !step.commit.isEmpty { notes.append(.text("committed", step.commit.list)) }
        switch step.exit.reason {
        case .io(let exit):
            notes.append(.text("port", "\(exit.isInput ? "in" : "out") 0x\(String(exit.port, radix: 16))"))
            if let device = PlatformNames.device(port: exit.port) { notes.append(.text("device", device)) }
        case .memory(let exit): notes.append(.address("gpa", exit.gpa.rawValue))
        case .readMSR(let exit): notes.append(.address("msr", UInt64(exit.msr)))
        case .writeMSR(let exit):
            notes.append(.address("msr", UInt64(exit.msr)))
            notes.append(.address("value", exit.value))
        default: break
        }
        return notes
    }

    // MARK: - Packets

    private static func guestTrack(_ vcpu: UInt32) -> UInt64 { UInt64(vcpu) * 4 + 2 }
    private static func vmmTrack(_ vcpu: UInt32) -> UInt64 { UInt64(vcpu) * 4 + 3 }
    /// One leads from a step's exit to the pause after it, the other from the pause before a step to its entry.
    private static func flow(_ step: UInt64, isExit: Bool) -> UInt64 { step << 1 | (isExit ? 1 : 0) }

    private mutating func describe(_ vcpu: UInt32) {
        guard tracks.insert(vcpu).inserted else { return }
        for (track, name) in [
            (Self.guestTrack(vcpu), "VCPU \(vcpu), guest"), (Self.vmmTrack(vcpu), "VCPU \(vcpu), VMM"),
        ] {
            var packet = Packet()
            packet.trustedPacketSequenceID = Self.sequence
            packet.trackDescriptor.uuid = track
            packet.trackDescriptor.name = name
            append(packet)
        }
    }

    private mutating func append(
        _ timestamp: UInt64, _ type: Perfetto_Protos_TrackEvent.TypeEnum, _ track: UInt64, _ name: String? = nil,
        _ notes: [Perfetto_Protos_DebugAnnotation] = [], flowsFrom: [UInt64] = [], flowsTo: [UInt64] = []
    ) {
        var packet = Packet()
        packet.timestamp = timestamp
        packet.trustedPacketSequenceID = Self.sequence
        packet.trackEvent.type = type
        packet.trackEvent.trackUuid = track
        packet.trackEvent.debugAnnotations = notes
        packet.trackEvent.terminatingFlowIds = flowsFrom
        packet.trackEvent.flowIds = flowsTo
        if let name {
            if let known = names[name] {
                packet.trackEvent.nameIid = known
            } else {
                // A trace has as many names as there are reasons and vectors.
                let number = UInt64(names.count + 1)
                names[name] = number
                packet.trackEvent.nameIid = number
                var entry = Perfetto_Protos_EventName()
                entry.iid = number
                entry.name = name
                packet.internedData.eventNames = [entry]
            }
        }
        append(packet)
    }

    private var isFirstPacket = true

    private mutating func append(_ packet: Packet) {
        var packet = packet
        packet.sequenceFlags = isFirstPacket ? Self.clears | Self.needs : Self.needs
        isFirstPacket = false
        packets.append(packet)
    }

    /// What no entry follows ends where it began.
    mutating func finish() {
        for vcpu in pauses.keys.sorted() {
            if let pause = pauses[vcpu] { add(pause, of: vcpu, until: pause.begin) }
        }
        pauses = [:]
    }

    /// - Returns: nil where there is not enough for a piece yet.
    mutating func takePiece(isLast: Bool) -> [UInt8]? {
        guard packets.count >= Self.packetsPerPiece || isLast && !packets.isEmpty else { return nil }
        var trace = Perfetto_Protos_Trace()
        trace.packet = packets
        packets = []
        // Only required fields can be missing, and there are none.
        return try? trace.serializedBytes()
    }
}

extension Perfetto_Protos_DebugAnnotation {
    fileprivate static func text(_ name: String, _ text: String) -> Self {
        var note = Self()
        note.name = name
        note.stringValue = text
        return note
    }

    fileprivate static func number(_ name: String, _ number: UInt64) -> Self {
        var note = Self()
        note.name = name
        note.uintValue = number
        return note
    }

    /// Shown in hexadecimal.
    fileprivate static func address(_ name: String, _ address: UInt64) -> Self {
        var note = Self()
        note.name = name
        note.pointerValue = address
        return note
    }
}
