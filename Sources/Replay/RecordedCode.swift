// Instructions of a recorded guest, from the memory of its last keyframe: no backend runs.

public import NVMM
public import TraceFile

/// Reads code as a keyframe has it. A guest that changed it since, or before, is shown as it was there.
public final class RecordedCode {
    private let reader: TraceReader
    private var pages: [UInt32: [Int: PageHash]] = [:]
    private let ranges: [GPARange]
    private var contents: [PageHash: [UInt8]] = [:]
    private static let contentsMax = 4096

    /// - Returns: nil where the trace has no keyframe.
    /// - Throws: ``TraceError`` where its index or its last keyframe cannot be read.
    public init?(_ reader: TraceReader) throws(TraceError) {
        guard let last = reader.keyframes.last,
            case .keyframe(let keyframe)? = try reader.cursor(fromKeyframe: last.index).next()
        else { return nil }
        self.reader = reader
        ranges = keyframe.gpaRanges
        for object in keyframe.objects {
            var places: [Int: PageHash] = [:]
            for reference in object.pages { places[reference.page] = reference.content }
            pages[object.object] = places
        }
    }

    /// The instruction at which a VCPU in `state` stands, in Intel syntax; nil where its bytes are not known, or are
    /// no instruction.
    public func text(at state: VCPUState) -> String? {
        let code = GuestCode { [self] gpa, byteCount in load(gpa, byteCount) }
        let text = code.instruction(at: state, step: 0).text
        return text.isEmpty ? nil : text
    }

    private func load(_ gpa: UInt64, _ byteCount: UInt64) -> UInt64? {
        var value: UInt64 = 0
        for index in 0..<byteCount {
            guard let byte = byte(at: gpa &+ index) else { return nil }
            value |= UInt64(byte) << (index * 8)
        }
        return value
    }

    private func byte(at gpa: UInt64) -> UInt8? {
        let range = ranges.last { $0.gpa.rawValue <= gpa && gpa - $0.gpa.rawValue < UInt64(clamping: $0.byteCount) }
        guard let range, let places = pages[range.object] else { return nil }
        let (offset, overflow) = range.offset.addingReportingOverflow(Int(gpa - range.gpa.rawValue))
        guard !overflow, offset >= 0 else { return nil }
        // Pages that are not listed are zero.
        guard let name = places[offset / pageBytes] else { return 0 }
        if contents[name] == nil {
            if contents.count >= Self.contentsMax { contents.removeAll() }
            contents[name] = try? reader.page(name)
        }
        return contents[name]?[offset % pageBytes]
    }
}
