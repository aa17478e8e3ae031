// A backend that hands out recorded machines and is otherwise the one it wraps.

internal import NVMM

/// The client's view of a recorded backend.
final class TracedBackend: Backend {
    private let inner: any Backend
    /// Not owned: the recorder owns this, and clears it at its end. Not `weak`, which would make every later reference
    /// to the recorder, several an exit, go through a side table.
    unowned var recorder: Recorder?

    init(_ inner: any Backend) { self.inner = inner }

    var name: String { inner.name }
    var capability: Capability { inner.capability }
    var processorModel: String { inner.processorModel }
    var cpuidTable: [CPUIDEntry] { inner.cpuidTable }

    func createMachine() throws(MachineError) -> any Machine {
        let machine = try inner.createMachine()
        guard let recorder, recorder.begin() else { return machine }
        defer { recorder.end() }
        let recording = MachineRecording(of: machine, recorder: recorder)
        guard recorder.adopt(recording) else { return machine }
        recording.isAdopted = true
        return TracedMachine(machine, recording: recording)
    }
}
