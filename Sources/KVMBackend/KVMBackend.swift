// NVMM's interface over Linux's /dev/kvm.

public import NVMM

/// The host's KVM as a backend. It counts no instructions: a run's budget bounds its time instead, in nanoseconds, and
/// the machine's clock is the host's.
public final class KVMBackend: Backend {
    public static let devicePath = "/dev/kvm"

    public let name = "kvm"
    public let capability = Capability(offersTPRExits: false, countsInstructions: false)
    public let processorModel = hostProcessorModel
    public let cpuidTable: [CPUIDEntry]

    #if os(Linux) && arch(x86_64)
        private let system: KVMSystem
        private let wantedTable: [CPUIDEntry]
        /// Whether an interrupt window that opens inside a run ends it. Some software KVMs look only where the guest
        /// exits; runs with an armed window are then short, and the window is found at the next one.
        public let opensInterruptWindows: Bool

        /// - Parameter cpuidTable: what guests are to see. ``cpuidTable`` is what they do see, which is asked of one:
        ///   not every KVM shows what it was told.
        public convenience init(cpuidTable: [CPUIDEntry], path: String = devicePath) throws(KVMError) {
            try self.init(cpuidTable: cpuidTable, path: path, faults: nil)
        }

        init(cpuidTable: [CPUIDEntry], path: String, faults: KVMFaults?) throws(KVMError) {
            let system = try KVMSystem(path: path, faults: faults)
            self.system = system
            wantedTable = cpuidTable
            do {
                let probe = try KVMProbe(
                    try KVMMachine(
                        system: system, cpuidTable: cpuidTable, vcpusMax: 1, opensInterruptWindows: true))
                self.cpuidTable = try cpuidTable.map { try probe.shown($0) }
                opensInterruptWindows = try probe.opensInterruptWindows()
            } catch MachineError.hostRefused(let call, let errno) {
                throw .refused(call: call, errno: errno)
            } catch VCPUError.hostRefused(let call, let errno) {
                throw .refused(call: call, errno: errno)
            } catch {
                throw .refused(call: "KVM_RUN", errno: 0)
            }
        }

        public func createMachine() throws(MachineError) -> any Machine {
            try KVMMachine(
                system: system, cpuidTable: wantedTable, vcpusMax: capability.vcpusMax,
                opensInterruptWindows: opensInterruptWindows)
        }
    #else
        public let opensInterruptWindows = false

        public init(cpuidTable: [CPUIDEntry], path: String = devicePath) throws(KVMError) {
            throw .notOnThisSystem
        }

        public func createMachine() throws(MachineError) -> any Machine { throw .tooMany(limit: 0) }
    #endif
}
