// Records of a recording as a preloaded shim would write them: into a file of records, or into a ring.

import CRing
import NVMM
import TestSupport
import TraceFile
import Tracer

/// Bytes of a file of records, `struct ring_file_header` first.
struct RawFile {
    var bytes: [UInt8] = []
    private var sequence: UInt64 = 0
    /// Where each record begins.
    private(set) var starts: [Int] = []

    init() {
        put(0x0A0D_5741_5254_4D56, 8)
        put(UInt64(RING_VERSION), 4)
        put(32, 4)
        put(0, 8)
        put(0, 8)
    }

    mutating func put(_ value: UInt64, _ count: Int) {
        for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
    }

    mutating func add(_ kind: Int32, _ payload: [UInt8], sequence number: UInt64? = nil) {
        starts.append(bytes.count)
        let length = (40 + payload.count + 7) / 8 * 8
        put(0x564D << 48 | UInt64(kind) << 32 | UInt64(length), 8)
        put(number ?? sequence, 8)
        sequence = (number ?? sequence) + 1
        put(0, 8)
        put(.max, 8)
        put(1, 4)
        put(UInt64(payload.count), 4)
        bytes += payload
        while bytes.count % 8 != 0 { bytes.append(0) }
    }

    mutating func addAttach() {
        // struct ring_attach: process, parent, interface, level, lineage, bytes of state and comm page, publication.
        let fields: [UInt32] = [7, 1, 1, 1, 2, 1008, 1072, 2048]
        var payload: [UInt8] = []
        for field in fields {
            for shift in [0, 8, 16, 24] { payload.append(UInt8(truncatingIfNeeded: field >> shift)) }
        }
        add(RING_KIND_ATTACH, payload)
    }

    /// A recording of the toy client, as a library tells it.
    static func told(
        _ options: RecorderOptions = RecorderOptions(), losing isLost: @escaping (Int) -> Bool = { _ in false },
        by body: (ToyClient) throws -> Void
    ) throws -> RawFile {
        let file = Box(RawFile())
        file.value.addAttach()
        let backend = ToyBackend()
        var count = 0
        let sink = TellingSink(Recorder.header(of: backend, options: options)) { kind, head, body in
            count += 1
            guard !isLost(count) else { return false }
            var payload: [UInt8] = []
            if let head { payload = copied(head) }
            file.value.add(Int32(kind), payload + copied(body))
            return true
        }
        guard let sink else { throw ImportError.notARecording }
        let recorder = Recorder(sink, of: backend, options: options)
        let client = try ToyClient(on: recorder.backend)
        try body(client)
        try recorder.finish()
        return file.value
    }
}

final class Box<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
}

func copied(_ span: RawSpan) -> [UInt8] { unsafe span.withUnsafeBytes { unsafe Array($0) } }
