// What another interface, or another policy of what is cached on which exit, would have cost the same run in calls.

public import NVMM
public import TraceFile

/// Counts of system calls of one run under interfaces and policies: what the client did between its runs, played again
/// on an imagined comm page.
public struct WhatIf: Sendable {
    /// Runs, and creation, mapping and configuration: calls under every interface.
    public private(set) var alwaysCalls: UInt64 = 0
    public private(set) var getStates: UInt64 = 0
    public private(set) var setStates: UInt64 = 0
    public private(set) var injects: UInt64 = 0
    /// What the client did after each exit, with how often.
    private var pauses: [Pause: UInt64] = [:]

    /// The calls of a client between an exit and its next entry.
    private struct Pause: Hashable {
        /// Of the exit; nil: before the first run, when all is cached.
        var reason: UInt64?
        var accesses: [Access] = []
    }

    /// A getstate, or a setstate, which makes what it declares valid in the page.
    private struct Access: Hashable {
        var flags: StateFlags
        var isRead: Bool
    }

    /// In the place of a reason: no policy gives it parts, since a run that failed leaves nothing cached.
    private static let failedRun = UInt64.max - 2

    /// A client that reads without end between two runs is counted to here in one piece.
    private static let accessesMax = 64
    /// Different pauses that are kept apart; a guest cannot make more of them than its client does different things.
    private static let pausesMax = 1 << 16

    /// - Throws: ``TraceError`` for the first damage.
    public init(_ reader: TraceReader, progress: (_ step: UInt64) -> Void = { _ in }) throws(TraceError) {
        let hasSlices = reader.header.parameters.contains { $0.key == TraceHeader.Parameter.sliceInstructions }
        var open: [UInt32: Pause] = [:]
        let cursor = try reader.cursor()
        while let event = try cursor.next() {
            switch event {
            case .step(let step):
                let isSlice = hasSlices && step.exit.reason == .none
                if !isSlice { alwaysCalls += 1 }
                // Nothing was consumed, and the page stays as it was.
                guard step.kind == .entered else { continue }
                if let pause = open[step.vcpu] { close(pause) }
                open[step.vcpu] = Pause(reason: step.failed ? Self.failedRun : step.exit.reason.code)
                if cursor.nextStepIndex % 65536 == 0 { progress(cursor.nextStepIndex) }
            case .call(let call): add(call, &open[call.vcpu, default: Pause(reason: nil)])
            case .machine(.advanceClock): break
            case .machine(let event):
                alwaysCalls += 1
                if case .createVCPU(let id) = event { open[id] = Pause(reason: nil) }
            case .memoryWrite, .guestWrite, .keyframe, .loss: break
            }
        }
        for pause in open.values { close(pause) }
    }

    private mutating func add(_ call: CallRecord, _ pause: inout Pause) {
        switch call.kind {
        case .getState: getStates += 1
        case .setState: setStates += 1
        case .inject: injects += 1
        case .stop: break
        }
        guard call.kind == .getState || call.kind == .setState, pause.accesses.count < Self.accessesMax else { return }
        let access = Access(flags: call.flags, isRead: call.kind == .getState)
        // What is asked again is there.
        if pause.accesses.last != access { pause.accesses.append(access) }
    }

    private mutating func close(_ pause: Pause) {
        guard pauses[pause] != nil || pauses.count < Self.pausesMax else { return }
        pauses[pause, default: 0] += 1
    }

    // MARK: - Counts

    /// Every getstate, setstate and inject is a call.
    public var callsWithoutPage: UInt64 { alwaysCalls + getStates + setStates + injects }

    /// Where state goes through a comm page that `policy` fills.
    ///
    /// - Parameter includesEvents: whether inject is a store too, as in NVMM's later versions.
    public func calls(_ policy: CommPagePolicy, includesEvents: Bool) -> UInt64 {
        let misses = pauses.reduce(UInt64(0)) { sum, entry in
            let cached = entry.key.reason.map { policy[$0] } ?? .all
            return sum + entry.value * Self.misses(entry.key.accesses, cached: cached)
        }
        return alwaysCalls + misses + (includesEvents ? 0 : injects)
    }

    private static func misses(_ accesses: [Access], cached: StateFlags) -> UInt64 {
        var cached = cached
        var misses: UInt64 = 0
        for access in accesses {
            if access.isRead, !access.flags.isSubset(of: cached) { misses += 1 }
            cached.formUnion(access.flags)
        }
        return misses
    }

    /// The policy with the fewest calls, and of those the one that fills the fewest parts.
    public var best: CommPagePolicy {
        var policy = CommPagePolicy.nothing
        for (code, name) in ExitReason.names {
            let own = pauses.filter { $0.key.reason == code }
            var least = (misses: UInt64.max, parts: Int.max, flags: StateFlags())
            for flags in (0...StateFlags.all.rawValue).map({ StateFlags(rawValue: $0) }) {
                let misses = own.reduce(UInt64(0)) { $0 + $1.value * Self.misses($1.key.accesses, cached: flags) }
                let parts = flags.rawValue.nonzeroBitCount
                if (misses, parts) < (least.misses, least.parts) { least = (misses, parts, flags) }
            }
            policy[name] = least.flags
        }
        return policy
    }

    /// Parts that the hypervisor reads unasked over the whole run: what a policy costs it.
    public func partsProvided(_ policy: CommPagePolicy) -> UInt64 {
        pauses.reduce(0) { sum, entry in
            sum + entry.value * UInt64(entry.key.reason.map { policy[$0].rawValue.nonzeroBitCount } ?? 0)
        }
    }
}
