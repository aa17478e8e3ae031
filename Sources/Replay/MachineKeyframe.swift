// A keyframe of a machine under replay, with the pages that it lists.

internal import NVMM
internal import TraceFile

/// A keyframe and the contents of its pages.
struct MachineKeyframe {
    var keyframe: Keyframe
    /// By name; several keyframes may hold the same arrays.
    var pages: [PageHash: [UInt8]]
}

extension ReplayMachine {
    /// Everything that is needed to go on from here, but for instructions that are not finished: there must be none.
    ///
    /// - Parameters:
    ///   - position: steps before this place.
    ///   - pages: contents by name; those of this keyframe are added.
    func keyframe(at position: UInt64, adding pages: inout [PageHash: [UInt8]]) -> Keyframe {
        var images: [Keyframe.ObjectImage] = []
        for ordinal in objects.keys.sorted() {
            guard let object = objects[ordinal] else { continue }
            var references: [Keyframe.PageReference] = []
            for page in object.touchedPages.joined() {
                let content = object.withBytes(page * pageBytes..<(page + 1) * pageBytes) { $0.array }
                let name = unsafe PageHash(content: content.span.bytes)
                if name == .zeroPage { continue }
                if pages[name] == nil { pages[name] = content }
                references.append(Keyframe.PageReference(page: page, content: name))
            }
            images.append(
                Keyframe.ObjectImage(object: ordinal, byteCount: object.byteCount, pages: references))
        }
        return Keyframe(
            stepCount: position, clock: machine.clock, machinePrivateState: machine.savePrivateState(),
            vcpus: vcpus.keys.sorted().compactMap { id in vcpus[id].map { Keyframe.VCPUImage(of: $0) } },
            objects: images,
            gpaRanges: gpaRanges)
    }
}

extension MachineKeyframe {
    /// Appends the keyframe, after the pages that the trace lacks.
    func append(to writer: TraceWriter, as stepCount: UInt64) throws(TraceWriteError) {
        var keyframe = keyframe
        keyframe.stepCount = stepCount
        for object in keyframe.objects.indices {
            for place in keyframe.objects[object].pages.indices {
                let name = keyframe.objects[object].pages[place].content
                guard let content = pages[name] else { throw .unknownPage(name) }
                keyframe.objects[object].pages[place].content = try unsafe writer.storePage(content.span.bytes)
            }
        }
        try writer.append(.keyframe(keyframe))
    }
}
