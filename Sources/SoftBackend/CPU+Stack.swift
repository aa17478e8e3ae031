// PUSH to LEAVE, and the stack primitives that calls, interrupts and far transfers use.

import NVMM

extension CPU {
    static let ss = UInt8(SegmentRegister.ss.rawValue)

    /// Moves the stack pointer within the stack's width.
    @inline(__always) mutating func setStackPointer(_ value: UInt64) {
        if stackMask == 0xFFFF {
            self[.rsp] = self[.rsp] & ~0xFFFF | value & 0xFFFF
        } else {
            self[.rsp] = value & stackMask
        }
    }

    /// Pushes one value; RSP changes only if the store succeeds.
    @inline(__always) mutating func push<T: OperandWidth>(_ value: T) throws(Interruption) {
        let top = (self[.rsp] &- UInt64(T.bitWidth / 8)) & stackMask
        try store(Self.ss, top, value)
        setStackPointer(top)
    }

    mutating func push(_ value: UInt64, width: UInt8) throws(Interruption) {
        switch width {
        case 1: try push(UInt16(truncatingIfNeeded: value))
        case 2: try push(UInt32(truncatingIfNeeded: value))
        default: try push(value)
        }
    }

    /// The value `offset` bytes above the top of the stack, which stays.
    @inline(__always) mutating func peek(_ offset: UInt64, width: UInt8) throws(Interruption) -> UInt64 {
        try load(Self.ss, (self[.rsp] &+ offset) & stackMask, width: width)
    }

    @inline(__always) mutating func pop<T: OperandWidth>(as type: T.Type) throws(Interruption) -> T {
        let value: T = try load(Self.ss, self[.rsp] & stackMask)
        setStackPointer(self[.rsp] &+ UInt64(T.bitWidth / 8))
        return value
    }

    mutating func pop(width: UInt8) throws(Interruption) -> UInt64 {
        let value = try peek(0, width: width)
        setStackPointer(self[.rsp] &+ (1 << UInt64(width)))
        return value
    }

    @inline(never) mutating func push(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.form {
        case .register: try push(read(i.register0, width: i.width), width: i.width)
        case .immediate: try push(i.immediate, width: i.width)
        default: try push(try load(i.segment, effectiveAddress(i), width: i.width), width: i.width)
        }
    }

    @inline(never) mutating func pop(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if i.form == .register {
            let value = try pop(width: i.width)
            write(i.register0, value, width: i.width)
            return
        }
        // SDM vol. 2, POP: an address through RSP uses its value after the pop; a fault leaves RSP as it was.
        let before = self[.rsp]
        let value = try pop(width: i.width)
        do {
            try store(i.segment, effectiveAddress(i), value, width: i.width)
        } catch {
            self[.rsp] = before
            throw error
        }
    }

    @inline(never) mutating func pusha(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let before = self[.rsp]
        do {
            for register in UInt8(0)..<8 {
                try push(register == 4 ? before : gpr[Int(register)], width: i.width)
            }
        } catch {
            self[.rsp] = before
            throw error
        }
    }

    @inline(never) mutating func popa(_ i: borrowing DecodedInstruction) throws(Interruption) {
        var values = InlineArray<8, UInt64>(repeating: 0)
        for place in 0..<8 { values[place] = try peek(UInt64(place) << UInt64(i.width), width: i.width) }
        for place in 0..<8 where place != 3 { write(UInt8(7 - place), values[place], width: i.width) }
        setStackPointer(self[.rsp] &+ (8 << UInt64(i.width)))
    }

    @inline(never) mutating func enter(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let level = UInt64(i.immediate1 & 31)
        let bytes = 1 << UInt64(i.width) as UInt64
        let before = self[.rsp]
        do {
            try push(self[.rbp], width: i.width)
            // Below a 16-bit stack's end Intel's processors borrow from the upper half of ESP.
            let frame = model.isIntel && stackMask == 0xFFFF ? before &- bytes : self[.rsp]
            if level > 0 {
                for place in 1..<max(level, 1) {
                    let link = try load(Self.ss, (self[.rbp] &- place &* bytes) & stackMask, width: i.width)
                    try push(link, width: i.width)
                }
                try push(frame, width: i.width)
            }
            let top = (self[.rsp] &- (i.immediate & 0xFFFF)) & stackMask
            // SDM vol. 2, ENTER: faults if a push at the new top of the stack would.
            let address = try linear(Self.ss, top, byteCount: bytes, .write)
            try checkWritable(address, byteCount: bytes, segment: Self.ss)
            setStackPointer(top)
            write(5, frame, width: i.width)
        } catch {
            self[.rsp] = before
            throw error
        }
    }

    @inline(never) mutating func leave(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let frame = self[.rbp] & stackMask
        let value = try load(Self.ss, frame, width: i.width)
        setStackPointer(frame &+ (1 << UInt64(i.width)))
        write(5, value, width: i.width)
    }

    @inline(never) mutating func pushf(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if isVirtual8086, iopl < 3 { throw .generalProtection(0) }
        // SDM vol. 2, PUSHF: VM and RF are pushed as zero.
        try push(rflags & ~(RFLAGS.vm | RFLAGS.rf), width: i.width)
    }

    @inline(never) mutating func popf(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if isVirtual8086, iopl < 3 { throw .generalProtection(0) }
        let value = try pop(width: i.width)
        loadFlags(value, width: i.width)
    }

    /// Loads RFLAGS as POPF and IRET may: IOPL only at CPL 0, IF only where CPL <= IOPL; VM, VIF and VIP never;
    /// RF is cleared.
    mutating func loadFlags(_ value: UInt64, width: UInt8) {
        var writable = RFLAGS.status | RFLAGS.tf | RFLAGS.df | RFLAGS.nt
        if width > 1 { writable |= RFLAGS.ac | RFLAGS.id }
        if cpl == 0 || !isProtected { writable |= RFLAGS.iopl }
        if cpl <= iopl || !isProtected { writable |= RFLAGS.if }
        let aligned = checksAlignment
        var flags = rflags & ~writable | value & writable
        if width > 1 { flags &= ~RFLAGS.rf }
        if (flags ^ systemFlags) & RFLAGS.ac != 0, cr4 & CR4.smap != 0 { flushTLB() }
        rflags = flags
        if checksAlignment != aligned { flushTLB() }
    }
}
