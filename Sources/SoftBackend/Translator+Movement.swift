// MOV to CWD, and the stack, as translated code.

import NVMM

extension Translator {
    // MARK: - Moves

    mutating func move(_ i: InstructionRecord) {
        let (rax, rcx) = (HostRegister.rax, HostRegister.rcx)
        switch i.form {
        case .registerRegister:
            if i.width >= 2, isDirect(i.register0) {
                code.load(destination(i.register0), place(i.register1), width: i.width)
            } else {
                read(i.register1, into: rcx, width: i.width)
                write(i.register0, from: rcx, width: i.width)
            }
        case .registerImmediate:
            let value = i.width == 2 ? i.immediate & 0xFFFF_FFFF : i.immediate
            if i.width >= 2, isDirect(i.register0) {
                code.move(destination(i.register0), value)
            } else {
                code.move(rax, i.width == 0 ? value & 0xFF : i.width == 1 ? value & 0xFFFF : value)
                write(i.register0, from: rax, width: i.width)
            }
        case .registerMemory:
            access(i, bytes: 1 << UInt64(i.width), .read)
            if let host = direct(i.register0, width: i.width) {
                code.load(host, Self.found, width: i.width)
            } else {
                code.load(rcx, Self.found, width: i.width)
                write(i.register0, from: rcx, width: i.width)
            }
        case .memoryRegister:
            access(i, bytes: 1 << UInt64(i.width), .write)
            code.store(Self.found, source(i.register0, width: i.width, scratch: rcx), width: i.width)
        default:
            access(i, bytes: 1 << UInt64(i.width), .write)
            code.store(Self.found, constant: i.immediate, width: i.width)
        }
    }

    private func isDirect(_ register: UInt8) -> Bool { TranslatedFrame.hostRegister(register) != nil }

    /// The host's register of a guest's, or RCX, from which ``write(_:from:width:)`` follows.
    private func destination(_ register: UInt8) -> UInt8 {
        TranslatedFrame.hostRegister(register) ?? HostRegister.rcx
    }

    /// Writes what was computed in ``destination(_:)``.
    private mutating func finish(_ register: UInt8, width: UInt8) {
        if !isDirect(register) { write(register, from: HostRegister.rcx, width: width) }
    }

    mutating func extend(_ i: InstructionRecord, isSigned: Bool) {
        var operand = Self.found
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width1), .read)
        } else if isHighByte(i.register1, i.width1) {
            read(i.register1, into: HostRegister.rdx, width: 0)
            operand = .register(HostRegister.rdx)
        } else {
            operand = place(i.register1)
        }
        let host = destination(i.register0)
        if isSigned {
            code.extendSign(host, operand, sourceWidth: i.width1, width: i.width)
        } else {
            code.extendZero(host, operand, sourceWidth: i.width1)
        }
        finish(i.register0, width: i.width)
    }

    mutating func lea(_ i: InstructionRecord) {
        let host = destination(i.register0)
        let isPlain =
            i.addressMask == .max && i.base != RegisterNumber.blockRIP
            && (i.base == RegisterNumber.none || isDirect(i.base))
            && (i.index == RegisterNumber.none || isDirect(i.index))
        if isPlain, let short = Int32(exactly: Int64(bitPattern: i.displacement)),
            i.base != RegisterNumber.none || i.index != RegisterNumber.none
        {
            let base = TranslatedFrame.hostRegister(i.base)
            if let index = TranslatedFrame.hostRegister(i.index) {
                code.lea(
                    host, .indexed(base: base, index: index, scale: i.scale, displacement: short), width: i.width)
            } else if let base {
                code.lea(host, .memory(base: base, displacement: short), width: i.width)
            }
        } else {
            offset(i, into: HostRegister.rax)
            code.load(host, .register(HostRegister.rax), width: i.width)
        }
        finish(i.register0, width: i.width)
    }

    mutating func conditionalMove(_ i: InstructionRecord) {
        var operand = place(i.register1)
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .read)
            code.load(HostRegister.rdx, Self.found, width: i.width)
            operand = .register(HostRegister.rdx)
        }
        placeFlags()
        let host = destination(i.register0)
        if !isDirect(i.register0) { code.load(host, place(i.register0), width: i.width) }
        code.emit(0x0F40 | UInt32(i.condition), width: i.width, register: host, operand)
        finish(i.register0, width: i.width)
    }

    mutating func setByte(_ i: InstructionRecord) {
        if i.usesMemory {
            access(i, bytes: 1, .write)
            code.setByte(i.condition, foundWithFlags())
        } else {
            placeFlags()
            code.setByte(i.condition, place(i.register0))
        }
    }

    mutating func swapBytes(_ i: InstructionRecord) {
        let host = destination(i.register0)
        if !isDirect(i.register0) { code.load(host, place(i.register0), width: i.width) }
        let rex: UInt8 = (i.width == 3 ? 0x48 : 0) | (host > 7 ? 0x41 : 0)
        if rex != 0 { code.byte(rex) }
        code.byte(0x0F)
        code.byte(0xC8 | host & 7)
        finish(i.register0, width: i.width)
    }

    /// CWDE and CDQE.
    mutating func extendAccumulator(_ i: InstructionRecord) {
        code.extendSign(destination(0), place(0), sourceWidth: i.width - 1, width: i.width)
    }

    /// CDQ and CQO.
    mutating func extendAccumulatorIntoData(_ i: InstructionRecord) {
        code.load(HostRegister.rax, place(0), width: i.width)
        if i.width == 3 { code.byte(0x48) }
        code.byte(0x99)
        write(2, from: HostRegister.rdx, width: i.width)
    }

    /// RDTSC: the clock, which is the instructions that have retired.
    mutating func readTimestamp(_ i: InstructionRecord) {
        let (rax, rdx) = (HostRegister.rax, HostRegister.rdx)
        code.arithmetic(.cmp, TranslatedFrame.slot(.timestampIsPlain), constant: 0, width: 3)
        flagsAreInPlace = false
        leaveLater(code.jump(HostCondition.zero))
        code.load(rdx, TranslatedFrame.slot(.timestampBase))
        code.arithmetic(.sub, rdx, TranslatedFrame.slot(.left), width: 3)
        code.arithmetic(.add, .register(rdx), constant: UInt64(position), width: 3)
        code.load(rax, .register(rdx), width: 2)
        write(0, from: rax, width: 2)
        code.shift(.shr, .register(rdx), by: 32, width: 3)
        write(2, from: rdx, width: 2)
        code.arithmetic(.add, TranslatedFrame.slot(.timestampReads), constant: 1, width: 3)
        storeRIP(of: i, .timestampReadRIP)
    }

    // MARK: - Exchanges

    mutating func exchange(_ i: InstructionRecord) {
        let (rcx, rdx) = (HostRegister.rcx, HostRegister.rdx)
        if i.usesMemory {
            access(i, bytes: 1 << UInt64(i.width), .write)
            code.load(rcx, Self.found, width: i.width)
            code.store(Self.found, source(i.register0, width: i.width, scratch: rdx), width: i.width)
        } else {
            read(i.register0, into: rcx, width: i.width)
            read(i.register1, into: rdx, width: i.width)
            write(i.register0, from: rdx, width: i.width)
            return write(i.register1, from: rcx, width: i.width)
        }
        write(i.register0, from: rcx, width: i.width)
    }

    mutating func exchangeAdd(_ i: InstructionRecord) {
        let rcx = HostRegister.rcx
        access(i, bytes: 1 << UInt64(i.width), .write)
        read(i.register0, into: rcx, width: i.width)
        code.emit(i.width == 0 ? 0x0FC0 : 0x0FC1, width: i.width, register: rcx, Self.found)
        keepFlags([])
        write(i.register0, from: rcx, width: i.width)
    }

    mutating func compareExchange(_ i: InstructionRecord) {
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        access(i, bytes: 1 << UInt64(i.width), .write)
        code.load(rdx, .register(rax))
        read(0, into: rax, width: i.width)
        let replacement = source(i.register0, width: i.width, scratch: rcx)
        code.emit(
            i.width == 0 ? 0x0FB0 : 0x0FB1, width: i.width, register: replacement,
            .memory(base: rdx, displacement: 0))
        let isExchanged = code.jump(HostCondition.zero)
        write(0, from: rax, width: i.width)
        code.land(isExchanged)
        keepFlags([])
    }

    // MARK: - Stack

    private static var stackPointer: UInt8 { TranslatedFrame.hostRegister(4) ?? HostRegister.rcx }

    private mutating func moveStackPointer(by distance: Int32) {
        code.lea(Self.stackPointer, .memory(base: Self.stackPointer, displacement: distance))
    }

    /// Leaves the host address of a new top of the stack in RAX. RSP is not moved yet.
    private mutating func accessNewTop() {
        code.lea(HostRegister.rax, .memory(base: Self.stackPointer, displacement: -8))
        look(bytes: 8, .write)
    }

    private mutating func accessTop() {
        code.load(HostRegister.rax, .register(Self.stackPointer))
        look(bytes: 8, .read)
    }

    mutating func push(_ i: InstructionRecord) {
        let rcx = HostRegister.rcx
        switch i.form {
        case .register:
            accessNewTop()
            code.store(Self.found, source(i.register0, width: 3, scratch: rcx))
        case .immediate:
            accessNewTop()
            code.store(Self.found, constant: i.immediate, width: 3)
        default:
            access(i, bytes: 8, .read)
            code.load(rcx, Self.found)
            code.store(TranslatedFrame.slot(.scratch), rcx)
            accessNewTop()
            code.load(rcx, TranslatedFrame.slot(.scratch))
            code.store(Self.found, rcx)
        }
        moveStackPointer(by: -8)
    }

    mutating func pop(_ i: InstructionRecord) {
        accessTop()
        moveStackPointer(by: 8)
        code.load(destination(i.register0), Self.found)
        finish(i.register0, width: 3)
    }

    /// LEAVE.
    mutating func leaveFrame() {
        let framePointer = destination(5)
        code.load(HostRegister.rax, .register(framePointer))
        look(bytes: 8, .read)
        code.lea(Self.stackPointer, .memory(base: framePointer, displacement: 8))
        code.load(framePointer, Self.found)
    }

    // MARK: - Control

    mutating func branch(_ i: InstructionRecord) {
        let target = nextRIP(i) &+ i.immediate
        placeFlags()
        let taken = code.jump(i.condition)
        if target.isCanonical {
            leaveLater(taken, retired: position + 1, target: target)
        } else {
            leaveLater(taken)
        }
    }

    mutating func jump(_ i: InstructionRecord) -> Bool {
        if i.form == .immediate {
            let target = nextRIP(i) &+ i.immediate
            guard target.isCanonical else { return leaveAtOnce() }
            retire(position + 1)
            chain(to: target)
        } else {
            loadTarget(i)
            retire(position + 1)
            chainToRAX()
        }
        return false
    }

    mutating func call(_ i: InstructionRecord) -> Bool {
        let target = nextRIP(i) &+ i.immediate
        let (rax, rcx) = (HostRegister.rax, HostRegister.rcx)
        if i.form == .immediate {
            guard target.isCanonical else { return leaveAtOnce() }
        } else {
            loadTarget(i)
            code.store(TranslatedFrame.slot(.scratch), rax)
        }
        accessNewTop()
        code.move(rcx, nextRIP(i))
        code.store(Self.found, rcx)
        moveStackPointer(by: -8)
        retire(position + 1)
        if i.form == .immediate {
            chain(to: target)
        } else {
            code.load(rax, TranslatedFrame.slot(.scratch))
            chainToRAX()
        }
        return false
    }

    mutating func returnNear(_ i: InstructionRecord) -> Bool {
        accessTop()
        code.load(HostRegister.rax, Self.found)
        leaveUnlessCanonical()
        moveStackPointer(by: 8 + (i.form == .immediate ? Int32(i.immediate & 0xFFFF) : 0))
        retire(position + 1)
        chainToRAX()
        return false
    }

    /// Puts the target of an indirect JMP or CALL into RAX.
    private mutating func loadTarget(_ i: InstructionRecord) {
        if i.usesMemory {
            access(i, bytes: 8, .read)
            code.load(HostRegister.rax, Self.found)
        } else {
            code.load(HostRegister.rax, place(i.register0))
        }
        leaveUnlessCanonical()
    }

    private mutating func leaveUnlessCanonical() {
        let (rax, rdx) = (HostRegister.rax, HostRegister.rdx)
        code.load(rdx, .register(rax))
        code.shift(.shl, .register(rdx), by: 16, width: 3)
        code.shift(.sar, .register(rdx), by: 16, width: 3)
        code.arithmetic(.cmp, rdx, .register(rax), width: 3)
        leaveLater(code.jump(HostCondition.notZero))
    }

    /// The instruction raises something.
    private mutating func leaveAtOnce() -> Bool {
        retire(position)
        leaveToInterpreter(position)
        return false
    }
}
