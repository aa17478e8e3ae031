// Cases about registers of the processor, pages, flags and ports.

extension SystemCaseGenerator {
    mutating func modelSpecific() {
        let number = below(CasePage.msrNumbers.count)
        set(1, UInt64(CasePage.msrNumbers[number]))
        // Canonical, and no more of SYSENTER_CS than it keeps: TCG does not look.
        let value = word() & (number == 7 ? 0xFFFF : number == 3 ? 0xFFFF_FFFF : 0x7FFF_FFFF_FFFF)
        set(0, value & 0xFFFF_FFFF)
        set(2, value >> 32)
        if chance(2) { put(0x10620, at: CasePage.cr4) }
        switch below(5) {
        case 0: emit(0x0F, 0x32)
        case 1: emit(0x0F, 0x30)
        case 2: emit(0x0F, 0x01, 0xF8)
        case 3:
            set(0, word() & 0x7FFF_FFFF_FFFF)
            emit(0xF3)
            if mode.code == .bits64, chance(2) { emit(0x48) }
            emit(0x0F, 0xAE, UInt8(0xC0 | below(4) << 3))
        default:
            // EFER, with what both machines have in it.
            set(1, 0xC000_0080)
            set(0, 0x500 | UInt64(pick([0, 1, 0x800, 0x801])))
            set(2, 0)
            emit(0x0F, 0x30)
        }
    }

    /// An entry for a 4 KiB page of the scratch memory.
    private mutating func pageEntry() -> UInt64 {
        var entry = DriverMemory.scratch + UInt64(below(DriverMemory.scratchPages)) << 12
        entry |= word() & 0x166
        if !chance(6) { entry |= 1 }
        if chance(4) { entry |= 1 << 63 }
        if chance(24) { entry |= 1 << 51 }
        return entry
    }

    mutating func paging() {
        var control: UInt64 = 0x620
        for bit in [7, 20, 21] as [UInt64] where chance(2) { control |= 1 << bit }
        put(control, at: CasePage.cr4)
        if chance(2) { put(0x8001_0033, at: CasePage.cr0) }
        if chance(6) { put(0x101, at: CasePage.efer) }
        for page in CaseWindow.firstRandom..<CaseWindow.firstRandom + 2 {
            put(pageEntry(), at: CasePage.entries + page * 8)
        }
        var address = CaseWindow.page(CaseWindow.firstRandom + below(2)) + UInt64(below(7) * 8)
        if chance(4) {
            // A large page from 0 on, or the same table once more with its own rights.
            let isLarge = chance(2)
            var entry = (isLarge ? 0x80 : DriverMemory.windowTable) | word() & 0x166
            if !chance(6) { entry |= 1 }
            if chance(4) { entry |= 1 << 63 }
            if chance(24) { entry |= isLarge ? 0x2000 : 1 << 51 }
            if !isLarge { entry &= ~0x80 }
            put(entry, at: CasePage.directoryEntry)
            address = CaseWindow.second + (isLarge ? DriverMemory.scratch : address & 0xFFFF)
        }
        // What runs at CPL 0 with SMEP lies in the supervisor's page as it does without.
        if !mode.isUser, chance(4) { emit(0x0F, 0x01, pick([0xCA, 0xCB])) }
        // What a store has written is no code to go to.
        let isOne = !chance(3)
        access(at: address, mayJump: isOne)
        if !isOne {
            access(at: CaseWindow.page(CaseWindow.firstRandom + below(2)) + UInt64(below(7) * 8), mayJump: false)
        }
    }

    private mutating func access(at address: UInt64, mayJump: Bool) {
        let size = pick([16, 32])
        switch below(mayJump && mode.code != .bits16 ? 6 : 5) {
        case 0: emitMemory([0x8B], 0, at: address, size: size)
        case 1: emitMemory([0x89], 0, at: address, size: size)
        case 2, 3:
            test.modifiesMemory = true
            if chance(2) {
                emitMemory([0x01], 0, at: address, size: size)
            } else {
                emitMemory([0x0F, 0xB1], 1, at: address, size: size)
            }
        case 4:
            // A stack there: the mode's own width, so that no address is cut.
            if mode.code == .bits64 { emit(0xFF, 0x37) } else { emitMemory([0xFF], 6, at: address, size: 32) }
            set(7, address)
        default:
            // JMP rDI: a fetch there meets the INT3s that scratch memory is full of.
            emit(0xFF, 0xE7)
            set(7, address)
        }
    }

    mutating func flags() {
        let size = mode.code == .bits64 ? pick([16, 64]) : anySize()
        putStack([word() & 0x24_7BD7], size: size)
        for _ in 0...below(2) {
            switch below(5) {
            case 0: emit(0xFA)
            case 1: emit(0xFB)
            case 2: if size != 64 { emitSize(size) }; emit(0x9C)
            default: if size != 64 { emitSize(size) }; emit(0x9D)
            }
        }
        // TCG does not step over STI.
        guard test.code.contains(0xFB) else { return }
        clearFlags(0x100)
        putStack([word() & 0x24_7AD7], size: size)
    }

    mutating func debug() {
        let scratch = CaseWindow.page(CaseWindow.firstRandom)
        put(DriverMemory.scratch | 0x67, at: CasePage.entries + CaseWindow.firstRandom * 8)
        let code = CaseWindow.code(user: mode.isUser)
        if chance(3) {
            // MOV to and from DR; DR4 and DR5 by CR4.DE.
            if chance(2) { put(0x628, at: CasePage.cr4) }
            // Which of #UD and #GP is first, TCG has otherwise; reserved bits of DR6 it keeps.
            let number = mode.isUser ? pick([0, 1, 2, 3, 6, 7]) : below(8)
            set(0, number >= 4 ? word() & 0xFFFF_CFFF : word() & 0x7FFF_FFFF)
            if number == 7 || number == 5 { set(0, 0x400) }
            emit(0x0F, chance(2) ? 0x21 : 0x23, UInt8(0xC0 | number << 3))
            return
        }
        var control: UInt64 = 0x400
        for number in 0..<4 where chance(2) {
            // In segments that have a base, TCG meets an instruction breakpoint without end.
            let isCode = mode.code != .bits16 && chance(3)
            // Each at its own address: of several that an access meets, TCG notes the first.
            put(
                isCode ? code + UInt64(below(4)) : scratch + UInt64(number * 4),
                at: CasePage.debugRegisters + number * 8)
            let type: UInt64 = isCode ? 0 : pick([1, 3]), length: UInt64 = isCode ? 0 : pick([0, 1, 3])
            control |= UInt64(below(4)) << UInt64(number * 2) | (type | length << 2) << UInt64(16 + number * 4)
        }
        put(control, at: CasePage.dr7)
        let address = scratch + UInt64(below(4) * 4)
        emit(0x90)
        switch below(4) {
        case 0: emitMemory([0x8B], 0, at: address, size: 32)
        case 1: emitMemory([0x89], 0, at: address, size: 32)
        case 2: emitMemory([0x88], 0, at: address, size: 32)
        default: emit(0x90)
        }
        emit(0x90)
    }

    mutating func control() {
        switch below(9) {
        case 0:
            // MOV from CR: 1, 5, 6 and 7 are none, for which TCG has #GP first.
            emit(0x0F, 0x20, UInt8(0xC0 | pick(mode.isUser ? [0, 2, 3, 4] : Array(0..<8)) << 3))
        case 1:
            var value: UInt64 = 0x8000_0033
            for bit in [1, 2, 3, 16] as [UInt64] where chance(2) { value ^= 1 << bit }
            set(0, value)
            emit(0x0F, 0x22, 0xC0)
        case 2:
            var value: UInt64 = 0x620
            for bit in [2, 3, 7, 9, 10, 16, 20, 21] as [UInt64] where chance(2) { value ^= 1 << bit }
            set(0, value)
            emit(0x0F, 0x22, 0xE0)
        case 3:
            set(0, word() & 0x7FFF_FFFF)
            emit(0x0F, 0x22, 0xD0)
        case 4:
            set(0, word() & 0xFF)
            emit(0x0F, 0x01, 0xF0)
        case 5:
            put(0x8000_003B, at: CasePage.cr0)
            emit(0x0F, 0x06)
        case 6: emitMemory([0x0F, 0x01], 7, at: operandAddress, size: 32)
        case 7 where mode.isUser: emit(0xF4)
        case 8 where mode.isUser: emitMemory([0x0F, 0x01], UInt8(pick([2, 3])), at: operandAddress, size: 32)
        default: emit(0x0F, pick([0x09, 0x06]))
        }
    }

    mutating func inputOutput() {
        // Whoever answers an exit has to step over the instruction.
        clearFlags(0x100)
        let port = 0x210 + below(0x40)
        for _ in 0..<4 {
            put(UInt64(below(16)) << UInt64(below(5)), at: CasePage.ioMap + (port + below(9) - 4) / 8, bytes: 1)
        }
        // SDM vol. 1, 19.5.2: the map may end early, or lie beyond the limit.
        if chance(6) { put(UInt64(pick([0x68, 0xA9, 0xFF, 0x100, 0xFFFF])), at: CasePage.tss + 0x66, bytes: 2) }
        set(2, UInt64(port))
        let size = pick([8, 16, 32])
        if size != 8 { emitSize(size) }
        emit((chance(2) ? 0xEC : 0xEE) | (size == 8 ? 0 : 1))
    }

    mutating func extendedState() {
        if !chance(6) { put(0x4_0620, at: CasePage.cr4) }
        // CR0.TS stays clear: TCG does not raise #NM for these.
        set(1, chance(8) ? word() : 0)
        set(2, chance(8) ? word() : 0)
        switch below(4) {
        case 0: emit(0x0F, 0x01, 0xD0)
        case 1:
            // Which of #UD and #GP is first, TCG has otherwise. It has further components, which no case asks for.
            if mode.isUser { put(0x4_0620, at: CasePage.cr4) }
            set(0, pick([0, 1, 2, 3]))
            emit(0x0F, 0x01, 0xD1, 0x0F, 0x01, 0xD0)
        default:
            // The area is behind what is compared of the page: its header goes through registers.
            let area = CaseWindow.data(user: mode.isUser) + 0x400 + (chance(12) ? 8 : 0)
            set(0, UInt64(pick([0, 1, 2, 3, 3, 3])))
            set(3, pick([0, 1, 2, 3, 3]))
            emitMemory([0x89], 3, at: area, size: 32)
            test.code[test.code.count - 1] |= 0x80
            test.code += [0x00, 0x02, 0, 0]
            if chance(2) { emitMemory([0x0F, 0xAE], 4, at: area, size: 32) }
            emitMemory([0x0F, 0xAE], 5, at: area, size: 32)
            emitMemory([0x8B], 3, at: area, size: 32)
            test.code[test.code.count - 1] |= 0x80
            test.code += [0x00, 0x02, 0, 0]
        }
    }

    mutating func unavailable() {
        var control: UInt64 = 0x8000_0031
        // SDM vol. 3, table 14-1: CR0.EM goes before CR0.TS; in TCG it is the other way round.
        for bit in [1, chance(2) ? 2 : 3] as [UInt64] where chance(2) { control |= 1 << bit }
        put(control, at: CasePage.cr0)
        if chance(4) { put(0x420, at: CasePage.cr4) }
        switch below(5) {
        case 0: emit(0xD9, 0xD0)
        case 1: emit(0x9B)
        case 2: emit(0x0F, 0x28, 0xC1)
        case 3: emit(0x0F, 0x6F, 0xC1)
        default:
            if mode.code == .bits64 {
                emit(pick([0x06, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x82, 0x9A, 0xCE]))
            } else {
                emit(0x0F, pick([0x0B, 0xB9, 0x04, 0x0A, 0x24, 0xFF]), 0xC0)
            }
        }
    }
}
