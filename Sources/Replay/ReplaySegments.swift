// Replays a trace in segments between keyframes, several at the same time: each begins in the state that its keyframe
// holds and ends by comparing the next segment's keyframe, so that all together say what one pass says.

internal import Dispatch
internal import NVMM
internal import Synchronization
internal import SystemPackage
internal import TraceFile

/// Steps of a trace from one keyframe to another.
struct ReplaySegment: Equatable, Sendable {
    /// Steps before the keyframe at which it begins; the trace's own beginning, or the wanted one, for the first.
    var from: UInt64
    /// Steps before the keyframe with which it ends; nil: it is the last.
    var endKeyframe: UInt64?

    /// Less is replayed sooner than another machine is made.
    static let ticksMin: UInt64 = 50_000_000
    /// Segments take different times, so that each job gets several.
    private static let countForEachJob = 4

    /// Divides the steps of `options` by the machine's clock.
    ///
    /// - Returns: at least one; none is empty.
    static func divide(
        _ keyframes: [KeyframeEntry], for options: ReplayOptions, jobs: Int, ticksMin: UInt64 = ticksMin
    ) -> [ReplaySegment] {
        let begin = keyframes.last { $0.stepCount <= options.from }
        let inside = keyframes.filter {
            $0.stepCount > max(options.from, begin?.stepCount ?? 0) && $0.stepCount < options.to ?? .max
        }
        var segments = [ReplaySegment(from: options.from)]
        guard let end = inside.last?.clock, let start = begin?.clock, end > start else { return segments }
        let ticks = max(ticksMin, (end - start) / UInt64(max(jobs, 1) * countForEachJob))
        var last = start
        for keyframe in inside.dropLast() {
            // A damaged trace's clock may go backwards.
            guard keyframe.clock > last, keyframe.clock - last >= ticks, keyframe.stepCount > segments.last?.from ?? 0
            else { continue }
            segments[segments.count - 1].endKeyframe = keyframe.stepCount
            segments.append(ReplaySegment(from: keyframe.stepCount))
            last = keyframe.clock
        }
        return segments
    }
}

/// Segments that are to be replayed, and what came of those that were.
final class SegmentQueue: Sendable {
    private struct State {
        var next = 0
        /// Segments from here on have no say: one before them found a difference, or cannot be replayed.
        var end: Int
        var outcomes: [Result<ReplayReport, ReplayError>?]
        var stepsDone: [UInt64]
    }

    private let segments: [ReplaySegment]
    private let options: ReplayOptions
    private let state: Mutex<State>

    init(_ segments: [ReplaySegment], options: ReplayOptions) {
        self.segments = segments
        self.options = options
        state = Mutex(
            State(
                end: segments.count, outcomes: Array(repeating: nil, count: segments.count),
                stepsDone: Array(repeating: 0, count: segments.count)))
    }

    /// Steps replayed so far, in all segments.
    var stepsDone: UInt64 { state.withLock { $0.stepsDone.reduce(0, &+) } }

    /// What came of the segments in their order, up to the first that ends the replay.
    var outcomes: [Result<ReplayReport, ReplayError>] {
        state.withLock { $0.outcomes.prefix($0.end).compactMap(\.self) }
    }

    /// Replays one segment after another until none is left.
    func work(on trace: FilePath, limits: ReaderLimits, backend: any Backend) {
        var opened: TraceReader?
        while let index = take() {
            let outcome: Result<ReplayReport, ReplayError>
            do throws(ReplayError) {
                if opened == nil {
                    do { opened = try TraceReader(path: trace, limits: limits) } catch { throw .trace(error) }
                }
                guard let opened else { return }
                outcome = .success(try replay(index, opened, on: backend))
            } catch { outcome = .failure(error) }
            finish(index, outcome)
        }
    }

    private func replay(
        _ index: Int, _ reader: TraceReader, on backend: any Backend
    ) throws(ReplayError) -> ReplayReport {
        var options = options
        options.from = segments[index].from
        options.locatesCause = false
        let run = try ReplayRun(reader, backend: backend, reference: nil, options: options)
        let report = try run.run(endKeyframe: segments[index].endKeyframe) { progress in
            state.withLock {
                $0.stepsDone[index] = progress.stepsDone
                return index < $0.end
            }
        }
        guard let report else { throw .noSteps }
        return report
    }

    private func take() -> Int? {
        state.withLock {
            guard $0.next < $0.end else { return nil }
            $0.next += 1
            return $0.next - 1
        }
    }

    private func finish(_ index: Int, _ outcome: Result<ReplayReport, ReplayError>) {
        let goesOn = (try? outcome.get()).map { $0.divergence == nil || options.resynchronises } ?? false
        state.withLock {
            $0.outcomes[index] = outcome
            if !goesOn { $0.end = min($0.end, index + 1) }
        }
    }
}

extension Replayer {
    /// Replays `segments`, then the first that found a difference once more with all that finds its cause.
    func run(
        _ segments: [ReplaySegment], on backend: any Backend & Sendable, progress: (ReplayProgress) -> Void
    ) throws(ReplayError) -> ReplayReport {
        let queue = SegmentQueue(segments, options: options)
        let workers = DispatchGroup()
        let (trace, limits) = (FilePath(reader.path), reader.limits)
        for _ in 0..<min(jobs, segments.count) {
            DispatchQueue.global().async(group: workers) { queue.work(on: trace, limits: limits, backend: backend) }
        }
        let begin = segments.first?.from ?? 0
        func tell(_ stepsDone: UInt64) { progress(ReplayProgress(stepsDone: stepsDone, step: begin &+ stepsDone)) }
        while workers.wait(timeout: .now() + .milliseconds(200)) == .timedOut { tell(queue.stepsDone) }
        var report: ReplayReport?
        for (segment, outcome) in zip(segments, queue.outcomes) {
            // What one machine has room for, several need not have: one pass says what is really wrong.
            guard var next = try? outcome.get() else { return try run(observer: nil, progress: progress) }
            if next.divergence != nil, report?.divergence == nil { next = try explain(segment, progress) }
            report = report.map { $0.followed(by: next) } ?? next
        }
        guard let report else { throw .noSteps }
        tell(report.endStep &- report.firstStep)
        return report
    }

    private func explain(
        _ segment: ReplaySegment, _ progress: (ReplayProgress) -> Void
    ) throws(ReplayError) -> ReplayReport {
        var options = options
        options.from = segment.from
        let run = try ReplayRun(reader, backend: backend, reference: reference, options: options)
        let report = try run.run(endKeyframe: segment.endKeyframe) { here in
            progress(here)
            return true
        }
        guard let report else { throw .noSteps }
        return report
    }
}
