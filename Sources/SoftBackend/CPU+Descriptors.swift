// Segment and gate descriptors, and stacks that are not yet named by SS: SDM vol. 3, sections 3.4, 3.5, 5.8 and 7.2.

import NVMM

/// An entry of the GDT, the LDT or the IDT.
struct Descriptor {
    /// The first eight bytes.
    var low: UInt64
    /// The second eight bytes of a system descriptor or gate in long mode.
    var high: UInt64 = 0
    /// Linear address of the entry.
    var address: UInt64

    @inline(__always) var attributes: SegmentAttributes {
        SegmentAttributes(rawValue: UInt16(truncatingIfNeeded: low >> 40 & 0xFF | low >> 44 & 0xF00))
    }
    @inline(__always) var type: UInt8 { UInt8(truncatingIfNeeded: low >> 40 & 0xF) }
    @inline(__always) var isSystem: Bool { low >> 44 & 1 == 0 }
    @inline(__always) var dpl: UInt8 { UInt8(truncatingIfNeeded: low >> 45 & 3) }
    @inline(__always) var isPresent: Bool { low >> 47 & 1 != 0 }
    @inline(__always) var isLong: Bool { low >> 53 & 1 != 0 }
    @inline(__always) var isBig: Bool { low >> 54 & 1 != 0 }
    @inline(__always) var isCode: Bool { !isSystem && type & 8 != 0 }
    @inline(__always) var isConforming: Bool { type & 4 != 0 }
    @inline(__always) var isWritableData: Bool { !isSystem && type & 0xA == 2 }
    @inline(__always) var isReadable: Bool { !isSystem && (type & 8 == 0 || type & 2 != 0) }

    @inline(__always) var base: UInt64 { low >> 16 & 0xFF_FFFF | low >> 32 & 0xFF00_0000 | high << 32 }
    /// Highest offset in bytes, granularity applied.
    @inline(__always) var limit: UInt32 {
        let limit = UInt32(truncatingIfNeeded: low & 0xFFFF | low >> 32 & 0xF_0000)
        return low >> 55 & 1 != 0 ? limit << 12 | 0xFFF : limit
    }

    // As a gate.
    @inline(__always) var gateSelector: UInt16 { UInt16(truncatingIfNeeded: low >> 16) }
    @inline(__always) var gateOffset: UInt64 { low & 0xFFFF | low >> 32 & 0xFFFF_0000 | high << 32 }
    @inline(__always) var parameterCount: UInt64 { low >> 32 & 31 }
    @inline(__always) var interruptStack: UInt64 { low >> 32 & 7 }
    /// Type field of the second half, which must be 0: SDM vol. 3, section 5.8.3.1.
    @inline(__always) var highType: UInt64 { high >> 40 & 0x1F }

    /// The segment register that this descriptor gives.
    func segment(selector: UInt16) -> Segment {
        Segment(selector: selector, attributes: attributes, limit: limit, base: base)
    }
}

/// Types of system descriptors: SDM vol. 3, table 3-2.
enum SystemType {
    static let availableTSS16: UInt8 = 1
    static let ldt: UInt8 = 2
    static let busyTSS16: UInt8 = 3
    static let callGate16: UInt8 = 4
    static let taskGate: UInt8 = 5
    static let interruptGate16: UInt8 = 6
    static let trapGate16: UInt8 = 7
    static let availableTSS: UInt8 = 9
    static let busyTSS: UInt8 = 11
    static let callGate: UInt8 = 12
    static let interruptGate: UInt8 = 14
    static let trapGate: UInt8 = 15
}

/// Error code that names a selector.
@inline(__always) func errorCode(_ selector: UInt16) -> UInt32 { UInt32(selector & 0xFFFC) }

@inline(__always) func isNull(_ selector: UInt16) -> Bool { selector & 0xFFFC == 0 }

extension CPU {
    // MARK: - Descriptor tables

    /// The descriptor that `selector` names, or nil where it lies outside of its table.
    mutating func descriptor(_ selector: UInt16) throws(Interruption) -> Descriptor? {
        let table = segments[(selector & 4 != 0 ? SegmentRegister.ldt : .gdt).rawValue]
        if selector & 4 != 0, !table.attributes.contains(.present) { return nil }
        guard UInt32(selector | 7) <= table.limit else { return nil }
        let address = table.base &+ UInt64(selector & 0xFFF8)
        return Descriptor(low: try loadSystem(address, as: UInt64.self), address: address)
    }

    /// Completes a system descriptor with its second half in long mode.
    ///
    /// - Returns: false where that half lies outside of the table or is malformed.
    mutating func completeSystem(_ descriptor: inout Descriptor, _ selector: UInt16) throws(Interruption) -> Bool {
        guard isLongMode else { return true }
        let table = segments[(selector & 4 != 0 ? SegmentRegister.ldt : .gdt).rawValue]
        guard UInt32(selector | 7) + 8 <= table.limit else { return false }
        descriptor.high = try loadSystem(descriptor.address &+ 8, as: UInt64.self)
        return descriptor.highType == 0
    }

    /// Sets the accessed bit in memory where it is clear: SDM vol. 3, section 3.4.5.1.
    mutating func markAccessed(_ descriptor: inout Descriptor) throws(Interruption) {
        guard descriptor.low >> 40 & 1 == 0 else { return }
        descriptor.low |= 1 << 40
        try storeSystem(descriptor.address &+ 5, UInt8(truncatingIfNeeded: descriptor.low >> 40))
    }

    /// Sets or clears the busy bit of a TSS descriptor in memory.
    mutating func markTSS(at address: UInt64, busy: Bool) throws(Interruption) {
        let byte = try loadSystem(address &+ 5, as: UInt8.self)
        let marked = busy ? byte | 2 : byte & ~2
        if marked != byte { try storeSystem(address &+ 5, marked) }
    }

    /// Whether a code segment has both L and D, which is reserved in long mode.
    @inline(__always) func isReservedCode(_ descriptor: Descriptor) -> Bool {
        isLongMode && descriptor.isLong && descriptor.isBig
    }

    /// Whether code of this descriptor runs in 64-bit mode.
    @inline(__always) func runs64Bit(_ descriptor: Descriptor) -> Bool { isLongMode && descriptor.isLong }

    /// #GP(0) where `offset` is no place in the code segment.
    func checkTarget(_ offset: UInt64, _ code: Descriptor) throws(Interruption) {
        if runs64Bit(code) ? !offset.isCanonical : offset > UInt64(code.limit) { throw .generalProtection(0) }
    }

    // MARK: - Installing segments

    /// Loads CS. The caller sets RIP and calls ``updateMode()``.
    @inline(__always) mutating func setCode(_ descriptor: Descriptor, selector: UInt16) {
        segments[SegmentRegister.cs.rawValue] = descriptor.segment(selector: selector)
    }

    /// What SS holds in 64-bit mode with a null selector.
    func nullStack(level: UInt8) -> Segment {
        var segment = Segment(selector: UInt16(level))
        segment.attributes.dpl = level
        return segment
    }

    /// Loads CS as real and virtual-8086 mode do: the limit and the rights stay.
    @inline(__always) mutating func setRealCode(_ selector: UInt16) {
        segments[SegmentRegister.cs.rawValue].selector = selector
        segments[SegmentRegister.cs.rawValue].base = UInt64(selector) << 4
        segmentCaches[SegmentRegister.cs.rawValue].base = UInt64(selector) << 4
    }

    /// Nulls the data segments that an outer level may not keep: SDM vol. 3, section 5.8.6.
    mutating func dropInnerDataSegments(level: UInt8) {
        for register: SegmentRegister in [.es, .ds, .fs, .gs] {
            let attributes = segments[register.rawValue].attributes
            // A null selector stays as it is: FS and GS may have a base nevertheless.
            guard attributes.contains(.present), attributes.dpl < level, attributes.type & 0xC != 0xC else { continue }
            segments[register.rawValue] = Segment()
        }
    }

    // MARK: - RFLAGS

    /// Replaces all of RFLAGS with what depends on it.
    mutating func replaceFlags(_ flags: UInt64) {
        let aligned = checksAlignment
        if (flags ^ systemFlags) & RFLAGS.ac != 0, cr4 & CR4.smap != 0 { flushTLB() }
        rflags = flags
        if checksAlignment != aligned { flushTLB() }
    }
}

// MARK: - Stacks

/// A stack that is written to before SS:RSP name it, or so that they change only at the end.
struct PendingStack {
    var segment: Segment
    var pointer: UInt64
    var mask: UInt64
    /// No segment base and limit.
    var isFlat: Bool
    var user: Bool
    /// Error code of the #SS that a push beyond the limit raises.
    var faultCode: UInt32
}

extension CPU {
    /// The stack that SS:RSP name now.
    var currentStack: PendingStack {
        PendingStack(
            segment: segments[SegmentRegister.ss.rawValue], pointer: self[.rsp], mask: stackMask, isFlat: is64Bit,
            user: cpl == 3, faultCode: 0)
    }

    /// #SS where fewer than `byteCount` bytes are left.
    func checkRoom(_ stack: PendingStack, byteCount: UInt64) throws(Interruption) {
        let bottom = (stack.pointer &- byteCount) & stack.mask
        if stack.isFlat {
            guard bottom.isCanonical, (stack.pointer &- 1).isCanonical else { throw .stackFault(stack.faultCode) }
            return
        }
        let top = (stack.pointer &- 1) & stack.mask
        let limit = UInt64(stack.segment.limit)
        if isProtected, stack.segment.attributes.type & 0xC == 4 {
            let highest: UInt64 = stack.segment.attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF
            guard bottom > limit, top <= highest, bottom <= top else { throw .stackFault(stack.faultCode) }
        } else {
            // Pushes that wrap around the bottom are checked one by one, as they are stored.
            guard bottom <= limit, bottom > top || top <= limit else { throw .stackFault(stack.faultCode) }
        }
    }

    /// Pushes one value; only ``PendingStack/pointer`` changes, but for memory.
    mutating func push(_ stack: inout PendingStack, _ value: UInt64, width: UInt8) throws(Interruption) {
        let byteCount = 1 << UInt64(width) as UInt64
        let top = (stack.pointer &- byteCount) & stack.mask
        let linear = stack.isFlat ? top : (stack.segment.base &+ top) & 0xFFFF_FFFF
        if !stack.isFlat, top &+ (byteCount - 1) > UInt64(stack.segment.limit), stack.segment.attributes.type & 0xC != 4
        {
            throw .stackFault(stack.faultCode)
        }
        if stack.user == (cpl == 3), let host = tlb.look(linear, byteCount: byteCount, .write) {
            host.store(value, byteCount: byteCount)
        } else {
            if stack.isFlat, !linear.isCanonical { throw .stackFault(stack.faultCode) }
            if stack.user { try checkAlignment(linear, byteCount: byteCount) }
            let inPage = 0x1000 - linear & 0xFFF
            if byteCount <= inPage {
                let host = try translate(linear, .write, user: stack.user, byteCount: byteCount)
                host.store(value, byteCount: byteCount)
            } else {
                let second = stack.isFlat ? linear &+ inPage : (linear &+ inPage) & 0xFFFF_FFFF
                let low = try translate(linear, .write, user: stack.user, byteCount: inPage)
                let high = try translate(second, .write, user: stack.user, byteCount: byteCount - inPage)
                low.store(value, byteCount: inPage)
                high.store(value >> (inPage * 8), byteCount: byteCount - inPage)
            }
        }
        stack.pointer = stack.mask == 0xFFFF ? stack.pointer & ~0xFFFF | top : top
    }

    /// The stack of an inner level as the TSS gives it: SDM vol. 3, section 7.2.1, and the checks of section 5.8.5.
    ///
    /// - Parameter level: the new CPL.
    /// - Throws: #TS or #SS with the selector of the TSS or of the stack.
    mutating func innerStack(level: UInt8) throws(Interruption) -> PendingStack {
        let task = segments[SegmentRegister.tr.rawValue]
        if isLongMode {
            let pointer = try longModeStack(at: UInt64(level) * 8 + 4)
            return PendingStack(
                segment: nullStack(level: level), pointer: pointer, mask: .max, isFlat: true, user: level == 3,
                faultCode: 0)
        }
        let isWide = task.attributes.type & 8 != 0
        let place = isWide ? UInt64(level) * 8 + 4 : UInt64(level) * 4 + 2
        guard place + (isWide ? 5 : 3) <= UInt64(task.limit) else { throw .invalidTSS(errorCode(task.selector)) }
        let pointer: UInt64
        let selector: UInt16
        if isWide {
            pointer = UInt64(try loadSystem(task.base &+ place, as: UInt32.self))
            selector = try loadSystem(task.base &+ place &+ 4, as: UInt16.self)
        } else {
            pointer = UInt64(try loadSystem(task.base &+ place, as: UInt16.self))
            selector = try loadSystem(task.base &+ place &+ 2, as: UInt16.self)
        }
        let code = errorCode(selector)
        guard !isNull(selector), var found = try descriptor(selector) else { throw .invalidTSS(code) }
        guard UInt8(selector & 3) == level, found.dpl == level, found.isWritableData else { throw .invalidTSS(code) }
        guard found.isPresent else { throw .stackFault(code) }
        try markAccessed(&found)
        return PendingStack(
            segment: found.segment(selector: selector), pointer: pointer, mask: found.isBig ? 0xFFFF_FFFF : 0xFFFF,
            isFlat: false, user: level == 3, faultCode: code)
    }

    /// RSP0 to RSP2 or IST1 to IST7, `place` bytes into the 64-bit TSS.
    mutating func longModeStack(at place: UInt64) throws(Interruption) -> UInt64 {
        let task = segments[SegmentRegister.tr.rawValue]
        guard place + 7 <= UInt64(task.limit) else { throw .invalidTSS(errorCode(task.selector)) }
        let pointer: UInt64 = try loadSystem(task.base &+ place)
        guard pointer.isCanonical else { throw .stackFault(0) }
        return pointer
    }

    /// Makes `stack` the current one. The caller sets the CPL and calls ``updateMode()``.
    mutating func adopt(_ stack: PendingStack) {
        segments[SegmentRegister.ss.rawValue] = stack.segment
        self[.rsp] = stack.pointer
    }
}
