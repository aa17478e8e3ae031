// From guest virtual to guest physical addresses: `nvmm_gva_to_gpa`; SDM vol. 3, chapter 4.

public import NVMM

/// Where a GVA leads.
public struct Translation: Hashable, Sendable {
    public var gpa: GPA
    /// What the paging structures allow; the processor's privilege level and CR0.WP are not considered.
    public var protection: Protection
    public init(gpa: GPA, protection: Protection) {
        self.gpa = gpa
        self.protection = protection
    }
}

/// Translates a guest virtual address by the paging structures that the VCPU's state names: 4-level, PAE, 32-bit with
/// and without PSE, or none. Accessed and dirty bits stay as they are.
///
/// - Returns: nil where no page is present.
/// - Throws: ``AssistError/pageTableOutsideMemory(_:)``, or what fetching CRs and MSRs threw.
/// The corresponding C function is `nvmm_gva_to_gpa`.
public func gvaToGPA(_ gva: GVA, of vcpu: any VCPU, in machine: any Machine) throws(AssistError) -> Translation? {
    try vcpu.cache([.crs, .msrs])
    let walk = PageWalk(vcpu.commPage.state)
    return try walk.translate(gva.rawValue, in: machine)
}

/// The paging registers of one VCPU.
struct PageWalk {
    let cr0, cr3, cr4, efer: UInt64

    init(_ state: borrowing VCPUState) {
        cr0 = state[.cr0]
        cr3 = state[.cr3]
        cr4 = state[.cr4]
        efer = state[.efer]
    }

    private static let addressMask: UInt64 = 0x000F_FFFF_FFFF_F000
    private static let largePage: UInt64 = 1 << 7

    func translate(_ gva: UInt64, in machine: any Machine) throws(AssistError) -> Translation? {
        guard cr0 & 1 << 31 != 0 else { return Translation(gpa: GPA(gva), protection: .all) }
        if cr4 & 1 << 5 == 0 { return try translateLegacy(gva & 0xFFFF_FFFF, in: machine) }
        if efer & 1 << 10 == 0 { return try translatePAE(gva & 0xFFFF_FFFF, in: machine) }
        // A non-canonical address has no page.
        guard UInt64(bitPattern: Int64(bitPattern: gva << 16) >> 16) == gva else { return nil }
        return try translateLevels(gva, table: cr3 & Self.addressMask, topShift: 39, protection: .all, in: machine)
    }

    private func translatePAE(_ gva: UInt64, in machine: any Machine) throws(AssistError) -> Translation? {
        let pointer = try load(8, at: (cr3 & 0xFFFF_FFE0) &+ (gva >> 30) * 8, in: machine)
        guard pointer & 1 != 0 else { return nil }
        let table = pointer & Self.addressMask
        return try translateLevels(gva, table: table, topShift: 21, protection: .all, in: machine)
    }

    /// Levels of 512 entries of 8 bytes, from the one that `topShift` selects bits of down to 4 KiB pages.
    private func translateLevels(
        _ gva: UInt64, table first: UInt64, topShift: UInt64, protection first_: Protection, in machine: any Machine
    ) throws(AssistError) -> Translation? {
        var table = first
        var protection = first_
        var shift = topShift
        while true {
            let entry = try load(8, at: table &+ (gva >> shift & 0x1FF) * 8, in: machine)
            guard entry & 1 != 0 else { return nil }
            if entry & 2 == 0 { protection.remove(.write) }
            if entry & 4 == 0 { protection.remove(.user) }
            if entry & 1 << 63 != 0 { protection.remove(.execute) }
            if shift == 12 || (entry & Self.largePage != 0 && shift <= 30) {
                let offsetMask = (1 as UInt64) << shift - 1
                return Translation(
                    gpa: GPA(entry & Self.addressMask & ~offsetMask | gva & offsetMask), protection: protection)
            }
            table = entry & Self.addressMask
            shift -= 9
        }
    }

    private func translateLegacy(_ gva: UInt64, in machine: any Machine) throws(AssistError) -> Translation? {
        var protection = Protection.all
        let directoryEntry = try load(4, at: (cr3 & 0xFFFF_F000) &+ (gva >> 22) * 4, in: machine)
        guard directoryEntry & 1 != 0 else { return nil }
        if directoryEntry & 2 == 0 { protection.remove(.write) }
        if directoryEntry & 4 == 0 { protection.remove(.user) }
        if directoryEntry & Self.largePage != 0, cr4 & 1 << 4 != 0 {
            // PSE-36: bits 20:13 of the entry are bits 39:32 of the address.
            let base = directoryEntry & 0xFFC0_0000 | (directoryEntry >> 13 & 0xFF) << 32
            return Translation(gpa: GPA(base | gva & 0x3F_FFFF), protection: protection)
        }
        let entry = try load(4, at: (directoryEntry & 0xFFFF_F000) &+ (gva >> 12 & 0x3FF) * 4, in: machine)
        guard entry & 1 != 0 else { return nil }
        if entry & 2 == 0 { protection.remove(.write) }
        if entry & 4 == 0 { protection.remove(.user) }
        return Translation(gpa: GPA(entry & 0xFFFF_F000 | gva & 0xFFF), protection: protection)
    }

    /// Entries are naturally aligned, so none crosses a page.
    private func load(_ byteCount: Int, at address: UInt64, in machine: any Machine) throws(AssistError) -> UInt64 {
        guard let place = machine.gpaToHVA(GPA(address)) else { throw .pageTableOutsideMemory(GPA(address)) }
        return place.object.withBytes(place.offset..<place.offset + byteCount) { loadLittleEndian($0) }
    }
}
