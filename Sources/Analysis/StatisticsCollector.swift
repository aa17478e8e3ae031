// Counts events one at a time, in memory that depends on the number of different keys only.

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
    /// Parts that the comm page of each VCPU holds, followed through runs and calls.
    private var cached: [UInt32: StateFlags] = [:]

    mutating func add(_ event: TraceEvent) {
        switch event {
        case .machine(let event): add(event)
        case .memoryWrite(let write):
            statistics.memoryWrites.count += 1
            statistics.memoryWrites.byteCount &+= UInt64(write.bytes.count)
            if write.isRawStore { statistics.memoryWrites.rawStores += 1 }
        case .call(let call): add(call)
        case .step(let step): add(step)
        case .keyframe: statistics.keyframeCount += 1
        case .loss(let loss): statistics.lostEventCount &+= loss.eventCount
        }
    }

    private mutating func add(_ event: MachineEvent) {
        switch event {
        case .advanceClock: return
        case .createVCPU(let id): cached[id] = .all
        case .destroyVCPU(let id): cached[id] = nil
        default: break
        }
        statistics.calls.machine += 1
        statistics.calls.systemCalls += 1
    }

    private mutating func add(_ call: CallRecord) {
        let held = cached[call.vcpu] ?? []
        switch call.kind {
        case .getState:
            statistics.calls.getState += 1
            if call.cost == .systemCall { statistics.calls.systemCalls += 1 }
            count(call.flags.intersection(held), \.hits)
            count(call.flags.subtracting(held), \.misses)
            cached[call.vcpu] = held.union(call.flags)
        case .setState:
            statistics.calls.setState += 1
            count(call.flags, \.sets)
            cached[call.vcpu] = held.union(call.flags)
        case .inject: statistics.calls.inject += 1
        case .stop: statistics.calls.stop += 1
        }
    }

    private mutating func count(_ flags: StateFlags, _ counter: WritableKeyPath<TraceStatistics.PartCount, UInt64>) {
        for (index, part) in VCPUState.parts.enumerated() where flags.contains(part) {
            parts[index][keyPath: counter] += 1
        }
    }

    private mutating func add(_ step: Step) {
        let retired = step.retired ?? 0
        statistics.steps.count += 1
        statistics.steps.instructions &+= retired
        statistics.steps.clock = step.clock
        if step.kind == .returnedEarly { statistics.steps.returnedEarly += 1 }
        if !step.commit.isEmpty { statistics.steps.committing += 1 }
        if let time = step.time {
            statistics.steps.guestNanoseconds = (statistics.steps.guestNanoseconds ?? 0) &+ time.guestNanoseconds
            statistics.steps.vmmNanoseconds = (statistics.steps.vmmNanoseconds ?? 0) &+ time.vmmNanoseconds
        }
        statistics.calls.run += 1
        statistics.calls.systemCalls += 1
        count(step.commit, \.commits)
        cached[step.vcpu] = step.cached
        vcpus[step.vcpu, default: Tally()].count += 1
        vcpus[step.vcpu, default: Tally()].instructions &+= retired
        if let event = step.event { events[EventKey(kind: event.kind.rawValue, vector: event.vector), default: 0] += 1 }
        guard !step.failed else {
            statistics.steps.failed += 1
            return
        }
        exits[step.exit.reason.code, default: Tally()].count += 1
        exits[step.exit.reason.code, default: Tally()].instructions &+= retired
        switch step.exit.reason {
        case .io(let exit):
            io[IOKey(port: exit.port, isInput: exit.isInput, operandBytes: exit.operandBytes), default: 0] += 1
        case .memory(let exit):
            pages[PageKey(page: exit.gpa.rawValue & ~0xFFF, access: exit.access.rawValue), default: 0] += 1
        case .readMSR(let exit): msrs[MSRKey(msr: exit.msr, isWrite: false), default: 0] += 1
        case .writeMSR(let exit): msrs[MSRKey(msr: exit.msr, isWrite: true), default: 0] += 1
        default: break
        }
    }

    /// The counts so far, sorted.
    var result: TraceStatistics {
        var result = statistics
        result.exits = exits.sorted { $0.key < $1.key }.map {
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
        for (index, name) in ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"].enumerated() {
            result.calls.parts[index].part = name
        }
        return result
    }

    private static func accessName(_ access: UInt64) -> String {
        switch Protection(rawValue: access) {
        case .read: "read"
        case .write: "write"
        case .execute: "execute"
        default: "\(access)"
        }
    }

    private static func eventName(_ kind: UInt32) -> String {
        switch VCPUEvent.Kind(rawValue: kind) {
        case .interrupt: "interrupt"
        case .exception: "exception"
        default: "\(kind)"
        }
    }
}
