// One VCPU as a client of libnvmm holds it: runs it, and keeps what the last exit was for the assists.

import CNVMM
import Glibc
import NVMM

/// The library's side of a VCPU. Everything that the client reads stands in the comm page or in its own structure.
final class ClientVCPU: @unchecked Sendable {
    let vcpu: any VCPU
    private let machine: any Machine
    /// Held through a run: whoever else wants the VCPU waits until it returns.
    private let lock = PlainLock()
    private var lastExit = VCPUExit()
    /// When the VCPU last halted, where it has not run since.
    private var haltedSince: ContinuousClock.Instant?
    private var publication: Publication

    init(_ vcpu: any VCPU, machine: any Machine) {
        self.vcpu = vcpu
        self.machine = machine
        publication = Publication(vcpu.commPage)
    }

    /// Calls `body` while nobody runs the VCPU.
    func whileStill<Value>(_ body: () throws(ErrorNumber) -> Value) throws(ErrorNumber) -> Value {
        try lock.during(body)
    }

    func getState(_ flags: StateFlags) throws(ErrorNumber) {
        // Answered by the page: no need to wait for a run.
        if flags.isSubset(of: vcpu.commPage.stateCached) {
            publication.count(.commPage)
            _ = try mapping { () throws(VCPUError) in try vcpu.getState(flags) }
            return
        }
        try whileStill { () throws(ErrorNumber) in
            publication.count(try mapping { () throws(VCPUError) in try vcpu.getState(flags) })
        }
    }

    func setState(_ flags: StateFlags) { publication.count(vcpu.setState(flags)) }
    func inject() { publication.count(vcpu.inject()) }

    /// `nvmm_vcpu_run`.
    func run() throws(ErrorNumber) -> VCPUExit {
        try whileStill { () throws(ErrorNumber) in
            advanceClockOverHalt()
            let page = vcpu.commPage
            let commit = page.stateCommit.intersection(.all)
            let result: RunResult
            do throws(VCPUError) {
                result = try vcpu.run(budget: nil)
            } catch {
                var event: VCPUEvent?
                if case .badEvent(let bad) = error { event = bad }
                publication.note(.refused, commit: commit, event: event, retired: 0, clock: machine.clock)
                throw ErrorNumber(error)
            }
            var exit = result.exit
            if result.kind == .returnedEarly {
                publication.note(.early, commit: [], event: nil, retired: 0, clock: machine.clock)
                exit.state = stateOfExit
            } else {
                publication.note(
                    .entered, commit: commit, event: result.event, retired: result.retired ?? 0, clock: machine.clock)
                if exit.reason == .stopped { exit.state = stateOfExit }
            }
            if exit.reason == .halted { haltedSince = .now }
            lastExit = exit
            return exit
        }
    }

    /// What the last run gave, for the assist that completes it.
    var exit: VCPUExit { lastExit }

    /// A client waits in HLT by not running: the guest's clock goes on by the time that this took.
    private func advanceClockOverHalt() {
        guard let haltedSince else { return }
        self.haltedSince = nil
        let waited = ContinuousClock.now - haltedSince
        let (seconds, attoseconds) = waited.components
        let nanoseconds = UInt64(max(seconds, 0)) &* 1_000_000_000 &+ UInt64(max(attoseconds, 0) / 1_000_000_000)
        machine.advanceClock(by: max(nanoseconds, 1))
        publication.advanced(by: max(nanoseconds, 1))
    }

    /// For a run that did not get to an exit of the guest's. The original leaves zeros there, which QEMU takes for
    /// RFLAGS and TPR; what waits to be committed counts as done, since QEMU would forget a TPR that is on its way.
    private var stateOfExit: ExitState {
        var state = vcpu.saveState()
        state.copy(vcpu.commPage.stateCommit, from: vcpu.commPage.state)
        return ExitState(rflags: state[.rflags], cr8: state[.cr8], interrupt: state.interrupt)
    }
}
