// Turns a preloaded shim's records into the events of a trace. Where this project's libnvmm tells what happened
// (RING_KIND_TOLD_*), its events are taken as they are; where another one lies below, they are made of the calls and
// runs that the shim saw: RecordImporter+Calls.swift.

internal import CRing
internal import NVMM
public import TraceFile

/// How an import ended.
public struct ImportResult: Equatable, Sendable {
    /// Of the trace; nil where nothing was recorded.
    public var totals: TraceTotals?
    public var grade: TraceGrade
    /// The client, or its library, ended the recording in an orderly way.
    public var isClosed: Bool
    /// Whether this project's library told what happened.
    public var isTold: Bool
}

/// The sink's owner: one recording of one machine.
final class RecordImporter {
    /// Makes the trace, once it is known what stands at its head.
    private let makeSink: (TraceHeader) throws(TraceWriteError) -> any TraceSink
    private(set) var sink: (any TraceSink)?
    private var decoder = EventDecoder()
    var grade = TraceGrade(level: .exact)
    private(set) var isClosed = false
    private(set) var isTold = false
    /// Another process or program began to record: one trace is of one machine.
    private var isOver = false
    /// Records that found no room, as far as the records tell.
    private(set) var lostCount: UInt64 = 0
    /// Events put into the trace.
    private(set) var eventCount: UInt64 = 0
    /// Pages of the memory objects as of the next keyframe, by the writer's names.
    private var objects: [UInt32: ObjectTable] = [:]
    /// Pages are missing: keyframes cannot be made.
    private var leavesKeyframesOut = false
    var calls = CallImporter(countsInstructions: false, level: .exits)
    /// Of a client of /dev/kvm.
    var kvm: KVMImporter?

    private struct ObjectTable {
        var byteCount: Int
        var pages: [Int: PageHash] = [:]
    }

    init(makeSink: @escaping (TraceHeader) throws(TraceWriteError) -> any TraceSink) { self.makeSink = makeSink }

    /// Goes on with a trace that holds what came before. Keyframes would need pages that are not at hand any more.
    ///
    /// - Parameter states: of each VCPU after its last step.
    convenience init(appendingTo sink: any TraceSink, header: TraceHeader, states: [UInt32: VCPUState]) {
        self.init { _ throws(TraceWriteError) in sink }
        self.sink = sink
        for (vcpu, state) in states { decoder.resume(vcpu: vcpu, state: state) }
        leavesKeyframesOut = true
        isTold = true
        grade = TraceGrade(level: header.level, countsInstructions: header.capability.countsInstructions)
    }

    var stepCount: UInt64 { sink?.stepCount ?? 0 }

    // MARK: - Records

    func take(_ record: ShimRecord) throws(ImportError) {
        guard !isOver || record.kind == UInt32(RING_KIND_ATTACH) else { return }
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        switch Int32(bitPattern: record.kind) {
        case RING_KIND_ATTACH:
            guard let (attach, _) = record.split(ring_attach.self) else { throw damaged }
            try begin(attach)
        case RING_KIND_DETACH: isClosed = true
        case RING_KIND_LOST:
            guard let (lost, _) = record.split(ring_lost_record.self) else { throw damaged }
            lostCount &+= lost.count
            try noteLoss(lost.count, "the ring was full")
        case RING_KIND_CALL, RING_KIND_RUN_ENTRY, RING_KIND_RUN_EXIT, RING_KIND_MEMORY:
            if !isTold { try takeSeen(record) }
        case RING_KIND_KVM_CALL, RING_KIND_KVM_ENTRY, RING_KIND_KVM_EXIT:
            guard kvm != nil else { throw damaged }
            try takeKVM(record)
        case RING_KIND_TOLD_HEADER:
            // Taken once more: whether a killed drainer was through with it could not be told.
            if leavesKeyframesOut { return }
            guard sink == nil else { throw damaged }
            let header = try checked(record) { () throws(TraceError) in try TraceHeader(encodedBytes: record.payload) }
            isTold = true
            try open(header)
        case RING_KIND_TOLD_EVENT: try takeEvent(record)
        case RING_KIND_TOLD_PAGE: try takePage(record)
        case RING_KIND_TOLD_KEYFRAME: try takeKeyframe(record)
        case RING_KIND_TOLD_GRADE:
            guard let (told, _) = record.split(ring_told_grade.self) else { throw damaged }
            if let (level, reason) = TraceGrade.Reason.told(told) { grade.lower(to: level, because: reason) }
        case RING_KIND_TOLD_END: isClosed = true
        default: throw damaged
        }
    }

    /// Records that never came, or found no room, stood here.
    func noteLoss(_ count: UInt64, _ reason: String) throws(ImportError) {
        guard sink != nil, count > 0 else { return }
        grade.lower(to: .statistics, because: .recordsLost(step: stepCount))
        try append(.loss(Loss(eventCount: count, reason: reason)))
    }

    private func begin(_ attach: ring_attach) throws(ImportError) {
        guard sink == nil else {
            isOver = true
            grade.lower(to: .exitsOnly, because: .secondMachine)
            return
        }
        isClosed = false
        // What the guest writes is known to a library alone.
        let level: RecordLevel = attach.level == UInt32(RING_LEVEL_EXITS) ? .exits : .replay
        if attach.api == UInt32(RING_API_KVM) {
            kvm = KVMImporter(level: level)
            calls = CallImporter(countsInstructions: false, level: level)
            return
        }
        guard attach.api == UInt32(RING_API_NVMM), attach.state_bytes == 1008, attach.comm_bytes == 1072 else {
            throw .foreignLayout(stateBytes: attach.state_bytes, commBytes: attach.comm_bytes)
        }
        calls = CallImporter(countsInstructions: attach.publication_offset != 0, level: level)
    }

    func open(_ header: TraceHeader) throws(ImportError) {
        do { sink = try makeSink(header) } catch { throw .write(error) }
        grade = TraceGrade(level: header.level, countsInstructions: header.capability.countsInstructions)
    }

    func lowerGrade(to level: TraceGrade.Level, because reason: TraceGrade.Reason) {
        grade.lower(to: level, because: reason)
    }

    func append(_ event: TraceEvent) throws(ImportError) {
        guard let sink else {
            guard let count = kvm?.waiting.count, count < KVMImporter.waitingMax else { return }
            kvm?.waiting.append(event)
            return
        }
        do throws(TraceWriteError) {
            try sink.append(event)
        } catch {
            throw failed(error)
        }
        eventCount &+= 1
    }

    private func checked<Value>(
        _ record: ShimRecord, _ body: () throws(TraceError) -> Value
    ) throws(ImportError) -> Value {
        do throws(TraceError) { return try body() } catch { throw .damagedRecord(sequence: record.sequence) }
    }

    // MARK: - What a library tells

    private func takeEvent(_ record: ShimRecord) throws(ImportError) {
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard isTold, let (told, rest) = record.split(ring_told_event.self) else { throw damaged }
        guard told.version == UInt32(RING_TOLD_VERSION) else { throw .unsupportedVersion(told.version) }
        if told.flags & UInt32(RING_TOLD_RESTART) != 0 { decoder.restart() }
        let decoded: DecodedEvent
        do throws(TraceError) {
            decoded = try decoder.decode(record.payload, from: rest.startIndex)
        } catch {
            throw damaged
        }
        switch decoded {
        case .step:
            guard let sink else { throw damaged }
            do throws(TraceWriteError) { try sink.appendStep(decoder.step) } catch { throw failed(error) }
            eventCount &+= 1
        case .call(let call):
            guard let sink else { throw damaged }
            do throws(TraceWriteError) { try sink.appendCall(call) } catch { throw failed(error) }
            eventCount &+= 1
        case .other(let event):
            switch event {
            case .machine(.hvaMap(let object, let byteCount)): objects[object] = ObjectTable(byteCount: byteCount)
            case .machine(.hvaUnmap(let object)): objects[object] = nil
            default: break
            }
            try append(event)
        }
    }

    private func failed(_ error: TraceWriteError) -> ImportError {
        grade.lower(to: .statistics, because: .recordingFailed(step: stepCount))
        return .write(error)
    }

    private func takePage(_ record: ShimRecord) throws(ImportError) {
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard isTold, let (told, rest) = record.split(ring_told_page.self), rest.count == pageBytes else {
            throw damaged
        }
        guard !leavesKeyframesOut, let sink else { return }
        guard let table = objects[told.object], told.page < UInt64(table.byteCount / pageBytes) else { throw damaged }
        let page = Int(told.page)
        let content = Array(rest)
        do throws(TraceWriteError) {
            let name = try unsafe sink.storePage(content.span.bytes, object: told.object, page: page)
            objects[told.object]?.pages[page] = name == .zeroPage ? nil : name
        } catch {
            throw .write(error)
        }
    }

    private func takeKeyframe(_ record: ShimRecord) throws(ImportError) {
        guard isTold else { throw .damagedRecord(sequence: record.sequence) }
        guard !leavesKeyframesOut else { return }
        var keyframe = try checked(record) { () throws(TraceError) in
            try Keyframe(encodedBytesWithoutPages: record.payload)
        }
        for place in keyframe.objects.indices {
            let object = keyframe.objects[place]
            guard let table = objects[object.object], table.byteCount == object.byteCount else {
                throw .damagedRecord(sequence: record.sequence)
            }
            keyframe.objects[place].pages = table.pages.keys.sorted().compactMap { page in
                table.pages[page].map { Keyframe.PageReference(page: page, content: $0) }
            }
        }
        // A number that the file's reader would take for missing steps.
        keyframe.stepCount = stepCount
        try append(.keyframe(keyframe))
    }

    // MARK: - The end

    /// Closes the trace.
    func finish() throws(ImportError) -> ImportResult {
        var totals: TraceTotals?
        do throws(TraceWriteError) { totals = try sink?.finish() } catch { throw .write(error) }
        return ImportResult(totals: totals, grade: grade, isClosed: isClosed, isTold: isTold)
    }
}
