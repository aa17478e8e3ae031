// How a run recorded above KVM compares with one on the replaying backend: KVM says less of an exit than NVMM does, and
// shows some registers in another form.

internal import NVMM
internal import TraceFile

enum HypervisorComparison {
    /// Whether both exits are the same as far as KVM tells: it does not name the instruction.
    static func exitsAgree(_ recorded: ExitReason, _ replayed: ExitReason) -> Bool {
        switch (recorded, replayed) {
        case (.io(let left), .io(let right)):
            left.isInput == right.isInput && left.port == right.port && left.operandBytes == right.operandBytes
        // A load and a store of one instruction are two exits there, and one here.
        case (.memory(let left), .memory(let right)): left.gpa == right.gpa
        case (.readMSR(let left), .readMSR(let right)): left.msr == right.msr
        case (.writeMSR(let left), .writeMSR(let right)): left.msr == right.msr && left.value == right.value
        // KVM's own error has a code of its own.
        case (.invalid, .invalid): true
        default: recorded == replayed
        }
    }

    /// - Parameter flags: bits of RFLAGS that may differ.
    static func statesAgree(
        _ recorded: VCPUState, _ replayed: VCPUState, _ coverage: StateFlags, but flags: UInt64 = 0
    ) -> Bool {
        StateFields.areEqual(comparable(recorded, but: flags), comparable(replayed, but: flags), coverage)
    }

    static func differences(_ recorded: VCPUState, _ replayed: VCPUState, _ coverage: StateFlags) -> [ComparedField] {
        let (left, right) = (comparable(recorded), comparable(replayed))
        return StateFields.general(left, right) + StateFields.differingSpecial(left, right, coverage)
    }

    /// What both sides show in the same form.
    private static func comparable(_ state: VCPUState, but flags: UInt64 = 0) -> VCPUState {
        var state = state
        // RF is set between the iterations of a repeated instruction there, as an interrupt would push it.
        state[.rflags] &= ~(flags | 1 << 16)
        // The host's clock is in it.
        state[.tsc] = 0
        // Of the interrupt word KVM gives the shadow alone.
        state.interrupt.formIntersection(.shadow)
        // Base and limit alone have a meaning.
        for register in [SegmentRegister.gdt, .idt] {
            state[register] = Segment(limit: state[register].limit, base: state[register].base)
        }
        return state
    }
}
