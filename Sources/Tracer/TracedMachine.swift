// A recorded machine: the same results and errors as the one it wraps, and a trace of what changed.

internal import NVMM
internal import TraceFile

/// The client's view of a recorded machine. A call that fails changed nothing and is not logged.
final class TracedMachine: Machine {
    private let inner: any Machine
    private let recording: MachineRecording

    init(_ inner: any Machine, recording: MachineRecording) {
        self.inner = inner
        self.recording = recording
    }

    private func log(_ body: (MachineRecording) -> Void) {
        guard recording.recorder.begin() else { return }
        body(recording)
        recording.recorder.end()
    }

    func createVCPU(id: UInt32) throws(MachineError) -> any VCPU {
        let vcpu = try inner.createVCPU(id: id)
        log { $0.add(vcpu) }
        return TracedVCPU(vcpu, recording: recording)
    }

    func destroyVCPU(id: UInt32) throws(MachineError) {
        try inner.destroyVCPU(id: id)
        log { $0.removeVCPU(id: id) }
    }

    func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject {
        let object = try inner.hvaMap(byteCount: byteCount)
        log { $0.add(object) }
        return object
    }

    func hvaMap(byteCount: Int, at address: UInt) throws(MachineError) -> MemoryObject {
        let object = try inner.hvaMap(byteCount: byteCount, at: address)
        log { $0.add(object) }
        return object
    }

    func hvaUnmap(_ object: MemoryObject) throws(MachineError) {
        try inner.hvaUnmap(object)
        log { $0.remove(object) }
    }

    func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        try inner.gpaMap(object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        let range = GPARange(
            object: object.ordinal, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        log { $0.add(range) }
    }

    func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) {
        try inner.gpaUnmap(gpa: gpa, byteCount: byteCount)
        log { $0.removeRange(gpa: gpa, byteCount: byteCount) }
    }

    func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? { inner.gpaToHVA(gpa) }

    func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError) {
        let (end, overflow) = offset.addingReportingOverflow(bytes.byteCount)
        let isInside = offset >= 0 && !overflow && end <= object.byteCount
        if isInside { log { $0.willWrite(object, offset..<end) } }
        try inner.write(object, at: offset, bytes)
        if isInside { log { $0.didWrite(object, offset..<end, bytes) } }
    }

    func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError) {
        let isInside = range.lowerBound >= 0 && range.upperBound <= object.byteCount
        if isInside { log { $0.willWrite(object, range) } }
        try inner.withWritable(object, range, body)
        // The whole range, also where the closure left some of it: a copy to compare with would cost as much.
        if isInside { object.withBytes(range) { bytes in log { $0.didWrite(object, range, bytes) } } }
    }

    func takeDirtyPages(of object: MemoryObject) -> [Int] {
        // Also after the end of the recording: the client's share of the pages taken before is still kept.
        recording.recorder.lockAlways()
        defer { recording.recorder.end() }
        return recording.takeDirtyPages(of: object)
    }

    var clock: UInt64 { inner.clock }

    func advanceClock(by ticks: UInt64) {
        inner.advanceClock(by: ticks)
        log { $0.recorder.append(.advanceClock(ticks: ticks)) }
    }

    func runVCPUsConcurrently() -> Bool { !recording.holdsMemory && inner.runVCPUsConcurrently() }

    func savePrivateState() -> [UInt8] { inner.savePrivateState() }

    func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) {
        try inner.restorePrivateState(bytes)
        log { $0.noteRestore() }
    }
}
