// MOVS, CMPS, STOS, LODS, SCAS and their repetition: SDM vol. 1, section 7.3.9, and vol. 2, REP.
//
// Each iteration counts as one retired instruction, and may be the last of a run: registers then stand between two
// iterations and RIP at the instruction.

import NVMM

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension CPU {
    private static let es = UInt8(SegmentRegister.es.rawValue)
    private static let rsi: UInt8 = 6
    private static let rdi: UInt8 = 7

    // MARK: Repetition

    /// Executes one iteration, or with a prefix as many as RCX, the condition and the budget allow.
    ///
    /// - Parameters:
    ///   - bulk: does at most so many iterations without a fault, and returns how many; 0 where it needs `step`.
    ///   - step: does one iteration, moves RSI and RDI, returns whether its condition lets the next one follow.
    @inline(__always) private mutating func repeated(
        _ i: borrowing DecodedInstruction,
        bulk: (inout CPU, borrowing DecodedInstruction, UInt64) -> UInt64,
        step: (inout CPU, borrowing DecodedInstruction) throws(Interruption) -> Bool
    ) throws(Interruption) {
        guard !i.flags.isDisjoint(with: [.rep, .repne]) else {
            _ = try step(&self, i)
            return
        }
        let total = count(i)
        if model.isIntel, i.addressWidth == 2 { shortenRegisters(i) }
        guard total != 0 else {
            rip = nextRIP(i)
            return
        }
        let budget = min(total, remaining &- UInt64(truncatingIfNeeded: blockStart.distance(to: cursor) &- 1))
        let decoded = code.epoch
        let alone = attention.contains(.singleStep)
        let flags = status
        let mayBulk = !alone && dr[7] & 0xFF == 0
        var done: UInt64 = 0
        var nextLook: UInt64 = 0x1_0000
        do {
            while true {
                var goesOn = true
                let many = mayBulk ? bulk(&self, i, budget &- done) : 0
                if many == 0 { goesOn = try step(&self, i) }
                done &+= max(many, 1)
                write(1, total &- done, width: i.addressWidth)
                if done == total || !goesOn {
                    rip = nextRIP(i)
                    break
                }
                // A write into code may have changed this very instruction: it is fetched again.
                var stops = done >= budget || alone || pendingDebug != 0 || code.epoch != decoded
                if done >= nextLook {
                    nextLook &+= 0x1_0000
                    if commPage.stop || commPage.giveWay || isConcurrent && gate.isWanted {
                        stops = true
                        attention.insert(.request)
                    }
                }
                if stops {
                    rip = instructionRIP(i)
                    // SDM vol. 3, section 17.3.1.1: between iterations RF is set, so that an instruction breakpoint
                    // is hit only before the first.
                    if alone || dr[7] & 0xFF != 0 { systemFlags |= RFLAGS.rf }
                    break
                }
            }
        } catch {
            extraRetired = done
            // SDM vol. 2, REP: of CMPS and SCAS a fault restores EFLAGS to what it was before the instruction; AMD's
            // processors leave the flags of the last iteration.
            if model.isIntel, case .exception = error { status = flags }
            throw error
        }
        extraRetired = done &- 1
    }

    /// Intel's processors write ECX before the first iteration, even where there is none; the indices of MOVS and STOS
    /// too.
    private mutating func shortenRegisters(_ i: borrowing DecodedInstruction) {
        write(1, gpr[1], width: 2)
        if i.operation == .movs { write(Self.rsi, gpr[Int(Self.rsi)], width: 2) }
        if i.operation == .movs || i.operation == .stos { write(Self.rdi, gpr[Int(Self.rdi)], width: 2) }
    }

    /// Adds `elements` to an index register, in the direction of DF.
    @inline(__always) private mutating func advance(
        _ register: UInt8, _ i: borrowing DecodedInstruction, by elements: UInt64 = 1
    ) {
        let bytes = elements &<< UInt64(i.width)
        let index = gpr[Int(register)]
        write(register, systemFlags & RFLAGS.df == 0 ? index &+ bytes : index &- bytes, width: i.addressWidth)
    }

    @inline(__always) private func offset(_ register: UInt8, _ i: borrowing DecodedInstruction) -> UInt64 {
        truncate(gpr[Int(register)], toAddressWidth: i.addressWidth)
    }

    /// The host address of the element at an index register, and how many elements from there can be reached upwards
    /// without leaving the page, the segment or the address size. Nil where the fast way does not apply.
    @inline(__always) private func stretch(
        _ segment: UInt8, _ register: UInt8, _ kind: AccessKind, _ i: borrowing DecodedInstruction
    ) -> (host: HostAddress, elements: UInt64)? {
        let offset = offset(register, i)
        let cache = segmentCaches[Int(segment & 7)]
        let linear = (cache.base &+ offset) & linearMask
        guard let host = tlb.look(linear, byteCount: 1, kind) else { return nil }
        let end = min(kind == .write ? cache.writeEnd : cache.readEnd, truncate(.max, toAddressWidth: i.addressWidth))
        guard offset < end else { return nil }
        let bytes = min(0x1000 - linear & 0xFFF, end - offset)
        return (host, bytes &>> UInt64(i.width))
    }

    // MARK: MOVS

    @inline(__always) private mutating func movs<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        try repeated(i) { (cpu: inout CPU, i: borrowing DecodedInstruction, most: UInt64) -> UInt64 in
            guard cpu.systemFlags & RFLAGS.df == 0, let source = cpu.stretch(i.segment, Self.rsi, .read, i),
                let target = cpu.stretch(Self.es, Self.rdi, .write, i)
            else { return 0 }
            let elements = min(most, source.elements, target.elements)
            let bytes = elements &* UInt64(T.bitWidth / 8)
            if target.host.raw &- source.host.raw < bytes {
                // The target begins inside the source: what was written is read again.
                for element in 0..<elements {
                    let place = element &* UInt64(T.bitWidth / 8)
                    HostAddress(target.host.raw &+ place).store(HostAddress(source.host.raw &+ place).load(as: T.self))
                }
            } else {
                unsafe memmove(target.host.mutableBytes, source.host.bytes, Int(bytes))
            }
            cpu.advance(Self.rsi, i, by: elements)
            cpu.advance(Self.rdi, i, by: elements)
            return elements
        } step: { (cpu: inout CPU, i: borrowing DecodedInstruction) throws(Interruption) -> Bool in
            let value: T = try cpu.load(i.segment, cpu.offset(Self.rsi, i))
            try cpu.store(Self.es, cpu.offset(Self.rdi, i), value)
            cpu.advance(Self.rsi, i)
            cpu.advance(Self.rdi, i)
            return true
        }
    }

    @inline(never) mutating func movs(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try movs(i, UInt8.self)
        case 1: try movs(i, UInt16.self)
        case 2: try movs(i, UInt32.self)
        default: try movs(i, UInt64.self)
        }
    }

    // MARK: STOS and LODS

    @inline(__always) private mutating func stos<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        try repeated(i) { (cpu: inout CPU, i: borrowing DecodedInstruction, most: UInt64) -> UInt64 in
            guard cpu.systemFlags & RFLAGS.df == 0, let target = cpu.stretch(Self.es, Self.rdi, .write, i)
            else { return 0 }
            let elements = min(most, target.elements)
            let value: T = cpu.read(0)
            for element in 0..<elements {
                HostAddress(target.host.raw &+ element &* UInt64(T.bitWidth / 8)).store(value)
            }
            cpu.advance(Self.rdi, i, by: elements)
            return elements
        } step: { (cpu: inout CPU, i: borrowing DecodedInstruction) throws(Interruption) -> Bool in
            try cpu.store(Self.es, cpu.offset(Self.rdi, i), cpu.read(0, as: T.self))
            cpu.advance(Self.rdi, i)
            return true
        }
    }

    @inline(never) mutating func stos(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try stos(i, UInt8.self)
        case 1: try stos(i, UInt16.self)
        case 2: try stos(i, UInt32.self)
        default: try stos(i, UInt64.self)
        }
    }

    @inline(never) mutating func lods(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try repeated(i) { (_: inout CPU, _: borrowing DecodedInstruction, _: UInt64) -> UInt64 in
            0
        } step: { (cpu: inout CPU, i: borrowing DecodedInstruction) throws(Interruption) -> Bool in
            let value = try cpu.load(i.segment, cpu.offset(Self.rsi, i), width: i.width)
            cpu.write(0, value, width: i.width)
            cpu.advance(Self.rsi, i)
            return true
        }
    }

    // MARK: CMPS and SCAS

    /// Whether REPE or REPNE goes on after a comparison.
    @inline(__always) private func mayGoOn(_ i: borrowing DecodedInstruction) -> Bool {
        status.zero != i.flags.contains(.repne)
    }

    @inline(__always) private mutating func cmps<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        try repeated(i) { (_: inout CPU, _: borrowing DecodedInstruction, _: UInt64) -> UInt64 in
            0
        } step: { (cpu: inout CPU, i: borrowing DecodedInstruction) throws(Interruption) -> Bool in
            let first: T = try cpu.load(i.segment, cpu.offset(Self.rsi, i))
            let second: T = try cpu.load(Self.es, cpu.offset(Self.rdi, i))
            _ = cpu.status.subtract(first, second)
            cpu.advance(Self.rsi, i)
            cpu.advance(Self.rdi, i)
            return cpu.mayGoOn(i)
        }
    }

    @inline(never) mutating func cmps(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try cmps(i, UInt8.self)
        case 1: try cmps(i, UInt16.self)
        case 2: try cmps(i, UInt32.self)
        default: try cmps(i, UInt64.self)
        }
    }

    @inline(__always) private mutating func scas<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        try repeated(i) { (_: inout CPU, _: borrowing DecodedInstruction, _: UInt64) -> UInt64 in
            0
        } step: { (cpu: inout CPU, i: borrowing DecodedInstruction) throws(Interruption) -> Bool in
            let value: T = try cpu.load(Self.es, cpu.offset(Self.rdi, i))
            _ = cpu.status.subtract(cpu.read(0, as: T.self), value)
            cpu.advance(Self.rdi, i)
            return cpu.mayGoOn(i)
        }
    }

    @inline(never) mutating func scas(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try scas(i, UInt8.self)
        case 1: try scas(i, UInt16.self)
        case 2: try scas(i, UInt32.self)
        default: try scas(i, UInt64.self)
        }
    }
}
