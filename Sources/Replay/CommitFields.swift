// What a client hands over at a run's entry, compared with what a recorded run consumed.

internal import NVMM
internal import TraceFile

enum CommitFields {
    /// What differs in the parts committed and in their values; reserved bits do not count.
    static func compare(_ step: Step, _ page: CommPage) -> [ComparedField] {
        let commit = page.stateCommit.intersection(.all)
        guard commit == step.commit else {
            return [ComparedField(name: "committed", expected: step.commit.partNames, actual: commit.partNames)]
        }
        guard !commit.isEmpty, !StateFields.areEqual(step.committed, page.state, commit) else { return [] }
        return RegisterFields.differing(significant(step.committed), significant(page.state), commit)
    }

    /// Without the bits that nobody reads.
    private static func significant(_ state: VCPUState) -> VCPUState {
        var state = state
        state.interrupt = state.interrupt.intersection([
            .shadow, .interruptWindowExiting, .nmiWindowExiting, .eventPending,
        ])
        for register in SegmentRegister.allCases {
            let isTable = register == .gdt || register == .idt
            var segment = state[register]
            segment.attributes = SegmentAttributes(rawValue: isTable ? 0 : segment.attributes.rawValue & 0xFFF)
            if isTable { segment.selector = 0 }
            state[register] = segment
        }
        return state
    }

    /// An event without the error code where none is pushed (SDM vol. 3, table 6-1).
    static func normalised(_ event: VCPUEvent?) -> VCPUEvent? {
        guard var event else { return nil }
        let pushes = event.kind == .exception && [8, 10, 11, 12, 13, 14, 17, 21, 30].contains(event.vector)
        if !pushes { event.errorCode = 0 }
        return event
    }
}
