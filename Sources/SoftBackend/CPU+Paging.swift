// Translation of linear addresses: SDM vol. 3, chapter 4 (32-bit, PAE and 4-level paging), then the GPA map.

import NVMM

/// Bits of page-table entries.
private enum PTE {
    static let present: UInt64 = 1 << 0
    static let writable: UInt64 = 1 << 1
    static let user: UInt64 = 1 << 2
    static let accessed: UInt64 = 1 << 5
    static let dirty: UInt64 = 1 << 6
    static let pageSize: UInt64 = 1 << 7
    static let noExecute: UInt64 = 1 << 63
    /// Physical address bits that a 128 GiB address space and MAXPHYADDR 40 leave reserved.
    static let addressMask: UInt64 = 0x0000_00FF_FFFF_F000
    static let reserved: UInt64 = 0x000F_FF00_0000_0000
}

/// What a page walk found.
struct Translation {
    var gpa: UInt64
    /// The mapping lets user mode in, and lets the page be written (not counting CR0.WP), and executed.
    var isUser = true
    var isWritable = true
    var isExecutable = true
}

extension CPU {
    /// Host address of `byteCount` bytes at `linear`, all in one page, after every check of paging and of the GPA map.
    /// Fills the TLB.
    ///
    /// - Parameter user: whether the access has user privilege (implicit system accesses do not, whatever the CPL).
    /// - Throws: #PF with CR2 set, or an exit with reason MEMORY.
    mutating func translate(
        _ linear: UInt64, _ kind: AccessKind, user: Bool, byteCount: UInt64
    ) throws(Interruption) -> HostAddress {
        if let emulation { return try emulate(emulation, linear, kind, user: user, byteCount: byteCount) }
        if dr[7] & 0xFF != 0, kind != .fetch { noteDataBreakpoints(linear, kind, byteCount: byteCount) }
        let found = try walk(linear, kind, user: user)
        guard let page = page(at: found.gpa) else { throw exit(gpa: found.gpa, kind) }
        let needed: Protection = kind == .write ? .write : kind == .read ? .read : .execute
        guard page.protection.contains(needed) else { throw exit(gpa: found.gpa, kind) }
        let host = page.host &+ found.gpa & 0xFFF
        if kind == .write {
            // A page that holds code: no TLB entry, so that every store comes here.
            if noteStore(page, host: host, byteCount: byteCount) { return HostAddress(host) }
        }
        if mayCache(user: user) { tlb.insert(linear: linear, host: host, kind) }
        return HostAddress(host)
    }

    /// As ``translate(_:_:user:byteCount:)``, where memory is somebody else's.
    private mutating func emulate(
        _ emulation: Emulation, _ linear: UInt64, _ kind: AccessKind, user: Bool, byteCount: UInt64
    ) throws(Interruption) -> HostAddress {
        guard kind != .fetch else { return emulation.codeAddress(linear) }
        let gpa = try walk(linear, kind, user: user).gpa
        let host =
            kind == .write
            ? emulation.write(gpa, byteCount: byteCount) : emulation.read(gpa, byteCount: byteCount)
        guard let host else {
            pendingExit = .none
            throw .exit
        }
        return host
    }

    /// Throws what a write would.
    mutating func probe(_ linear: UInt64, user: Bool, byteCount: UInt64) throws(Interruption) {
        if emulation == nil {
            _ = try translate(linear, .write, user: user, byteCount: byteCount)
        } else {
            _ = try walk(linear, .write, user: user)
        }
    }

    /// Marks a page as written, and drops what was decoded from the bytes that are about to change.
    ///
    /// - Returns: whether the page holds code.
    @discardableResult mutating func noteStore(_ page: PhysicalPage, host: UInt64, byteCount: UInt64) -> Bool {
        let record = unsafe page.record
        if memory.hasSnapshots { memory.preserve(host) }
        unsafe record.pointee.isDirty = true
        guard unsafe record.pointee.firstBlock >= 0 else { return false }
        if isConcurrent { code.sharing.lock() }
        if unsafe code.invalidate(record, host: host, byteCount: byteCount) { blockEnd = cursor }
        if isConcurrent { code.sharing.unlock() }
        return true
    }

    /// Whether an access of this privilege may leave a translation in the tables of the current CPL.
    private func mayCache(user: Bool) -> Bool {
        user == (cpl == 3) && dr[7] & 0xFF == 0 && !checksAlignment
    }

    /// Records the exit for a GPA that is not mapped for this access.
    mutating func exit(gpa: UInt64, _ kind: AccessKind) -> Interruption {
        let access: Protection = kind == .write ? .write : kind == .read ? .read : .execute
        pendingExit = .memory(MemoryExit(access: access, gpa: GPA(gpa)))
        return .exit
    }

    /// ``GuestMemory/page(at:)``, remembered until the next flush or change of the map.
    func page(at gpa: UInt64) -> PhysicalPage? {
        // Between runs the map may have changed unnoticed so far.
        guard memoryGeneration == memory.generation else { return memory.page(at: gpa) }
        let slot = Int(truncatingIfNeeded: gpa >> 12 & 63)
        let known = knownPages[slot]
        if known.gpa == gpa & ~0xFFF { return known.page }
        guard let page = memory.page(at: gpa) else { return nil }
        knownPages[slot] = KnownPage(gpa: gpa & ~0xFFF, page: page)
        return page
    }

    /// Forgets every translation.
    mutating func flushTLB() {
        tlb.removeAll()
        for slot in 0..<64 { knownPages[slot] = KnownPage() }
        translations &+= 1
        // Each instruction that flushes is a serializing one.
        lookAtCode()
    }
}

// MARK: - Page walk

extension CPU {
    /// - Throws: #PF, or an exit where a paging structure lies outside of mapped memory.
    mutating func walk(_ linear: UInt64, _ kind: AccessKind, user: Bool) throws(Interruption) -> Translation {
        guard cr0 & CR0.pg != 0 else { return Translation(gpa: linear) }
        var found = Translation(gpa: 0)
        let hasNX = efer & EFER.nxe != 0
        let isWide = cr4 & CR4.pae != 0
        var table: UInt64
        var level: Int
        if isLongMode {
            table = cr3 & PTE.addressMask
            level = 4
        } else if isWide {
            let pointer = pdptes[Int(linear >> 30 & 3)]
            guard pointer & PTE.present != 0 else { throw pageFault(linear, kind, user: user, present: false) }
            table = pointer & PTE.addressMask
            level = 2
        } else {
            table = cr3 & 0xFFFF_F000
            level = 2
        }
        var path = InlineArray<4, (gpa: UInt64, entry: UInt64)>(repeating: (0, 0))
        var depth = 0
        while true {
            let bitsPerLevel = isWide ? 9 : 10
            let shift = UInt64(12 + (level - 1) * bitsPerLevel)
            let entryBytes: UInt64 = isWide ? 8 : 4
            let place = table &+ (linear >> shift & (1 << UInt64(bitsPerLevel) - 1)) &* entryBytes
            let entry = try loadPhysical(place, byteCount: entryBytes)
            guard entry & PTE.present != 0 else { throw pageFault(linear, kind, user: user, present: false) }
            path[depth] = (place, entry)
            depth += 1
            let isLeaf = level == 1 || entry & PTE.pageSize != 0 && mayBeLarge(level)
            try checkReserved(entry, level: level, isLeaf: isLeaf, hasNX: hasNX, linear, kind, user: user)
            found.isUser = found.isUser && entry & PTE.user != 0
            found.isWritable = found.isWritable && entry & PTE.writable != 0
            if isWide, hasNX, entry & PTE.noExecute != 0 { found.isExecutable = false }
            if isLeaf {
                let offsetMask: UInt64 = 1 << shift - 1
                if isWide {
                    found.gpa = entry & PTE.addressMask & ~offsetMask | linear & offsetMask
                } else {
                    // PSE-36 (SDM vol. 3, table 4-4): bits 20:13 of a 4 MiB entry are address bits 39:32.
                    let high = level == 2 ? (entry >> 13 & 0xFF) << 32 : 0
                    found.gpa = entry & 0xFFFF_F000 & ~offsetMask | high | linear & offsetMask
                }
                break
            }
            table = isWide ? entry & PTE.addressMask : entry & 0xFFFF_F000
            level -= 1
        }
        try checkRights(found, linear, kind, user: user)
        // A and D bits only once the access is allowed: SDM vol. 3, section 4.8.
        for step in 0..<depth {
            var entry = path[step].entry
            entry |= PTE.accessed | (step == depth - 1 && kind == .write ? PTE.dirty : 0)
            guard entry != path[step].entry else { continue }
            let entryBytes: UInt64 = isWide ? 8 : 4
            if isConcurrent {
                let isSet = try setPageTableBits(
                    path[step].gpa, from: path[step].entry, to: entry, byteCount: entryBytes)
                if !isSet { return try walk(linear, kind, user: user) }
            } else {
                try storePhysical(path[step].gpa, entry, byteCount: entryBytes)
            }
        }
        return found
    }

    private func mayBeLarge(_ level: Int) -> Bool {
        if isLongMode { return level == 2 || level == 3 && model.offers1GiBPages }
        return level == 2 && (cr4 & CR4.pae != 0 || cr4 & CR4.pse != 0)
    }

    private mutating func checkReserved(
        _ entry: UInt64, level: Int, isLeaf: Bool, hasNX: Bool, _ linear: UInt64, _ kind: AccessKind, user: Bool
    ) throws(Interruption) {
        var reserved: UInt64 = 0
        if cr4 & CR4.pae != 0 {
            reserved = PTE.reserved
            if !isLongMode { reserved |= 0x7FF0_0000_0000_0000 }
            if !hasNX { reserved |= PTE.noExecute }
            if isLeaf, level == 2 { reserved |= 0x1F_E000 }
            if isLeaf, level == 3 { reserved |= 0x3FFF_E000 }
            if !isLeaf, level > 2 { reserved |= PTE.pageSize }
        } else if isLeaf, level == 2 {
            reserved = 1 << 21
        }
        guard entry & reserved == 0 else {
            throw pageFault(linear, kind, user: user, present: true, reserved: true)
        }
    }

    /// SDM vol. 3, section 4.6: access rights.
    private mutating func checkRights(
        _ found: Translation, _ linear: UInt64, _ kind: AccessKind, user: Bool
    ) throws(Interruption) {
        var allowed: Bool
        if user {
            allowed = found.isUser
        } else if kind == .fetch {
            allowed = !(found.isUser && cr4 & CR4.smep != 0)
        } else {
            // SMAP: an explicit supervisor access to a user page needs AC; an implicit one is never allowed.
            let overridden = isOverridingSMAP && cpl != 3 && !accessIsImplicit
            allowed = !(found.isUser && cr4 & CR4.smap != 0 && !overridden)
        }
        if kind == .write, !found.isWritable, user || cr0 & CR0.wp != 0 { allowed = false }
        if kind == .fetch, !found.isExecutable { allowed = false }
        guard allowed else { throw pageFault(linear, kind, user: user, present: true) }
    }

    /// EFLAGS.AC lets explicit accesses of the supervisor into user pages.
    var isOverridingSMAP: Bool { systemFlags & RFLAGS.ac != 0 && cr4 & CR4.smap != 0 }

    /// Sets CR2 and makes the error code: SDM vol. 3, section 4.7.
    private mutating func pageFault(
        _ linear: UInt64, _ kind: AccessKind, user: Bool, present: Bool, reserved: Bool = false
    ) -> Interruption {
        cr2 = linear
        var code: UInt32 = present ? PageFaultBits.present : 0
        if kind == .write { code |= PageFaultBits.write }
        if user { code |= PageFaultBits.user }
        if reserved { code |= PageFaultBits.reserved }
        let reportsFetch = cr4 & CR4.smep != 0 || cr4 & CR4.pae != 0 && efer & EFER.nxe != 0
        if kind == .fetch, reportsFetch { code |= PageFaultBits.fetch }
        return .exception(.pageFault(code))
    }

    /// Reads a paging structure.
    func loadPhysicalIfMapped(_ gpa: UInt64, byteCount: UInt64) -> UInt64? {
        if let emulation { return emulation.loadTable(gpa, byteCount: byteCount) }
        guard let page = page(at: gpa), page.protection.contains(.read) else { return nil }
        return HostAddress(page.host &+ gpa & 0xFFF).load(byteCount: byteCount)
    }

    private mutating func loadPhysical(_ gpa: UInt64, byteCount: UInt64) throws(Interruption) -> UInt64 {
        guard let value = loadPhysicalIfMapped(gpa, byteCount: byteCount) else { throw exit(gpa: gpa, .read) }
        return value
    }

    private mutating func storePhysical(_ gpa: UInt64, _ value: UInt64, byteCount: UInt64) throws(Interruption) {
        if let emulation {
            guard let host = emulation.write(gpa, byteCount: byteCount) else { throw exit(gpa: gpa, .write) }
            return host.store(value, byteCount: byteCount)
        }
        guard let page = page(at: gpa), page.protection.contains(.write) else { throw exit(gpa: gpa, .write) }
        let host = page.host &+ gpa & 0xFFF
        noteStore(page, host: host, byteCount: byteCount)
        HostAddress(host).store(value, byteCount: byteCount)
    }

    /// Loads the four PDPTEs that CR3 points to.
    ///
    /// - Throws: #GP(0) where a present one has a reserved bit: SDM vol. 3, section 4.4.1.
    mutating func loadPDPTEs(cr3: UInt64) throws(Interruption) {
        var loaded = InlineArray<4, UInt64>(repeating: 0)
        for index in 0..<4 {
            let entry = try loadPhysical((cr3 & 0xFFFF_FFE0) &+ UInt64(index) &* 8, byteCount: 8)
            if entry & PTE.present != 0, entry & (PTE.reserved | 0x7FF0_0000_0000_0000 | PTE.noExecute | 0x1E6) != 0 {
                throw .generalProtection(0)
            }
            loaded[index] = entry
        }
        pdptes = loaded
    }
}
