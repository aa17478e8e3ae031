// The payload of a keyframe frame: Docs/trace-format.md, "Keyframe frame".

import NVMM

/// A page of an object by its slot: 0 is the zero page, else 1 + ordinal in the page store.
struct PageSlot: Equatable {
    var page: Int
    var slot: UInt64
}

/// Pages of one object as a keyframe's chain gives them, ascending, zero pages left out.
struct ObjectPages: Equatable {
    var object: UInt32
    var byteCount: Int
    var pages: [PageSlot]
}

extension ByteWriter {
    /// - Parameters:
    ///   - base: pages of the keyframe before, to which this one is relative; nil for a full one.
    ///   - baseEpoch: the epoch number of `base`.
    mutating func keyframe(_ keyframe: Keyframe, objects: [ObjectPages], base: [ObjectPages]?, baseEpoch: UInt32) {
        varint(keyframe.stepCount)
        varint(keyframe.clock)
        varint(base == nil ? 0 : baseEpoch)
        blob(keyframe.machinePrivateState)
        varint(keyframe.vcpus.count)
        for vcpu in keyframe.vcpus {
            varint(vcpu.id)
            stateDifference(vcpu.state, from: nil)
            stateDifference(vcpu.pageState, from: vcpu.state)
            blob(vcpu.privateState)
            varint(vcpu.cached.rawValue)
            varint(vcpu.commit.rawValue)
            byte((vcpu.eventCommit ? 1 : 0) | (vcpu.stop ? 2 : 0))
            varint(vcpu.event.kind.rawValue)
            byte(vcpu.event.vector)
            varint(vcpu.event.errorCode)
        }
        varint(objects.count)
        for object in objects {
            varint(object.object)
            varint(object.byteCount)
            let before = base?.first { $0.object == object.object && $0.byteCount == object.byteCount }?.pages ?? []
            let changes = pageChanges(from: before, to: object.pages)
            varint(changes.count)
            var next = 0
            var slot: UInt64 = 0
            for change in changes {
                varint(change.page - next)
                difference(change.slot &- slot)
                next = change.page + 1
                slot = change.slot
            }
        }
        varint(keyframe.gpaRanges.count)
        for range in keyframe.gpaRanges { gpaRange(range) }
    }

    /// Mask of words that differ from `base` (from zero where nil), then those words.
    private mutating func stateDifference(_ state: VCPUState, from base: VCPUState?) {
        var mask = WordMask()
        var values: [UInt64] = []
        state.withWords { words in
            let zeros = [UInt64](repeating: 0, count: VCPUState.wordCount)
            let reference = base.map { $0.withWords { span in (0..<span.count).map { span[$0] } } } ?? zeros
            for word in 0..<VCPUState.wordCount where words[word] != reference[word] {
                mask.insert(word)
                values.append(words[word])
            }
        }
        varint(mask.low)
        varint(mask.high)
        for value in values { varint(value) }
    }
}

/// What has to be put over `from` to get `to`; both ascending.
func pageChanges(from: [PageSlot], to: [PageSlot]) -> [PageSlot] {
    var changes: [PageSlot] = []
    var left = 0
    var right = 0
    while left < from.count || right < to.count {
        if right == to.count || (left < from.count && from[left].page < to[right].page) {
            changes.append(PageSlot(page: from[left].page, slot: 0))
            left += 1
        } else if left == from.count || to[right].page < from[left].page {
            changes.append(to[right])
            right += 1
        } else {
            if from[left].slot != to[right].slot { changes.append(to[right]) }
            left += 1
            right += 1
        }
    }
    return changes
}

/// `from` with `changes` put over it; both ascending.
func applyPageChanges(_ changes: [PageSlot], to from: [PageSlot]) -> [PageSlot] {
    var result: [PageSlot] = []
    result.reserveCapacity(max(from.count, changes.count))
    var left = 0
    var right = 0
    while left < from.count || right < changes.count {
        if right == changes.count || (left < from.count && from[left].page < changes[right].page) {
            result.append(from[left])
            left += 1
        } else {
            if left < from.count && from[left].page == changes[right].page { left += 1 }
            if changes[right].slot != 0 { result.append(changes[right]) }
            right += 1
        }
    }
    return result
}

/// A keyframe as its frame has it: pages by slot, perhaps relative to another.
struct RawKeyframe {
    var stepCount: UInt64
    var clock: UInt64
    /// Epoch of the keyframe that this one builds on; 0 for none.
    var baseEpoch: UInt32
    var machinePrivateState: [UInt8]
    var vcpus: [Keyframe.VCPUImage]
    var changes: [ObjectPages]
    var gpaRanges: [GPARange]

    init(_ bytes: [UInt8], place: TracePlace, limits: ReaderLimits) throws(TraceError) {
        var reader = ByteReader(bytes, place: place)
        stepCount = try reader.varint()
        clock = try reader.varint()
        baseEpoch = try reader.varint32()
        machinePrivateState = try reader.blob()
        vcpus = []
        // A VCPU takes 15 bytes or more here and some 2 KiB in memory.
        for _ in 0..<(try reader.count(max: min(reader.remaining / 15, limits.blocksPerEpoch))) {
            let id = try reader.varint32()
            let state = try reader.state(from: nil)
            let pageState = try reader.state(from: state)
            let privateState = try reader.blob()
            let cached = StateFlags(rawValue: try reader.varint())
            let commit = StateFlags(rawValue: try reader.varint())
            let flags = try reader.byte()
            guard flags < 4 else { throw reader.failure(.unknownValue) }
            let kind = VCPUEvent.Kind(rawValue: try reader.varint32())
            let event = VCPUEvent(kind: kind, vector: try reader.byte(), errorCode: try reader.varint())
            vcpus.append(
                Keyframe.VCPUImage(
                    id: id, state: state, privateState: privateState, cached: cached, commit: commit,
                    pageState: pageState, eventCommit: flags & 1 != 0, event: event, stop: flags & 2 != 0))
        }
        changes = []
        var total = 0
        for _ in 0..<(try reader.count(max: reader.remaining)) {
            let object = try reader.varint32()
            let byteCount = try reader.nonNegative()
            let count = try reader.count(max: reader.remaining)
            total += count
            guard total <= limits.keyframePages else {
                throw .limitExceeded(
                    .keyframePages, value: UInt64(total), maximum: UInt64(limits.keyframePages), offset: place.frame)
            }
            var pages: [PageSlot] = []
            pages.reserveCapacity(count)
            var next = 0
            var slot: UInt64 = 0
            let pageCount = byteCount / pageBytes
            for _ in 0..<count {
                guard next < pageCount else { throw reader.failure(.indexOutOfRange) }
                let skip = try reader.count(max: pageCount - next - 1)
                slot &+= try reader.difference()
                pages.append(PageSlot(page: next + skip, slot: slot))
                next += skip + 1
            }
            changes.append(ObjectPages(object: object, byteCount: byteCount, pages: pages))
        }
        gpaRanges = []
        for _ in 0..<(try reader.count(max: reader.remaining / 5)) { gpaRanges.append(try reader.gpaRange()) }
        // Whatever follows was added by a later version and is optional.
    }
}

extension ByteReader {
    fileprivate mutating func state(from base: VCPUState?) throws(TraceError) -> VCPUState {
        let mask = WordMask(low: try varint(), high: try varint())
        guard mask.isValid else { throw failure(.unknownValue) }
        var words = [UInt64](repeating: 0, count: VCPUState.wordCount)
        for word in 0..<VCPUState.wordCount where mask[word] { words[word] = try varint() }
        var state = base ?? VCPUState()
        state.withMutableWords { span in
            for word in 0..<VCPUState.wordCount {
                if mask[word] { span[word] = words[word] } else if base == nil { span[word] = 0 }
            }
        }
        return state
    }
}
