// The backends of this program by name, and the deliberate errors that can be asked of them.

import KVMBackend
import NVMM
import SoftBackend
import TraceFile

/// - Parameters:
///   - model: name of a processor model; nil: the backend's default.
///   - recording: of a hypervisor: its guest's processor in place of a model of ours.
///   - providing: what exits leave in the comm page; nil: as in the recording, or NVMM's own.
///   - fault: a deliberate error, from a run of the machine on.
/// - Throws: ``PlainTrouble`` for a name that does not exist.
func makeBackend(
    _ name: BackendName, model: String?, recording: TraceHeader? = nil, providing: CommPagePolicy? = nil,
    fault: FaultRequest?
) throws -> any Backend {
    switch name {
    case .kvm:
        if let recording, recording.backendName != TraceHeader.kvm {
            throw PlainTrouble(
                sentence: "was recorded on \(recording.backendName): replay it with --backend soft")
        }
        if let model, model != hostProcessorModel {
            throw PlainTrouble(sentence: "the processor of --backend kvm is the host's: leave --cpu \(model) out")
        }
        if providing != nil {
            throw PlainTrouble(
                sentence: "the comm page of KVM is kvm_run, as it is: --comm-page goes with --backend soft")
        }
        if fault != nil { throw PlainTrouble(sentence: "KVM makes no deliberate errors: use --backend soft") }
        let recorded = recording?.cpuidTable ?? []
        return try KVMBackend(cpuidTable: recorded.isEmpty ? SoftBackend().cpuidTable : recorded)
    case .soft:
        let models = ProcessorModel.all
        let presented = recording.flatMap { header in
            header.isOfHypervisor && !header.cpuidTable.isEmpty
                ? ProcessorModel.presenting(
                    header.cpuidTable, name: header.processorModel,
                    setsAuxiliaryByShifts: header.setsAuxiliaryByShifts) : nil
        }
        let chosen =
            try presented
            ?? model.map { wanted in
                guard let found = models.first(where: { $0.name == wanted }) else {
                    let names = models.map(\.name).joined(separator: ", ")
                    throw PlainTrouble(sentence: "there is no processor model \(wanted): use one of \(names)")
                }
                return found
            }
        let providing = providing ?? recording?.commPagePolicy ?? .nvmm
        guard let fault else { return SoftBackend(model: chosen ?? .base, providing: providing) }
        guard let kind = InjectedFault(rawValue: fault.name) else {
            let names = InjectedFault.allCases.map(\.rawValue).joined(separator: ", ")
            throw PlainTrouble(sentence: "there is no fault \(fault.name): use one of \(names)")
        }
        return SoftBackend(model: chosen ?? .base, providing: providing, fault: kind, fromRun: fault.step)
    }
}
