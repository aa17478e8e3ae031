// Turns the records of one journal into the frames of one epoch: Docs/trace-format.md, "Epochs".

import NVMM

/// A frame, ready to be written.
struct EncodedFrame {
    var header: FrameHeader
    var payload: [UInt8]
    /// Of a steps frame.
    var summary: BlockSummary?

    init(header: FrameHeader, payload: [UInt8], summary: BlockSummary?) {
        self.header = header
        self.payload = payload
        self.summary = summary
    }

    var byteCount: Int { FrameHeader.byteCount + payload.count }

    init(
        type: FrameType, flags: FrameHeader.Flags, payload: [UInt8], rawBytes: Int, firstStep: UInt64,
        vcpu: UInt32 = FrameHeader.noVCPU, epoch: UInt32 = 0, summary: BlockSummary? = nil
    ) {
        header = FrameHeader(
            type: type, flags: flags, storedBytes: payload.count, rawBytes: rawBytes, firstStep: firstStep,
            vcpu: vcpu, epoch: epoch, payloadChecksum: checksum(payload))
        self.payload = payload
        self.summary = summary
    }

    /// A frame whose payload is one zstd frame, or raw where that is not smaller.
    init(
        compressing payload: [UInt8], with compressor: Compressor, type: FrameType, flags: FrameHeader.Flags,
        firstStep: UInt64, epoch: UInt32 = 0
    ) throws(TraceWriteError) {
        let packed = try compressor.compress(payload)
        if packed.count < payload.count {
            self.init(
                type: type, flags: flags.union(.compressed), payload: packed, rawBytes: payload.count,
                firstStep: firstStep, epoch: epoch)
        } else {
            self.init(
                type: type, flags: flags, payload: payload, rawBytes: payload.count, firstStep: firstStep, epoch: epoch)
        }
    }
}

/// Frames of an epoch, with what is needed to go on after it.
struct EncodedEpoch {
    var frames: [EncodedFrame]
    var stepCount: UInt64
    /// Set where the journal was damaged: what stands before is in the frames.
    var damage: TraceError?
}

func encodeEpoch(
    journal bytes: [UInt8], isTrusted: Bool, epoch: UInt32, firstStep: UInt64, compressor: Compressor
) throws(TraceWriteError) -> EncodedEpoch {
    var journal = JournalReader(bytes, isTrusted: isTrusted)
    var builders: [BlockBuilder] = []
    var gap: [GapItem] = []
    var index = firstStep
    var damage: TraceError?
    /// Number of the builder that got the last step.
    var last: Int?
    reading: while true {
        let record: JournalRecord?
        do throws(TraceError) { record = try journal.next() } catch {
            damage = error
            break reading
        }
        guard let record else { break }
        switch record {
        case .call(let call): gap.append(.call(call))
        case .memoryWrite(let object, let offset, let range, let isRawStore):
            gap.append(.memoryWrite(object: object, offset: offset, bytes: range, isRawStore: isRawStore))
        case .guestWrite(let object, let offset, let range):
            gap.append(.guestWrite(object: object, offset: offset, bytes: range))
        case .advance(let ticks): gap.append(.advance(ticks: ticks))
        case .machine(let range): gap.append(.machine(range))
        case .loss(let range): gap.append(.loss(range))
        case .step(let row):
            let number: Int
            if let last, builders[last].vcpu == row.vcpu {
                number = last
            } else if let known = builders.firstIndex(where: { $0.vcpu == row.vcpu }) {
                number = known
            } else {
                number = builders.count
                builders.append(BlockBuilder(vcpu: row.vcpu, firstStep: index))
            }
            builders[number].add(row, index: index, gap: gap, journal: journal)
            gap.removeAll(keepingCapacity: true)
            index += 1
            last = number
        }
    }
    if !gap.isEmpty {
        if last == nil { builders.append(BlockBuilder(vcpu: FrameHeader.noVCPU, firstStep: index)) }
        builders[last ?? 0].trail(gap, journal: journal)
    }
    var frames: [EncodedFrame] = []
    for ordinal in builders.indices {
        let payload = try builders[ordinal].payload(compressor)
        let builder = builders[ordinal]
        frames.append(
            EncodedFrame(
                type: .steps, flags: ordinal == builders.count - 1 ? [.critical, .epochEnd] : .critical,
                payload: payload.bytes, rawBytes: payload.rawBytes, firstStep: builder.firstStep, vcpu: builder.vcpu,
                epoch: epoch, summary: builder.summary))
    }
    return EncodedEpoch(frames: frames, stepCount: index, damage: damage)
}
