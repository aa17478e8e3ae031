// The events of a trace, made of the calls and runs that the shim saw: what is left where the libnvmm below tells
// nothing. There are no keyframes, and of the state what an exit brought along.

internal import CRing
internal import NVMM
internal import TraceFile

/// What is known of the client's machine from its calls.
struct CallImporter {
    /// The library publishes them.
    let countsInstructions: Bool
    let level: RecordLevel
    var capability: Capability?
    /// The recorded machine's number; nil before the first.
    var machine: UInt32?
    var vcpus: [UInt32: SeenVCPU] = [:]
    /// In the order of their making: a place is an object's ordinal.
    var mappings: [(hva: UInt64, byteCount: UInt64, isMapped: Bool)] = []

    struct SeenVCPU {
        /// Its comm page, in the client's addresses.
        var page: UInt64
        var state = VCPUState()
        var entry: SeenEntry?
        var lastExit = VCPUExit()
        /// As published before the run.
        var retired: UInt64 = 0
        var advanced: UInt64 = 0
    }

    struct SeenEntry {
        var commit: StateFlags
        var event: VCPUEvent?
    }
}

extension RecordImporter {
    func takeSeen(_ record: ShimRecord) throws(ImportError) {
        switch Int32(bitPattern: record.kind) {
        case RING_KIND_RUN_ENTRY: try takeEntry(record)
        case RING_KIND_RUN_EXIT: try takeExit(record)
        case RING_KIND_MEMORY: try takeMemory(record)
        default: try takeCall(record)
        }
    }

    // MARK: - Calls

    private func takeCall(_ record: ShimRecord) throws(ImportError) {
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard let (call, rest) = record.split(ring_call.self), Int(call.data_bytes) == rest.count else { throw damaged }
        guard call.result != -1 else { return }
        let data = InterfaceBytes(rest)
        let (first, second, third, fourth) = call.args
        switch Int32(call.call) {
        case RING_CALL_INIT, RING_CALL_ROOT_INIT, RING_CALL_CAPABILITY:
            guard rest.count == 104 else { throw damaged }
            calls.capability = Capability(data, countsInstructions: calls.countsInstructions)
            return
        case RING_CALL_MACHINE_CREATE:
            guard calls.machine == nil else {
                if sink != nil || kvm != nil { lowerGrade(to: .exitsOnly, because: .secondMachine) }
                return
            }
            calls.machine = record.machine
            if kvm != nil { return }
            let header = TraceHeader(
                tool: "vmtrace", backendName: "nvmm",
                capability: calls.capability ?? Capability(countsInstructions: calls.countsInstructions),
                processorModel: TraceHeader.hostProcessor, cpuidTable: [], level: calls.level)
            try open(header)
            return
        case RING_CALL_VCPU_STOP:
            // A stop names no machine.
            guard let id = calls.vcpus.first(where: { $0.value.page == first && first != 0 })?.key else { return }
            try append(.call(CallRecord(vcpu: id, kind: .stop, cost: .commPage)))
            return
        default: break
        }
        guard let machine = calls.machine, record.machine == machine else { return }
        let cost: CallCost = call.flags & UInt16(RING_CALL_IN_PAGE) != 0 ? .commPage : .systemCall
        let parts = StateFlags(rawValue: first).intersection(.all)
        switch Int32(call.call) {
        case RING_CALL_MACHINE_DESTROY: try append(.machine(.destroy))
        case RING_CALL_VCPU_CREATE:
            guard record.vcpu < TraceWriter.vcpusMax else { throw damaged }
            var vcpu = CallImporter.SeenVCPU(page: first)
            guard vcpu.state.copy(.all, fromParts: data) else { throw damaged }
            calls.vcpus[record.vcpu] = vcpu
            try append(.machine(.createVCPU(id: record.vcpu)))
        case RING_CALL_VCPU_DESTROY:
            calls.vcpus[record.vcpu] = nil
            try append(.machine(.destroyVCPU(id: record.vcpu)))
        case RING_CALL_VCPU_CONFIGURE:
            guard let configuration = VCPUConfiguration(operation: first, data) else { return }
            try append(.machine(.configureVCPU(id: record.vcpu, configuration)))
        case RING_CALL_VCPU_SETSTATE:
            try append(.call(CallRecord(vcpu: record.vcpu, kind: .setState, flags: parts, cost: cost)))
        case RING_CALL_VCPU_GETSTATE:
            if !rest.isEmpty {
                guard calls.vcpus[record.vcpu]?.state.copy(parts, fromParts: data) != false else { throw damaged }
            }
            try append(.call(CallRecord(vcpu: record.vcpu, kind: .getState, flags: parts, cost: cost)))
        case RING_CALL_VCPU_INJECT:
            try append(.call(CallRecord(vcpu: record.vcpu, kind: .inject, cost: cost)))
        case RING_CALL_HVA_MAP:
            guard let byteCount = Int(exactly: second), let object = UInt32(exactly: calls.mappings.count) else {
                throw damaged
            }
            calls.mappings.append((first, second, true))
            try append(.machine(.hvaMap(object: object, byteCount: byteCount)))
        case RING_CALL_HVA_UNMAP:
            guard let object = calls.mappings.lastIndex(where: { $0.isMapped && $0.hva == first }) else { return }
            calls.mappings[object].isMapped = false
            try append(.machine(.hvaUnmap(object: UInt32(object))))
        case RING_CALL_GPA_MAP:
            guard let byteCount = Int(exactly: third) else { throw damaged }
            guard
                let object = calls.mappings.lastIndex(where: {
                    $0.isMapped && first >= $0.hva && first - $0.hva < $0.byteCount
                }),
                let offset = Int(exactly: first - calls.mappings[object].hva)
            else { return }
            try append(
                .machine(
                    .gpaMap(
                        GPARange(
                            object: UInt32(object), offset: offset, gpa: GPA(second), byteCount: byteCount,
                            protection: Protection(rawValue: fourth & 7)))))
        case RING_CALL_KVM_MSR:
            if sink == nil, let msr = UInt32(exactly: first) { kvm?.msrs[msr] = second }
        case RING_CALL_CONTENT_TOLD: try appendContent()
        case RING_CALL_AF_AFTER_SHIFT: kvm?.auxiliaryAfterShift = first != 0
        case RING_CALL_HVA_UNWATCHED:
            lowerGrade(to: .exitsOnly, because: .memoryNotWatched(byteCount: second))
        case RING_CALL_GPA_UNMAP:
            guard let byteCount = Int(exactly: third) else { throw damaged }
            try append(.machine(.gpaUnmap(gpa: GPA(second), byteCount: byteCount)))
        default: break
        }
    }

    /// What the client stored since the run before. The mapping's call comes first, as it is recorded under its result.
    private func takeMemory(_ record: ShimRecord) throws(ImportError) {
        guard record.machine == calls.machine else { return }
        try openKVM()
        guard let (memory, bytes) = record.split(ring_memory.self), Int(memory.data_bytes) == bytes.count,
            let object = calls.mappings.lastIndex(where: { $0.isMapped && $0.hva == memory.hva }),
            let offset = Int(exactly: memory.offset), let end = UInt64(exactly: offset + bytes.count),
            end <= calls.mappings[object].byteCount
        else { throw .damagedRecord(sequence: record.sequence) }
        if memory.flags & UInt32(RING_MEMORY_CONTENT) != 0 {
            return try takeContent(bytes, object: UInt32(object), offset: offset, record)
        }
        if memory.flags & UInt32(RING_MEMORY_DURING_RUN) != 0 {
            lowerGrade(to: .exitsOnly, because: .writeDuringRun(object: UInt32(object), step: stepCount))
        }
        try append(
            .memoryWrite(MemoryWrite(object: UInt32(object), offset: offset, bytes: Array(bytes), isRawStore: true)))
    }

    // MARK: - Runs

    private func takeEntry(_ record: ShimRecord) throws(ImportError) {
        guard record.machine == calls.machine, calls.vcpus[record.vcpu] != nil else { return }
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard let (entry, rest) = record.split(ring_run_entry.self) else { throw damaged }
        let commit = StateFlags(rawValue: entry.commit).intersection(.all)
        // What the run will install: the state before the exit, in these parts.
        guard calls.vcpus[record.vcpu]?.state.copy(commit, fromParts: InterfaceBytes(rest)) == true else {
            throw damaged
        }
        let event = VCPUEvent(InterfaceBytes(record.payload[24..<40]))
        calls.vcpus[record.vcpu]?.entry = CallImporter.SeenEntry(
            commit: commit, event: entry.event_commit != 0 ? event : nil)
    }

    private func takeExit(_ record: ShimRecord) throws(ImportError) {
        guard record.machine == calls.machine, var vcpu = calls.vcpus[record.vcpu], let entry = vcpu.entry else {
            return
        }
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard let (after, rest) = record.split(ring_run_exit.self) else { throw damaged }
        let failed = after.result == -1
        let kind = Int32(after.run_kind)
        vcpu.entry = nil
        defer { calls.vcpus[record.vcpu] = vcpu }
        // Failed without a trace: a signal, or a VCPU that is gone. Nothing was consumed.
        guard !failed || kind == RING_RUN_REFUSED else { return }
        let doubts = Int32(after.doubts)
        if doubts & ~RING_DOUBT_OVERLAP != 0 {
            lowerGrade(to: .exitsOnly, because: .consumptionInferred(step: stepCount))
        }
        if doubts & RING_DOUBT_OVERLAP != 0, calls.level != .exits {
            lowerGrade(to: .exitsOnly, because: .runsOverlapped(step: stepCount))
        }

        let committed = vcpu.state
        let cached = StateFlags(rawValue: after.cached).intersection(.all)
        if !failed {
            guard vcpu.state.copy(cached, fromParts: InterfaceBytes(rest)) else { throw damaged }
            guard let exit = VCPUExit(InterfaceBytes(record.payload[40..<104])) else { throw damaged }
            vcpu.lastExit = exit
        }
        let isEarly = kind == RING_RUN_EARLY
        // No guest ran: what stands there is of the library's making, zeros in the original.
        if isEarly { vcpu.lastExit.state = ExitState() }
        // What waits to be committed stands in the page, and is not the VCPU's yet.
        let waiting = isEarly ? StateFlags(rawValue: after.commit) : []
        var step = Step(
            vcpu: record.vcpu, kind: isEarly ? .returnedEarly : .entered, commit: isEarly ? [] : entry.commit,
            committed: committed, event: isEarly ? nil : entry.event, failed: failed, exit: vcpu.lastExit,
            cached: cached, retired: nil, clock: 0, coverage: failed ? entry.commit : cached.subtracting(waiting),
            state: vcpu.state)
        if after.publication_bytes != 0 {
            // struct nvmm_publication of <nvmm_publication.h>: retired at 16, clock at 24, event at 48 and 56.
            let published = InterfaceBytes(record.payload[104..<192])
            // What was consumed, where another thread armed or replaced it after the entry was sampled.
            if !isEarly {
                let isConsumed = published.value(48, UInt64.self) != 0
                step.event = isConsumed ? VCPUEvent(InterfaceBytes(record.payload[160..<176])) : nil
            }
            let advanced: UInt64 = published.value(32)
            if advanced != vcpu.advanced {
                // Before the run, since it is at its entry that the library moves the clock over a halt.
                try append(.machine(.advanceClock(ticks: advanced &- vcpu.advanced)))
                vcpu.advanced = advanced
            }
            let retired: UInt64 = published.value(16)
            step.retired = failed ? nil : retired &- vcpu.retired
            step.clock = published.value(24)
            vcpu.retired = retired
        }
        try append(.step(step))
    }
}
