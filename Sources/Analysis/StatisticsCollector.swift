// Counts blocks of a trace, in memory that depends on the number of different keys only.

internal import NVMM
internal import TraceFile

/// Accumulates what ``TraceStatistics`` reports.
struct StatisticsCollector {
    private struct IOKey: Hashable { var port: UInt16, isInput: Bool, operandBytes: UInt8 }
    private struct MSRKey: Hashable { var msr: UInt32, isWrite: Bool }
    private struct PageKey: Hashable { var page: UInt64, access: UInt64 }
    private struct EventKey: Hashable { var kind: UInt32, vector: UInt8 }
    private struct Tally { var count: UInt64 = 0, instructions: UInt64 = 0 }

    private var statistics = TraceStatistics()
    private var exits: [UInt64: Tally] = [:]
    private var io: [IOKey: UInt64] = [:]
    private var msrs: [MSRKey: UInt64] = [:]
    private var pages: [PageKey: UInt64] = [:]
    private var events: [EventKey: UInt64] = [:]
    private var vcpus: [UInt32: Tally] = [:]
    private var parts = [TraceStatistics.PartCount](repeating: .init(part: ""), count: VCPUState.parts.count)
    private var clockAdvances: UInt64 = 0
    private var getStateMisses: UInt64 = 0

    mutating func add(_ block: ExitBlock) {
        let steps = UInt64(block.stepCount)
        statistics.steps.count &+= steps
        statistics.calls.run &+= steps
        var instructions: UInt64 = 0
        for retired in block.retired { instructions &+= retired }
        statistics.steps.instructions &+= instructions
        // A block without steps holds events of the machine, and is of no VCPU.
        if steps > 0 {
            vcpus[block.vcpu, default: Tally()].count &+= steps
            vcpus[block.vcpu, default: Tally()].instructions &+= instructions
        }
        for time in block.guestNanoseconds {
            statistics.steps.guestNanoseconds = (statistics.steps.guestNanoseconds ?? 0) &+ time
        }
        for exit in block.exits { count(exit.reason, UInt64(exit.count)) }
        countInstructions(block)
        countPages(block)
        for (event, count) in block.injections {
            events[EventKey(kind: event.kind.rawValue, vector: event.vector), default: 0] &+= UInt64(count)
        }
        for input in block.inputs {
            let count = UInt64(input.count)
            if input.kind == .returnedEarly { statistics.steps.returnedEarly &+= count }
            if input.failed { statistics.steps.failed &+= count }
            if !input.commit.isEmpty { statistics.steps.committing &+= count }
            self.count(input.commit, count, \.commits)
        }
        for (call, count) in block.calls { add(call, UInt64(count)) }
        clockAdvances &+= UInt64(block.clockAdvances)
        statistics.memoryWrites.rawStores &+= UInt64(block.rawStores)
    }

    private mutating func add(_ call: CallRecord, _ count: UInt64) {
        switch call.kind {
        case .getState:
            statistics.calls.getState &+= count
            if call.cost == .systemCall { getStateMisses &+= count }
            self.count(call.flags, count, call.cost == .commPage ? \.hits : \.misses)
        case .setState:
            statistics.calls.setState &+= count
            self.count(call.flags, count, \.sets)
        case .inject: statistics.calls.inject &+= count
        case .stop: statistics.calls.stop &+= count
        }
    }

    private mutating func count(
        _ flags: StateFlags, _ count: UInt64, _ counter: WritableKeyPath<TraceStatistics.PartCount, UInt64>
    ) {
        for (index, part) in VCPUState.parts.enumerated() where flags.contains(part) {
            parts[index][keyPath: counter] &+= count
        }
    }

    private mutating func count(_ reason: ExitReason, _ count: UInt64) {
        guard count > 0 else { return }
        exits[reason.code, default: Tally()].count &+= count
        switch reason {
        case .io(let exit):
            io[IOKey(port: exit.port, isInput: exit.isInput, operandBytes: exit.operandBytes), default: 0] &+= count
        case .readMSR(let exit): msrs[MSRKey(msr: exit.msr, isWrite: false), default: 0] &+= count
        case .writeMSR(let exit): msrs[MSRKey(msr: exit.msr, isWrite: true), default: 0] &+= count
        default: break
        }
    }

    /// Instructions by the reason that ended their run. Where some runs have no count, they cannot be told apart.
    private mutating func countInstructions(_ block: ExitBlock) {
        guard block.retired.count == block.stepExits.count else { return }
        var sums = [UInt64](repeating: 0, count: block.exits.count)
        for (exit, retired) in zip(block.stepExits, block.retired) where Int(exit) < sums.count {
            sums[Int(exit)] &+= retired
        }
        for (exit, sum) in zip(block.exits, sums) { exits[exit.reason.code, default: Tally()].instructions &+= sum }
    }

    private mutating func countPages(_ block: ExitBlock) {
        guard !block.gpas.isEmpty else { return }
        let accesses = block.exits.map { exit -> UInt64? in
            if case .memory(let memory) = exit.reason { memory.access.rawValue } else { nil }
        }
        var gpas = block.gpas[...]
        for exit in block.stepExits where Int(exit) < accesses.count {
            guard let access = accesses[Int(exit)] else { continue }
            guard let gpa = gpas.popFirst() else { return }
            pages[PageKey(page: gpa & ~0xFFF, access: access), default: 0] &+= 1
        }
    }

    /// The counts so far, sorted, with what the trace's own totals say.
    ///
    /// - Parameter hasSlices: the recorder cut the client's runs into slices, which end with NONE as nothing else does.
    func result(_ totals: TraceTotals, clock: UInt64, hasSlices: Bool) -> TraceStatistics {
        var result = statistics
        result.steps.clock = clock
        result.keyframeCount = totals.keyframeCount
        result.lostEventCount = totals.lostEvents
        result.memoryWrites.count = totals.memoryWrites
        result.memoryWrites.byteCount = totals.memoryWriteBytes
        // An advance of the clock is no call of NVMM's.
        result.calls.machine = totals.machineEvents &- min(clockAdvances, totals.machineEvents)
        result.calls.slices = hasSlices ? exits[ExitReason.none.code]?.count ?? 0 : 0
        result.calls.run &-= min(result.calls.slices, result.calls.run)
        let always = result.calls.run &+ result.calls.machine
        result.calls.systemCalls = always &+ getStateMisses
        result.calls.underInterface.commPageForStateAndEvents = result.calls.systemCalls
        result.calls.underInterface.commPageForState = result.calls.systemCalls &+ result.calls.inject
        result.calls.underInterface.noCommPage =
            always &+ result.calls.getState &+ result.calls.setState &+ result.calls.inject
        result.exits = exits.filter { $0.value.count > 0 }.sorted { $0.key < $1.key }.map {
            .init(
                code: $0.key, reason: ExitReason.name(ofCode: $0.key) ?? "INVALID", count: $0.value.count,
                instructions: $0.value.instructions)
        }
        result.io = io.sorted {
            ($0.key.port, $0.key.isInput ? 0 : 1, $0.key.operandBytes)
                < ($1.key.port, $1.key.isInput ? 0 : 1, $1.key.operandBytes)
        }.map {
            .init(port: $0.key.port, isInput: $0.key.isInput, operandBytes: $0.key.operandBytes, count: $0.value)
        }
        result.msrs = msrs.sorted { ($0.key.msr, $0.key.isWrite ? 1 : 0) < ($1.key.msr, $1.key.isWrite ? 1 : 0) }.map {
            .init(msr: $0.key.msr, isWrite: $0.key.isWrite, count: $0.value)
        }
        result.memory = pages.sorted { ($0.key.page, $0.key.access) < ($1.key.page, $1.key.access) }.map {
            .init(gpa: $0.key.page, access: Self.accessName($0.key.access), count: $0.value)
        }
        result.events = events.sorted { ($0.key.kind, $0.key.vector) < ($1.key.kind, $1.key.vector) }.map {
            .init(kind: Self.eventName($0.key.kind), vector: $0.key.vector, count: $0.value)
        }
        result.vcpus = vcpus.sorted { $0.key < $1.key }.map {
            .init(id: $0.key, steps: $0.value.count, instructions: $0.value.instructions)
        }
        result.calls.parts = parts
        for (index, name) in VCPUState.partNames.enumerated() {
            result.calls.parts[index].part = name
        }
        return result
    }

    static func accessName(_ access: UInt64) -> String {
        switch Protection(rawValue: access) {
        case .read: "read"
        case .write: "write"
        case .execute: "execute"
        default: "\(access)"
        }
    }

    static func eventName(_ kind: UInt32) -> String {
        switch VCPUEvent.Kind(rawValue: kind) {
        case .interrupt: "interrupt"
        case .exception: "exception"
        default: "\(kind)"
        }
    }
}
