// A machine that several threads use: its VCPUs run in turns, its calls come between. Where nothing is to be replayed,
// its VCPUs run at the same time.

import CClientThreads
import NVMM

/// A machine whose calls may come from any thread.
final class TurnTakingMachine: Machine {
    let inner: any Machine
    let turns = TurnLock()
    let gate: TurnGate

    /// Runs need no turn: the backend keeps them apart as far as it must.
    let runsConcurrently: Bool

    /// - Parameter mayRunConcurrently: whether nobody needs the order in which the VCPUs ran.
    init(_ inner: any Machine, mayRunConcurrently: Bool) {
        self.inner = inner
        gate = TurnGate(turns)
        runsConcurrently = mayRunConcurrently && inner.runVCPUsConcurrently()
    }

    func createVCPU(id: UInt32) throws(MachineError) -> any VCPU {
        TurnTakingVCPU(
            try turns.during { () throws(MachineError) in try inner.createVCPU(id: id) }, turns: turns, gate: gate,
            runsConcurrently: runsConcurrently)
    }
    func destroyVCPU(id: UInt32) throws(MachineError) {
        try turns.during { () throws(MachineError) in try inner.destroyVCPU(id: id) }
    }
    func hvaMap(byteCount: Int) throws(MachineError) -> MemoryObject {
        try turns.during { () throws(MachineError) in try inner.hvaMap(byteCount: byteCount) }
    }
    func hvaMap(byteCount: Int, at address: UInt) throws(MachineError) -> MemoryObject {
        let object = try turns.during { () throws(MachineError) in
            try inner.hvaMap(byteCount: byteCount, at: address)
        }
        gate.watch(object)
        return object
    }
    func hvaUnmap(_ object: MemoryObject) throws(MachineError) {
        try turns.during { () throws(MachineError) in try inner.hvaUnmap(object) }
        gate.forget(object)
    }
    func gpaMap(
        _ object: MemoryObject, offset: Int, gpa: GPA, byteCount: Int, protection: Protection
    ) throws(MachineError) {
        try turns.during { () throws(MachineError) in
            try inner.gpaMap(object, offset: offset, gpa: gpa, byteCount: byteCount, protection: protection)
        }
    }
    func gpaUnmap(gpa: GPA, byteCount: Int) throws(MachineError) {
        try turns.during { () throws(MachineError) in try inner.gpaUnmap(gpa: gpa, byteCount: byteCount) }
    }
    func gpaToHVA(_ gpa: GPA) -> (object: MemoryObject, offset: Int, protection: Protection)? {
        turns.during { inner.gpaToHVA(gpa) }
    }
    func write(_ object: MemoryObject, at offset: Int, _ bytes: RawSpan) throws(MachineError) {
        turns.take()
        defer { turns.pass() }
        try inner.write(object, at: offset, bytes)
    }
    func withWritable(
        _ object: MemoryObject, _ range: Range<Int>, _ body: (inout MutableRawSpan) -> Void
    ) throws(MachineError) {
        try turns.during { () throws(MachineError) in try inner.withWritable(object, range, body) }
    }
    func takeDirtyPages(of object: MemoryObject) -> [Int] { turns.during { inner.takeDirtyPages(of: object) } }
    var clock: UInt64 { turns.during { inner.clock } }
    func advanceClock(by ticks: UInt64) { turns.during { inner.advanceClock(by: ticks) } }
    func savePrivateState() -> [UInt8] { turns.during { inner.savePrivateState() } }
    func restorePrivateState(_ bytes: [UInt8]) throws(MachineError) {
        try turns.during { () throws(MachineError) in try inner.restorePrivateState(bytes) }
    }
}

/// A VCPU that gives way to the others of its machine, unseen by its client: once it is asked to, and every
/// ``sliceInstructions`` where somebody waits already. With nobody there a run goes on undisturbed.
final class TurnTakingVCPU: VCPU {
    /// Few enough that two VCPUs waiting for each other get on, many enough that passing the turn costs nothing.
    /// A prime: a wait loop whose length divides the slice would always be left at the same instruction, with the lock
    /// held that the others need (SeaBIOS's, of eight instructions, at 10,000).
    static let sliceInstructions: UInt64 = 9_973

    private let inner: any VCPU
    private let turns: TurnLock
    private let gate: TurnGate
    private let runsConcurrently: Bool

    init(_ inner: any VCPU, turns: TurnLock, gate: TurnGate, runsConcurrently: Bool) {
        self.inner = inner
        self.turns = turns
        self.gate = gate
        self.runsConcurrently = runsConcurrently
    }

    var id: UInt32 { inner.id }
    var commPage: CommPage { inner.commPage }

    func configure(_ configuration: VCPUConfiguration) throws(VCPUError) {
        try turns.during { () throws(VCPUError) in try inner.configure(configuration) }
    }
    func fetchWantedState() throws(VCPUError) {
        try turns.during { () throws(VCPUError) in try inner.fetchWantedState() }
    }
    @discardableResult func getState(_ flags: StateFlags) throws(VCPUError) -> CallCost {
        try turns.during { () throws(VCPUError) in try inner.getState(flags) }
    }
    // Stores into the comm page: they wait for nobody.
    @discardableResult func setState(_ flags: StateFlags) -> CallCost { inner.setState(flags) }
    /// A run that another thread is in takes the event once it has given way.
    @discardableResult func inject() -> CallCost {
        let cost = inner.inject()
        inner.giveWay()
        return cost
    }
    func stop() { inner.stop() }
    func giveWay() { inner.giveWay() }
    func counters() -> [Counter] { turns.during { inner.counters() } }
    func saveState() -> VCPUState { turns.during { inner.saveState() } }
    func savePrivateState() -> [UInt8] { turns.during { inner.savePrivateState() } }
    func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
        try turns.during { () throws(VCPUError) in try inner.restore(state, privateState: privateState) }
    }

    // MARK: Run

    func run(budget: UInt64?) throws(VCPUError) -> RunResult {
        unsafe signal_watch_begin(commPage.giveWayAddress.assumingMemoryBound(to: Int32.self))
        defer { signal_watch_end() }
        // A handler that stores into guest memory would wait for this run, and the run for it: it comes behind. It
        // makes the run give way all the same.
        signal_put_off_begin()
        defer { signal_put_off_end() }
        if runsConcurrently { return try runUnordered(budget: budget) }
        let othersWait = turns.take(forRunOf: inner)
        defer { turns.pass() }
        return try runSlices(budget: budget, othersWait: othersWait)
    }

    /// Beside the runs of other VCPUs.
    private func runUnordered(budget: UInt64?) throws(VCPUError) -> RunResult {
        var sum = RunResult(exit: VCPUExit(), kind: .returnedEarly, retired: 0)
        while true {
            commPage.giveWay = false
            guard !signal_watch_has_seen_one() else { return sum }
            let left = budget.map { $0 - min($0, sum.retired ?? 0) }
            let part = try inner.run(budget: left)
            if add(part, to: &sum, instructions: left ?? 0, budget: budget) { return sum }
        }
    }

    /// - Parameter instructions: what a part of an unknown count retired.
    /// - Returns: whether the run is over.
    private func add(
        _ part: RunResult, to sum: inout RunResult, instructions: UInt64, budget: UInt64?
    ) -> Bool {
        sum.exit = part.exit
        // A later part that returned early: the first one has consumed what was committed.
        if part.kind == .entered { sum.kind = .entered }
        sum.retired = (sum.retired ?? 0) &+ (part.retired ?? instructions)
        sum.event = part.event ?? sum.event
        return part.exit.reason != .none || part.kind == .returnedEarly || sum.retired == budget
    }

    /// With the turn, which other threads have in between.
    private func runSlices(budget: UInt64?, othersWait: Bool) throws(VCPUError) -> RunResult {
        var othersWait = othersWait
        // Nothing is consumed yet: a signal that came first makes the run return early.
        var sum = RunResult(exit: VCPUExit(), kind: .returnedEarly, retired: 0)
        while true {
            gate.close { othersWait = turns.passOn(inRunOf: inner) }
            let left = budget.map { $0 - min($0, sum.retired ?? 0) } ?? .max
            guard let slice = try runSlice(othersWait ? min(left, Self.sliceInstructions) : left) else { return sum }
            if add(slice, to: &sum, instructions: left, budget: budget) { return sum }
            othersWait = turns.passOn(inRunOf: inner)
        }
    }

    /// With the gate closed, which is open afterwards.
    ///
    /// - Returns: nil where a signal handler has run on this thread: the client is to have control.
    private func runSlice(_ instructions: UInt64) throws(VCPUError) -> RunResult? {
        defer { gate.open() }
        // Behind the last place that clears the request: a handler that comes later makes the slice give way.
        guard !signal_watch_has_seen_one() else { return nil }
        return try inner.run(budget: instructions == .max ? nil : instructions)
    }
}
