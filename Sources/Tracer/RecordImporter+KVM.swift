// The events of a trace, made of what the shim saw of a client of /dev/kvm: Docs/determinism.md.

internal import CRing
internal import NVMM
internal import TraceFile

/// What is known of the client's machine from its ioctls.
struct KVMImporter {
    let level: RecordLevel
    /// The header needs the guest's CPUID, which the client sets before its first run.
    var waiting: [TraceEvent] = []
    static let waitingMax = 65536
    var cpuid: [CPUIDEntry] = []
    /// What KVM said of its capabilities, but for those that it lacks.
    var extensions: [UInt64: Int32] = [:]
    /// What KVM answers by itself to RDMSR.
    var msrs: [UInt32: UInt64] = [:]
    var auxiliaryAfterShift: Bool?
    var vcpus: [UInt32: SeenKVMVCPU] = [:]
    /// Ports and addresses that the kernel answers by itself, through an eventfd.
    var eventFileCount = 0
    /// Pages as they stand at the recording's end, by object.
    var content: [UInt32: [Keyframe.PageReference]] = [:]

    struct SeenKVMVCPU {
        var state: VCPUState
        /// What the client set since the last run.
        var commit: StateFlags = []
        var event: VCPUEvent?
        /// The access that the last exit asked for, and that the next entry answers.
        var asked: (kind: Completion.Kind, address: UInt64, elementBytes: UInt8, byteCount: Int)?
        var exit = VCPUExit()
    }

    /// What the shim changes at level replay, one phrase each: `kvm_hiding.c`, `kvm_memory.c`, `run_gate.c`.
    static let hidden = [
        "CPUID bits that the soft backend does not execute",
        "SMM and nested state",
        "io_uring and Linux AIO",
        "XSAVE and XCR0: state beyond FXSAVE",
        "coalesced MMIO and port writes",
        "guest RAM moved onto a memory object that is mapped twice",
        "in-kernel interrupt controllers, timers and message-signalled interrupts",
        "irqfd and ioeventfd",
        "kvmclock, asynchronous page faults and Hyper-V's paravirtual interface",
        "one VCPU runs at a time",
    ]

    func header() -> TraceHeader {
        var parameters = msrs.keys.sorted().map { msr in
            let digits = String(msr, radix: 16)
            return TraceHeader.Parameter(
                key: TraceHeader.Parameter.msrPrefix + String(repeating: "0", count: 8 - digits.count) + digits,
                value: "0x" + String(msrs[msr] ?? 0, radix: 16))
        }
        parameters += extensions.keys.sorted().map { capability in
            let digits = String(capability)
            return TraceHeader.Parameter(
                key: TraceHeader.Parameter.extensionPrefix + String(repeating: "0", count: max(4 - digits.count, 0))
                    + digits, value: "\(extensions[capability] ?? 0)")
        }
        if let auxiliaryAfterShift {
            let key = TraceHeader.Parameter.auxiliaryAfterShift
            parameters.insert(.init(key: key, value: auxiliaryAfterShift ? "1" : "0"), at: 0)
        }
        parameters.insert(.init(key: TraceHeader.Parameter.finishesInstructions, value: "1"), at: 0)
        return TraceHeader(
            tool: "vmtrace", backendName: TraceHeader.kvm, capability: Capability(countsInstructions: false),
            processorModel: TraceHeader.hostProcessor, cpuidTable: cpuid, level: level,
            hidden: level == .exits ? [] : Self.hidden, parameters: parameters)
    }
}

extension RecordImporter {
    func takeKVM(_ record: ShimRecord) throws(ImportError) {
        switch Int32(bitPattern: record.kind) {
        case RING_KIND_KVM_ENTRY: try takeKVMEntry(record)
        case RING_KIND_KVM_EXIT: try takeKVMExit(record)
        default: try takeKVMCall(record)
        }
    }

    /// Puts the header and what had to wait for it into the trace.
    func openKVM() throws(ImportError) {
        guard sink == nil, let header = kvm?.header() else { return }
        let reasons = grade.reasons
        try open(header)
        grade = TraceGrade(level: header.level, countsInstructions: true)
        for reason in reasons { grade.lower(to: .exitsOnly, because: reason) }
        let waiting = kvm?.waiting ?? []
        kvm?.waiting = []
        for event in waiting { try append(event) }
    }

    // MARK: - ioctls

    private func takeKVMCall(_ record: ShimRecord) throws(ImportError) {
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard let (call, rest) = record.split(ring_kvm_call.self), Int(call.data_bytes) == rest.count else {
            throw damaged
        }
        if call.request == KVMRequest.checkExtension, call.result > 0, call.argument < 10_000 {
            kvm?.extensions[call.argument] = call.result
        }
        guard call.result >= 0, calls.machine == nil || record.machine == calls.machine else { return }
        let data = InterfaceBytes(rest)
        switch call.request {
        case KVMRequest.createVCPU:
            guard let id = UInt32(exactly: call.argument), id < TraceWriter.vcpusMax else { throw damaged }
            kvm?.vcpus[id] = KVMImporter.SeenKVMVCPU(state: .reset)
            return try append(.machine(.createVCPU(id: id)))
        case KVMRequest.createInterruptController: note(.kernelDevice("interrupt controllers"))
        case KVMRequest.createTimer: note(.kernelDevice("the timer"))
        case KVMRequest.interruptFileDescriptor: note(.kernelDevice("irqfd"))
        case KVMRequest.eventFileDescriptor:
            // Clients try out how many they may have: what counts is whether one stands when the guest runs.
            let isTakenAway = data.value(24, UInt32.self) & 4 != 0
            kvm?.eventFileCount += isTakenAway ? -1 : 1
        case KVMRequest.setCPUID2, UInt32(RING_KVM_SEEN_CPUID):
            if sink == nil { kvm?.cpuid = Self.table(data) }
        default: break
        }
        guard var vcpu = kvm?.vcpus[record.vcpu] else { return }
        defer { kvm?.vcpus[record.vcpu] = vcpu }
        switch call.request {
        case KVMRequest.interrupt, KVMRequest.nmi:
            let vector: UInt8 = call.request == KVMRequest.nmi ? 2 : data.value(0)
            vcpu.event = VCPUEvent(kind: .interrupt, vector: vector)
            return try append(.call(CallRecord(vcpu: record.vcpu, kind: .inject, cost: .systemCall)))
        default: break
        }
        let (parts, kind) = KVMRequest.parts(of: call.request)
        guard !parts.isEmpty else { return }
        if kind == .setState {
            vcpu.commit.formUnion(parts)
            set(data, by: call, in: &vcpu)
        }
        try append(.call(CallRecord(vcpu: record.vcpu, kind: kind, flags: parts, cost: .systemCall)))
    }

    private func set(_ data: InterfaceBytes, by call: ring_kvm_call, in vcpu: inout KVMImporter.SeenKVMVCPU) {
        switch call.request {
        case KVMRequest.setRegisters: vcpu.state.take(registers: data)
        case KVMRequest.setSystemRegisters, KVMRequest.setSystemRegisters2:
            vcpu.state.take(systemRegisters: data)
            // EFER is among them.
            vcpu.commit.insert(.msrs)
        case KVMRequest.setMSRs:
            // Those that KVM keeps and answers by itself: what the guest reads is the newest value.
            for other in vcpu.state.take(msrs: data, count: Int(call.result)) where sink == nil {
                kvm?.msrs[other.msr] = other.value
            }
        case KVMRequest.setFPU: vcpu.state.take(fpu: data)
        case KVMRequest.setXSave: vcpu.state.take(xsave: data)
        case KVMRequest.setDebugRegisters: vcpu.state.take(debugRegisters: data)
        case KVMRequest.setXCRs: vcpu.state.take(xcrs: data)
        case KVMRequest.setEvents: takeEvents(data, in: &vcpu)
        default: break
        }
    }

    /// `struct kvm_vcpu_events`: an event that waits for its delivery is armed, none disarms what was.
    private func takeEvents(_ data: InterfaceBytes, in vcpu: inout KVMImporter.SeenKVMVCPU) {
        // What waits is armed below.
        vcpu.state.take(events: data, withPending: false)
        vcpu.commit.insert(.interrupt)
        if data.has(0) || data.has(3) {
            vcpu.event = VCPUEvent(
                kind: .exception, vector: data.value(1), errorCode: UInt64(data.value(4, UInt32.self)))
        } else if data.has(8) {
            vcpu.event = VCPUEvent(kind: .interrupt, vector: data.value(9))
        } else if data.has(12) || data.has(13) {
            vcpu.event = VCPUEvent(kind: .interrupt, vector: 2)
        } else {
            vcpu.event = nil
        }
    }

    private func note(_ reason: TraceGrade.Reason) { lowerGrade(to: .exitsOnly, because: reason) }

    /// `struct kvm_cpuid2`: a count, then 40 bytes each.
    private static func table(_ data: InterfaceBytes) -> [CPUIDEntry] {
        (0..<max(data.bytes.count - 8, 0) / 40).map { index in
            let place = 8 + index * 40
            return CPUIDEntry(
                leaf: data.value(place), subleaf: data.value(place + 4),
                registers: CPUIDRegisters(
                    eax: data.value(place + 12), ebx: data.value(place + 16), ecx: data.value(place + 20),
                    edx: data.value(place + 24)))
        }.sorted { ($0.leaf, $0.subleaf) < ($1.leaf, $1.subleaf) }
    }

    // MARK: - Memory at the end

    func takeContent(
        _ bytes: ArraySlice<UInt8>, object: UInt32, offset: Int, _ record: ShimRecord
    ) throws(ImportError) {
        let page = offset / pageBytes
        guard kvm != nil, bytes.count == pageBytes, offset % pageBytes == 0,
            kvm?.content[object]?.last.map({ $0.page < page }) ?? true
        else { throw .damagedRecord(sequence: record.sequence) }
        guard let sink else { return }
        let content = Array(bytes)
        do throws(TraceWriteError) {
            let name = try unsafe sink.storePage(content.span.bytes, object: object, page: page)
            kvm?.content[object, default: []].append(Keyframe.PageReference(page: page, content: name))
        } catch {
            throw .write(error)
        }
    }

    /// A keyframe of memory alone: KVM does not give all of its state away, so that no replay can begin here.
    func appendContent() throws(ImportError) {
        guard sink != nil, let content = kvm?.content else { return }
        let objects = calls.mappings.enumerated().filter(\.element.isMapped).compactMap { place, mapping in
            Int(exactly: mapping.byteCount).map {
                Keyframe.ObjectImage(object: UInt32(place), byteCount: $0, pages: content[UInt32(place)] ?? [])
            }
        }
        try append(
            .keyframe(
                Keyframe(
                    stepCount: stepCount, clock: 0, machinePrivateState: [], vcpus: [], objects: objects,
                    gpaRanges: [])))
    }

    // MARK: - Runs

    private func takeKVMEntry(_ record: ShimRecord) throws(ImportError) {
        try openKVM()
        if let count = kvm?.eventFileCount, count > 0 { note(.kernelDevice("ioeventfd")) }
        guard record.machine == calls.machine, var vcpu = kvm?.vcpus[record.vcpu] else { return }
        defer { kvm?.vcpus[record.vcpu] = vcpu }
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard let (entry, rest) = record.split(ring_kvm_entry.self) else { throw damaged }
        let answerBytes = Int(entry.answer_bytes)
        let padded = (answerBytes + 7) / 8 * 8
        guard rest.count == padded + (entry.dirty_regs == 0 ? 0 : Int(RING_KVM_SYNC_BYTES)) else { throw damaged }
        if let asked = vcpu.asked {
            vcpu.asked = nil
            if asked.kind.isRead || entry.msr_error != 0 {
                let isRefused = entry.msr_error != 0
                try append(
                    .machine(
                        .completion(
                            Completion(
                                vcpu: record.vcpu, kind: isRefused ? .msrRefused : asked.kind, address: asked.address,
                                elementBytes: asked.elementBytes,
                                bytes: isRefused ? [] : Array(rest.prefix(answerBytes))))))
            }
        }
        takeDirty(entry.dirty_regs, InterfaceBytes(rest.dropFirst(padded)), in: &vcpu)
        if entry.cr8 != vcpu.state[.cr8] {
            vcpu.state[.cr8] = entry.cr8
            vcpu.commit.insert(.crs)
        }
    }

    /// Registers that the client marked in `kvm_dirty_regs`: regs 1, sregs 2, events 4.
    private func takeDirty(_ dirty: UInt64, _ data: InterfaceBytes, in vcpu: inout KVMImporter.SeenKVMVCPU) {
        if dirty & 1 != 0 {
            vcpu.state.take(registers: data)
            vcpu.commit.insert(.gprs)
        }
        if dirty & 2 != 0 {
            vcpu.state.take(systemRegisters: InterfaceBytes(data.bytes.dropFirst(144)))
            vcpu.commit.formUnion([.segments, .crs, .msrs])
        }
        if dirty & 4 != 0 { takeEvents(InterfaceBytes(data.bytes.dropFirst(456)), in: &vcpu) }
    }

    private func takeKVMExit(_ record: ShimRecord) throws(ImportError) {
        guard record.machine == calls.machine, var vcpu = kvm?.vcpus[record.vcpu] else { return }
        defer { kvm?.vcpus[record.vcpu] = vcpu }
        let damaged = ImportError.damagedRecord(sequence: record.sequence)
        guard let (after, rest) = record.split(ring_kvm_exit.self) else { throw damaged }
        let hasRegisters = after.flags & UInt32(RING_KVM_HAS_REGS) != 0
        let dataBytes = Int(after.data_bytes)
        let padded = (dataBytes + 7) / 8 * 8
        guard rest.count == padded + (hasRegisters ? Int(RING_KVM_SYNC_BYTES) : 0) else { throw damaged }
        let committed = vcpu.state
        if hasRegisters {
            let registers = rest.dropFirst(padded)
            vcpu.state.take(registers: InterfaceBytes(registers))
            vcpu.state.take(systemRegisters: InterfaceBytes(registers.dropFirst(144)))
            vcpu.state.take(events: InterfaceBytes(registers.dropFirst(456)), withPending: true)
        } else {
            vcpu.state[.cr8] = after.cr8
            if kvm?.level != .exits { note(.registersNotSampled) }
        }
        if after.flags & UInt32(RING_KVM_OVERLAPPED) != 0, kvm?.level != .exits {
            note(.runsOverlapped(step: stepCount))
        }
        var exit = KVMExit(reason: 10, payload: InterfaceBytes([]), rip: 0)
        if after.result >= 0 {
            exit = KVMExit(
                reason: after.reason, payload: InterfaceBytes(record.payload[40..<104]), rip: vcpu.state[.rip])
        }
        let state = ExitState(
            rflags: vcpu.state[.rflags], cr8: vcpu.state[.cr8], interrupt: vcpu.state.interrupt)
        try append(
            .step(
                Step(
                    vcpu: record.vcpu, kind: .entered, commit: vcpu.commit, committed: committed, event: vcpu.event,
                    exit: VCPUExit(reason: exit.reason, state: state), cached: [], retired: nil, clock: 0,
                    coverage: hasRegisters ? [.segments, .gprs, .crs, .interrupt] : [], state: vcpu.state)))
        vcpu.commit = []
        vcpu.event = nil
        vcpu.asked = exit.access
        guard let access = exit.access, !access.kind.isRead else { return }
        try append(
            .machine(
                .completion(
                    Completion(
                        vcpu: record.vcpu, kind: access.kind, address: access.address,
                        elementBytes: access.elementBytes,
                        bytes: exit.written.isEmpty ? Array(rest.prefix(dataBytes)) : exit.written))))
    }
}
