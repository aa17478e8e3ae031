// The smallest trace that still shows the same first divergence: Docs/corpus.md, "Minimizing".

public import NVMM
public import SystemPackage
public import TraceFile

/// Failures of a minimization.
public enum MinimizeError: Error, Equatable, Sendable {
    case replay(ReplayError)
    case trace(TraceError)
    case write(TraceWriteError)
    /// The trace replays without a difference: there is nothing to keep.
    case noDivergence
    /// What differs comes of an input that the trace does not hold, or cannot be repeated from a keyframe.
    case notReproducible
    /// Recorded between a client and /dev/kvm: its steps end in the middle of instructions.
    case hypervisorTrace
}

/// What a minimization came to.
public struct MinimizeReport: Encodable, Sendable {
    public var stepsBefore: UInt64 = 0
    public var stepsAfter: UInt64 = 0
    /// The step of the original at which the result begins.
    public var firstStep: UInt64 = 0
    /// Inputs between the steps that are kept: memory writes, calls, clock advances and the like.
    public var inputsBefore = 0
    public var inputsAfter = 0
    /// Pages that are not zero where the result begins, and bytes in them that are not.
    public var pagesBefore = 0
    public var pagesAfter = 0
    public var bytesBefore = 0
    public var bytesAfter = 0
    /// Replays of a smaller trace.
    public var candidateCount = 0
    /// What both traces show.
    public var divergence: Divergence?
}

/// Makes a trace smaller as long as it shows the same divergence.
public struct TraceMinimizer {
    private let reader: TraceReader
    private let makeSubject: (_ firstStep: UInt64) throws -> any Backend
    private let reference: any Backend
    private let known: [KnownDifference]
    private let workFile: FilePath

    /// - Parameters:
    ///   - makeSubject: the backend that executes the trace. `firstStep` is where in the original the trace begins.
    ///   - reference: a backend known to be right: where it replays the trace, its memory at any step is that of the
    ///     recording. Elsewhere only the trace's own keyframes are places to begin.
    ///   - workFile: where candidates are written, one after the other.
    public init(
        _ reader: TraceReader, reference: any Backend, known: [KnownDifference] = [], workFile: FilePath,
        makeSubject: @escaping (_ firstStep: UInt64) throws -> any Backend
    ) {
        self.reader = reader
        self.makeSubject = makeSubject
        self.reference = reference
        self.known = known
        self.workFile = workFile
    }

    /// Candidates that are tried at most: what is there by then is the result.
    public static let candidatesMax = 5000

    /// Writes the smallest trace that was found.
    ///
    /// - Parameter progress: called with the number of candidates so far.
    public func minimize(
        to output: FilePath, progress: @escaping (MinimizeReport) -> Void = { _ in }
    ) throws -> MinimizeReport {
        guard !reader.header.isOfHypervisor else { throw MinimizeError.hypervisorTrace }
        let whole = try replay(reader, on: makeSubject(0), locatesCause: true)
        guard let divergence = whole.divergence else {
            throw whole.isClean ? MinimizeError.noDivergence : MinimizeError.notReproducible
        }
        let end = TraceEnd(divergence)
        let referenceAgrees = try replay(reader, on: reference, until: end).isClean
        let search = MinimizeSearch(sought: divergence, workFile: workFile, progress: progress) {
            path, firstStep, locatesCause in
            let candidate: TraceReader
            do throws(TraceError) { candidate = try TraceReader(path: path) } catch { throw MinimizeError.trace(error) }
            // What differs without the subject's fault is another matter.
            if referenceAgrees, try !replay(candidate, on: reference, locatesCause: false).isClean { return nil }
            return try replay(candidate, on: makeSubject(firstStep), locatesCause: locatesCause).divergence
        }
        search.report.stepsBefore = try reader.stepEnd()
        search.report.divergence = divergence
        guard var best = try begin(end, referenceAgrees, search) else { throw MinimizeError.notReproducible }
        search.report.firstStep = best.firstStep
        search.report.inputsBefore = best.inputCount
        search.report.pagesBefore = best.pageCount
        search.report.bytesBefore = best.byteCount
        for make in [search.dropInputs, search.dropPages, search.clearBytes] { best = try search.smaller(best, make) }
        search.report.stepsAfter = best.stepCount
        search.report.inputsAfter = best.inputCount
        search.report.pagesAfter = best.pageCount
        search.report.bytesAfter = best.byteCount
        do throws(TraceWriteError) { try best.write(to: .file(output)) } catch { throw MinimizeError.write(error) }
        return search.report
    }

    private func replay(
        _ reader: TraceReader, on backend: any Backend, until end: TraceEnd? = nil, locatesCause: Bool = false,
        observer: (any ReplayObserver)? = nil
    ) throws -> ReplayReport {
        var options = ReplayOptions()
        options.locatesCause = locatesCause
        options.known = known
        options.allowsOtherBackend = true
        options.to = end.map { $0.position + 1 }
        do throws(ReplayError) {
            let replayer = Replayer(reader, on: backend, reference: reference, options: options)
            return try replayer.run(observer: observer) { _ in }
        } catch { throw MinimizeError.replay(error) }
    }

    // MARK: - The beginning

    /// The candidate that begins latest.
    private func begin(
        _ end: TraceEnd, _ referenceAgrees: Bool, _ search: MinimizeSearch
    ) throws -> MinimizedTrace? {
        // Twice as far back each time: most often the last step alone shows it.
        var distances: [UInt64] = [0]
        while let last = distances.last, last < end.position { distances.append(last * 2 + 1) }
        var low: (position: UInt64, trace: MinimizedTrace)?
        var high = end.position + 1
        func tryAll(_ positions: [UInt64]) throws {
            let keyframes =
                referenceAgrees ? try keyframes(at: positions, until: end) : try recordedKeyframes(until: end)
            for keyframe in keyframes.sorted(by: { $0.keyframe.stepCount > $1.keyframe.stepCount }) {
                let position = keyframe.keyframe.stepCount
                let trace = MinimizedTrace(of: reader.header, from: keyframe, try events(from: position, until: end))
                if try search.shows(trace) {
                    low = (position, trace)
                    return
                }
                high = position
            }
        }
        try tryAll(distances.filter { $0 <= end.position }.map { end.position - $0 })
        while let found = low, high - found.position > 1 {
            let step = max((high - found.position) / 16, 1)
            let before = (found.position, high)
            try tryAll(Array(stride(from: found.position + step, to: high, by: Int(clamping: step))))
            if let now = low, (now.position, high) == before { break }
        }
        if let low { return low.trace }
        let trace = MinimizedTrace(of: reader.header, from: nil, try events(from: 0, until: end))
        return try search.shows(trace) ? trace : nil
    }

    /// Keyframes at these places, where the reference replays the trace.
    private func keyframes(at positions: [UInt64], until end: TraceEnd) throws -> [MachineKeyframe] {
        let collector = KeyframeCollector(at: Set(positions.filter { $0 > 0 }))
        _ = try replay(reader, on: reference, until: end, observer: collector)
        return collector.keyframes
    }

    private func recordedKeyframes(until end: TraceEnd) throws -> [MachineKeyframe] {
        var keyframes: [MachineKeyframe] = []
        do throws(TraceError) {
            for entry in reader.keyframes where entry.stepCount <= end.position && entry.stepCount > 0 {
                guard case .keyframe(let keyframe)? = try reader.cursor(fromKeyframe: entry.index).next() else {
                    continue
                }
                keyframes.append(try reader.withPages(keyframe))
            }
        } catch { throw MinimizeError.trace(error) }
        return keyframes
    }

    /// Events after `position` steps, to the place where the divergence shows.
    private func events(from position: UInt64, until end: TraceEnd) throws -> [MinimizedTrace.Entry] {
        var entries: [MinimizedTrace.Entry] = []
        do throws(TraceError) {
            let start = position == 0 ? nil : reader.keyframes.last { $0.stepCount < position }?.index
            let cursor = try reader.cursor(fromKeyframe: start)
            while let event = try cursor.next() {
                // Behind a step the cursor stands at the next one.
                let place = cursor.nextStepIndex
                switch event {
                case .step:
                    if place > position { entries.append(.event(event)) }
                    if place == end.position + 1, !end.isKeyframe { return entries }
                case .keyframe(let keyframe):
                    if keyframe.stepCount == end.position, end.isKeyframe {
                        entries.append(.keyframe(try reader.withPages(keyframe)))
                        return entries
                    }
                case .guestWrite: break
                default: if place >= position { entries.append(.event(event)) }
                }
                guard entries.count <= Self.eventsMax else { return entries }
            }
        } catch { throw MinimizeError.trace(error) }
        return entries
    }

    private static let eventsMax = 1 << 22
}

/// Where a divergence shows.
struct TraceEnd {
    /// The divergent step; for what a keyframe found, the steps before it.
    var position: UInt64
    var isKeyframe: Bool

    init(_ divergence: Divergence) {
        isKeyframe = divergence.kind == .memory || divergence.kind == .privateState
        position = divergence.step
    }
}

/// Takes keyframes at some places of a replay.
private final class KeyframeCollector: ReplayObserver {
    private let positions: Set<UInt64>
    private var pages: [PageHash: [UInt8]] = [:]
    private var found: [Keyframe] = []
    private var position: UInt64 = 0

    init(at positions: Set<UInt64>) { self.positions = positions }

    func didExecute(_ event: TraceEvent, on machine: ReplayMachine) throws(ReplayError) {
        guard case .step = event else { return }
        position += 1
        if positions.contains(position) { found.append(machine.keyframe(at: position, adding: &pages)) }
    }

    var keyframes: [MachineKeyframe] { found.map { MachineKeyframe(keyframe: $0, pages: pages) } }
}

extension TraceReader {
    fileprivate func withPages(_ keyframe: Keyframe) throws(TraceError) -> MachineKeyframe {
        var pages: [PageHash: [UInt8]] = [:]
        for reference in keyframe.objects.flatMap(\.pages) where pages[reference.content] == nil {
            pages[reference.content] = try page(reference.content)
        }
        return MachineKeyframe(keyframe: keyframe, pages: pages)
    }
}
