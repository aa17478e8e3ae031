// Aligns the steps of two traces, tolerating insertions, in bounded memory.

internal import TraceFile

/// The next steps of a trace.
struct StepWindow {
    private let cursor: TraceCursor
    private(set) var steps: [ComparedStep] = []
    /// Steps before `steps`.
    private var start = 0
    private(set) var readCount: UInt64 = 0
    private var isAtEnd = false

    init(_ cursor: TraceCursor) { self.cursor = cursor }

    var count: Int { steps.count - start }
    subscript(index: Int) -> ComparedStep { steps[start + index] }

    /// Reads until `count` steps are there, or the trace ends.
    mutating func fill(_ count: Int) throws(TraceError) {
        while self.count < count, !isAtEnd {
            guard let event = try cursor.next() else {
                isAtEnd = true
                return
            }
            guard case .step(let step) = event else { continue }
            steps.append(ComparedStep(step, index: readCount))
            readCount += 1
        }
    }

    /// Drops the next step if it is one that came where the host pleased.
    mutating func dropAsynchronous(into unaligned: inout TraceComparison.Unaligned) -> Bool {
        guard count > 0, self[0].isAsynchronous else { return false }
        unaligned.asynchronous += 1
        drop(1)
        return true
    }

    mutating func drop(_ count: Int) {
        start += count
        // Moved down only now and then, so that dropping costs constant time.
        guard start >= 1024 else { return }
        steps.removeFirst(start)
        start = 0
    }
}

/// Walks two traces in step.
struct StepAligner {
    var left: StepWindow
    var right: StepWindow
    let windowSteps: Int
    /// Steps that must match after a gap, so that a chance match of a common exit does not end it.
    private static let confirmationSteps = 3

    init(left: StepWindow, right: StepWindow, windowSteps: Int) {
        self.left = left
        self.right = right
        self.windowSteps = windowSteps
    }

    mutating func run(into result: inout TraceComparison) throws(TraceError) {
        while true {
            try left.fill(1)
            try right.fill(1)
            if left.count > 0, right.count > 0, left[0].aligns(with: right[0]) {
                count(left[0], right[0], in: &result)
                left.drop(1)
                right.drop(1)
            } else if left.count == 0 && right.count == 0 {
                break
            } else if left.dropAsynchronous(into: &result.onlyLeft) || right.dropAsynchronous(into: &result.onlyRight) {
                continue
            } else {
                try skipGap(in: &result)
            }
        }
        result.leftStepCount = left.readCount
        result.rightStepCount = right.readCount
    }

    private func count(_ left: ComparedStep, _ right: ComparedStep, in result: inout TraceComparison) {
        result.alignedCount += 1
        guard !left.equals(right) else { return }
        result.registerDifferenceCount += 1
        guard result.firstDifference == nil else { return }
        result.firstDifference = .init(
            kind: .registers, left: left.summary, right: right.summary, fields: left.differences(from: right))
    }

    /// Finds the nearest place where both traces go on alike, and counts what lies before it as unaligned.
    private mutating func skipGap(in result: inout TraceComparison) throws(TraceError) {
        let wanted = windowSteps + Self.confirmationSteps
        try left.fill(wanted)
        try right.fill(wanted)
        let (leftSkip, rightSkip) = nearestMatch() ?? (min(left.count, windowSteps), min(right.count, windowSteps))
        let leftGap = (0..<leftSkip).map { left[$0] }
        let rightGap = (0..<rightSkip).map { right[$0] }
        Self.count(leftGap, in: &result.onlyLeft)
        Self.count(rightGap, in: &result.onlyRight)
        let leftFirst = leftGap.first { !$0.isAsynchronous }
        let rightFirst = rightGap.first { !$0.isAsynchronous }
        if result.firstDifference == nil, leftFirst != nil || rightFirst != nil {
            let kind: TraceComparison.Difference.Kind =
                rightFirst == nil ? .onlyLeft : leftFirst == nil ? .onlyRight : .replaced
            // Beside an insertion stands the step of the other side that goes on.
            let leftStep = leftFirst ?? (leftSkip < left.count ? left[leftSkip] : nil)
            let rightStep = rightFirst ?? (rightSkip < right.count ? right[rightSkip] : nil)
            result.firstDifference = .init(kind: kind, left: leftStep?.summary, right: rightStep?.summary, fields: [])
        }
        left.drop(leftSkip)
        right.drop(rightSkip)
    }

    /// The pair of skips with the smallest sum after which the traces match.
    private func nearestMatch() -> (Int, Int)? {
        for sum in 1...2 * windowSteps {
            for leftSkip in max(0, sum - windowSteps)...min(sum, windowSteps) {
                if matches(leftSkip, sum - leftSkip) { return (leftSkip, sum - leftSkip) }
            }
        }
        return nil
    }

    /// Whether the next synchronous steps behind the skips are alike: as many as confirm a match, or all there are.
    private func matches(_ leftSkip: Int, _ rightSkip: Int) -> Bool {
        var (leftIndex, rightIndex) = (leftSkip, rightSkip)
        var matched = 0
        while matched < Self.confirmationSteps {
            while leftIndex < left.count, left[leftIndex].isAsynchronous { leftIndex += 1 }
            while rightIndex < right.count, right[rightIndex].isAsynchronous { rightIndex += 1 }
            guard leftIndex < left.count, rightIndex < right.count else { return matched > 0 }
            guard left[leftIndex].aligns(with: right[rightIndex]) else { return false }
            matched += 1
            leftIndex += 1
            rightIndex += 1
        }
        return true
    }

    private static func count(_ gap: [ComparedStep], in unaligned: inout TraceComparison.Unaligned) {
        for step in gap {
            if step.isAsynchronous { unaligned.asynchronous += 1 } else { unaligned.synchronous += 1 }
        }
    }
}
