// Puts incremental keyframes together: Docs/trace-format.md, "Keyframe frame".

import NVMM

/// Keyframes in full, from the chain of those that they build on.
struct KeyframeResolver {
    /// Page lists of the keyframe resolved last, which the next one most likely builds on.
    private var lastOffset: UInt64 = 0
    private var last: [ObjectPages] = []

    mutating func keyframe(
        _ entry: IndexEntry, reader: TraceReader, entries: [IndexEntry]
    ) throws(TraceError) -> Keyframe {
        let raw = try RawKeyframe(
            try reader.payload(entry), place: TracePlace(frame: entry.offset), limits: reader.limits)
        let pages = try resolve(raw, offset: entry.offset, reader: reader, entries: entries)
        lastOffset = entry.offset
        last = pages
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

    private func resolve(
        _ raw: RawKeyframe, offset: UInt64, reader: TraceReader, entries: [IndexEntry]
    ) throws(TraceError) -> [ObjectPages] {
        // Back to a full keyframe, or the one that is known; then forward again.
        var chain: [[ObjectPages]] = [raw.changes]
        var distance = raw.baseDistance
        var place = offset
        var base: [ObjectPages] = []
        var total = raw.changes.reduce(0) { $0 + $1.pages.count }
        while distance != 0 {
            guard distance <= place else { throw .unusableKeyframe(offset: offset) }
            place -= distance
            if place == lastOffset {
                base = last
                break
            }
            guard let entry = entries.first(where: { $0.offset == place }),
                entry.type == FrameType.keyframe.rawValue
            else { throw .unusableKeyframe(offset: offset) }
            let before: RawKeyframe
            do throws(TraceError) {
                before = try RawKeyframe(
                    try reader.payload(entry), place: TracePlace(frame: place), limits: reader.limits)
            } catch {
                if case .damagedPayload = error { throw .unusableKeyframe(offset: offset) }
                throw error
            }
            total += before.changes.reduce(1) { $0 + $1.pages.count }
            guard total <= reader.limits.keyframePages else {
                throw .limitExceeded(
                    .keyframePages, value: UInt64(total), maximum: UInt64(reader.limits.keyframePages),
                    offset: offset)
            }
            chain.append(before.changes)
            distance = before.baseDistance
        }
        for changes in chain.reversed() {
            base = changes.map { object in
                let before =
                    base.first { $0.object == object.object && $0.byteCount == object.byteCount }?.pages ?? []
                return ObjectPages(
                    object: object.object, byteCount: object.byteCount,
                    pages: applyPageChanges(object.pages, to: before))
            }
        }
        return base
    }
}
