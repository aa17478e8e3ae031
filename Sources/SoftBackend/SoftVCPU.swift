// One VCPU of the embedded backend: the comm-page protocol around the interpreter.

import NVMM

final class SoftVCPU: VCPU {
    let id: UInt32
    let commPage = CommPage()
    private unowned let machine: SoftMachine
    private var cpu: CPU
    var isDestroyed = false
    /// Whether runs overlap with those of other VCPUs.
    var isConcurrent: Bool {
        get { cpu.isConcurrent }
        set { cpu.isConcurrent = newValue }
    }

    init(id: UInt32, machine: SoftMachine) {
        self.id = id
        self.machine = machine
        cpu = CPU(
            id: id, memory: machine.memory, code: machine.code, gate: machine.gate, commPage: commPage,
            model: machine.model, providing: machine.providing, translation: machine.translation)
        var state = VCPUState.reset
        state[.tsc] = 0
        cpu.install(.all, from: state, clock: machine.clock)
        commPage.state = state
        commPage.stateCached = .all
    }

    func configure(_ configuration: VCPUConfiguration) throws(VCPUError) {
        guard !isDestroyed else { throw .destroyed }
        switch configuration {
        case .tpr(let exitOnChange): cpu.exitsOnTPRChange = exitOnChange
        case .cpuid(let leaf, let rule):
            if case .remove = rule {
                cpu.cpuidRules[leaf] = nil
                return
            }
            try rule.check(leaf: leaf)
            guard cpu.cpuidRules[leaf] != nil || cpu.cpuidRules.count < 32 else { throw .tooManyCPUIDRules(limit: 32) }
            cpu.cpuidRules[leaf] = rule
        }
    }

    func fetchWantedState() throws(VCPUError) {
        guard !isDestroyed else { throw .destroyed }
        let wanted = commPage.stateWanted
        cpu.extract(wanted, into: &commPage.state, clock: machine.clock)
        commPage.stateWanted = []
        commPage.stateCached.formUnion(wanted)
    }

    func run(budget: UInt64?) throws(VCPUError) -> RunResult {
        guard !isDestroyed else { throw .destroyed }
        return isConcurrent ? try runConcurrently(budget: budget ?? .max) : try runAlone(budget: budget ?? .max)
    }

    private func runAlone(budget: UInt64) throws(VCPUError) -> RunResult {
        // One access to the processor for the whole run: each is tracked.
        let result = try cpu.run(commPage, clock: machine.clock, fault: machine.faultInForce, budget: budget)
        guard result.kind == .entered else { return result }
        machine.didRun(retired: result.retired ?? 0)
        return result
    }

    /// Comes out of the gate whenever somebody wants to change the machine, which the client does not see.
    private func runConcurrently(budget: UInt64) throws(VCPUError) -> RunResult {
        var retired: UInt64 = 0
        var event: VCPUEvent?
        var hasEntered = false
        while true {
            machine.gate.enter()
            var result: RunResult
            do throws(VCPUError) {
                result = try runAlone(budget: budget - retired)
            } catch {
                machine.gate.leave()
                throw error
            }
            machine.gate.leave()
            retired &+= result.retired ?? 0
            event = result.event ?? event
            if cpu.wantsRoom {
                cpu.wantsRoom = false
                machine.forgetCode()
            }
            guard result.exit.reason == .none, result.kind == .entered, retired < budget, !commPage.giveWay else {
                result.retired = retired
                result.event = event
                // The first part has consumed what was committed.
                if hasEntered { result.kind = .entered }
                return result
            }
            hasEntered = true
        }
    }

    func counters() -> [Counter] { cpu.counters() }

    var undefinedFlags: UInt64 { cpu.status.undefined }
    var undefinedFlagsRIP: UInt64 { cpu.undefinedFlagsRIP & cpu.ripMask }
    var timestampReads: UInt64 { cpu.timestampReads }
    var timestampReadRIP: UInt64 { cpu.timestampReadRIP }
    var timestampDistortion: UInt64 {
        get { cpu.timestampDistortion }
        set { cpu.timestampDistortion = newValue }
    }

    /// Bits 128 to 255 of a YMM register, for which NVMM has no state.
    subscript(upperHalf register: Int) -> Vector128 {
        get { cpu.ymmHigh[register] }
        set { cpu.ymmHigh[register] = newValue }
    }

    // MARK: Whole state

    func saveState() -> VCPUState {
        var state = VCPUState()
        saveState(into: &state)
        return state
    }

    func saveState(into state: inout VCPUState) { cpu.extract(.all, into: &state, clock: machine.clock) }

    func savePrivateState() -> [UInt8] { cpu.savePrivateState() }

    func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
        guard !isDestroyed else { throw .destroyed }
        guard cpu.restore(state, privateState: privateState, clock: machine.clock) else {
            throw .privateStateRefused("soft VCPU")
        }
        commPage.restart(with: state)
    }
}
