// Far JMP, CALL and RET, and IRET: SDM vol. 2, and vol. 3, section 5.8.

import NVMM

extension CPU {
    // MARK: - JMP and CALL

    @inline(never) mutating func jmpFar(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try transferFar(i, isCall: false)
    }

    @inline(never) mutating func callFar(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try transferFar(i, isCall: true)
    }

    private mutating func transferFar(_ i: borrowing DecodedInstruction, isCall: Bool) throws(Interruption) {
        var selector = i.immediate1
        var offset = i.immediate
        if i.form == .memory {
            let place = effectiveAddress(i)
            offset = try load(i.segment, place, width: i.width)
            selector = try load(i.segment, truncate(place &+ i.bytes, toAddressWidth: max(i.addressWidth, 2)))
        } else if i.width == 1 {
            offset &= 0xFFFF
        }
        if hasRealSegments {
            var stack = currentStack
            if isCall { try checkRoom(stack, byteCount: 2 * i.bytes) }
            guard offset < codeEnd else { throw .generalProtection(0) }
            if isCall {
                try pushReturn(&stack, i, width: i.width)
                setStackPointer(stack.pointer)
            }
            setRealCode(selector)
            rip = offset
            return
        }
        guard !isNull(selector) else { throw .generalProtection(0) }
        guard let target = try descriptor(selector) else { throw .generalProtection(errorCode(selector)) }
        if target.isSystem {
            try transferThroughSystem(target, selector, i, isCall: isCall)
        } else {
            try checkDirect(target, selector, level: UInt8(selector & 3))
            try enterSameLevel(target, selector, offset, width: i.width, i, isCall: isCall)
        }
    }

    /// Privilege checks of a transfer to a code segment without a gate: SDM vol. 3, section 5.8.1.
    private func checkDirect(_ target: Descriptor, _ selector: UInt16, level: UInt8) throws(Interruption) {
        let code = errorCode(selector)
        guard target.isCode, !isReservedCode(target) else { throw .generalProtection(code) }
        if target.isConforming {
            guard target.dpl <= cpl else { throw .generalProtection(code) }
        } else {
            guard level <= cpl, target.dpl == cpl else { throw .generalProtection(code) }
        }
        guard target.isPresent else { throw .notPresent(code) }
    }

    /// There must be room: SDM vol. 2, CALL, has #SS(0) before #GP(0) of the target, and that before any push.
    private mutating func pushReturn(
        _ stack: inout PendingStack, _ i: borrowing DecodedInstruction, width: UInt8
    ) throws(Interruption) {
        try push(&stack, UInt64(segments[SegmentRegister.cs.rawValue].selector), width: width)
        try push(&stack, nextRIP(i), width: width)
    }

    private mutating func enterSameLevel(
        _ found: Descriptor, _ selector: UInt16, _ offset: UInt64, width: UInt8, _ i: borrowing DecodedInstruction,
        isCall: Bool
    ) throws(Interruption) {
        var target = found
        var stack = currentStack
        if isCall { try checkRoom(stack, byteCount: 2 << UInt64(width)) }
        try checkTarget(offset, target)
        if isCall { try pushReturn(&stack, i, width: width) }
        try markAccessed(&target)
        if isCall { setStackPointer(stack.pointer) }
        setCode(target, selector: selector & ~3 | UInt16(cpl))
        rip = offset
        updateMode()
    }

    /// Call gates, task gates and task state segments.
    private mutating func transferThroughSystem(
        _ found: Descriptor, _ selector: UInt16, _ i: borrowing DecodedInstruction, isCall: Bool
    ) throws(Interruption) {
        var gate = found
        let code = errorCode(selector)
        guard gate.dpl >= cpl, gate.dpl >= UInt8(selector & 3) else { throw .generalProtection(code) }
        switch gate.type {
        case SystemType.callGate: break
        case SystemType.callGate16 where !isLongMode: break
        case SystemType.taskGate where !isLongMode:
            guard gate.isPresent else { throw .notPresent(code) }
            let target = try taskDescriptor(gate.gateSelector)
            try switchTask(
                to: target, gate.gateSelector, isCall ? .call : .jump, returnRIP: nextRIP(i),
                savedFlags: rflags & ~RFLAGS.rf)
            return
        case SystemType.availableTSS where !isLongMode, SystemType.availableTSS16 where !isLongMode:
            guard selector & 4 == 0 else { throw .generalProtection(code) }
            guard gate.isPresent else { throw .notPresent(code) }
            try switchTask(
                to: gate, selector, isCall ? .call : .jump, returnRIP: nextRIP(i), savedFlags: rflags & ~RFLAGS.rf)
            return
        default: throw .generalProtection(code)
        }
        guard try completeSystem(&gate, selector) else { throw .generalProtection(code) }
        guard gate.isPresent else { throw .notPresent(code) }
        let targetSelector = gate.gateSelector
        let targetCode = errorCode(targetSelector)
        guard !isNull(targetSelector) else { throw .generalProtection(0) }
        guard let target = try descriptor(targetSelector), target.isCode, target.dpl <= cpl else {
            throw .generalProtection(targetCode)
        }
        if isLongMode, !target.isLong || target.isBig { throw .generalProtection(targetCode) }
        if !isCall, !target.isConforming, target.dpl != cpl { throw .generalProtection(targetCode) }
        guard target.isPresent else { throw .notPresent(targetCode) }
        let width: UInt8 = isLongMode ? 3 : gate.type == SystemType.callGate ? 2 : 1
        let offset = width == 1 ? gate.gateOffset & 0xFFFF : gate.gateOffset
        if target.isConforming || target.dpl == cpl {
            try enterSameLevel(target, targetSelector, offset, width: width, i, isCall: isCall)
        } else {
            try callInner(
                target, targetSelector, offset, width: width, parameters: isLongMode ? 0 : gate.parameterCount, i)
        }
    }

    /// CALL to an inner level: SDM vol. 3, section 5.8.5.
    private mutating func callInner(
        _ found: Descriptor, _ selector: UInt16, _ offset: UInt64, width: UInt8, parameters: UInt64,
        _ i: borrowing DecodedInstruction
    ) throws(Interruption) {
        var target = found
        var stack = try innerStack(level: target.dpl)
        try checkRoom(stack, byteCount: (4 + parameters) << UInt64(width))
        try checkTarget(offset, target)
        try push(&stack, UInt64(segments[SegmentRegister.ss.rawValue].selector), width: width)
        try push(&stack, self[.rsp], width: width)
        for place in 0..<parameters {
            let value = try peek((parameters - 1 - place) << UInt64(width), width: width)
            try push(&stack, value, width: width)
        }
        try push(&stack, UInt64(segments[SegmentRegister.cs.rawValue].selector), width: width)
        try push(&stack, nextRIP(i), width: width)
        try markAccessed(&target)
        adopt(stack)
        setCode(target, selector: selector & ~3 | UInt16(target.dpl))
        setCPL(target.dpl)
        rip = offset
        updateMode()
    }

    // MARK: - RET

    @inline(never) mutating func retFar(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let released = i.form == .immediate ? i.immediate & 0xFFFF : 0
        let offset = try peek(0, width: i.width)
        let selector = UInt16(truncatingIfNeeded: try peek(i.bytes, width: i.width))
        if hasRealSegments {
            guard offset < codeEnd else { throw .generalProtection(0) }
            setStackPointer(self[.rsp] &+ 2 &* i.bytes &+ released)
            setRealCode(selector)
            rip = offset
            return
        }
        var target = try returnTarget(selector)
        let level = UInt8(selector & 3)
        if level == cpl {
            try checkTarget(offset, target)
            try markAccessed(&target)
            setStackPointer(self[.rsp] &+ 2 &* i.bytes &+ released)
            setCode(target, selector: selector)
        } else {
            let place = 2 &* i.bytes &+ released
            let pointer = try peek(place, width: i.width)
            let stackSelector = UInt16(truncatingIfNeeded: try peek(place &+ i.bytes, width: i.width))
            let stack = try outerStack(stackSelector, level: level, is64Bit: runs64Bit(target))
            try checkTarget(offset, target)
            try markAccessed(&target)
            setCode(target, selector: selector)
            returnToStack(stack, pointer: pointer &+ released, is64Bit: runs64Bit(target), width: i.width)
            setCPL(level)
            dropInnerDataSegments(level: level)
        }
        rip = offset
        updateMode()
    }

    /// The code segment that RET and IRET go back to.
    private mutating func returnTarget(_ selector: UInt16) throws(Interruption) -> Descriptor {
        guard !isNull(selector) else { throw .generalProtection(0) }
        let code = errorCode(selector)
        let level = UInt8(selector & 3)
        guard let target = try descriptor(selector), target.isCode, !isReservedCode(target), level >= cpl,
            target.isConforming ? target.dpl <= level : target.dpl == level
        else { throw .generalProtection(code) }
        guard target.isPresent else { throw .notPresent(code) }
        return target
    }

    /// The stack segment that RET and IRET go back to.
    private mutating func outerStack(
        _ selector: UInt16, level: UInt8, is64Bit: Bool
    ) throws(Interruption) -> Segment {
        let code = errorCode(selector)
        if isNull(selector) {
            guard is64Bit, level != 3, UInt8(selector & 3) == level else { throw .generalProtection(0) }
            return nullStack(level: level)
        }
        guard var found = try descriptor(selector), UInt8(selector & 3) == level, found.isWritableData,
            found.dpl == level
        else { throw .generalProtection(code) }
        guard found.isPresent else { throw .stackFault(code) }
        try markAccessed(&found)
        return found.segment(selector: selector)
    }

    /// Loads SS:RSP with the width of the stack that is returned to. A 16-bit stack takes SP only.
    private mutating func returnToStack(_ stack: Segment, pointer: UInt64, is64Bit: Bool, width: UInt8) {
        segments[SegmentRegister.ss.rawValue] = stack
        if is64Bit {
            self[.rsp] = pointer
        } else if stack.attributes.contains(.defaultBig) {
            self[.rsp] = pointer & 0xFFFF_FFFF
        } else {
            self[.rsp] = self[.rsp] & ~0xFFFF | pointer & 0xFFFF
        }
    }

    // MARK: - IRET

    @inline(never) mutating func iret(_ i: borrowing DecodedInstruction) throws(Interruption) {
        do {
            if hasRealSegments {
                try iretReal(i)
            } else if systemFlags & RFLAGS.nt != 0 {
                try iretTask(i)
            } else {
                try iretProtected(i)
            }
        } catch {
            // SDM vol. 3, section 6.7.1: IRET unblocks NMIs even where it faults.
            if case .exception = error { nmiBlocked = false }
            throw error
        }
        nmiBlocked = false
        lookAtCode()
    }

    private mutating func iretReal(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if isVirtual8086, iopl < 3 { throw .generalProtection(0) }
        let offset = try peek(0, width: i.width)
        let selector = UInt16(truncatingIfNeeded: try peek(i.bytes, width: i.width))
        let flags = try peek(2 &* i.bytes, width: i.width)
        guard offset < codeEnd else { throw .generalProtection(0) }
        setStackPointer(self[.rsp] &+ 3 &* i.bytes)
        setRealCode(selector)
        rip = offset
        returnFlags(flags, width: i.width)
    }

    /// SDM vol. 3, section 7.3: the link of the current task names the one to go back to.
    private mutating func iretTask(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if isLongMode { throw .generalProtection(0) }
        let link: UInt16 = try loadSystem(segments[SegmentRegister.tr.rawValue].base)
        let code = errorCode(link)
        guard link & 4 == 0, !isNull(link), let target = try descriptor(link), target.isSystem,
            target.type == SystemType.busyTSS || target.type == SystemType.busyTSS16
        else { throw .invalidTSS(code) }
        guard target.isPresent else { throw .notPresent(code) }
        try switchTask(to: target, link, .iret, returnRIP: nextRIP(i), savedFlags: rflags & ~(RFLAGS.nt | RFLAGS.rf))
    }

    private mutating func iretProtected(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let offset = try peek(0, width: i.width)
        let selector = UInt16(truncatingIfNeeded: try peek(i.bytes, width: i.width))
        let flags = try peek(2 &* i.bytes, width: i.width)
        if flags & RFLAGS.vm != 0, i.width == 2, cpl == 0, !isLongMode {
            try iretToVirtual8086(offset: offset, selector: selector, flags: flags)
            return
        }
        var target = try returnTarget(selector)
        let level = UInt8(selector & 3)
        let changesStack = level != cpl || is64Bit
        if changesStack {
            let pointer = try peek(3 &* i.bytes, width: i.width)
            let stackSelector = UInt16(truncatingIfNeeded: try peek(4 &* i.bytes, width: i.width))
            let stack = try outerStack(stackSelector, level: level, is64Bit: runs64Bit(target))
            try checkTarget(offset, target)
            try markAccessed(&target)
            returnToStack(stack, pointer: pointer, is64Bit: runs64Bit(target), width: i.width)
        } else {
            try checkTarget(offset, target)
            try markAccessed(&target)
            setStackPointer(self[.rsp] &+ 3 &* i.bytes)
        }
        // IOPL and IF change by the privilege that IRET executes with.
        returnFlags(flags, width: i.width)
        setCode(target, selector: selector)
        rip = offset
        if level != cpl {
            setCPL(level)
            dropInnerDataSegments(level: level)
        } else {
            setCPL(level)
        }
        updateMode()
    }

    /// Loads RFLAGS as IRET may.
    private mutating func returnFlags(_ value: UInt64, width: UInt8) {
        var writable = RFLAGS.status | RFLAGS.tf | RFLAGS.df | RFLAGS.nt
        if width > 1 { writable |= RFLAGS.rf | RFLAGS.ac | RFLAGS.id }
        if cpl == 0 {
            writable |= RFLAGS.iopl
            if width > 1, isProtected { writable |= RFLAGS.vif | RFLAGS.vip }
        }
        if cpl <= iopl { writable |= RFLAGS.if }
        replaceFlags(rflags & ~writable | value & writable)
    }

    /// SDM vol. 3, section 20.2.5.
    private mutating func iretToVirtual8086(
        offset: UInt64, selector: UInt16, flags: UInt64
    ) throws(Interruption) {
        var values = InlineArray<6, UInt64>(repeating: 0)
        for place in 0..<6 { values[place] = try peek(12 &+ UInt64(place) &* 4, width: 2) }
        guard offset <= 0xFFFF else { throw .generalProtection(0) }
        replaceFlags(flags & RFLAGS.defined | RFLAGS.fixed)
        loadVirtualSegment(.cs, selector)
        loadVirtualSegment(.ss, UInt16(truncatingIfNeeded: values[1]))
        loadVirtualSegment(.es, UInt16(truncatingIfNeeded: values[2]))
        loadVirtualSegment(.ds, UInt16(truncatingIfNeeded: values[3]))
        loadVirtualSegment(.fs, UInt16(truncatingIfNeeded: values[4]))
        loadVirtualSegment(.gs, UInt16(truncatingIfNeeded: values[5]))
        self[.rsp] = values[0] & 0xFFFF_FFFF
        rip = offset
        setCPL(3)
        updateMode()
    }

    /// Gives a segment register what virtual-8086 mode demands.
    mutating func loadVirtualSegment(_ register: SegmentRegister, _ selector: UInt16) {
        segments[register.rawValue] = Segment(
            selector: selector, attributes: SegmentAttributes(rawValue: 0xF3), limit: 0xFFFF,
            base: UInt64(selector) << 4)
    }
}
