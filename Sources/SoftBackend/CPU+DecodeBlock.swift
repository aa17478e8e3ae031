// Builds a block of decoded instructions from the code at RIP.

import NVMM

extension CPU {
    /// Decodes from `host` to the end of the block.
    ///
    /// - Parameters:
    ///   - linear: linear address of the first byte.
    ///   - host: where that byte is.
    ///   - key: of the new block.
    /// - Returns: the block's number, or nil where the first instruction crosses into the next page: it then stands
    ///   alone at ``blockStart`` and is not kept.
    /// - Throws: what fetching raises: #GP(0), #PF, an exit.
    mutating func decodeBlock(_ linear: UInt64, host: HostAddress, key: UInt64) throws(Interruption) -> Int32? {
        if !code.hasRoom {
            if isConcurrent {
                // Others may be executing what would be thrown away: see ``SoftVCPU/runConcurrently(budget:)``.
                wantsRoom = true
                pendingExit = .none
                throw .exit
            }
            code.removeAll()
        }
        let decoder = model.decoder(codeWidth: codeWidth)
        let available = Int(0x1000 - linear & 0xFFF)
        let first = code.nextInstruction
        var offset = 0
        var count = 0
        // Bytes that decided what the block is: for one that is no instruction, all that the decoder looked at.
        var covered = 0
        while count < CodeCache.blockInstructionsMax, offset < available {
            let length = min(15, available - offset)
            let bytes = unsafe UnsafeRawBufferPointer(start: host.bytes + offset, count: length)
            let decoding = unsafe decoder.decode(bytes, offset: UInt16(offset))
            let outcome = decoding.outcome
            if outcome == .tooLong || outcome == .truncated && length == 15 {
                guard count > 0 else { throw .generalProtection(0) }
                break
            }
            if outcome == .truncated {
                guard count > 0 else {
                    try decodeCrossing(linear, host: host, available: length, decoder)
                    return nil
                }
                break
            }
            covered = offset + length
            offset = Int(decoding.instruction.nextOffset)
            if outcome != .invalid { covered = offset }
            let ends = decoding.instruction.flags.contains(.endsBlock)
            code.append(decoding.instruction)
            count += 1
            // What is not translated ends the block, so that the rest can be.
            if ends || entrance != nil && is64Bit && !Translator.translates(decoding.instruction) { break }
        }
        guard let record = unsafe codeRecord(host) else {
            throw .generalProtection(0)  // not reached: the host address was just found in an object
        }
        let isNewCode = unsafe record.pointee.firstBlock < 0
        let source = unsafe Span<UInt8>(
            _unsafeElements: UnsafeBufferPointer(
                start: host.bytes.assumingMemoryBound(to: UInt8.self), count: min(covered, available)))
        let number = unsafe code.close(key: key, first: first, instructionCount: count, bytes: source, record: record)
        if isNewCode {
            // Stores to the page must be seen from now on, by every VCPU.
            tlb.removeWrites()
            let wasCurrent = memoryGeneration == memory.generation
            memory.makeStale()
            if wasCurrent { memoryGeneration = memory.generation }
        }
        return number
    }

    /// Of the page that code was fetched from. Found by where it is: the page tables may say something else by now,
    /// which the TLB need not know.
    private func codeRecord(_ host: HostAddress) -> UnsafeMutablePointer<PageRecord>? {
        if let emulation { return unsafe emulation.codePageRecord.record }
        return unsafe memory.record(host.raw)
    }

    /// Decodes the one instruction at `linear` whose bytes reach into the next page.
    private mutating func decodeCrossing(
        _ linear: UInt64, host: HostAddress, available: Int, _ decoder: Decoder
    ) throws(Interruption) {
        var bytes = InlineArray<16, UInt8>(repeating: 0)
        for index in 0..<available { bytes[index] = HostAddress(host.raw &+ UInt64(index)).load(as: UInt8.self) }
        guard rip &+ UInt64(available) < codeEnd else { throw .generalProtection(0) }
        let second = (linear &+ UInt64(available)) & linearMask
        if is64Bit, !second.isCanonical { throw .generalProtection(0) }
        let next = try translate(second, .fetch, user: cpl == 3, byteCount: 1)
        for index in available..<15 {
            bytes[index] = HostAddress(next.raw &+ UInt64(index - available)).load(as: UInt8.self)
        }
        let decoding = unsafe withUnsafeBytes(of: bytes) { storage in
            unsafe decoder.decode(UnsafeRawBufferPointer(rebasing: storage[0..<15]), offset: 0)
        }
        if decoding.outcome == .tooLong || decoding.outcome == .truncated { throw .generalProtection(0) }
        guard rip &+ UInt64(decoding.instruction.nextOffset) <= codeEnd else { throw .generalProtection(0) }
        blockStart = code.holdCrossing(decoding.instruction)
    }
}
