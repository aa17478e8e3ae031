// The loop: find the block at RIP, execute its instructions, deliver what they raise, until an exit.

import NVMM

extension CPU {
    /// Requests come from outside at an arbitrary moment: looking at every block would cost more than it gives.
    private static let blocksBetweenLooks = 64
    /// Deliveries in a row, no instruction retiring between them, after which a run is taken to get nowhere.
    private static let deliveriesInPlaceMax = 1024

    /// Executes until an exit. ``enter(event:budget:)`` has begun the run.
    ///
    /// - Parameter budget: instructions after which the run ends with `none`.
    /// - Returns: why it ended; ``retired`` has the instructions.
    mutating func run(budget: UInt64) -> ExitReason {
        var blocksToLook = 0
        // Whoever makes way at once for others that ask again would never get on.
        var mayGiveWay = false
        // A run that others end must be found again from what it retired, and a delivery after that retires nothing.
        var deliveriesInPlace = 0
        var retiredAtDelivery = UInt64.max
        while true {
            if !attention.isEmpty {
                if attention.remove(.request) != nil { blocksToLook = 0 }
                if let reason = attend() { return reason }
            }
            if retired >= budget { return .none }
            if blocksToLook == 0 {
                if retired != retiredAtDelivery || deliveriesInPlace >= Self.deliveriesInPlaceMax {
                    if commPage.stop { return .stopped }
                    if mayGiveWay, commPage.giveWay { return .none }
                    if isConcurrent, lookAtOthers() { return .none }
                    mayGiveWay = true
                    blocksToLook = Self.blocksBetweenLooks
                } else {
                    blocksToLook = 1
                }
            }
            blocksToLook &-= 1
            let before = attention
            let hadShadow = interruptShadow
            var count: Int
            do {
                count = try enterBlock()
            } catch {
                if let reason = handle(error) { return reason }
                noteDelivery()
                continue
            }
            if let entrance, is64Bit, before.isDisjoint(with: .oneAtATime) {
                if foundTranslation == 0 { translateIfFrequent() }
                if foundTranslation != 0 {
                    guard let left = execute(entrance, count, budget: budget) else { continue }
                    count = left
                }
            }
            remaining = budget &- retired
            if !before.isDisjoint(with: .oneAtATime) {
                count = 1
                // SDM vol. 3, section 17.3.1.4: a repeated instruction traps after each iteration.
                if before.contains(.singleStep) { remaining = min(remaining, 1) }
                interruptShadow = false
                shadowBlocksDebug = false
            }
            if UInt64(truncatingIfNeeded: count) > remaining { count = Int(truncatingIfNeeded: remaining) }
            blockEnd = blockStart.advanced(by: count)
            cursor = blockStart
            extraRetired = 0
            do {
                try executeBlock()
                retired &+= UInt64(truncatingIfNeeded: blockStart.distance(to: cursor)) &+ extraRetired
                blockStart = cursor
                extraRetired = 0
                if !before.isDisjoint(with: .oneAtATime) { completeSingle(before) }
            } catch {
                // The instruction before the cursor did not complete.
                let instruction = cursor.advanced(by: -1)
                retired &+= UInt64(blockStart.distance(to: instruction)) &+ extraRetired
                if keepsRIP {
                    keepsRIP = false
                } else {
                    rip = instructionRIP(instruction.instruction)
                }
                if case .exit = error {
                    // The instruction is executed again, and meets its data breakpoints then.
                    if extraRetired == 0 { pendingDebug = 0 }
                    interruptShadow = hadShadow && instruction == blockStart
                    completeExit(instruction.instruction)
                }
                blockStart = cursor
                extraRetired = 0
                updateAttention()
                if let reason = handle(error) { return reason }
                noteDelivery()
            }
        }

        func noteDelivery() {
            deliveriesInPlace = retired == retiredAtDelivery ? deliveriesInPlace &+ 1 : 0
            retiredAtDelivery = retired
        }
    }

    /// Delivers an exception, or ends the run.
    private mutating func handle(_ interruption: Interruption) -> ExitReason? {
        switch interruption {
        case .exit: return pendingExit
        case .exception(let exception): return deliverException(exception)
        }
    }

    /// Looks at everything that can come between two instructions: SDM vol. 3, section 6.9.
    private mutating func attend() -> ExitReason? {
        if attention.contains(.exit) {
            attention.remove(.exit)
            return pendingExit
        }
        if pendingDebug != 0, !shadowBlocksDebug {
            dr[6] |= pendingDebug
            pendingDebug = 0
            attention.remove(.debug)
            if let reason = deliverException(.debug, isTrap: true) { return reason }
        }
        if nmiWindow, !nmiBlocked, !interruptShadow {
            nmiWindow = false
            updateAttention()
            return .nmiReady
        }
        if interruptWindow, !interruptShadow, systemFlags & RFLAGS.if != 0 {
            interruptWindow = false
            updateAttention()
            return .interruptReady
        }
        if attention.contains(.breakpoints), systemFlags & RFLAGS.rf == 0, !shadowBlocksDebug {
            let hit = instructionBreakpoints()
            if hit != 0 {
                dr[6] |= hit
                if let reason = deliverException(.debug, isTrap: true) { return reason }
            }
        }
        return nil
    }

    /// After an instruction that ran alone.
    private mutating func completeSingle(_ before: Attention) {
        if before.contains(.resumeFlag), attention.contains(.resumeFlag) {
            // SDM vol. 3, section 17.3.1.1: cleared by every instruction that completes, unless it loaded the flag.
            let last = cursor.advanced(by: -1)
            // Between iterations of a repeated instruction it stays.
            let isUnfinished =
                rip == instructionRIP(last.instruction)
                && !last.instruction.flags.isDisjoint(with: [.rep, .repne])
            if last.instruction.operation != .iret, !isUnfinished { systemFlags &= ~RFLAGS.rf }
        }
        if before.contains(.singleStep), !enteredHandler() { pendingDebug |= 1 << 14 }
        updateAttention()
        if pendingDebug != 0 { attention.insert(.debug) }
    }

    /// Whether the instruction before the cursor was a software interrupt or SYSCALL that cleared TF: SDM vol. 3,
    /// section 17.3.1.4, these are not trapped.
    private func enteredHandler() -> Bool {
        guard systemFlags & RFLAGS.tf == 0 else { return false }
        let last = cursor.advanced(by: -1)
        return switch last.instruction.operation {
        case .int, .int1, .int3, .into, .syscall: true
        default: false
        }
    }

    /// Exits that leave RIP at the instruction carry its bytes.
    private mutating func completeExit(_ i: borrowing DecodedInstruction) {
        guard case .memory(var exit) = pendingExit, exit.access != .execute else { return }
        var bytes = InstructionBytes()
        var host: HostAddress?
        for offset in 0..<UInt64(i.length) {
            let address = (segmentCaches[SegmentRegister.cs.rawValue].base &+ rip &+ offset) & linearMask
            // One translation for each page touched.
            if host == nil || address & 0xFFF == 0 {
                host = try? translate(address, .fetch, user: cpl == 3, byteCount: 1)
            }
            guard let byte = host else { break }
            bytes.append(byte.load(as: UInt8.self))
            host = HostAddress(byte.raw &+ 1)
        }
        exit.instruction = bytes
        pendingExit = .memory(exit)
    }

    /// Instruction breakpoints (R/W = 00) of DR7 that match RIP, as DR6 bits.
    private func instructionBreakpoints() -> UInt64 {
        let address = (segmentCaches[SegmentRegister.cs.rawValue].base &+ rip) & linearMask
        var hit: UInt64 = 0
        for index in 0..<UInt64(4)
        where dr[7] >> (index * 2) & 3 != 0 && dr[7] >> (16 + index * 4) & 3 == 0 && dr[Int(index)] == address {
            hit |= 1 << index
        }
        return hit
    }

    /// Marks data breakpoints that an access touches: SDM vol. 3, section 17.2.5.
    mutating func noteDataBreakpoints(_ linear: UInt64, _ kind: AccessKind, byteCount: UInt64) {
        for index in 0..<UInt64(4) where dr[7] >> (index * 2) & 3 != 0 {
            let condition = dr[7] >> (16 + index * 4) & 3
            guard condition == 3 || condition == 1 && kind == .write else { continue }
            let lengthCode = dr[7] >> (18 + index * 4) & 3
            let length: UInt64 = lengthCode == 0 ? 1 : lengthCode == 1 ? 2 : lengthCode == 2 ? 8 : 4
            let start = dr[Int(index)] & ~(length - 1)
            if linear < start &+ length, start < linear &+ byteCount { pendingDebug |= 1 << index }
        }
    }
}

// MARK: - Finding the block

extension CPU {
    /// Points ``blockStart`` at the instructions at RIP.
    ///
    /// - Returns: how many there are, 1 or more.
    @inline(__always) private mutating func enterBlock() throws(Interruption) -> Int {
        let linear = (segmentCaches[SegmentRegister.cs.rawValue].base &+ rip) & linearMask
        let tag = linear ^ modeKey ^ (cpl == 3 ? 1 << 60 : 0)
        blockRIP = rip
        gpr[Int(RegisterNumber.blockRIP)] = rip
        let entry = jumps[linear]
        if entry.tag == tag, entry.translations == translations, entry.epoch == code.epoch,
            rip &+ UInt64(entry.byteCount) <= codeEnd, entry.run == code.run || isUnchanged(entry, linear)
        {
            blockStart = entry.first
            foundBlock = entry.block
            foundTranslation = entry.translation
            return Int(truncatingIfNeeded: entry.instructionCount)
        }
        return try findBlock(linear, tag: tag)
    }

    /// Points ``blockStart`` at the instruction at RIP, for who executes no more than that.
    mutating func enterBlockAlone() throws(Interruption) { _ = try enterBlock() }

    /// Between runs a client may have changed the code without telling.
    private func isUnchanged(_ entry: JumpCache.Entry, _ linear: UInt64) -> Bool {
        guard code.isUnchanged(code.block(entry.block), host: entry.host) else {
            return false
        }
        jumps[linear].run = code.run
        return true
    }

    private mutating func findBlock(_ linear: UInt64, tag: UInt64) throws(Interruption) -> Int {
        if isConcurrent { code.sharing.lock() }
        defer { if isConcurrent { code.sharing.unlock() } }
        guard rip < codeEnd, !is64Bit || rip.isCanonical else { throw .generalProtection(0) }
        let host: HostAddress
        if let found = tlb.look(linear, byteCount: 1, .fetch) {
            host = found
        } else {
            host = try translate(linear, .fetch, user: cpl == 3, byteCount: 1)
        }
        let key = host.raw | modeKey
        var number = code.find(key)
        if let known = number, code.block(known).verifiedRun != code.run, !code.verify(known, host: host.raw) {
            number = nil
        }
        if number == nil { number = try decodeBlock(linear, host: host, key: key) }
        foundBlock = number ?? -1
        foundTranslation = 0
        guard let number else { return 1 }  // an instruction across two pages, decoded for this once
        let block = code.block(number)
        blockStart = block.first
        if block.translationRIP == rip { foundTranslation = block.translation }
        guard rip &+ UInt64(block.byteCount) <= codeEnd else { return try instructionsWithinLimit(block) }
        jumps[linear] = JumpCache.Entry(
            tag: tag, translations: translations, epoch: code.epoch, run: code.run, host: host.raw,
            first: block.first, block: number,
            instructionCount: UInt16(truncatingIfNeeded: block.instructionCount),
            byteCount: UInt16(truncatingIfNeeded: block.byteCount), translation: foundTranslation)
        return Int(block.instructionCount)
    }

    /// The instructions of a block that end within CS.limit; #GP(0) where the first does not.
    private func instructionsWithinLimit(_ block: Block) throws(Interruption) -> Int {
        var count = 0
        while count < Int(block.instructionCount) {
            let next = block.first.advanced(by: count).instruction.nextOffset
            guard rip &+ UInt64(next) <= codeEnd else { break }
            count += 1
        }
        guard count > 0 else { throw .generalProtection(0) }
        return count
    }
}
