// A trace of a client of /dev/kvm, written as the shim takes it to answer the client in the kernel's place:
// ring_answers.h.

internal import CRing
internal import NVMM
public import SystemPackage
public import TraceFile

/// Failures of ``KVMAnswers``.
public enum KVMAnswersError: Error, Equatable, Sendable {
    /// The trace is none of a client of /dev/kvm.
    case otherInterface
    /// It lacks what the guest wrote to memory.
    case guestWritesMissing(RecordLevel)
    case trace(TraceError)
    /// `errno` of a write.
    case io(Int32)
}

/// Answers for a client of /dev/kvm, made from its trace.
public struct KVMAnswers: ~Copyable {
    private let file: FileDescriptor
    private var buffer = LittleEndianBytes()
    private var ranges: [GPARange] = []
    /// The step whose answers and stores are still coming.
    private var step: Step?
    private var stores: [MemoryWrite] = []
    private var completion: Completion?
    private let apicBase: UInt64

    /// Writes a new file.
    ///
    /// - Parameter path: of a file that is made, or emptied.
    public static func write(_ reader: TraceReader, to path: FilePath) throws(KVMAnswersError) {
        let header = reader.header
        guard header.finishesInstructions else { throw .otherInterface }
        guard header.level == .client else { throw .guestWritesMissing(header.level) }
        let file: FileDescriptor
        do {
            file = try FileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
        } catch {
            throw .io((error as? Errno)?.rawValue ?? 0)
        }
        defer { try? file.close() }
        var answers = KVMAnswers(file: file, header)
        answers.appendSettings(header)
        let cursor: TraceCursor
        do { cursor = try reader.cursor() } catch { throw .trace(error) }
        while true {
            let next: TraceEvent?
            do { next = try cursor.next() } catch { throw .trace(error) }
            guard let event = next else { break }
            try answers.take(event)
        }
        try answers.endStep()
        answers.append(kind: RING_ANSWER_END)
        try answers.flush()
    }

    private init(file: FileDescriptor, _ header: TraceHeader) {
        self.file = file
        apicBase = header.hypervisorMSRs?[0x1B] ?? 0xFEE0_0900
        buffer.append(UInt64(RING_ANSWERS_MAGIC))
        buffer.append(UInt32(RING_ANSWERS_VERSION))
        buffer.append(UInt32(MemoryLayout<ring_answers_header>.size))
    }

    private mutating func appendSettings(_ header: TraceHeader) {
        for parameter in header.parameters where parameter.key.hasPrefix(TraceHeader.Parameter.extensionPrefix) {
            guard
                let capability = UInt64(parameter.key.dropFirst(TraceHeader.Parameter.extensionPrefix.count)),
                let value = UInt64(parameter.value)
            else { continue }
            append(kind: RING_ANSWER_EXTENSION, first: capability, second: value)
        }
        append(kind: RING_ANSWER_CPUID, data: Self.table(header.cpuidTable))
        for (msr, value) in (header.hypervisorMSRs ?? [:]).sorted(by: { $0.key < $1.key }) {
            append(kind: RING_ANSWER_MSR, first: UInt64(msr), second: value)
        }
        // KVM's RESET shows CS as code and TR as busy.
        var reset = VCPUState.reset
        reset[.cs].attributes = SegmentAttributes(rawValue: 0x9B)
        reset[.tr].attributes = SegmentAttributes(rawValue: 0x8B)
        append(kind: RING_ANSWER_STATE, data: reset.kvmRegisters(apicBase: apicBase))
    }

    /// `struct kvm_cpuid2`.
    private static func table(_ rows: [CPUIDEntry]) -> [UInt8] {
        var bytes = LittleEndianBytes()
        bytes.append(UInt32(rows.count))
        bytes.append(UInt32(0))
        for row in rows {
            bytes.append(row.leaf)
            bytes.append(row.subleaf)
            // KVM_CPUID_FLAG_SIGNIFCANT_INDEX where a leaf has several rows.
            bytes.append(UInt32(rows.count { $0.leaf == row.leaf } > 1 ? 1 : 0))
            for register in [row.registers.eax, row.registers.ebx, row.registers.ecx, row.registers.edx] {
                bytes.append(register)
            }
            for _ in 0..<3 { bytes.append(UInt32(0)) }
        }
        return bytes.bytes
    }

    // MARK: - Events

    private mutating func take(_ event: TraceEvent) throws(KVMAnswersError) {
        switch event {
        case .step(let next):
            try endStep()
            step = next
        case .guestWrite(let write): stores.append(write)
        // Another VCPU's may come in between.
        case .machine(.completion(let answer)) where answer.vcpu == step?.vcpu: completion = completion ?? answer
        case .machine(.gpaMap(let range)): ranges.append(range)
        case .machine(.gpaUnmap(let gpa, let byteCount)):
            ranges.removeAll { $0.gpa == gpa && $0.byteCount == byteCount }
        default: break
        }
    }

    private mutating func endStep() throws(KVMAnswersError) {
        guard let step else { return }
        for store in stores { appendStore(store) }
        appendExit(step)
        self.step = nil
        stores.removeAll(keepingCapacity: true)
        completion = nil
        if buffer.bytes.count > 1 << 20 { try flush() }
    }

    private mutating func appendStore(_ store: MemoryWrite) {
        var (offset, bytes) = (store.offset, store.bytes[...])
        while !bytes.isEmpty {
            let range = ranges.first {
                $0.object == store.object && offset >= $0.offset && offset &- $0.offset < $0.byteCount
            }
            guard let range else { return }
            let distance = offset &- range.offset
            let part = bytes.prefix(range.byteCount &- distance)
            append(kind: RING_ANSWER_STORE, first: range.gpa.rawValue &+ UInt64(distance), data: Array(part))
            offset &+= part.count
            bytes = bytes.dropFirst(part.count)
        }
    }

    private mutating func appendExit(_ step: Step) {
        let exit = KVMExitImage(step.exit.reason, completion)
        var bytes = LittleEndianBytes()
        bytes.append(UInt32(bitPattern: exit.result))
        bytes.append(exit.reason)
        bytes.append(UInt32(RING_KVM_HAS_REGS))
        bytes.append(UInt32(exit.data.count))
        bytes.append(step.state[.cr8])
        bytes.append(apicBase)
        bytes.append(UInt8(step.state[.rflags] >> 9 & 1))
        bytes.append(padding: 7)
        bytes.append(exit.payload)
        bytes.append(padded: exit.data)
        bytes.append(step.state.kvmRegisters(apicBase: apicBase))
        let event = step.event.map { UInt64(RING_ANSWER_EVENT) | UInt64($0.vector) } ?? 0
        append(kind: RING_ANSWER_EXIT, vcpu: step.vcpu, first: event, data: bytes.bytes)
    }

    // MARK: - Bytes

    private mutating func append(
        kind: Int32, vcpu: UInt32 = 0, first: UInt64 = 0, second: UInt64 = 0, data: [UInt8] = []
    ) {
        buffer.append(UInt32(kind))
        buffer.append(vcpu)
        buffer.append(first)
        buffer.append(second)
        buffer.append(UInt32(data.count))
        buffer.append(UInt32(0))
        buffer.append(padded: data)
    }

    private mutating func flush() throws(KVMAnswersError) {
        do {
            try file.writeAll(buffer.bytes)
        } catch {
            throw .io((error as? Errno)?.rawValue ?? 0)
        }
        buffer = LittleEndianBytes()
    }
}

/// Structures of C, built field by field.
struct LittleEndianBytes {
    private(set) var bytes: [UInt8] = []

    mutating func append(_ value: some FixedWidthInteger) {
        for index in 0..<value.bitWidth / 8 { bytes.append(UInt8(truncatingIfNeeded: value >> (index * 8))) }
    }
    mutating func append(_ other: [UInt8]) { bytes += other }
    /// Up to a multiple of 8.
    mutating func append(padded other: [UInt8]) {
        append(other)
        append(padding: (8 - other.count % 8) % 8)
    }
    mutating func append(padding count: Int) { bytes += [UInt8](repeating: 0, count: count) }
}
