// What of a guest's state depends on the time-stamp counter, which a hypervisor lets its guests read without an exit:
// the same replay runs beside itself with other times, and what comes out otherwise there depends on them.
// Docs/determinism.md, "Time that no trace holds".

internal import NVMM

/// A step that depends on times, once that is known.
struct TimedStep {
    /// Instructions before its end.
    var retired: UInt64
    /// Of the time-stamp counter, modulo 2⁶⁴.
    var delay: UInt64
}

/// Machines that do what a replay's own does, but whose guests read other times.
///
/// At each step's begin they have the replay's registers, which are the recorded ones. Their memory is their own: a
/// byte that differs from the replay's depends on a time that was read, then or before.
final class TimestampShadows {
    private let shadows: [Shadow]
    /// Those whose guest went the replay's way since the step began.
    private var together: [Shadow] = []
    /// Of the replay's VCPU, when the step began.
    private var readsBefore: UInt64 = 0
    /// The counter before the first read that is known.
    private var earliest: UInt64?

    /// - Parameters:
    ///   - count: how many. Where the time decides between two outcomes, one shadow has by chance the replay's as often
    ///     as not.
    ///   - make: a machine like the replay's, fresh.
    init(count: Int, _ make: () throws(ReplayError) -> ReplayMachine) throws(ReplayError) {
        var shadows: [Shadow] = []
        for number in 0..<count {
            shadows.append(
                Shadow(machine: try make(), distortion: UInt64(number % 4 == 1 ? number * 2 + 3 : number * 2 + 2)))
        }
        self.shadows = shadows
    }

    /// Whether one of them went another way in this step: then the time decides what the guest does. Where times shrink
    /// that proves nothing: no processor shows such.
    var hasParted: Bool { together.count(where: \.timesGrow) < shadows.count(where: \.timesGrow) }

    /// As the replay's machine does, outside of runs.
    func mirror(_ body: (ReplayMachine) throws(ReplayError) -> Void) throws(ReplayError) {
        for shadow in shadows { try body(shadow.machine) }
    }

    /// Begins a step.
    func join(_ original: ReplayMachine, vcpu id: UInt32) throws(ReplayError) {
        together = shadows
        let vcpu = try original.vcpu(id)
        readsBefore = vcpu.timestampReads
        if readsBefore == 0 { earliest = vcpu.saveState()[.tsc] }
        for shadow in shadows {
            // Registers that are compared once the instruction is finished keep what they depend on until then.
            if original.unfinished[id]?.claims.isEmpty ?? true {
                try shadow.machine.takeRegisters(of: original, vcpu: id)
            }
            shadow.machine.unfinished[id] = original.unfinished[id]
            try shadow.machine.vcpu(id).timestampDistortion = shadow.distortion
        }
    }

    /// Does on each what was just done on the replay's machine.
    ///
    /// - Parameter body: false, or an error, where it came out otherwise.
    func follow(_ body: (ReplayMachine) throws(ReplayError) -> Bool) {
        follow { (shadow, _) throws(ReplayError) in try body(shadow) }
    }

    /// As above, of a single instruction.
    ///
    /// - Parameter body: is told whether the shadow is led the replay's way where a branch of it goes another: so it
    ///   shows what the data of the replay's way depend on. Those that are not led show what the way decides.
    func follow(_ body: (ReplayMachine, _ isLed: Bool) throws(ReplayError) -> Bool) {
        // What fails in a shadow is no failure of the replay.
        together.removeAll { (try? body($0.machine, !$0.timesGrow)) != true }
    }

    /// The replay's registers, with those that depend on the time replaced.
    ///
    /// - Parameters:
    ///   - state: of the replay.
    ///   - recorded: the source of what is replaced.
    /// - Returns: nil where nothing depends on it.
    func replacing(_ state: VCPUState, by recorded: VCPUState, vcpu: any VCPU) -> VCPUState? {
        var result = state
        var isReplaced = vcpu.timestampReads != readsBefore
        for shadow in together {
            guard let other = try? shadow.machine.finishedState(vcpu.id) else { continue }
            for register in GPR.allCases where state[register] != other[register] {
                isReplaced = true
                if register != .rip, register != .rflags { result[register] = recorded[register] }
            }
        }
        guard isReplaced else { return nil }
        // Outcomes of a comparison are often the same by chance, though they depend on the time.
        result[.rflags] = result[.rflags] & ~Self.statusFlags | recorded[.rflags] & Self.statusFlags
        return result
    }

    /// How much later it is than the replay thinks, modulo 2⁶⁴, by the registers in which times stand: those that
    /// follow should fit to what the guest keeps of the recording.
    ///
    /// - Parameters:
    ///   - state: of the replay.
    ///   - recorded: the registers with the recorded times.
    func delay(_ state: VCPUState, to recorded: VCPUState, vcpu: any VCPU) -> UInt64 {
        let now = vcpu.saveState()[.tsc]
        guard let earliest else { return 0 }
        // Of the latest time that is found.
        var (age, delay): (UInt64, UInt64) = (now &- earliest, 0)
        func consider(_ time: UInt64, _ recordedTime: UInt64) {
            guard time != recordedTime else { return }
            if now &- time < age { (age, delay) = (now &- time, recordedTime &- time) }
            // Or the lower half of one.
            guard let low = UInt32(exactly: time), let recordedLow = UInt32(exactly: recordedTime) else { return }
            let lowAge = UInt64(UInt32(truncatingIfNeeded: now) &- low)
            guard lowAge < min(age, 1 << 30) else { return }
            (age, delay) = (lowAge, UInt64(bitPattern: Int64(Int32(bitPattern: recordedLow &- low))))
        }
        for register in GPR.allCases where register != .rip && register != .rflags {
            consider(state[register], recorded[register])
        }
        consider(state.time, recorded.time)
        self.earliest = earliest &+ delay
        return delay
    }

    /// Whether each byte in `range` of an object depends on the time.
    ///
    /// - Parameter original: the replay's machine.
    func dependent(_ range: Range<Int>, of object: UInt32, in original: ReplayMachine) -> [Bool] {
        var result = [Bool](repeating: false, count: range.count)
        guard let bytes = original.objects[object]?.withBytes(range, { $0.array }) else { return result }
        for shadow in shadows {
            guard let other = shadow.machine.objects[object]?.withBytes(range, { $0.array }) else { continue }
            for index in result.indices where bytes[index] != other[index] { result[index] = true }
        }
        return result
    }

    private static let statusFlags: UInt64 = 0x8D5

    private struct Shadow {
        let machine: ReplayMachine
        /// ``VCPU/timestampDistortion`` of its VCPUs.
        let distortion: UInt64
        /// Otherwise they jump, in searches it is led, and there are three such for each of the others.
        var timesGrow: Bool { distortion & 1 == 1 }
    }
}

extension VCPUState {
    /// As RDTSC gives it, in EDX:EAX.
    fileprivate var time: UInt64 { self[.rdx] << 32 | self[.rax] & 0xFFFF_FFFF }
}
