// The recording of one machine: its memory ledgers, its VCPUs, and its keyframes.

internal import NVMM
internal import TraceFile

/// What the wrappers of one machine share. It lives as long as any of them; its end is the machine's.
///
/// All members but ``runLock`` are used with the recorder's lock held.
final class MachineRecording {
    let inner: any Machine
    let recorder: Recorder
    var isAdopted = false
    let holdsMemory: Bool
    /// At level `replay` the VCPUs of a machine run one at a time: steps are then in the order of execution.
    let runLock = RecordLock()

    private var ledgers: [UInt32: ObjectLedger] = [:]
    private var vcpus: [UInt32: any VCPU] = [:]
    private var gpaRanges: [GPARange] = []
    /// What every run looks at or changes.
    struct Progress {
        /// VCPUs inside a run.
        var runningCount = 0
        var hasKeyframe = false
        var keyframeStepCount: UInt64 = 0
        var instructionsSinceKeyframe: UInt64 = 0
        /// The guest ran since pages were last compared: a raw store found now may be one it has already read.
        var guestRanSinceCheck = false
        /// All memory of the objects that do not tell is compared before each run.
        var checksAlways = false
        /// Of the objects that tell what the client stored into them, ascending.
        var watched: [ObjectLedger] = []
    }
    let progress = Untracked(Progress())

    init(of inner: any Machine, recorder: Recorder) {
        self.inner = inner
        self.recorder = recorder
        holdsMemory = recorder.options.level != .exits
        progress.value.hasKeyframe = !recorder.options.writesKeyframes
    }

    deinit {
        guard isAdopted, recorder.begin() else { return }
        writeLastKeyframe()
        recorder.append(.destroy)
        recorder.end()
    }

    private var ordinals: [UInt32] { ledgers.keys.sorted() }
}

// MARK: - Changes of the machine

extension MachineRecording {
    func add(_ vcpu: any VCPU) {
        vcpus[vcpu.id] = vcpu
        recorder.append(.createVCPU(id: vcpu.id))
    }

    func removeVCPU(id: UInt32) {
        vcpus[id] = nil
        recorder.append(.destroyVCPU(id: id))
    }

    func add(_ object: MemoryObject) {
        recorder.append(.hvaMap(object: object.ordinal, byteCount: object.byteCount))
        if holdsMemory {
            ledgers[object.ordinal] = ObjectLedger(object, keepsContent: recorder.options.level == .client)
        }
        chooseChecks()
    }

    func remove(_ object: MemoryObject) {
        recorder.append(.hvaUnmap(object: object.ordinal))
        ledgers[object.ordinal] = nil
        chooseChecks()
    }

    /// Each object's table in turn, ascending.
    func forEachLedger(_ body: (ObjectLedger) -> Void) {
        for ordinal in ordinals {
            guard let ledger = ledgers[ordinal] else { continue }
            body(ledger)
        }
    }

    private func chooseChecks() {
        progress.value.watched = ordinals.compactMap { ledgers[$0] }.filter { $0.isWatched }
        progress.value.checksAlways =
            recorder.options.rawStoreCheck == .always && progress.value.watched.count < ledgers.count
    }

    func add(_ range: GPARange) {
        recorder.append(.gpaMap(range))
        gpaRanges.append(range)
        gpaRanges.sort { $0.gpa < $1.gpa }
    }

    func removeRange(gpa: GPA, byteCount: Int) {
        recorder.append(.gpaUnmap(gpa: gpa, byteCount: byteCount))
        gpaRanges.removeAll { $0.gpa == gpa && $0.byteCount == byteCount }
    }

    /// The client moved the machine to a state that no event of the trace leads to: a new keyframe starts over.
    func noteRestore() {
        let step = recorder.stepsWritten
        recorder.lowerGrade(to: .exitsOnly, because: .clientRestoredState(step: step))
        recorder.append { (writer) throws(TraceWriteError) in
            try writer.append(.loss(Loss(eventCount: 1, reason: "the client restored a saved state")))
        }
        progress.value.hasKeyframe = false
    }
}

// MARK: - Memory

extension MachineRecording {
    /// Before a logged write: what the client stored raw into the same pages must not be taken for a part of it.
    func willWrite(_ object: MemoryObject, _ range: Range<Int>) {
        guard progress.value.checksAlways, !range.isEmpty, let ledger = ledgers[object.ordinal], !ledger.isWatched
        else { return }
        let pages = range.lowerBound / pageBytes..<(range.upperBound - 1) / pageBytes + 1
        logRawStores(ledger.findRawStores(in: pages), of: ledger)
    }

    func didWrite(_ object: MemoryObject, _ range: Range<Int>, _ bytes: RawSpan) {
        guard holdsMemory, !range.isEmpty else { return }
        if progress.value.runningCount > 0 {
            recorder.lowerGrade(
                to: .exitsOnly, because: .writeDuringRun(object: object.ordinal, step: recorder.stepsWritten))
        }
        recorder.append { (writer) throws(TraceWriteError) in
            try writer.appendMemoryWrite(
                object: object.ordinal, offset: range.lowerBound, bytes: bytes, isRawStore: false)
        }
        guard let ledger = ledgers[object.ordinal] else { return }
        ledger.noteWritten(range)
        if progress.value.checksAlways { ledger.rehashChanged() }
    }

    func takeDirtyPages(of object: MemoryObject) -> [Int] {
        guard let ledger = ledgers[object.ordinal] else { return inner.takeDirtyPages(of: object) }
        ledger.noteGuestDirty(inner.takeDirtyPages(of: object))
        return ledger.takeClientDirtyPages()
    }

    private func collectGuestDirty() {
        forEachLedger { $0.noteGuestDirty(inner.takeDirtyPages(of: $0.object)) }
    }

    /// Compares all pages that should not have changed, and brings the tables up to date.
    private func checkRawStores() {
        collectGuestDirty()
        forEachLedger { ledger in
            let found = ledger.findRawStores()
            ledger.rehashChanged()
            logRawStores(found, of: ledger)
        }
        progress.value.guestRanSinceCheck = false
    }

    private func logRawStores(_ pages: [Int], of ledger: ObjectLedger) {
        // In the always mode the tables were brought up to date when the last run ended, and who is watched
        // tells before the next one.
        let progress = self.progress.value
        let isInTime =
            !progress.guestRanSinceCheck || progress.checksAlways || ledger.isWatched
        if let page = pages.first, !isInTime {
            recorder.lowerGrade(
                to: .exitsOnly,
                because: .lateRawStore(object: ledger.object.ordinal, page: page, step: recorder.stepsWritten))
        }
        log(rawStores: pages, of: ledger.object)
    }

    private func log(rawStores pages: [Int], of object: MemoryObject) {
        for page in pages {
            let offset = page * pageBytes
            object.withBytes(offset..<offset + pageBytes) { bytes in
                recorder.append { (writer) throws(TraceWriteError) in
                    try writer.appendMemoryWrite(
                        object: object.ordinal, offset: offset, bytes: bytes, isRawStore: true)
                }
            }
        }
    }
}

// MARK: - Runs and keyframes

extension MachineRecording {
    func willRun() {
        guard holdsMemory else { return }
        let options = recorder.options
        let isDue =
            !progress.value.hasKeyframe
            || options.writesKeyframes
                && (recorder.stepsWritten - progress.value.keyframeStepCount >= options.keyframeEverySteps
                    || progress.value.instructionsSinceKeyframe >= options.keyframeEveryInstructions ?? .max)
        if isDue {
            writeKeyframe()
        } else if progress.value.checksAlways {
            checkRawStores()
        } else {
            logClientWrites()
        }
    }

    /// Logs what the client stored into objects that tell.
    private func logClientWrites() {
        var hasWrites = false
        for ledger in progress.value.watched {
            ledger.noteClientWrites()
            hasWrites = hasWrites || ledger.hasClientWrites
        }
        guard hasWrites else { return }
        collectGuestDirty()
        for ledger in progress.value.watched where ledger.hasClientWrites {
            log(rawStores: ledger.takeClientWritten(), of: ledger.object)
        }
    }

    /// What another thread of the client stored while the guest ran: which of the two came first is not known.
    private func noteWritesDuringRun() {
        for ledger in progress.value.watched where ledger.noteClientWrites() != nil {
            recorder.lowerGrade(
                to: .exitsOnly,
                because: .writeDuringRun(object: ledger.object.ordinal, step: recorder.stepsWritten))
        }
    }

    func didRun(retired: UInt64?) {
        guard holdsMemory, recorder.isRecording else { return }
        progress.value.guestRanSinceCheck = true
        progress.value.instructionsSinceKeyframe &+= retired ?? 0
        noteWritesDuringRun()
        logGuestWrites()
        guard progress.value.checksAlways else { return }
        // Now, before the client gets control: a raw store into a page that the guest wrote is then still seen.
        collectGuestDirty()
        forEachLedger { $0.rehashChanged() }
    }

    /// So that the memory at the end can be compared.
    func writeLastKeyframe() {
        if recorder.options.writesKeyframes { writeKeyframe() }
    }

    private func writeKeyframe() {
        guard holdsMemory else { return }
        checkRawStores()
        recorder.appendKeyframe {
            storeChangedPages()
            return Keyframe(
                stepCount: recorder.stepsWritten, clock: inner.clock, machinePrivateState: inner.savePrivateState(),
                vcpus: vcpus.keys.sorted().compactMap { vcpus[$0].map { Keyframe.VCPUImage(of: $0) } },
                objects: ordinals.compactMap { ledgers[$0]?.image }, gpaRanges: gpaRanges)
        }
        progress.value.hasKeyframe = true
        progress.value.keyframeStepCount = recorder.stepsWritten
        progress.value.instructionsSinceKeyframe = 0
    }

    private func storeChangedPages() {
        forEachLedger { ledger in
            for page in ledger.takeUnstored() {
                let offset = page * pageBytes
                var name = PageHash.zeroPage
                ledger.object.withBytes(offset..<offset + pageBytes) { bytes in
                    recorder.append { (writer) throws(TraceWriteError) in
                        name = try writer.storePage(bytes, object: ledger.object.ordinal, page: page)
                    }
                }
                ledger.setName(name, of: page)
            }
        }
    }
}
