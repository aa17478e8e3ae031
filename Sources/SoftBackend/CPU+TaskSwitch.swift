// The hardware task switch: SDM vol. 3, chapter 7.

import NVMM

/// What a task switch was asked for by: decides busy bits, NT and the link.
enum TaskSwitchCause {
    case jump, call, interrupt, iret
}

/// Where the fields of a TSS stand: SDM vol. 3, figures 7-2 and 7-10.
private struct TaskLayout {
    let isWide: Bool
    var limitMin: UInt32 { isWide ? 0x67 : 0x2B }
    var instructionPointer: UInt64 { isWide ? 32 : 14 }
    var flags: UInt64 { isWide ? 36 : 16 }
    var registers: UInt64 { isWide ? 40 : 18 }
    var segments: UInt64 { isWide ? 72 : 34 }
    var segmentCount: Int { isWide ? 6 : 4 }
    var ldt: UInt64 { isWide ? 96 : 42 }
    var stride: UInt64 { isWide ? 4 : 2 }
    var width: UInt8 { isWide ? 2 : 1 }
    init(type: UInt8) { isWide = type & 8 != 0 }
}

extension CPU {
    /// The TSS that a task gate names.
    mutating func taskDescriptor(_ selector: UInt16) throws(Interruption) -> Descriptor {
        let code = errorCode(selector)
        guard !isNull(selector), selector & 4 == 0, let target = try descriptor(selector), target.isSystem,
            target.type == SystemType.availableTSS || target.type == SystemType.availableTSS16
        else { throw .generalProtection(code) }
        guard target.isPresent else { throw .notPresent(code) }
        return target
    }

    /// An interrupt or exception through a task gate.
    mutating func enterTask(
        _ selector: UInt16, errorCode pushed: UInt32?, returnRIP: UInt64, pushedFlags: UInt64
    ) throws(Interruption) {
        let target = try taskDescriptor(selector)
        try switchTask(to: target, selector, .interrupt, returnRIP: returnRIP, savedFlags: pushedFlags)
        guard let pushed else { return }
        var stack = currentStack
        keepsRIP = true
        let width: UInt8 = target.type & 8 != 0 ? 2 : 1
        try checkRoom(stack, byteCount: 1 << UInt64(width))
        try push(&stack, UInt64(pushed), width: width)
        setStackPointer(stack.pointer)
        keepsRIP = false
    }

    private mutating func loadTask(_ address: UInt64, width: UInt8) throws(Interruption) -> UInt64 {
        width == 2 ? UInt64(try loadSystem(address, as: UInt32.self)) : UInt64(try loadSystem(address, as: UInt16.self))
    }

    private mutating func storeTask(_ address: UInt64, _ value: UInt64, width: UInt8) throws(Interruption) {
        if width == 2 {
            try storeSystem(address, UInt32(truncatingIfNeeded: value))
        } else {
            try storeSystem(address, UInt16(truncatingIfNeeded: value))
        }
    }

    /// Leaves the current task and enters `target`.
    ///
    /// - Parameters:
    ///   - returnRIP: saved as the old task's instruction pointer.
    ///   - savedFlags: saved as its RFLAGS.
    /// - Throws: before the new task's registers are loaded, faults of the old task, with nothing of it changed; after
    ///   that, faults of the new task (#TS, #NP, #SS, #GP with its selectors), with ``keepsRIP`` set.
    mutating func switchTask(
        to target: Descriptor, _ selector: UInt16, _ cause: TaskSwitchCause, returnRIP: UInt64, savedFlags: UInt64
    ) throws(Interruption) {
        let layout = TaskLayout(type: target.type)
        guard target.limit >= layout.limitMin else { throw .invalidTSS(errorCode(selector)) }
        let old = segments[SegmentRegister.tr.rawValue]
        let oldLayout = TaskLayout(type: old.attributes.type)
        guard old.limit >= oldLayout.limitMin else { throw .invalidTSS(errorCode(old.selector)) }
        let base = target.base

        // Everything that may fault on paging comes first.
        let newCR3 = layout.isWide ? try loadTask(base &+ 28, width: 2) : 0
        let newRIP = try loadTask(base &+ layout.instructionPointer, width: layout.width)
        let newFlags = try loadTask(base &+ layout.flags, width: layout.width)
        var newRegisters = InlineArray<8, UInt64>(repeating: 0)
        for index in 0..<8 {
            newRegisters[index] = try loadTask(
                base &+ layout.registers &+ UInt64(index) &* layout.stride, width: layout.width)
        }
        var newSelectors = InlineArray<6, UInt16>(repeating: 0)
        for index in 0..<layout.segmentCount {
            newSelectors[index] = try loadSystem(base &+ layout.segments &+ UInt64(index) &* layout.stride)
        }
        let newLDT: UInt16 = try loadSystem(base &+ layout.ldt)
        let trap: UInt16 = layout.isWide ? try loadSystem(base &+ 100) : 0

        // Save the old task: one write each, so that the first and the last byte are known to be writable.
        try probe((old.base &+ oldLayout.instructionPointer) & 0xFFFF_FFFF, user: false, byteCount: 1)
        try probe((old.base &+ oldLayout.ldt) & 0xFFFF_FFFF, user: false, byteCount: 1)
        if cause == .call || cause == .interrupt { try storeSystem(base, old.selector) }
        try storeTask(old.base &+ oldLayout.instructionPointer, returnRIP, width: oldLayout.width)
        try storeTask(old.base &+ oldLayout.flags, savedFlags, width: oldLayout.width)
        for index in 0..<8 {
            try storeTask(
                old.base &+ oldLayout.registers &+ UInt64(index) &* oldLayout.stride, gpr[index], width: oldLayout.width
            )
        }
        for index in 0..<oldLayout.segmentCount {
            try storeSystem(
                old.base &+ oldLayout.segments &+ UInt64(index) &* oldLayout.stride, segments[index].selector)
        }
        if cause == .jump || cause == .iret {
            let table = segments[SegmentRegister.gdt.rawValue]
            try markTSS(at: table.base &+ UInt64(old.selector & 0xFFF8), busy: false)
        }
        if cause != .iret { try markTSS(at: target.address, busy: true) }

        // The new task's registers: from here on faults are its own.
        keepsRIP = true
        var task = target.segment(selector: selector)
        task.attributes.type |= 2
        segments[SegmentRegister.tr.rawValue] = task
        cr0 |= CR0.ts
        dr[7] &= ~0x155  // local breakpoints: SDM vol. 3, section 17.2.4
        pendingDebug = 0
        var flags = newFlags & RFLAGS.defined | RFLAGS.fixed
        if cause == .call || cause == .interrupt { flags |= RFLAGS.nt }
        if !layout.isWide { flags &= 0xFFFF }
        rip = newRIP
        for index in 0..<8 {
            if layout.isWide {
                gpr[index] = newRegisters[index]
            } else {
                write(UInt8(index), newRegisters[index], width: 1)
            }
        }
        for index in 0..<6 { segments[index] = Segment(selector: newSelectors[index]) }
        segments[SegmentRegister.ldt.rawValue] = Segment(selector: newLDT)
        if layout.isWide, cr0 & CR0.pg != 0, newCR3 != cr3 {
            if cr4 & CR4.pae != 0 { try loadPDPTEs(cr3: newCR3) }
            cr3 = newCR3
        }
        flushTLB()
        systemFlags = RFLAGS.fixed
        cpl = 0  // descriptor checks below compare with the new CPL themselves
        rflags = flags
        try loadTaskSegments(newSelectors, ldt: newLDT, flags: flags)
        if rip >= codeEnd { throw .generalProtection(0) }
        if trap & 1 != 0 {
            pendingDebug |= 1 << 15
            attention.insert(.debug)
        }
        keepsRIP = false
    }

    /// SDM vol. 3, section 7.3, steps 11 to 13, and table 7-1.
    private mutating func loadTaskSegments(
        _ selectors: InlineArray<6, UInt16>, ldt: UInt16, flags: UInt64
    ) throws(Interruption) {
        updateMode()
        if !isNull(ldt) {
            guard ldt & 4 == 0, let found = try descriptor(ldt), found.isSystem, found.type == SystemType.ldt,
                found.isPresent
            else { throw .invalidTSS(errorCode(ldt)) }
            segments[SegmentRegister.ldt.rawValue] = found.segment(selector: ldt)
        }
        if flags & RFLAGS.vm != 0 {
            for register: SegmentRegister in [.es, .cs, .ss, .ds, .fs, .gs] {
                loadVirtualSegment(register, selectors[register.rawValue])
            }
            setCPL(3)
            updateMode()
            return
        }
        let codeSelector = selectors[SegmentRegister.cs.rawValue]
        let level = UInt8(codeSelector & 3)
        let code = errorCode(codeSelector)
        guard !isNull(codeSelector), var target = try descriptor(codeSelector), target.isCode,
            target.isConforming ? target.dpl <= level : target.dpl == level
        else { throw .invalidTSS(code) }
        guard target.isPresent else { throw .notPresent(code) }
        try markAccessed(&target)
        setCode(target, selector: codeSelector)

        let stackSelector = selectors[SegmentRegister.ss.rawValue]
        let stackCode = errorCode(stackSelector)
        guard !isNull(stackSelector), var stack = try descriptor(stackSelector), stack.isWritableData,
            UInt8(stackSelector & 3) == level, stack.dpl == level
        else { throw .invalidTSS(stackCode) }
        guard stack.isPresent else { throw .stackFault(stackCode) }
        try markAccessed(&stack)
        segments[SegmentRegister.ss.rawValue] = stack.segment(selector: stackSelector)
        setCPL(level)
        updateMode()

        for register: SegmentRegister in [.es, .ds, .fs, .gs] {
            let selector = selectors[register.rawValue]
            guard !isNull(selector) else { continue }
            guard var found = try descriptor(selector), found.isReadable,
                found.isCode && found.isConforming || found.dpl >= level && found.dpl >= UInt8(selector & 3)
            else { throw .invalidTSS(errorCode(selector)) }
            guard found.isPresent else { throw .notPresent(errorCode(selector)) }
            try markAccessed(&found)
            segments[register.rawValue] = found.segment(selector: selector)
            updateSegmentCache(register.rawValue)
        }
    }
}
