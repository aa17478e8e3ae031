// Goes through the events of a trace in the order in which they happened.

import NVMM

/// A place in a trace, moving forward.
public final class TraceCursor {
    /// Number of the step that comes next, counted over the whole trace.
    public private(set) var nextStepIndex: UInt64

    private let reader: TraceReader
    private let entries: [IndexEntry]
    private var position: Int
    /// Blocks of the epoch that is being merged.
    private var blocks: [BlockDecoder] = []
    private var active: BlockDecoder?
    private var resolver: KeyframeResolver
    private var isFirst = true

    init(_ reader: TraceReader, entries: [IndexEntry], position: Int, nextStepIndex: UInt64) {
        self.reader = reader
        self.entries = entries
        self.position = position
        self.nextStepIndex = nextStepIndex
        resolver = KeyframeResolver()
    }

    /// The next event, nil at the end of the trace.
    ///
    /// - Throws: ``TraceError`` where the trace is damaged. The cursor then stands behind the damage: a further call
    ///   goes on with the next event that can be read. Missing steps are told once, as
    ///   ``TraceError/missingSteps(first:next:)``, before the step that follows them.
    public func next() throws(TraceError) -> TraceEvent? {
        while true {
            if let active {
                if let event = try guarded(active, { (block) throws(TraceError) in try block.next() }) {
                    if case .step = event {
                        nextStepIndex &+= 1
                        self.active = nil
                    }
                    return event
                }
                self.active = nil
            }
            if let index = try activateNext() {
                guard index == nextStepIndex else {
                    let first = nextStepIndex
                    nextStepIndex = index
                    throw .missingSteps(first: first, next: index)
                }
                continue
            }
            // All steps of the epoch are out; at most one block has events after them.
            while let block = blocks.last {
                if let event = try guarded(block, { (block) throws(TraceError) in try block.nextTrailing() }) {
                    return event
                }
                blocks.removeLast()
                try block.checkEnd()
            }
            guard position < entries.count else { return nil }
            let entry = entries[position]
            switch FrameType(rawValue: entry.type) {
            case .steps: try openEpoch()
            case .keyframe:
                position += 1
                if entry.firstStep != nextStepIndex, entry.firstStep > nextStepIndex {
                    let first = nextStepIndex
                    nextStepIndex = entry.firstStep
                    position -= 1
                    throw .missingSteps(first: first, next: entry.firstStep)
                }
                return .keyframe(try resolver.keyframe(entry, reader: reader))
            default: position += 1
            }
        }
    }

    /// Runs `body`; a block that fails is dropped, since what follows in it depends on what failed.
    private func guarded(
        _ block: BlockDecoder, _ body: (BlockDecoder) throws(TraceError) -> TraceEvent?
    ) throws(TraceError) -> TraceEvent? {
        do throws(TraceError) { return try body(block) } catch {
            blocks.removeAll { $0 === block }
            active = nil
            if case .malformed(let what, var place) = error {
                place.step = place.step ?? block.nextIndex
                throw .malformed(what, place)
            }
            throw error
        }
    }

    /// Makes the block with the lowest next step active and returns that step's number.
    private func activateNext() throws(TraceError) -> UInt64? {
        var best: BlockDecoder?
        for block in blocks {
            guard let index = block.nextIndex else { continue }
            if let lowest = best?.nextIndex, lowest <= index {
                continue
            }
            best = block
        }
        guard let best, let index = best.nextIndex else { return nil }
        if index < nextStepIndex {
            // Two blocks claim one step, or the file goes backwards.
            blocks.removeAll { $0 === best }
            throw .malformed(.disorder, TracePlace(frame: best.columns.offset, step: index))
        }
        active = best
        return index
    }

    /// Takes all steps frames of the epoch that begins at `position`.
    private func openEpoch() throws(TraceError) {
        let epoch = entries[position].epoch
        var problem: TraceError?
        var budget = reader.limits.blockBytes
        while position < entries.count {
            let entry = entries[position]
            if entry.type == FrameType.steps.rawValue {
                guard entry.epoch == epoch else { break }
                position += 1
                guard blocks.count < reader.limits.blocksPerEpoch else {
                    problem = .limitExceeded(
                        .blocksPerEpoch, value: UInt64(blocks.count + 1),
                        maximum: UInt64(reader.limits.blocksPerEpoch), offset: entry.offset)
                    continue
                }
                do throws(TraceError) {
                    let columns = try reader.columns(entry)
                    columns.budget = min(columns.budget, budget / 8)
                    let before = columns.budget
                    blocks.append(
                        try BlockDecoder(
                            columns, vcpu: entry.vcpu, firstStep: entry.firstStep, limits: reader.limits))
                    budget -= (before - columns.budget) * 8
                } catch { problem = problem ?? error }
            } else if entry.type == FrameType.keyframe.rawValue {
                break
            } else {
                position += 1
            }
        }
        if let problem { throw problem }
    }
}
