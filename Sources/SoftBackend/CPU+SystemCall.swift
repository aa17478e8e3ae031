// SYSCALL, SYSRET, SYSENTER, SYSEXIT: SDM vol. 2, and vol. 3, section 5.8.7.

import NVMM

extension CPU {
    /// Loads CS and SS with the fixed segments of the fast transfers: base 0, limit 4 GiB, never read from memory.
    private mutating func setFlatSegments(code: UInt16, stack: UInt16, level: UInt8, is64Bit: Bool) {
        var codeRights = SegmentAttributes(rawValue: 0x9B)
        codeRights.insert([.granularity, is64Bit ? .long : .defaultBig])
        codeRights.dpl = level
        var stackRights = SegmentAttributes(rawValue: 0x93)
        stackRights.insert([.granularity, .defaultBig])
        segments[SegmentRegister.cs.rawValue] = Segment(
            selector: code, attributes: codeRights, limit: 0xFFFF_FFFF, base: 0)
        segments[SegmentRegister.ss.rawValue] = Segment(
            selector: stack, attributes: stackRights, limit: 0xFFFF_FFFF, base: 0)
        setCPL(level)
        updateMode()
    }

    private func msr(_ register: MSR) -> UInt64 { msrs[register.rawValue] }

    /// Intel's: 64-bit mode only.
    private func requireSystemCalls() throws(Interruption) {
        guard is64Bit, efer & EFER.sce != 0 else { throw .invalidOpcode }
    }

    @inline(never) mutating func syscall(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSystemCalls()
        self[.rcx] = nextRIP(i)
        self[.r11] = rflags & ~RFLAGS.rf
        rip = msr(.lstar)
        let selector = UInt16(truncatingIfNeeded: msr(.star) >> 32)
        setFlatSegments(code: selector & ~3, stack: (selector & ~3) &+ 8, level: 0, is64Bit: true)
        replaceFlags(rflags & ~(msr(.sfmask) | RFLAGS.rf) | RFLAGS.fixed)
    }

    @inline(never) mutating func sysret(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSystemCalls()
        try requireSupervisor()
        let is64 = i.width == 3
        let target = is64 ? self[.rcx] : self[.rcx] & 0xFFFF_FFFF
        guard target.isCanonical else { throw .generalProtection(0) }
        let selector = UInt16(truncatingIfNeeded: msr(.star) >> 48)
        replaceFlags(self[.r11] & 0x3C_7FD7 | RFLAGS.fixed)
        setFlatSegments(
            code: (is64 ? selector &+ 16 : selector) | 3, stack: (selector &+ 8) | 3, level: 3, is64Bit: is64)
        rip = target
    }

    @inline(never) mutating func sysenter(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let selector = UInt16(truncatingIfNeeded: msr(.sysenterCS)) & ~3
        guard isProtected, selector != 0 else { throw .generalProtection(0) }
        let mask: UInt64 = isLongMode ? .max : 0xFFFF_FFFF
        systemFlags &= ~(RFLAGS.vm | RFLAGS.if | RFLAGS.rf)
        self[.rsp] = msr(.sysenterESP) & mask
        rip = msr(.sysenterEIP) & mask
        setFlatSegments(code: selector, stack: selector &+ 8, level: 0, is64Bit: isLongMode)
    }

    @inline(never) mutating func sysexit(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let selector = UInt16(truncatingIfNeeded: msr(.sysenterCS)) & ~3
        guard isProtected, selector != 0, cpl == 0 else { throw .generalProtection(0) }
        let is64 = i.width == 3
        let mask: UInt64 = is64 ? .max : 0xFFFF_FFFF
        let target = self[.rdx] & mask
        let stack = self[.rcx] & mask
        guard target.isCanonical, stack.isCanonical else { throw .generalProtection(0) }
        self[.rsp] = stack
        rip = target
        let code = selector &+ (is64 ? 32 : 16)
        setFlatSegments(code: code | 3, stack: (code &+ 8) | 3, level: 3, is64Bit: is64)
    }
}
