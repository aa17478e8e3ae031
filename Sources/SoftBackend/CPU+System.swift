// Control and debug registers, descriptor table registers, interrupt flag, HLT: SDM vol. 2, and vol. 3, chapter 2.

import NVMM

extension CPU {
    // MARK: - Control registers

    @inline(never) mutating func movFromCR(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        let value: UInt64
        switch i.register1 {
        case 0: value = cr0
        case 2: value = cr2
        case 3: value = cr3
        case 4: value = cr4
        case 8: value = cr8
        default: throw .invalidOpcode
        }
        write(i.register0, value, width: is64Bit ? 3 : 2)
    }

    @inline(never) mutating func movToCR(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        let value = read(i.register1, width: is64Bit ? 3 : 2)
        switch i.register0 {
        case 0: try setCR0(value)
        case 2: cr2 = value
        case 3: try setCR3(value)
        case 4: try setCR4(value)
        case 8:
            guard value <= 15 else { throw .generalProtection(0) }
            cr8 = value
            if exitsOnTPRChange {
                pendingExit = .tprChanged
                attention.insert(.exit)
            }
        default: throw .invalidOpcode
        }
    }

    /// Whether paging would be PAE paging with these registers.
    private func usesPDPTEs(cr0: UInt64, cr4: UInt64) -> Bool {
        cr0 & CR0.pg != 0 && cr4 & CR4.pae != 0 && efer & EFER.lme == 0
    }

    /// SDM vol. 3, section 2.5, and vol. 2, MOV to control registers.
    mutating func setCR0(_ value: UInt64) throws(Interruption) {
        guard value >> 32 == 0 else { throw .generalProtection(0) }
        let new = value & CR0.defined | CR0.et
        if new & CR0.pg != 0, new & CR0.pe == 0 { throw .generalProtection(0) }
        if new & CR0.nw != 0, new & CR0.cd == 0 { throw .generalProtection(0) }
        let changed = new ^ cr0
        var newEFER = efer
        if changed & CR0.pg != 0 {
            let isLongCode = segments[SegmentRegister.cs.rawValue].attributes.contains(.long)
            if new & CR0.pg != 0 {
                if efer & EFER.lme != 0 {
                    guard cr4 & CR4.pae != 0, !isLongCode else { throw .generalProtection(0) }
                    newEFER |= EFER.lma
                }
            } else {
                if is64Bit { throw .generalProtection(0) }
                newEFER &= ~EFER.lma
            }
        }
        if usesPDPTEs(cr0: new, cr4: cr4), changed & (CR0.pg | CR0.cd | CR0.nw) != 0 { try loadPDPTEs(cr3: cr3) }
        let isPaged = (cr0 | new) & CR0.pg != 0
        cr0 = new
        efer = newEFER
        if changed & (CR0.pg | CR0.pe | CR0.wp | CR0.am) != 0 {
            // Without paging before and after, linear addresses are physical ones: firmware goes to protected mode and
            // back for every service, and keeps its translations.
            if isPaged || changed & CR0.am != 0 { flushTLB() }
            updateMode()
        }
    }

    private mutating func setCR3(_ value: UInt64) throws(Interruption) {
        // MAXPHYADDR is 40; without PCIDs bit 63 is reserved as well.
        if isLongMode, value >> 40 != 0 { throw .generalProtection(0) }
        if usesPDPTEs(cr0: cr0, cr4: cr4) { try loadPDPTEs(cr3: value) }
        cr3 = value
        flushTLB()
    }

    private mutating func setCR4(_ value: UInt64) throws(Interruption) {
        guard value & ~model.cr4Mask == 0 else { throw .generalProtection(0) }
        if isLongMode, value & CR4.pae == 0 { throw .generalProtection(0) }
        let translation = CR4.pae | CR4.pse | CR4.pge | CR4.smep
        let changed = value ^ cr4
        if usesPDPTEs(cr0: cr0, cr4: value), changed & translation != 0 { try loadPDPTEs(cr3: cr3) }
        cr4 = value
        if changed & (translation | CR4.smap) != 0 { flushTLB() }
    }

    /// Changes PE, MP, EM and TS; PE cannot be cleared.
    @inline(never) mutating func lmsw(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        let value = i.form == .register ? read(i.register0, as: UInt16.self) : try loadOperand(i)
        try setCR0(cr0 & ~(CR0.mp | CR0.em | CR0.ts) | UInt64(value & 0xF))
    }

    @inline(never) mutating func smsw(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if i.form == .register {
            write(i.register0, cr0, width: i.width)
        } else {
            try storeOperand(i, UInt16(truncatingIfNeeded: cr0))
        }
    }

    @inline(never) mutating func clts(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        cr0 &= ~CR0.ts
    }

    // MARK: - Debug registers

    /// Place in ``dr`` of a debug register operand: SDM vol. 3, section 17.2.2.
    private mutating func debugRegister(_ number: UInt8) throws(Interruption) -> Int {
        guard number < 8 else { throw .invalidOpcode }
        var place = Int(number)
        if place == 4 || place == 5 {
            if cr4 & CR4.de != 0 { throw .invalidOpcode }
            place += 2
        }
        try requireSupervisor()
        if dr[7] & 1 << 13 != 0 {
            dr[6] |= 1 << 13
            throw .exception(.debug)
        }
        return place
    }

    @inline(never) mutating func movFromDR(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let place = try debugRegister(i.register1)
        write(i.register0, dr[place], width: is64Bit ? 3 : 2)
    }

    @inline(never) mutating func movToDR(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let place = try debugRegister(i.register0)
        let value = read(i.register1, width: is64Bit ? 3 : 2)
        switch place {
        case 6, 7:
            guard value >> 32 == 0 else { throw .generalProtection(0) }
            dr[place] = place == 6 ? value & 0xE00F | 0xFFFF_0FF0 : value & 0xFFFF_23FF | 0x400
        default: dr[place] = value
        }
        // Breakpoints are seen where the TLB is missed.
        flushTLB()
        updateAttention()
    }

    // MARK: - Descriptor table registers, caches

    @inline(never) mutating func loadTable(
        _ i: borrowing DecodedInstruction, _ table: SegmentRegister
    ) throws(Interruption) {
        try requireSupervisor()
        let place = effectiveAddress(i)
        let limit: UInt16 = try load(i.segment, place)
        let second = truncate(place &+ 2, toAddressWidth: max(i.addressWidth, 2))
        var base = try load(i.segment, second, width: is64Bit ? 3 : 2)
        if is64Bit {
            guard base.isCanonical else { throw .generalProtection(0) }
        } else if i.width == 1 {
            base &= 0xFF_FFFF
        }
        segments[table.rawValue].base = base
        segments[table.rawValue].limit = UInt32(limit)
    }

    @inline(never) mutating func storeTable(
        _ i: borrowing DecodedInstruction, _ table: SegmentRegister
    ) throws(Interruption) {
        let place = effectiveAddress(i)
        let second = truncate(place &+ 2, toAddressWidth: max(i.addressWidth, 2))
        let width: UInt8 = is64Bit ? 3 : 2
        let address = try linear(i.segment, second, byteCount: is64Bit ? 8 : 4, .write)
        try checkWritable(address, byteCount: is64Bit ? 8 : 4, segment: i.segment)
        try store(i.segment, place, UInt16(truncatingIfNeeded: segments[table.rawValue].limit))
        // Processors store all of the base, whatever the operand size.
        try store(i.segment, second, segments[table.rawValue].base, width: width)
    }

    @inline(never) mutating func invlpg(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        // A large page may stand in the TLB in pieces: all of them must go.
        flushTLB()
    }

    /// INVPCID without CR4.PCIDE, which is not offered: there is one PCID, 0, and every type drops what it maps.
    @inline(never) mutating func invpcid(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        let type = read(i.register0, width: is64Bit ? 3 : 2)
        let offset = effectiveAddress(i)
        let pcid: UInt64 = try load(i.segment, offset)
        let address: UInt64 = try load(i.segment, offset &+ 8)
        guard type <= 3, pcid >> 12 == 0, type > 1 || pcid == 0, type != 0 || address.isCanonical else {
            throw .generalProtection(0)
        }
        flushTLB()
    }

    /// NVMM intercepts INVD and does not handle it: nvmm-facts, section 4. The code is SVM's.
    @inline(never) mutating func invd(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        pendingExit = .invalid(hardwareCode: 0x76)
        throw .exit
    }

    @inline(never) mutating func wbinvd(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
    }

    // MARK: - Interrupt flag, HLT

    private func requireIOPL() throws(Interruption) {
        guard isProtected else { return }
        guard isVirtual8086 ? iopl == 3 : cpl <= iopl else { throw .generalProtection(0) }
    }

    @inline(never) mutating func cli(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireIOPL()
        systemFlags &= ~RFLAGS.if
    }

    @inline(never) mutating func sti(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireIOPL()
        guard systemFlags & RFLAGS.if == 0 else { return }
        systemFlags |= RFLAGS.if
        interruptShadow = true
        updateAttention()
    }

    @inline(never) mutating func hlt(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireSupervisor()
        systemFlags &= ~RFLAGS.rf
        interruptShadow = false
        shadowBlocksDebug = false
        // nvmm-facts, section 4: with an open window only HALTED is reported.
        if interruptWindow, systemFlags & RFLAGS.if != 0 { interruptWindow = false }
        updateAttention()
        pendingExit = .halted
        attention.insert(.exit)
    }

    // MARK: - SWAPGS, STAC, CLAC, MONITOR, MWAIT

    @inline(never) mutating func swapgs(_ i: borrowing DecodedInstruction) throws(Interruption) {
        guard is64Bit else { throw .invalidOpcode }
        try requireSupervisor()
        let base = segments[SegmentRegister.gs.rawValue].base
        segments[SegmentRegister.gs.rawValue].base = msrs[MSR.kernelGSBase.rawValue]
        msrs[MSR.kernelGSBase.rawValue] = base
        updateSegmentCache(SegmentRegister.gs.rawValue)
    }

    @inline(never) mutating func stac(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if cpl != 0 { throw .invalidOpcode }
        replaceFlags(rflags | RFLAGS.ac)
    }

    @inline(never) mutating func clac(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if cpl != 0 { throw .invalidOpcode }
        replaceFlags(rflags & ~RFLAGS.ac)
    }

    @inline(never) mutating func monitor(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if cpl != 0 { throw .invalidOpcode }
        pendingExit = .monitor(npc: nextRIP(i))
        throw .exit
    }

    @inline(never) mutating func mwait(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if cpl != 0 { throw .invalidOpcode }
        pendingExit = .mwait(npc: nextRIP(i))
        throw .exit
    }
}
