// Reads and writes of guest memory by instructions: segment checks, then the TLB, then the slow way round.

import NVMM

extension CPU {
    // MARK: Effective and linear addresses

    /// Offset of the memory operand within its segment, wrapped to the address size.
    @inline(__always) func effectiveAddress(_ i: borrowing DecodedInstruction) -> UInt64 {
        (gpr[Int(i.base & 31)] &+ (gpr[Int(i.index & 31)] &<< UInt64(i.scale)) &+ i.displacement) & i.addressMask
    }

    @inline(__always) func truncate(_ address: UInt64, toAddressWidth width: UInt8) -> UInt64 {
        width == 3 ? address : width == 2 ? address & 0xFFFF_FFFF : address & 0xFFFF
    }

    /// Linear address of `byteCount` bytes at `offset` in a segment, after the segment's checks.
    @inline(__always) mutating func linear(
        _ segment: UInt8, _ offset: UInt64, byteCount: UInt64, _ kind: AccessKind
    ) throws(Interruption) -> UInt64 {
        let cache = segmentCaches[Int(segment & 7)]
        let end = kind == .write ? cache.writeEnd : cache.readEnd
        if offset &+ byteCount > end || offset > end {
            try checkSegment(segment, offset, byteCount: byteCount, kind)
        }
        return (cache.base &+ offset) & linearMask
    }

    // MARK: Reads and writes at segment:offset

    @inline(__always) mutating func load<T: OperandWidth>(
        _ segment: UInt8, _ offset: UInt64, as type: T.Type = T.self
    ) throws(Interruption) -> T {
        let bytes = UInt64(T.bitWidth / 8)
        let address = try linear(segment, offset, byteCount: bytes, .read)
        if let host = tlb.look(address, byteCount: bytes, .read) { return host.load(as: T.self) }
        return T(truncatingIfNeeded: try loadSlowly(address, byteCount: bytes, segment: segment))
    }

    @inline(__always) mutating func store<T: OperandWidth>(
        _ segment: UInt8, _ offset: UInt64, _ value: T
    ) throws(Interruption) {
        let bytes = UInt64(T.bitWidth / 8)
        let address = try linear(segment, offset, byteCount: bytes, .write)
        if let host = tlb.look(address, byteCount: bytes, .write) { return host.store(value) }
        try storeSlowly(address, UInt64(truncatingIfNeeded: value), byteCount: bytes, segment: segment)
    }

    /// Reads the memory operand, changes it and writes it back; a fault leaves everything as it was.
    ///
    /// - Parameter isLocked: whether the other VCPUs must not see anything between, where there are any.
    @inline(__always) mutating func modify<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, as type: T.Type, isLocked: Bool? = nil,
        _ change: (inout CPU, T) throws(Interruption) -> T
    ) throws(Interruption) {
        try modify(
            i.segment, effectiveAddress(i), as: type, isLocked: isConcurrent && (isLocked ?? i.isLocked), change)
    }

    @inline(__always) mutating func modify<T: OperandWidth>(
        _ segment: UInt8, _ offset: UInt64, as type: T.Type, isLocked: Bool,
        _ change: (inout CPU, T) throws(Interruption) -> T
    ) throws(Interruption) {
        if isLocked { return try modifyAtomically(segment, offset, as: type, change) }
        let bytes = UInt64(T.bitWidth / 8)
        let address = try linear(segment, offset, byteCount: bytes, .write)
        if let host = tlb.look(address, byteCount: bytes, .write) {
            host.store(try change(&self, host.load(as: T.self)))
            return
        }
        // Flags must not change if the write faults, so the write is tried first. SDM vol. 3, section 4.7:
        // a read-modify-write reports W=1.
        try checkWritable(address, byteCount: bytes, segment: segment)
        let old = T(truncatingIfNeeded: try loadSlowly(address, byteCount: bytes, segment: segment))
        let new = try change(&self, old)
        try storeSlowly(address, UInt64(truncatingIfNeeded: new), byteCount: bytes, segment: segment)
    }

    @inline(__always) mutating func loadOperand<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, as type: T.Type = T.self
    ) throws(Interruption) -> T {
        try load(i.segment, effectiveAddress(i))
    }

    @inline(__always) mutating func storeOperand<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ value: T
    ) throws(Interruption) {
        try store(i.segment, effectiveAddress(i), value)
    }

    // MARK: Accesses of the processor itself, supervisor whatever the CPL (descriptor tables, TSS, inner stacks)

    /// Reads at a linear address with supervisor privilege.
    mutating func loadSystem<T: OperandWidth>(_ linear: UInt64, as type: T.Type = T.self) throws(Interruption) -> T {
        if cpl != 3, !isOverridingSMAP,
            let host = tlb.look(linear & linearMaskForTables, byteCount: UInt64(T.bitWidth / 8), .read)
        {
            return host.load(as: T.self)
        }
        accessIsImplicit = true
        defer { accessIsImplicit = false }
        var value: UInt64 = 0
        for index in 0..<UInt64(T.bitWidth / 8) where index == 0 || (linear &+ index) & 0xFFF == 0 {
            // One translation for each page touched.
            let start = (linear &+ index) & linearMaskForTables
            let count = min(UInt64(T.bitWidth / 8) - index, 0x1000 - start & 0xFFF)
            let page = try translate(start, .read, user: false, byteCount: count)
            for byte in 0..<count {
                value |= UInt64(HostAddress(page.raw &+ byte).load(as: UInt8.self)) << ((index + byte) * 8)
            }
        }
        return T(truncatingIfNeeded: value)
    }

    /// Writes at a linear address with supervisor privilege.
    mutating func storeSystem<T: OperandWidth>(_ linear: UInt64, _ value: T) throws(Interruption) {
        let bytes = UInt64(T.bitWidth / 8)
        accessIsImplicit = true
        defer { accessIsImplicit = false }
        // Both pages are checked before the first byte changes.
        let last = (linear &+ (bytes - 1)) & linearMaskForTables
        try probe(last, user: false, byteCount: 1)
        for index in 0..<bytes {
            let host = try translate((linear &+ index) & linearMaskForTables, .write, user: false, byteCount: 1)
            host.store(UInt8(truncatingIfNeeded: UInt64(truncatingIfNeeded: value) >> (index * 8)))
        }
    }

    /// Descriptor tables and task state segments are addressed with 64 bits in long mode even from compatibility mode.
    var linearMaskForTables: UInt64 { isLongMode ? .max : 0xFFFF_FFFF }
}

// MARK: - The slow ways

extension CPU {
    /// What the fast comparison in ``linear(_:_:byteCount:_:)`` did not let pass: raises the fault, or returns where
    /// the access is legal after all (segments that expand down).
    mutating func checkSegment(
        _ register: UInt8, _ offset: UInt64, byteCount: UInt64, _ kind: AccessKind
    ) throws(Interruption) {
        if is64Bit { return }  // wraps around the top: the linear address decides
        let segment = segments[Int(register)]
        let fault: Interruption =
            register == UInt8(SegmentRegister.ss.rawValue) ? .stackFault(0) : .generalProtection(0)
        let last = offset &+ (byteCount &- 1)
        if !hasRealSegments {
            guard segment.attributes.contains([.present, .nonSystem]) else { throw fault }
            let type = segment.attributes.type
            if type & 8 != 0 {
                guard kind == .read, type & 2 != 0 else { throw fault }
            } else if kind == .write {
                guard type & 2 != 0 else { throw fault }
            }
            if type & 0xC == 4 {  // expands down: SDM vol. 3, section 5.3
                let top: UInt64 = segment.attributes.contains(.defaultBig) ? 0xFFFF_FFFF : 0xFFFF
                guard offset > UInt64(segment.limit), last <= top else { throw fault }
                return
            }
        }
        guard last <= UInt64(segment.limit) else { throw fault }
    }

    /// #GP(0), or #SS(0) through the stack segment, for an address that is not canonical.
    func checkCanonical(_ linear: UInt64, segment: UInt8) throws(Interruption) {
        guard is64Bit, !linear.isCanonical else { return }
        throw segment == UInt8(SegmentRegister.ss.rawValue) ? .stackFault(0) : .generalProtection(0)
    }

    mutating func loadSlowly(_ linear: UInt64, byteCount: UInt64, segment: UInt8) throws(Interruption) -> UInt64 {
        let inPage = 0x1000 - linear & 0xFFF
        try checkCanonical(linear, segment: segment)
        try checkAlignment(linear, byteCount: byteCount)
        if byteCount <= inPage {
            let host = try translate(linear, .read, user: cpl == 3, byteCount: byteCount)
            return host.load(byteCount: byteCount)
        }
        let second = (linear &+ inPage) & linearMask
        try checkCanonical(second, segment: segment)
        let low = try translate(linear, .read, user: cpl == 3, byteCount: inPage)
        let high = try translate(second, .read, user: cpl == 3, byteCount: byteCount - inPage)
        return low.load(byteCount: inPage) | high.load(byteCount: byteCount - inPage) << (inPage * 8)
    }

    mutating func storeSlowly(
        _ linear: UInt64, _ value: UInt64, byteCount: UInt64, segment: UInt8
    ) throws(Interruption) {
        let inPage = 0x1000 - linear & 0xFFF
        try checkCanonical(linear, segment: segment)
        try checkAlignment(linear, byteCount: byteCount)
        if byteCount <= inPage {
            let host = try translate(linear, .write, user: cpl == 3, byteCount: byteCount)
            return host.store(value, byteCount: byteCount)
        }
        let second = (linear &+ inPage) & linearMask
        try checkCanonical(second, segment: segment)
        // Both pages before the first byte, so that a fault on the second leaves the first as it was.
        let low = try translate(linear, .write, user: cpl == 3, byteCount: inPage)
        let high = try translate(second, .write, user: cpl == 3, byteCount: byteCount - inPage)
        low.store(value, byteCount: inPage)
        high.store(value >> (inPage * 8), byteCount: byteCount - inPage)
    }

    /// Faults as a write of these bytes would.
    mutating func checkWritable(_ linear: UInt64, byteCount: UInt64, segment: UInt8) throws(Interruption) {
        let inPage = 0x1000 - linear & 0xFFF
        try checkCanonical(linear, segment: segment)
        try checkAlignment(linear, byteCount: byteCount)
        try probe(linear, user: cpl == 3, byteCount: min(byteCount, inPage))
        guard byteCount > inPage else { return }
        let second = (linear &+ inPage) & linearMask
        try checkCanonical(second, segment: segment)
        try probe(second, user: cpl == 3, byteCount: byteCount - inPage)
    }

    /// #AC where the guest asked for it: SDM vol. 3, section 6.15, interrupt 17. While it is asked for, the TLB stays
    /// empty of user pages, so that every user access comes this way.
    func checkAlignment(_ linear: UInt64, byteCount: UInt64) throws(Interruption) {
        guard checksAlignment, linear & (byteCount &- 1) != 0, byteCount & (byteCount &- 1) == 0 else { return }
        throw .exception(.alignmentCheck)
    }

    var checksAlignment: Bool { cpl == 3 && cr0 & CR0.am != 0 && systemFlags & RFLAGS.ac != 0 }
}

extension HostAddress {
    /// - Parameter byteCount: 1...8.
    func load(byteCount: UInt64) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<byteCount { value |= UInt64(HostAddress(raw &+ index).load(as: UInt8.self)) << (index * 8) }
        return value
    }

    func store(_ value: UInt64, byteCount: UInt64) {
        switch byteCount {
        case 8: store(value)
        case 4: store(UInt32(truncatingIfNeeded: value))
        case 2: store(UInt16(truncatingIfNeeded: value))
        default:
            for index in 0..<byteCount {
                HostAddress(raw &+ index).store(UInt8(truncatingIfNeeded: value >> (index * 8)))
            }
        }
    }
}

extension UInt64 {
    /// Bits 63 to 47 are equal: 4-level paging's 48-bit linear addresses (SDM vol. 1, section 3.3.7.1).
    @inline(__always) var isCanonical: Bool {
        UInt64(bitPattern: Int64(bitPattern: self << 16) >> 16) == self
    }
}
