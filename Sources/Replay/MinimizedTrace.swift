// A part of a trace while it is made smaller, and the search for smaller ones.

internal import NVMM
internal import SystemPackage
internal import TraceFile

/// A trace in memory: where it begins, and what is left of what came after.
struct MinimizedTrace {
    enum Entry {
        case event(TraceEvent)
        case keyframe(MachineKeyframe)
    }

    var header: TraceHeader
    /// nil: at the beginning of the original.
    var start: MachineKeyframe?
    var entries: [Entry]
    var firstStep: UInt64 { start?.keyframe.stepCount ?? 0 }

    init(of header: TraceHeader, from start: MachineKeyframe?, _ entries: [Entry]) {
        self.header = header
        self.start = start
        self.entries = entries
        self.header.level = .replay
        guard let start else { return }
        self.header.parameters.removeAll { $0.key == TraceHeader.Parameter.firstStep }
        self.header.parameters.append(
            .init(key: TraceHeader.Parameter.firstStep, value: "\(start.keyframe.stepCount)"))
        self.header.parameters.sort { $0.key < $1.key }
    }

    var stepCount: UInt64 {
        entries.reduce(0) { if case .event(.step) = $1 { $0 + 1 } else { $0 } }
    }

    /// Places of entries that are neither steps nor keyframes.
    var inputs: [Int] {
        entries.indices.filter {
            switch entries[$0] {
            case .event(.step), .keyframe: false
            default: true
            }
        }
    }

    var inputCount: Int { inputs.count }
    var pageCount: Int { start?.keyframe.objects.reduce(0) { $0 + $1.pages.count } ?? 0 }

    /// Bytes of the start's pages that are not zero.
    var byteCount: Int {
        guard let start else { return 0 }
        return start.keyframe.objects.flatMap(\.pages).reduce(0) { sum, page in
            sum + (start.pages[page.content]?.count { $0 != 0 } ?? 0)
        }
    }

    func write(to destination: TraceDestination) throws(TraceWriteError) {
        let writer = try TraceWriter(destination, header: header)
        if let start {
            let reason = "what came before step \(firstStep) was taken out"
            try writer.append(.loss(Loss(eventCount: max(firstStep, 1), reason: reason)))
            try start.append(to: writer, as: 0)
        }
        for entry in entries {
            switch entry {
            case .event(let event): try writer.append(event)
            case .keyframe(let keyframe): try keyframe.append(to: writer, as: writer.stepCount)
            }
        }
        _ = try writer.finish()
    }
}

/// Tries smaller traces and counts them.
final class MinimizeSearch {
    var report = MinimizeReport()
    private let sought: Divergence
    private let workFile: FilePath
    private let progress: (MinimizeReport) -> Void
    private let replay: (FilePath, _ firstStep: UInt64, _ locatesCause: Bool) throws -> Divergence?
    /// Whether each candidate's wrong instruction is compared too, and not only what it led to.
    private var locatesCauses = false

    init(
        sought: Divergence, workFile: FilePath, progress: @escaping (MinimizeReport) -> Void,
        replay: @escaping (FilePath, _ firstStep: UInt64, _ locatesCause: Bool) throws -> Divergence?
    ) {
        self.sought = sought
        self.workFile = workFile
        self.progress = progress
        self.replay = replay
    }

    /// Whether the candidate shows what is sought, the wrong instruction among it. What cannot be replayed at all shows
    /// nothing.
    func shows(_ trace: MinimizedTrace) throws -> Bool { try shows(trace, locatesCause: true) }

    private func shows(_ trace: MinimizedTrace, locatesCause: Bool) throws -> Bool {
        report.candidateCount += 1
        progress(report)
        do throws(TraceWriteError) { try writeCandidate(trace) } catch { throw MinimizeError.write(error) }
        do {
            guard let found = try replay(workFile, trace.firstStep, locatesCause) else { return false }
            return found.leadsToSame(as: sought) && (!locatesCause || found.hasSameCause(as: sought))
        } catch MinimizeError.replay {
            return false
        }
    }

    /// Without the journals that a trace in a file has, which cost more than all else and hold nothing worth keeping.
    private func writeCandidate(_ trace: MinimizedTrace) throws(TraceWriteError) {
        let file: FileDescriptor
        do {
            file = try FileDescriptor.open(
                workFile, .readWrite, options: [.create, .truncate, .closeOnExec], permissions: .ownerReadWrite)
        } catch {
            throw .io(call: "open", errno: (error as? Errno)?.rawValue ?? 0)
        }
        defer { try? file.close() }
        try trace.write(to: .descriptor(file))
    }

    private func stillShows(_ trace: MinimizedTrace) throws -> Bool {
        if report.candidateCount >= TraceMinimizer.candidatesMax { return false }
        return try shows(trace, locatesCause: locatesCauses)
    }

    /// What `make` leaves of a trace. The same values after another wrong instruction are rare: whether it is the same
    /// one is looked at when all is done, and only where it is not, in each candidate.
    func smaller(_ trace: MinimizedTrace, _ make: (inout MinimizedTrace) throws -> Void) throws -> MinimizedTrace {
        var result = trace
        locatesCauses = false
        try make(&result)
        if try shows(result) { return result }
        result = trace
        locatesCauses = true
        try make(&result)
        return result
    }

    /// Takes out events between steps; then what the remaining steps consume; then bytes of memory writes.
    func dropInputs(_ best: inout MinimizedTrace) throws {
        let whole = best
        let inputs = Set(whole.inputs)
        func keeping(_ kept: [Int]) -> MinimizedTrace {
            let kept = Set(kept)
            var trace = whole
            trace.entries = whole.entries.indices.filter { !inputs.contains($0) || kept.contains($0) }
                .map { whole.entries[$0] }
            return trace
        }
        best = keeping(try minimized(whole.inputs) { try stillShows(keeping($0)) })
        for place in best.entries.indices {
            guard case .event(.step(let step)) = best.entries[place] else { continue }
            var smaller = step
            if step.event != nil {
                smaller.event = nil
                try take(smaller, at: place, of: &best)
            }
            guard case .event(.step(let kept)) = best.entries[place], !kept.commit.isEmpty else { continue }
            smaller = kept
            smaller.commit = []
            try take(smaller, at: place, of: &best)
        }
        for place in best.entries.indices {
            guard case .event(.memoryWrite(let write)) = best.entries[place] else { continue }
            try shorten(write, at: place, of: &best)
        }
    }

    private func take(_ step: Step, at place: Int, of best: inout MinimizedTrace) throws {
        var smaller = best
        smaller.entries[place] = .event(.step(step))
        if try stillShows(smaller) { best = smaller }
    }

    /// Halves a write from its end, then from its beginning.
    private func shorten(_ write: MemoryWrite, at place: Int, of best: inout MinimizedTrace) throws {
        var write = write
        for fromEnd in [true, false] {
            var cut = write.bytes.count / 2
            while cut > 0 {
                var shorter = write
                if fromEnd {
                    shorter.bytes.removeLast(cut)
                } else {
                    shorter.bytes.removeFirst(cut)
                    shorter.offset += cut
                }
                var smaller = best
                smaller.entries[place] = .event(.memoryWrite(shorter))
                if try stillShows(smaller) {
                    best = smaller
                    write = shorter
                    cut = min(cut, write.bytes.count / 2)
                } else {
                    cut /= 2
                }
            }
        }
    }

    /// Makes pages of the start zero.
    func dropPages(_ best: inout MinimizedTrace) throws {
        guard let start = best.start else { return }
        let whole = best
        let all = start.keyframe.objects.indices.flatMap { object in
            start.keyframe.objects[object].pages.map { PagePlace(object: object, page: $0.page) }
        }
        func keeping(_ kept: [PagePlace]) -> MinimizedTrace {
            let kept = Set(kept)
            var trace = whole
            for object in start.keyframe.objects.indices {
                trace.start?.keyframe.objects[object].pages.removeAll {
                    !kept.contains(PagePlace(object: object, page: $0.page))
                }
            }
            return trace
        }
        best = keeping(try minimized(all) { try stillShows(keeping($0)) })
    }

    private struct PagePlace: Hashable {
        var object: Int
        var page: Int
    }

    /// Makes bytes of the pages that are left zero: large pieces first, then those of what is left.
    func clearBytes(_ best: inout MinimizedTrace) throws {
        for size in [256, 16, 1] {
            guard let start = best.start else { return }
            let whole = best
            func keeping(_ kept: [Piece]) -> MinimizedTrace {
                var trace = whole
                trace.start = start.keeping(kept, size: size)
                return trace
            }
            best = keeping(try minimized(start.pieces(of: size)) { try stillShows(keeping($0)) })
        }
    }
}

/// A piece of a page, by its place in the keyframe and in the page.
private struct Piece {
    var object: Int
    var page: Int
    var offset: Int
}

extension MachineKeyframe {
    /// Pieces that are not zero.
    fileprivate func pieces(of size: Int) -> [Piece] {
        var pieces: [Piece] = []
        for object in keyframe.objects.indices {
            for (page, reference) in keyframe.objects[object].pages.enumerated() {
                guard let content = pages[reference.content] else { continue }
                for offset in stride(from: 0, to: content.count, by: size)
                where content[offset..<min(offset + size, content.count)].contains(where: { $0 != 0 }) {
                    pieces.append(Piece(object: object, page: page, offset: offset))
                }
            }
        }
        return pieces
    }

    /// Everything else is zero, and a page of which nothing is left is no page.
    fileprivate func keeping(_ kept: [Piece], size: Int) -> MachineKeyframe {
        var contents: [[[UInt8]]] = keyframe.objects.map { object in
            object.pages.map { _ in [UInt8](repeating: 0, count: pageBytes) }
        }
        for piece in kept {
            guard let content = pages[keyframe.objects[piece.object].pages[piece.page].content] else { continue }
            for byte in piece.offset..<min(piece.offset + size, content.count) {
                contents[piece.object][piece.page][byte] = content[byte]
            }
        }
        var result = MachineKeyframe(keyframe: keyframe, pages: [:])
        for object in keyframe.objects.indices {
            for (page, content) in contents[object].enumerated() {
                let name = unsafe PageHash(content: content.span.bytes)
                result.keyframe.objects[object].pages[page].content = name
                result.pages[name] = content
            }
            result.keyframe.objects[object].pages.removeAll { $0.content == .zeroPage }
        }
        return result
    }
}

extension Divergence {
    /// Whether two traces show the same difference, wherever in the trace.
    fileprivate func leadsToSame(as other: Divergence) -> Bool {
        kind == other.kind && vcpu == other.vcpu && differingFields == other.differingFields
            && instructionAtExit?.rip == other.instructionAtExit?.rip
            && (kind != .memory || memory == other.memory)
    }

    fileprivate func hasSameCause(as other: Divergence) -> Bool {
        let (mine, theirs) = (wrongInstruction, other.wrongInstruction)
        return mine?.place.rip == theirs?.place.rip && mine?.place.bytes == theirs?.place.bytes
            && mine?.fields.filter(\.differs) == theirs?.fields.filter(\.differs)
    }
}
