// Loads and stores of segment registers, and the instructions that look at descriptors: SDM vol. 2; vol. 3, chapter 5.

import NVMM

extension CPU {
    // MARK: - Data and stack segments

    /// Loads ES, SS, DS, FS or GS.
    mutating func loadSegment(_ register: Int, _ selector: UInt16) throws(Interruption) {
        if hasRealSegments {
            segments[register].selector = selector
            segments[register].base = UInt64(selector) << 4
            segmentCaches[register].base = UInt64(selector) << 4
            return
        }
        let isStack = register == SegmentRegister.ss.rawValue
        if isNull(selector) {
            if isStack {
                // SDM vol. 3, section 5.4.1.1: allowed in 64-bit mode at the inner levels.
                guard is64Bit, cpl != 3, UInt8(selector & 3) == cpl else { throw .generalProtection(0) }
                segments[register] = nullStack(level: cpl)
                segments[register].selector = selector
            } else {
                segments[register] = Segment(selector: selector)
            }
            updateSegmentCache(register)
            return
        }
        let code = errorCode(selector)
        guard var found = try descriptor(selector) else { throw .generalProtection(code) }
        let level = UInt8(selector & 3)
        if isStack {
            guard level == cpl, found.isWritableData, found.dpl == cpl else { throw .generalProtection(code) }
            guard found.isPresent else { throw .stackFault(code) }
        } else {
            guard found.isReadable else { throw .generalProtection(code) }
            let isConforming = found.isCode && found.isConforming
            guard isConforming || level <= found.dpl && cpl <= found.dpl else { throw .generalProtection(code) }
            guard found.isPresent else { throw .notPresent(code) }
        }
        try markAccessed(&found)
        segments[register] = found.segment(selector: selector)
        updateSegmentCache(register)
        if isStack, !is64Bit { stackMask = found.isBig ? 0xFFFF_FFFF : 0xFFFF }
    }

    /// A load of SS holds back interrupts and debug traps until the next instruction has completed:
    /// SDM vol. 3, section 6.8.3.
    private mutating func shadowStackLoad() {
        interruptShadow = true
        shadowBlocksDebug = true
        updateAttention()
    }

    @inline(never) mutating func movToSegment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let register = Int(i.register0)
        guard register < 6, register != SegmentRegister.cs.rawValue else { throw .invalidOpcode }
        let selector = i.form == .registerRegister ? read(i.register1, as: UInt16.self) : try loadOperand(i)
        try loadSegment(register, selector)
        if register == SegmentRegister.ss.rawValue { shadowStackLoad() }
    }

    @inline(never) mutating func movFromSegment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if i.form == .registerRegister {
            write(i.register0, UInt64(segments[Int(i.register1 & 7)].selector), width: i.width)
        } else {
            try storeOperand(i, segments[Int(i.register0 & 7)].selector)
        }
    }

    /// Whether only 16 of a stack slot's 32 bits are used: SDM vol. 2, PUSH, of Intel's processors.
    private func movesSelectorAlone(_ i: borrowing DecodedInstruction) -> Bool { model.isIntel && i.width == 2 }

    @inline(never) mutating func pushSegment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let selector = segments[Int(i.register0 & 7)].selector
        guard movesSelectorAlone(i) else { return try push(UInt64(selector), width: i.width) }
        let top = (self[.rsp] &- 4) & stackMask
        try store(Self.ss, top, selector)
        setStackPointer(top)
    }

    @inline(never) mutating func popSegment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let register = Int(i.register0)
        guard register < 6, register != SegmentRegister.cs.rawValue else { throw .invalidOpcode }
        let before = self[.rsp]
        let value = try peek(0, width: movesSelectorAlone(i) ? 1 : i.width)
        setStackPointer(before &+ i.bytes)
        do {
            try loadSegment(register, UInt16(truncatingIfNeeded: value))
        } catch {
            self[.rsp] = before
            throw error
        }
        if register == SegmentRegister.ss.rawValue { shadowStackLoad() }
    }

    /// LDS, LES, LSS, LFS, LGS.
    @inline(never) mutating func loadFarPointer(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let place = effectiveAddress(i)
        let offset = try load(i.segment, place, width: i.width)
        let selector: UInt16 = try load(i.segment, truncate(place &+ i.bytes, toAddressWidth: max(i.addressWidth, 2)))
        try loadSegment(Int(i.register1), selector)
        write(i.register0, offset, width: i.width)
    }

    // MARK: - LDTR and TR

    /// The 16-bit operand of LLDT and its relatives.
    private mutating func selectorOperand(_ i: borrowing DecodedInstruction) throws(Interruption) -> UInt16 {
        switch i.form {
        case .register: read(i.register0)
        case .registerRegister: read(i.register1)
        default: try loadOperand(i)
        }
    }

    private func requireProtected() throws(Interruption) {
        if hasRealSegments { throw .invalidOpcode }
    }

    func requireSupervisor() throws(Interruption) {
        if cpl != 0 { throw .generalProtection(0) }
    }

    @inline(never) mutating func lldt(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireProtected()
        try requireSupervisor()
        let selector = try selectorOperand(i)
        let place = SegmentRegister.ldt.rawValue
        if isNull(selector) {
            segments[place] = Segment(selector: selector)
            return
        }
        let code = errorCode(selector)
        guard selector & 4 == 0, var found = try descriptor(selector), found.isSystem, found.type == SystemType.ldt,
            try completeSystem(&found, selector)
        else { throw .generalProtection(code) }
        guard found.isPresent else { throw .notPresent(code) }
        segments[place] = found.segment(selector: selector)
    }

    @inline(never) mutating func ltr(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireProtected()
        try requireSupervisor()
        let selector = try selectorOperand(i)
        let code = errorCode(selector)
        guard !isNull(selector), selector & 4 == 0, var found = try descriptor(selector), found.isSystem,
            found.type == SystemType.availableTSS || found.type == SystemType.availableTSS16 && !isLongMode,
            try completeSystem(&found, selector)
        else { throw .generalProtection(code) }
        guard found.isPresent else { throw .notPresent(code) }
        try markTSS(at: found.address, busy: true)
        found.low |= 2 << 40
        segments[SegmentRegister.tr.rawValue] = found.segment(selector: selector)
    }

    private mutating func storeSelector(_ i: borrowing DecodedInstruction, _ register: SegmentRegister)
        throws(Interruption)
    {
        try requireProtected()
        let selector = segments[register.rawValue].selector
        if i.form == .register {
            write(i.register0, UInt64(selector), width: i.width)
        } else {
            try storeOperand(i, selector)
        }
    }

    @inline(never) mutating func sldt(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try storeSelector(i, .ldt)
    }
    @inline(never) mutating func str(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try storeSelector(i, .tr)
    }

    // MARK: - LAR, LSL, VERR, VERW, ARPL

    /// The descriptor that a program at this privilege may see through `selector`.
    private mutating func visibleDescriptor(_ selector: UInt16) throws(Interruption) -> Descriptor? {
        guard !isNull(selector), let found = try descriptor(selector) else { return nil }
        if found.isCode, found.isConforming { return found }
        guard cpl <= found.dpl, UInt8(selector & 3) <= found.dpl else { return nil }
        return found
    }

    @inline(never) mutating func lar(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireProtected()
        let selector = try selectorOperand(i)
        guard let found = try visibleDescriptor(selector), !found.isSystem || hasRights(found.type) else {
            return setZero(false)
        }
        setZero(true)
        write(i.register0, found.low >> 32 & 0xF0_FF00, width: i.width)
    }

    private func hasRights(_ type: UInt8) -> Bool {
        switch type {
        case SystemType.ldt, SystemType.availableTSS, SystemType.busyTSS, SystemType.callGate: true
        case SystemType.availableTSS16, SystemType.busyTSS16, SystemType.callGate16, SystemType.taskGate: !isLongMode
        default: false
        }
    }

    @inline(never) mutating func lsl(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireProtected()
        let selector = try selectorOperand(i)
        guard let found = try visibleDescriptor(selector), !found.isSystem || hasLimit(found.type) else {
            return setZero(false)
        }
        setZero(true)
        write(i.register0, UInt64(found.limit), width: i.width)
    }

    private func hasLimit(_ type: UInt8) -> Bool {
        switch type {
        case SystemType.ldt, SystemType.availableTSS, SystemType.busyTSS: true
        case SystemType.availableTSS16, SystemType.busyTSS16: !isLongMode
        default: false
        }
    }

    /// VERR and VERW.
    @inline(never) mutating func verify(_ i: borrowing DecodedInstruction, forWriting: Bool) throws(Interruption) {
        try requireProtected()
        let selector = try selectorOperand(i)
        let found = try visibleDescriptor(selector)
        setZero(found.map { forWriting ? $0.isWritableData : $0.isReadable } ?? false)
    }

    @inline(never) mutating func arpl(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireProtected()
        if i.form == .registerRegister {
            let selector = read(i.register0, as: UInt16.self)
            let level = read(i.register1, as: UInt16.self) & 3
            setZero(selector & 3 < level)
            if selector & 3 < level { write(i.register0, selector & ~3 | level) }
            return
        }
        let level = read(i.register0, as: UInt16.self) & 3
        // Stored only where it changes: memory that cannot be written is then no fault (SDM vol. 2, ARPL, Operation).
        let selector: UInt16 = try loadOperand(i)
        if selector & 3 < level { try storeOperand(i, selector & ~3 | level) }
        setZero(selector & 3 < level)
    }
}
