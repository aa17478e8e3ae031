// A step by its number: the index says which epoch holds it, and nothing before that is decoded.

import NVMM

extension TraceReader {
    /// Number of the last step plus 1; 0 without steps. Steps that are lost keep their numbers, so that it may exceed
    /// ``TraceTotals/stepCount``.
    ///
    /// - Throws: ``TraceError`` where the index cannot be read.
    public func stepEnd() throws(TraceError) -> UInt64 {
        var end: UInt64 = 0
        for entry in try loadIndex() {
            guard let summary = entry.summary, summary.stepCount > 0 else { continue }
            end = max(end, summary.lastStep &+ 1)
        }
        return end
    }

    /// VCPUs that have steps.
    public func vcpus() throws(TraceError) -> Set<UInt32> {
        Set(try loadIndex().filter { ($0.summary?.stepCount ?? 0) > 0 }.map(\.vcpu))
    }

    /// A cursor before a step: ``TraceCursor/nextStepIndex`` is `step`.
    ///
    /// Only the epoch that holds the step is decoded, and of it what stands before the step. Of the events between the
    /// step before and this one, those of this epoch are given first; a keyframe between the two is not.
    ///
    /// - Parameter step: where the trace lacks it, the cursor first throws ``TraceError/missingSteps(first:next:)``;
    ///   behind the last step it is at its end.
    /// - Throws: ``TraceError`` where the index cannot be read, or the epoch is damaged before the step.
    public func cursor(fromStep step: UInt64) throws(TraceError) -> TraceCursor {
        let entries = try loadIndex()
        guard let epoch = Self.epoch(of: step, in: entries) else {
            return TraceCursor(self, entries: entries, position: entries.count, nextStepIndex: step)
        }
        let cursor = TraceCursor(
            self, entries: entries, position: epoch.position, nextStepIndex: min(epoch.firstStep, step))
        while cursor.nextStepIndex < step, try cursor.next() != nil {}
        return cursor
    }

    /// Place of the first frame of the first epoch that ends at or after `step`, and its lowest step.
    private static func epoch(of step: UInt64, in entries: [IndexEntry]) -> (position: Int, firstStep: UInt64)? {
        var start = 0
        while start < entries.count {
            let first = entries[start]
            guard first.type == FrameType.steps.rawValue else {
                start += 1
                continue
            }
            // The blocks of an epoch, one a VCPU; page frames may stand between them.
            var end = start
            var steps: (first: UInt64, last: UInt64)?
            while end < entries.count, entries[end].type != FrameType.keyframe.rawValue {
                let entry = entries[end]
                if entry.type == FrameType.steps.rawValue {
                    guard entry.epoch == first.epoch else { break }
                    if let summary = entry.summary, summary.stepCount > 0 {
                        steps = (
                            min(steps?.first ?? entry.firstStep, entry.firstStep),
                            max(steps?.last ?? summary.lastStep, summary.lastStep)
                        )
                    }
                }
                end += 1
            }
            if let steps, steps.last >= step { return (start, steps.first) }
            start = end
        }
        return nil
    }
}
