// Adds to a trace what its guest wrote to memory, by replaying it: Docs/determinism.md, "Record levels".

public import NVMM
public import TraceFile

/// Makes a trace of level `client` from one of level `replay`.
///
/// The replay compares as ``Replayer`` does: where it differs, nothing is known of what the recorded guest wrote, and
/// the copy is of no use.
public struct TraceFiller {
    private let reader: TraceReader
    private let backend: any Backend
    private let reference: (any Backend)?

    /// - Parameters: as those of ``Replayer``.
    public init(_ reader: TraceReader, on backend: any Backend, reference: (any Backend)? = nil) {
        self.reader = reader
        self.backend = backend
        self.reference = reference
    }

    /// Writes the copy.
    ///
    /// - Returns: what the replay found. Unless it ``ReplayReport/isClean``, the copy ends early and is to be removed.
    /// - Throws: ``ReplayError``, also where the copy cannot be written.
    public func fill(
        to destination: TraceDestination, writerOptions: TraceWriterOptions = TraceWriterOptions(),
        progress: (ReplayProgress) -> Void = { _ in }
    ) throws(ReplayError) -> ReplayReport {
        let replayer = Replayer(reader, on: backend, reference: reference)
        try replayer.checkHeader()
        var header = reader.header
        header.level = .client
        let writer: TraceWriter
        do throws(TraceWriteError) {
            writer = try TraceWriter(destination, header: header, options: writerOptions)
        } catch { throw .write(error) }
        let copy = FilledCopy(of: reader, in: writer)
        let report = try replayer.run(observer: copy, progress: progress)
        do throws(TraceWriteError) { _ = try writer.finish() } catch { throw .write(error) }
        return report
    }
}

/// Hears of each event of a replay, once it is executed and found equal.
protocol ReplayObserver: AnyObject {
    func didExecute(_ event: TraceEvent, on machine: ReplayMachine) throws(ReplayError)
}

/// The copy while it is written.
private final class FilledCopy: ReplayObserver {
    private let reader: TraceReader
    private let writer: TraceWriter
    private var shadows: [UInt32: MemoryShadow] = [:]
    /// Pages that the copy has, with their names there.
    private var pages: [PageHash: PageHash] = [:]

    init(of reader: TraceReader, in writer: TraceWriter) {
        self.reader = reader
        self.writer = writer
    }

    func didExecute(_ event: TraceEvent, on machine: ReplayMachine) throws(ReplayError) {
        switch event {
        case .guestWrite: break  // made anew
        case .keyframe(let keyframe): try append(.keyframe(try storing(keyframe)))
        case .step:
            try append(event)
            try appendGuestWrites(on: machine)
        case .memoryWrite(let write):
            shadows[write.object]?.store(write.bytes, at: write.offset)
            try append(event)
        case .machine(let change):
            if case .hvaMap(let object, let byteCount) = change { shadows[object] = MemoryShadow(byteCount: byteCount) }
            if case .hvaUnmap(let object) = change { shadows[object] = nil }
            try append(event)
        case .call, .loss: try append(event)
        }
    }

    private func append(_ event: TraceEvent) throws(ReplayError) {
        do throws(TraceWriteError) { try writer.append(event) } catch { throw .write(error) }
    }

    private func appendGuestWrites(on machine: ReplayMachine) throws(ReplayError) {
        for ordinal in machine.objects.keys.sorted() {
            let dirty = machine.takeGuestPages(of: ordinal)
            guard let object = machine.objects[ordinal] else { continue }
            for change in shadows[ordinal]?.takeChanges(in: dirty, of: object) ?? [] {
                try append(.guestWrite(MemoryWrite(object: ordinal, offset: change.offset, bytes: change.bytes)))
            }
        }
    }

    /// Puts the keyframe's pages into the copy, unless they are there.
    private func storing(_ keyframe: Keyframe) throws(ReplayError) -> Keyframe {
        var keyframe = keyframe
        for object in keyframe.objects.indices {
            for place in keyframe.objects[object].pages.indices {
                let name = keyframe.objects[object].pages[place].content
                keyframe.objects[object].pages[place].content = try store(name)
            }
        }
        return keyframe
    }

    /// - Returns: the page's name in the copy.
    private func store(_ name: PageHash) throws(ReplayError) -> PageHash {
        if let known = pages[name] { return known }
        let content: [UInt8]
        do throws(TraceError) { content = try reader.page(name) } catch { throw .trace(error) }
        let stored: PageHash
        do throws(TraceWriteError) { stored = try unsafe writer.storePage(content.span.bytes) } catch {
            throw .write(error)
        }
        pages[name] = stored
        return stored
    }
}
