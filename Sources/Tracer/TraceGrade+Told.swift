// Grades on their way from the recorded process: `struct ring_told_grade` of Sources/CRing/include/ring_records.h.

internal import CRing

extension TraceGrade.Level {
    /// The number in a record.
    public var toldNumber: UInt32 { UInt32(rawValue) }
}

extension TraceGrade.Reason {
    /// Number, object, page and step in a record; what a reason lacks is 0.
    public var toldFields: (number: UInt32, object: UInt64, page: UInt64, step: UInt64) {
        switch self {
        case .recordLevel: (0, 0, 0, 0)
        case .instructionsNotCounted: (1, 0, 0, 0)
        case .lateRawStore(let object, let page, let step): (2, UInt64(object), UInt64(page), step)
        case .writeDuringRun(let object, let step): (3, UInt64(object), 0, step)
        case .clientRestoredState(let step): (4, 0, 0, step)
        case .secondMachine: (5, 0, 0, 0)
        case .recordingFailed(let step): (6, 0, 0, step)
        case .recordsLost(let step): (7, 0, 0, step)
        case .consumptionInferred(let step): (8, 0, 0, step)
        case .runsOverlapped(let step): (9, 0, 0, step)
        // Of the importer's own making: no library tells these.
        case .kernelDevice, .memoryNotWatched, .registersNotSampled: (.max, 0, 0, 0)
        }
    }

    /// nil for numbers that no reason has: a grade is for people, and no reason to give a trace up.
    static func told(_ told: ring_told_grade) -> (TraceGrade.Level, TraceGrade.Reason)? {
        guard let level = TraceGrade.Level(rawValue: Int(told.level)),
            let object = UInt32(exactly: told.object), let page = Int(exactly: told.page)
        else { return nil }
        let reason: TraceGrade.Reason
        switch told.reason {
        case 0: reason = .recordLevel
        case 1: reason = .instructionsNotCounted
        case 2: reason = .lateRawStore(object: object, page: page, step: told.step)
        case 3: reason = .writeDuringRun(object: object, step: told.step)
        case 4: reason = .clientRestoredState(step: told.step)
        case 5: reason = .secondMachine
        case 6: reason = .recordingFailed(step: told.step)
        case 7: reason = .recordsLost(step: told.step)
        case 8: reason = .consumptionInferred(step: told.step)
        case 9: reason = .runsOverlapped(step: told.step)
        default: return nil
        }
        return (level, reason)
    }
}
