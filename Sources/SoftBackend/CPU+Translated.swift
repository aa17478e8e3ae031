// Runs of translated code within the loop: see ``Translator``.

import NVMM

/// What the entries of a ``ChainTable`` depend on: a number for each state of it.
struct ChainStamp {
    private(set) var number: UInt64 = 0
    private var translations: UInt64 = 0
    private var epoch: UInt64 = 0
    private var run: UInt64 = 0

    @inline(__always) mutating func update(translations: UInt64, epoch: UInt64, run: UInt64) {
        guard translations != self.translations || epoch != self.epoch || run != self.run else { return }
        self.translations = translations
        self.epoch = epoch
        self.run = run
        number &+= 1
    }
}

extension CPU {
    /// Instructions after which translated code comes back: the loop looks at what others want.
    private static let translatedInstructionsMax: UInt64 = 4096

    /// Translates the block that was found, once that pays.
    @inline(__always) mutating func translateIfFrequent() {
        guard foundBlock >= 0, case .after(let executions) = translation, code.warm(foundBlock) == executions else {
            return
        }
        translateFoundBlock()
    }

    @inline(never) private mutating func translateFoundBlock() {
        guard let memory = code.translated, memory.hasRoom else { return }
        let block = code.block(foundBlock)
        var translator = Translator(
            into: memory, rip: rip, block: foundBlock, count: Int(block.instructionCount),
            setsAuxiliaryByShifts: model.setsAuxiliaryByShifts)
        let address = translator.code.here
        guard translator.translate(from: block.first) else { return }
        memory.keep(translator.code)
        code.setTranslation(foundBlock, address, rip: rip)
        foundTranslation = address
        jumps[rip].translation = address
    }

    /// Decides whether the run that begins translates code.
    mutating func findEntrance() {
        guard translation != .never, !isConcurrent, fault == .none else { return entrance = nil }
        if entrance == nil { entrance = code.translated?.entrance }
    }

    /// Executes translated code from the block that was found.
    ///
    /// - Parameter count: of the block's instructions.
    /// - Returns: how many instructions the interpreter has to execute from ``blockStart``, or nil where there is
    ///   another block to be found.
    @inline(__always) mutating func execute(_ entrance: TranslatedEntrance, _ count: Int, budget: UInt64) -> Int? {
        chainStamp.update(translations: translations, epoch: code.epoch, run: code.run)
        let isUser = cpl == 3
        chains.insert(rip, code: foundTranslation, stamp: chainStamp.number, user: isUser)
        let allowed = min(budget &- retired, Self.translatedInstructionsMax)
        self[frame: .left] = allowed
        self[frame: .chains] = chains.address(user: isUser)
        self[frame: .stamp] = chainStamp.number
        self[frame: .readTLB] = tlb.address(.read)
        self[frame: .writeTLB] = tlb.address(.write)
        self[frame: .fsBase] = segmentCaches[SegmentRegister.fs.rawValue].base
        self[frame: .gsBase] = segmentCaches[SegmentRegister.gs.rawValue].base
        self[frame: .vectors] = unsafe UInt64(UInt(bitPattern: xmm.pointer))
        self[frame: .vectorsAreOn] = cr0 & (CR0.em | CR0.ts) == 0 && cr4 & CR4.osfxsr != 0 ? 1 : 0
        self[frame: .timestampBase] = clockAtEntry &+ retired &+ allowed &+ tscOffset
        self[frame: .timestampIsPlain] = timestampDistortion == 0 && (cr4 & CR4.tsd == 0 || cpl == 0) ? 1 : 0
        self[frame: .timestampReads] = timestampReads
        self[frame: .timestampReadRIP] = timestampReadRIP
        self[frame: .undefinedFlagsRIP] = undefinedFlagsRIP
        self[frame: .flags] = status.translated
        let exit = unsafe entrance.execute(foundTranslation, gpr.pointer)
        status.translated = self[frame: .flags]
        undefinedFlagsRIP = self[frame: .undefinedFlagsRIP]
        timestampReads = self[frame: .timestampReads]
        timestampReadRIP = self[frame: .timestampReadRIP]
        let done = allowed &- self[frame: .left]
        retired &+= done
        guard exit != .target else {
            // The budget does not suffice for what is translated.
            if done == 0 { return count }
            rip = self[frame: .rip]
            return nil
        }
        let block = code.block(exit.block)
        blockRIP = block.translationRIP
        gpr[Int(RegisterNumber.blockRIP)] = blockRIP
        blockStart = block.first.advanced(by: exit.instruction)
        rip = instructionRIP(blockStart.instruction)
        // The interpreter executes one instruction at least.
        guard retired < budget else { return nil }
        return Int(block.instructionCount) - exit.instruction
    }

    @inline(__always) private subscript(frame slot: TranslatedFrame.Slot) -> UInt64 {
        get { gpr[Int(slot.rawValue)] }
        nonmutating set { gpr[Int(slot.rawValue)] = newValue }
    }
}
