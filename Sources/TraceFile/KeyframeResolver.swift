// Puts incremental keyframes together: Docs/trace-format.md, "Keyframe frame".

import NVMM

/// Keyframes in full, from the chain of those that they build on.
struct KeyframeResolver {
    /// Page lists of the keyframe resolved last, which the next one most likely builds on.
    private var lastEpoch: UInt32 = 0
    private var last: [ObjectPages] = []

    mutating func keyframe(_ entry: IndexEntry, reader: TraceReader) throws(TraceError) -> Keyframe {
        let (raw, pages) = try resolve(entry, reader: reader)
        var objects: [Keyframe.ObjectImage] = []
        for object in pages {
            var references: [Keyframe.PageReference] = []
            references.reserveCapacity(object.pages.count)
            for slot in object.pages {
                guard let name = try reader.pageName(slot: slot.slot) else {
                    throw .unusableKeyframe(offset: entry.offset)
                }
                references.append(Keyframe.PageReference(page: slot.page, content: name))
            }
            objects.append(
                Keyframe.ObjectImage(object: object.object, byteCount: object.byteCount, pages: references))
        }
        return Keyframe(
            stepCount: raw.stepCount, clock: raw.clock, machinePrivateState: raw.machinePrivateState,
            vcpus: raw.vcpus, objects: objects, gpaRanges: raw.gpaRanges)
    }

    /// The keyframe as it stands, and the pages of its objects.
    mutating func resolve(
        _ entry: IndexEntry, reader: TraceReader
    ) throws(TraceError) -> (raw: RawKeyframe, pages: [ObjectPages]) {
        let limit = reader.limits.keyframePages
        let raw = try Self.raw(entry, reader: reader)
        // Back to a full keyframe, or the one that is known; then forward again.
        var chain: [[ObjectPages]] = [raw.changes]
        var epoch = raw.baseEpoch
        var before = entry.epoch
        var base: [ObjectPages] = []
        var total = raw.changes.reduce(0) { $0 + $1.pages.count }
        while epoch != 0 {
            if epoch == lastEpoch {
                base = last
                break
            }
            // Descending, so that the chain ends.
            guard epoch < before, let next = try reader.keyframeEntry(epoch: epoch) else {
                throw .unusableKeyframe(offset: entry.offset)
            }
            before = epoch
            let link: RawKeyframe
            do throws(TraceError) { link = try Self.raw(next, reader: reader) } catch {
                if case .damagedPayload = error { throw .unusableKeyframe(offset: entry.offset) }
                if case .damagedHeader = error { throw .unusableKeyframe(offset: entry.offset) }
                throw error
            }
            total += link.changes.reduce(1) { $0 + $1.pages.count }
            guard total <= limit else {
                throw .limitExceeded(
                    .keyframePages, value: UInt64(total), maximum: UInt64(limit), offset: entry.offset)
            }
            chain.append(link.changes)
            epoch = link.baseEpoch
        }
        for changes in chain.reversed() {
            var pages = 0
            var objects: [ObjectPages] = []
            for object in changes {
                let before =
                    base.first { $0.object == object.object && $0.byteCount == object.byteCount }?.pages ?? []
                pages += before.count + object.pages.count
                guard pages <= limit else {
                    throw .limitExceeded(
                        .keyframePages, value: UInt64(pages), maximum: UInt64(limit), offset: entry.offset)
                }
                objects.append(
                    ObjectPages(
                        object: object.object, byteCount: object.byteCount,
                        pages: applyPageChanges(object.pages, to: before)))
            }
            base = objects
        }
        lastEpoch = entry.epoch
        last = base
        return (raw, base)
    }

    private static func raw(_ entry: IndexEntry, reader: TraceReader) throws(TraceError) -> RawKeyframe {
        let place = TracePlace(frame: entry.offset)
        let raw = try RawKeyframe(try reader.payload(entry), place: place, limits: reader.limits)
        guard raw.stepCount == entry.firstStep else { throw .malformed(.inconsistent, place) }
        return raw
    }
}
