// Cases about transfers of control and segments.

extension SystemCaseGenerator {
    mutating func interrupt() {
        let vector = chance(12) ? below(256) : 0x20 + below(DriverMemory.vectors - 0x20)
        if vector < DriverMemory.vectors, ![3, 8, 10, 11, 12, 13, 14].contains(vector), !chance(12) {
            let isTrap = chance(2), stack = chance(2) ? 0 : UInt64(below(8))
            let gate = SystemGate(
                // No outer code on an IST: TCG pushes with the supervisor's rights, whatever the new CPL is.
                selector: stack != 0
                    ? pick([SystemSelector.code64, SystemSelector.code64 | 3, SystemSelector.code32, 0])
                    : chance(3) ? plainSelector() : selector(),
                offset: chance(4) ? target(inner: true) : defaults.stub(vector),
                type: chance(12) ? UInt64(below(32)) : isTrap ? 15 : 14, level: chance(2) ? 3 : UInt64(below(4)),
                stack: stack, isPresent: !chance(12))
            test.usesInterruptStack = stack != 0
            put(gate.low, at: CasePage.idt + vector * 16)
            put(gate.high, at: CasePage.idt + vector * 16 + 8)
        }
        if chance(4) { put(innerStack(), at: CasePage.tss + 4 + below(3) * 8) }
        if chance(6) { put(innerStack(), at: CasePage.tss + 0x2C + below(6) * 8) }
        if mode.code != .bits64, chance(8) {
            emit(0xCE)
        } else {
            emit(0xCD, UInt8(vector))
        }
    }

    /// A stack pointer for an inner level; now and then one that delivery faults at.
    private mutating func innerStack() -> UInt64 {
        let top = CaseWindow.data(user: chance(4)) + UInt64(SystemStack.inner)
        return chance(6) ? pick([0x7000_0000, CaseWindow.page(8) + 0x80]) : top - UInt64(below(16))
    }

    mutating func farPointer() {
        let isCall = chance(2), size = anySize()
        let selector = selector(system: chance(2))
        let offset = target(size: size)
        if mode.code != .bits64, chance(3) {
            emitSize(size)
            emit(isCall ? 0x9A : 0xEA)
            test.code += offset.littleEndianBytes(size / 8) + UInt64(selector).littleEndianBytes(2)
        } else {
            putOperand(offset, bytes: size / 8)
            putOperand(UInt64(selector), bytes: 2, offset: size / 8)
            emitMemory([0xFF], isCall ? 3 : 5, at: operandAddress, size: size)
        }
        if chance(4) { put(innerStack(), at: CasePage.tss + 4 + below(3) * 8) }
    }

    private mutating func returnFrame(size: Int, withFlags: Bool) -> [UInt64] {
        let stack = CaseWindow.data(user: chance(2)) + 0x60
        let flags = word() & 0x24_7FD7 | 2
        let code = selector()
        // SDM vol. 2, IRET and RET: a stack that is not present is #SS, for which TCG raises #NP.
        var stackSelector =
            chance(3) ? selector(mayBeAbsent: false) : pick([SystemSelector.userData, SystemSelector.data, 0])
        // SDM vol. 2, IRET and RET: a null SS goes with 64-bit code and its RPL alone; TCG does not look.
        if stackSelector & ~3 == 0 {
            stackSelector = (code & ~3 == SystemSelector.code64 ? 0 : SystemSelector.data) | code & 3
        }
        return [target(size: size), UInt64(code)] + (withFlags ? [flags & ~0x400] : [])
            + [stack, UInt64(stackSelector)]
    }

    mutating func farReturn() {
        let size = anySize()
        var frame = returnFrame(size: size, withFlags: false)
        emitSize(size)
        if chance(2) {
            emit(0xCB)
        } else {
            emit(0xCA, 0x08, 0)
            frame.insert(contentsOf: Array(repeating: 0, count: 64 / size), at: 2)
        }
        putStack(frame, size: size)
    }

    mutating func interruptReturn() {
        let size = anySize()
        putStack(returnFrame(size: size, withFlags: true), size: size)
        emitSize(size)
        emit(0xCF)
    }

    mutating func segmentLoad() {
        var selector = UInt64(selector(system: chance(6)))
        // A null SS has the RPL of CPL: TCG does not look.
        if selector & ~3 == 0 { selector = mode.isUser ? 3 : 0 }
        let wide = chance(2) ? 16 : 32
        switch below(mode.code == .bits64 ? 4 : 5) {
        case 0:
            // MOV Sreg, r/m16; 1 is CS: #UD; 6 and 7 are none.
            set(0, selector)
            emitSize(wide)
            emit(0x8E, UInt8(0xC0 | below(8) << 3))
        case 1:
            putOperand(selector, bytes: 2)
            emitMemory([0x8E], UInt8(pick([0, 2, 3, 4, 5])), at: operandAddress, size: wide)
        case 2:
            let size = mode.code == .bits64 ? 64 : wide
            putStack([selector], size: size)
            if mode.code != .bits64 { emitSize(size) }
            emit(0x0F, pick([0xA1, 0xA9]))
        case 3:
            // TCG reads no pointer of 80 bits.
            let size = pick([16, 32])
            putOperand(word(), bytes: size / 8)
            putOperand(selector, bytes: 2, offset: size / 8)
            emitMemory([0x0F, pick([0xB2, 0xB4, 0xB5])], UInt8(pick([0, 1, 2, 3])), at: operandAddress, size: size)
        default:
            putStack([selector], size: wide)
            emitSize(wide)
            emit(pick([0x07, 0x17, 0x1F]))
        }
        // TCG does not step over LSS, as if it were MOV SS.
        clearFlags(0x100)
    }

    mutating func descriptorQuery() {
        let selector = UInt64(selector(system: chance(2)))
        set(0, word() & ~0xFFFF | selector)
        let size = anySize()
        emitSize(size)
        switch below(4) {
        case 0: emit(0x0F, 0x02, 0xC8)
        case 1: emit(0x0F, 0x03, 0xC8)
        case 2: emit(0x0F, 0x00, 0xE0)
        default: emit(0x0F, 0x00, 0xE8)
        }
    }

    mutating func systemSegments() {
        let size = anySize()
        switch below(7) {
        case 0: set(0, UInt64(selector(system: true))); emit(0x0F, 0x00, 0xD0)
        case 1: set(0, UInt64(max(selector(system: true), 0x10))); emit(0x0F, 0x00, 0xD8)
        case 2: emitSize(size); emit(0x0F, 0x00, 0xC0)
        case 3: emitSize(size); emit(0x0F, 0x00, 0xC8)
        case 4: emitSize(size); emit(0x0F, 0x01, 0xE0)
        case 5: emitMemory([0x0F, 0x01], 0, at: operandAddress, size: 32)
        default: emitMemory([0x0F, 0x01], 1, at: operandAddress, size: 32)
        }
    }

    mutating func fastCall() {
        if chance(8) { put(0x900, at: CasePage.efer) }
        // Whether these are stepped over, TCG asks the new TF.
        clearFlags(0x100)
        // STAR, from which no selector goes beyond 16 bits: TCG keeps the bit above.
        if chance(3) { put((word() & 0xFFEF_FFEF) << 32, at: CasePage.msrs) }
        let entry = CaseWindow.code(user: chance(8)) + 0x200
        for number in [1, 2, 9] { put(entry + UInt64(number), at: CasePage.msrs + number * 8) }
        put(word() & 0xFFFF_FFFF, at: CasePage.msrs + 3 * 8)
        put(UInt64(pick([0, 8, 8, 0x30, 0xFFFC])), at: CasePage.msrs + 7 * 8)
        put(CaseWindow.data(user: chance(8)) + UInt64(SystemStack.inner), at: CasePage.msrs + 8 * 8)
        // RCX, RDX and R11 are what SYSRET and SYSEXIT go back to.
        set(1, CaseWindow.code(user: true) + 0x300)
        set(2, CaseWindow.code(user: true) + 0x310)
        set(11, word() & 0x24_7AD7 | 2)
        let wide = mode.code == .bits64 && chance(2)
        // In compatibility mode SYSCALL and SYSRET are #UD on Intel's processors, and executed by TCG.
        switch mode.code == .bits64 ? below(4) : 2 + below(2) {
        case 0: emit(0x0F, 0x05)
        case 1: emitSize(wide ? 64 : 32); emit(0x0F, 0x07)
        case 2: emit(0x0F, 0x34)
        default:
            set(1, CaseWindow.data(user: true) + 0x60)
            emitSize(wide ? 64 : 32)
            emit(0x0F, 0x35)
        }
    }
}
