// A machine of the replaying backend, driven by the events of a trace. Everything in a trace is untrusted.

internal import NVMM
internal import TraceFile

/// One machine under replay, with the names that the trace gives to its parts.
final class ReplayMachine {
    let machine: any Machine
    private(set) var vcpus: [UInt32: any VCPU] = [:]
    private(set) var objects: [UInt32: MemoryObject] = [:]
    private(set) var gpaRanges: [GPARange] = []
    /// Pages that guest or events wrote since ``takeTouchedPages(of:)``.
    private var written: [UInt32: Set<Int>] = [:]
    private var mappedBytes: UInt64 = 0
    private let memoryBytesMax: UInt64
    /// Steps before the present place, for errors.
    var step: UInt64 = 0
    /// Of a trace of a hypervisor that finishes instructions by itself: where each VCPU stands in the middle of one.
    var unfinished: [UInt32: UnfinishedInstruction] = [:]
    /// The place of the last unfinished instruction, and RFLAGS when it was met first: it may come again and again.
    var repeated: [UInt32: (rip: UInt64, rflags: UInt64)] = [:]
    /// Events that were armed and not delivered yet: a run that ended before the guest was entered keeps them.
    var carriedEvents: [UInt32: VCPUEvent] = [:]
    /// What such a hypervisor answers to RDMSR by itself, and keeps of WRMSR; nil where MSRs are the VMM's.
    var hypervisorMSRs: [UInt32: UInt64]?
    /// Beside a guest that reads times that the trace does not hold.
    var shadows: TimestampShadows?
    /// Whether it is to have them once its guest reads a time.
    var awaitsShadows = false
    /// Whether the instruction that was finished last gave a device what depends on a time that the guest read.
    var outputDependsOnTime = false
    /// Of a pass that repeats one with shadows.
    var timedSteps: [UInt64: TimedStep] = [:]
    /// Recorded registers, and the delay, for when an instruction is finished.
    var waitingTimes: [UInt32: (registers: VCPUState, delay: UInt64)] = [:]
    /// Where nobody counts instructions: so many end a run.
    var uncountedInstructionsMax = instructionsMax
    /// Whether the recording's backend counted no instructions: runs that ended without an exit are found by registers.
    let findsPlacesByRegisters: Bool
    /// Whether it was another backend than the replay's, whose private state means nothing here.
    private let isForeign: Bool

    /// - Parameter header: of the trace that will drive the machine.
    init(on backend: any Backend, for header: TraceHeader, memoryBytesMax: UInt64) throws(ReplayError) {
        self.memoryBytesMax = memoryBytesMax
        hypervisorMSRs = header.hypervisorMSRs
        findsPlacesByRegisters = header.isOfHypervisor
        isForeign = header.backendName != backend.name
        do { machine = try backend.createMachine() } catch { throw .machineRefused(error, step: 0) }
    }

    func vcpu(_ id: UInt32) throws(ReplayError) -> any VCPU {
        guard let vcpu = vcpus[id] else { throw .unknownVCPU(id: id, step: step) }
        return vcpu
    }

    func object(_ ordinal: UInt32) throws(ReplayError) -> MemoryObject {
        guard let object = objects[ordinal] else { throw .unknownObject(ordinal: ordinal, step: step) }
        return object
    }
}

// MARK: - Events

extension ReplayMachine {
    func apply(_ event: MachineEvent) throws(ReplayError) {
        try shadows?.mirror { (shadow) throws(ReplayError) in try shadow.apply(event) }
        do {
            switch event {
            case .createVCPU(let id): vcpus[id] = try machine.createVCPU(id: id)
            case .destroyVCPU(let id):
                try machine.destroyVCPU(id: id)
                vcpus[id] = nil
            case .configureVCPU(let id, let configuration): try vcpu(id).configure(configuration)
            case .hvaMap(let ordinal, let byteCount): try map(ordinal, byteCount: byteCount)
            case .hvaUnmap(let ordinal):
                let object = try object(ordinal)
                try machine.hvaUnmap(object)
                objects[ordinal] = nil
                written[ordinal] = nil
                mappedBytes -= UInt64(object.byteCount)
            case .gpaMap(let range): try map(range)
            case .gpaUnmap(let gpa, let byteCount):
                try machine.gpaUnmap(gpa: gpa, byteCount: byteCount)
                gpaRanges.removeAll { $0.gpa == gpa && $0.byteCount == byteCount }
            case .advanceClock(let ticks): machine.advanceClock(by: ticks)
            case .completion(let completion): take(completion)
            case .destroy: break
            }
        } catch {
            throw located(error)
        }
    }

    func apply(_ write: MemoryWrite) throws(ReplayError) {
        try shadows?.mirror { (shadow) throws(ReplayError) in try shadow.apply(write) }
        try store(write.bytes, in: object(write.object), at: write.offset)
    }

    private func store(_ bytes: [UInt8], in object: MemoryObject, at offset: Int) throws(ReplayError) {
        let (end, overflow) = offset.addingReportingOverflow(bytes.count)
        guard offset >= 0, !overflow, end <= object.byteCount else {
            throw .outsideObject(ordinal: object.ordinal, offset: offset, step: step)
        }
        guard !bytes.isEmpty else { return }
        do {
            // SAFETY: the span views the array's initialised bytes and ends with the call.
            try unsafe machine.write(object, at: offset, bytes.span.bytes)
        } catch {
            throw .machineRefused(error, step: step)
        }
        guard let ordinal = objects.first(where: { $0.value === object })?.key else { return }
        written[ordinal, default: []].formUnion(offset / pageBytes...(end - 1) / pageBytes)
    }

    private func map(_ ordinal: UInt32, byteCount: Int) throws(ReplayError) {
        let (sum, overflow) = mappedBytes.addingReportingOverflow(UInt64(clamping: byteCount))
        guard !overflow, sum <= memoryBytesMax else {
            throw .tooMuchMemory(byteCount: overflow ? .max : sum, limit: memoryBytesMax)
        }
        guard objects[ordinal] == nil else { throw .unknownObject(ordinal: ordinal, step: step) }
        do { objects[ordinal] = try machine.hvaMap(byteCount: byteCount) } catch {
            throw .machineRefused(error, step: step)
        }
        mappedBytes = sum
    }

    private func map(_ range: GPARange) throws(ReplayError) {
        let object = try object(range.object)
        do {
            try machine.gpaMap(
                object, offset: range.offset, gpa: range.gpa, byteCount: range.byteCount, protection: range.protection)
        } catch {
            throw .machineRefused(error, step: step)
        }
        gpaRanges.append(range)
        gpaRanges.sort { $0.gpa < $1.gpa }
    }

    private func located(_ error: any Error) -> ReplayError {
        switch error {
        case let error as ReplayError: error
        case let error as MachineError: .machineRefused(error, step: step)
        case let error as VCPUError: .vcpuRefused(error, step: step)
        default: .keyframeExpected(step: step)
        }
    }
}

// MARK: - Runs

extension ReplayMachine {
    /// Puts what the recorded run consumed into the comm page.
    func prepare(_ step: Step) throws(ReplayError) {
        let page = try vcpu(step.vcpu).commPage
        if step.kind == .returnedEarly {
            // Nothing was consumed, so that nothing may be armed here; cached stayed what the client had made it.
            page.stateCached = step.cached
            page.stop = step.exit.reason == .stopped
        } else {
            page.stop = false
        }
        page.stateCommit = step.commit
        page.stateWanted = []
        if !step.commit.isEmpty { page.state.copy(step.commit, from: step.committed) }
        page.eventCommit = step.event != nil
        if let event = step.event { page.event = event }
    }

    /// The budget under which an equal run ends as the recorded one did, and a different one soon.
    static func budget(of step: Step) -> UInt64? {
        guard let retired = step.retired else { return step.budget ?? instructionsMax }
        // A stop or a used-up budget ended the run between two instructions: an input, repeated exactly there.
        if step.kind == .entered && step.exit.reason.isAsynchronous { return retired }
        // One more than retired: the exiting instruction itself does not retire, but must be reached.
        return min(step.budget ?? .max, retired == .max ? .max : retired + 1)
    }

    /// Where no count bounds a run: a guest that went another way may never exit.
    private static let instructionsMax: UInt64 = 1 << 32

    /// Runs what ``prepare(_:)`` prepared.
    func run(_ id: UInt32, budget: UInt64?) throws(ReplayError) -> RunOutcome {
        let vcpu = try vcpu(id)
        do {
            let result = try vcpu.run(budget: budget)
            return RunOutcome(
                kind: result.kind, failed: false, exit: result.exit, cached: vcpu.commPage.stateCached,
                retired: result.retired, clock: machine.clock, state: vcpu.saveState())
        } catch .badEvent {
            return RunOutcome(
                kind: .entered, failed: true, exit: VCPUExit(), cached: vcpu.commPage.stateCached, retired: nil,
                clock: machine.clock, state: vcpu.saveState())
        } catch {
            throw .vcpuRefused(error, step: step)
        }
    }

    /// Re-executes a recorded step.
    func run(_ step: Step) throws(ReplayError) -> RunOutcome {
        if hypervisorMSRs != nil { return try runAsHypervisor(step) }
        if step.isFoundByRegisters(findsPlacesByRegisters) { return try runUncounted(step) }
        try prepare(step)
        var outcome = try run(step.vcpu, budget: Self.budget(of: step))
        // The budget stands for the stop that another thread sent into the recorded run.
        if step.kind == .entered, step.exit.reason == .stopped, outcome.exit.reason == .none {
            outcome.exit.reason = .stopped
        }
        return outcome
    }

    private func restore(
        _ vcpu: any VCPU, _ state: VCPUState, _ privateState: [UInt8]
    ) throws(ReplayError) {
        do {
            try vcpu.restore(state, privateState: privateState)
        } catch {
            throw .vcpuRefused(error, step: step)
        }
    }

    /// Puts a VCPU into the recorded state after `step`.
    func adopt(_ step: Step) throws(ReplayError) {
        let vcpu = try vcpu(step.vcpu)
        var state = vcpu.saveState()
        state.copy(step.coverage, from: step.state)
        try restore(vcpu, state, vcpu.savePrivateState())
    }

    /// Puts a VCPU, and all that the guest wrote, where another machine under the same replay has them.
    func follow(_ other: ReplayMachine, vcpu id: UInt32) throws(ReplayError) {
        for ordinal in objects.keys.sorted() {
            guard let target = objects[ordinal], let source = other.objects[ordinal] else { continue }
            let pages = Set(other.takeGuestPages(of: ordinal)).union(takeGuestPages(of: ordinal))
            for page in pages.sorted() {
                let range = page * pageBytes..<(page + 1) * pageBytes
                try setPage(page, of: target, to: source.withBytes(range) { $0.array })
            }
        }
        carriedEvents = other.carriedEvents
        repeated = other.repeated
        hypervisorMSRs = other.hypervisorMSRs
        let vcpu = try vcpu(id)
        let state = try other.finishedState(id)
        try restore(vcpu, state, vcpu.savePrivateState())
    }

    /// Puts a VCPU where another machine under the same replay has it, but for what memory and FPU hold.
    func takeRegisters(of other: ReplayMachine, vcpu id: UInt32) throws(ReplayError) {
        let (source, target) = (try other.vcpu(id), try vcpu(id))
        var state = source.saveState()
        state.copy(.fpu, from: target.saveState())
        try restore(target, state, source.savePrivateState())
        target.commPage.copy(from: source.commPage)
        repeated[id] = other.repeated[id]
        carriedEvents[id] = other.carriedEvents[id]
        hypervisorMSRs = other.hypervisorMSRs
    }

    /// Pages of an object that the guest wrote since the last call; ``takeTouchedPages(of:)`` has them still.
    func takeGuestPages(of ordinal: UInt32) -> [Int] {
        guard let object = objects[ordinal] else { return [] }
        let pages = machine.takeDirtyPages(of: object)
        if !pages.isEmpty { written[ordinal, default: []].formUnion(pages) }
        return pages
    }

    /// Pages of an object that guest or events wrote since the last call.
    func takeTouchedPages(of ordinal: UInt32) -> Set<Int> {
        guard let object = objects[ordinal] else { return [] }
        return (written.removeValue(forKey: ordinal) ?? []).union(machine.takeDirtyPages(of: object))
    }
}

// MARK: - Keyframes

extension ReplayMachine {
    /// Brings a machine, fresh or not, to the state of `keyframe`.
    func load(_ keyframe: Keyframe, from reader: TraceReader) throws(ReplayError) {
        try shadows?.mirror { (shadow) throws(ReplayError) in try shadow.load(keyframe, from: reader) }
        step = keyframe.stepCount
        try loadMap(keyframe)
        for image in keyframe.objects { try loadPages(image, from: reader) }
        do {
            for id in vcpus.keys.sorted() where !keyframe.vcpus.contains(where: { $0.id == id }) {
                try machine.destroyVCPU(id: id)
                vcpus[id] = nil
            }
            for image in keyframe.vcpus where vcpus[image.id] == nil {
                vcpus[image.id] = try machine.createVCPU(id: image.id)
            }
        } catch {
            throw .machineRefused(error, step: step)
        }
        // Before the VCPUs: a backend may keep their time-stamp counters as distances from the machine's clock.
        try restoreMachine(keyframe)
        for image in keyframe.vcpus {
            let vcpu = try vcpu(image.id)
            try restore(vcpu, image.state, isForeign ? vcpu.savePrivateState() : image.privateState)
            let page = vcpu.commPage
            page.state = image.pageState
            page.stateCached = image.cached
            page.stateCommit = image.commit
            page.eventCommit = image.eventCommit
            page.event = image.event
            page.stop = image.stop
        }
    }

    private func restoreMachine(_ keyframe: Keyframe) throws(ReplayError) {
        if isForeign { return }
        do {
            try machine.restorePrivateState(keyframe.machinePrivateState)
        } catch {
            throw .machineRefused(error, step: step)
        }
    }

    private func loadMap(_ keyframe: Keyframe) throws(ReplayError) {
        guard gpaRanges != keyframe.gpaRanges || Set(objects.keys) != Set(keyframe.objects.map(\.object)) else {
            return
        }
        for range in gpaRanges { try apply(.gpaUnmap(gpa: range.gpa, byteCount: range.byteCount)) }
        for ordinal in objects.keys.sorted() where !keyframe.objects.contains(where: { $0.object == ordinal }) {
            try apply(.hvaUnmap(object: ordinal))
        }
        for image in keyframe.objects where objects[image.object] == nil {
            try map(image.object, byteCount: image.byteCount)
        }
        for range in keyframe.gpaRanges { try map(range) }
    }

    private func loadPages(_ image: Keyframe.ObjectImage, from reader: TraceReader) throws(ReplayError) {
        let object = try object(image.object)
        guard object.byteCount == image.byteCount else {
            throw .outsideObject(ordinal: image.object, offset: image.byteCount, step: step)
        }
        // Memory that nobody has touched is zero already.
        var stale = Set(object.touchedPages.joined())
        var last = -1
        for reference in image.pages {
            guard reference.page > last, reference.page < object.pageCount else {
                throw .outsideObject(ordinal: image.object, offset: reference.page &* pageBytes, step: step)
            }
            last = reference.page
            stale.remove(reference.page)
            let content: [UInt8]
            do { content = try reader.page(reference.content) } catch { throw .trace(error) }
            try setPage(reference.page, of: object, to: content)
        }
        for page in stale { try setPage(page, of: object, to: nil) }
    }

    /// Gives a page, in the shadows too, what was recorded of it.
    func setPageEverywhere(_ page: Int, of ordinal: UInt32, to content: [UInt8]) throws(ReplayError) {
        try setPage(page, of: object(ordinal), to: content)
        try shadows?.mirror { (shadow) throws(ReplayError) in
            try shadow.setPage(page, of: shadow.object(ordinal), to: content)
        }
    }

    /// - Parameter content: nil for zeros.
    func setPage(_ page: Int, of object: MemoryObject, to content: [UInt8]?) throws(ReplayError) {
        let range = page * pageBytes..<(page + 1) * pageBytes
        let isEqual = object.withBytes(range) { bytes in Self.equal(bytes, content) }
        guard !isEqual else { return }
        try store(content ?? [UInt8](repeating: 0, count: pageBytes), in: object, at: range.lowerBound)
    }

    /// Whether a page holds `content`; nil stands for zeros, another length than a page never matches.
    static func equal(_ page: RawSpan, _ content: [UInt8]?) -> Bool {
        guard let content else {
            for index in stride(from: 0, to: page.byteCount, by: 8) where page.word(at: index) != 0 { return false }
            return true
        }
        guard content.count == page.byteCount else { return false }
        // SAFETY: the span views the array's initialised bytes and is not used after it.
        let other = unsafe content.span.bytes
        for index in stride(from: 0, to: page.byteCount, by: 8) where page.word(at: index) != other.word(at: index) {
            return false
        }
        return true
    }
}

extension RawSpan {
    /// Eight bytes at a multiple of 8 within the span, checked.
    func word(at index: Int) -> UInt64 {
        precondition(index >= 0 && byteCount >= 8 && index <= byteCount - 8)
        // SAFETY: the place was just checked.
        return unsafe unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
    }
}

extension ExitReason {
    /// Comes from the host, between any two instructions, and not from what the guest does.
    var isAsynchronous: Bool {
        switch self {
        case .none, .stopped: true
        default: false
        }
    }
}
