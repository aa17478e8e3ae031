// The embedded backend: a deterministic x86 interpreter behind the interface that NVMM defines.

public import NVMM

/// A hypervisor without hardware. Everything a guest observes follows from its initial state, what the client does, and
/// the number of instructions executed: Docs/determinism.md.
public final class SoftBackend: Backend, Sendable {
    public let name = "soft"
    public let capability = Capability(countsInstructions: true)
    public var processorModel: String { model.name }
    public var cpuidTable: [CPUIDEntry] { model.table }
    let model: ProcessorModel
    private let providing: CommPagePolicy
    private let translation: CodeTranslation
    private let fault: (kind: InjectedFault, fromRun: UInt64)

    /// - Parameters:
    ///   - model: the processor that guests see.
    ///   - providing: what exits leave in the comm page.
    ///   - translation: when code is translated; the guest cannot tell.
    ///   - fault: a deliberate error, for tests of what finds it.
    ///   - fromRun: number of the machine's run, from 0, at which the error begins.
    public init(
        model: ProcessorModel = .base, providing: CommPagePolicy = .nvmm, translation: CodeTranslation = .standard,
        fault: InjectedFault = .none, fromRun: UInt64 = 0
    ) {
        self.model = model
        self.providing = providing
        self.translation = translation
        self.fault = (fault, fromRun)
    }

    public func createMachine() throws(MachineError) -> any Machine {
        SoftMachine(
            model: model, providing: providing, translation: translation, vcpusMax: capability.vcpusMax,
            fault: fault.kind, faultFromRun: fault.fromRun)
    }
}
