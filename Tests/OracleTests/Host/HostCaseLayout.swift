// The guest in which a backend runs the host oracle's cases: the same linear addresses, descriptors and privilege
// as on the host, 4-level paging, and gates that lead to HLT at CPL 0.

import CHostOracle
import NVMM

/// Descriptor tables, page tables and gates of the oracle's guest, as bytes of its RAM.
struct HostCaseLayout {
    static let ramBytes = 4 << 20
    /// The first 2 MiB of RAM, for the supervisor, where the host's user half has nothing.
    static let kernelBase: UInt64 = 0xFFFF_8000_0000_0000
    // Guest physical addresses.
    static let pml4 = 0x1000, pdpt = 0x2000, directory = 0x3000, tableWindow = 0x5000
    static let kernelPDPT = 0xC000, kernelDirectory = 0xD000
    static let gdt = 0x6000, ldt = 0x6400, idt = 0x7000, tss = 0x8000, handlers = 0x9000, stackTop = 0xB000
    /// The two windows, right behind each other in physical memory.
    static let data = 0x20_0000, code = 0x21_0000
    static let handlerStride = 16

    /// Linux's GDT as far as its user-mode selectors go (arch/x86/kernel/cpu/common.c).
    static let gdtEntries: [UInt64] = [
        0, 0x00CF_9B00_0000_FFFF, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF,
        0x00CF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0,
        // TSS (16 bytes at selector 0x40), LDT (at 0x50).
        0x0000_8B00_0000_0000 | UInt64(tss) << 16 | 0x67, kernelBase >> 32,
        0x0000_8200_0000_0000 | UInt64(ldt) << 16 | 0x47, kernelBase >> 32,
        0, 0, 0, 0,
    ]

    /// The LDT that modify_ldt gives the host's child: DPL 3, accessed.
    static var ldtEntries: [UInt64] {
        (0..<Int(HOST_LDT_COUNT.rawValue)).map { index in
            unsafe withUnsafeBytes(of: host_ldt) { table in
                // SAFETY: host_ldt has HOST_LDT_COUNT entries of this type.
                let entry = unsafe table.load(
                    fromByteOffset: index * MemoryLayout<host_ldt_entry>.stride, as: host_ldt_entry.self)
                let writable = entry.read_or_execute_only == 0 ? 2 : 0
                let type = UInt64(1 | writable | Int(entry.contents) << 2)
                let flags: UInt64 =
                    type | 0x70 | (entry.not_present == 0 ? 0x80 : 0) | 0x1000 | (entry.is_32bit != 0 ? 0x4000 : 0)
                return SegmentDescriptor.pack(base: entry.base, limit: entry.limit, flags: flags)
            }
        }
    }

    /// The whole RAM before the first case.
    static func ram(pristine: [UInt8]) -> [UInt8] {
        var ram = [UInt8](repeating: 0, count: ramBytes)
        func put(_ value: UInt64, at address: Int) {
            for index in 0..<8 { ram[address + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
        }
        let user: UInt64 = 4, write: UInt64 = 2, present: UInt64 = 1, large: UInt64 = 0x80
        put(UInt64(pdpt) | user | write | present, at: pml4)
        put(UInt64(directory) | user | write | present, at: pdpt)
        put(UInt64(kernelPDPT) | write | present, at: pml4 + 0x100 * 8)
        put(UInt64(kernelDirectory) | write | present, at: kernelPDPT)
        put(large | write | present, at: kernelDirectory)
        // 0x20000000 is entry 0x100 of the first directory; both windows lie in its 2 MiB.
        put(UInt64(tableWindow) | user | write | present, at: directory + 0x100 * 8)
        for page in 0..<16 {
            let kind = host_page_kind(UInt32(page))
            let rights = kind == HOST_PAGE_WRITABLE ? user | write | present : user | present
            if kind != HOST_PAGE_NONE {
                put(UInt64(data + page * pageBytes) | rights | 1 << 63, at: tableWindow + page * 8)
            }
            put(UInt64(code + page * pageBytes) | user | present, at: tableWindow + (0x100 + page) * 8)
        }
        for (index, entry) in gdtEntries.enumerated() { put(entry, at: gdt + index * 8) }
        for (index, entry) in ldtEntries.enumerated() { put(entry, at: ldt + index * 8) }
        for vector in 0..<256 {
            let handler = kernelBase + UInt64(handlers + vector * handlerStride)
            // Linux opens #BP, #OF and 0x80 to user mode; all others are the kernel's own.
            let dpl: UInt64 = vector == 3 || vector == 4 || vector == 0x80 ? 3 : 0
            let gate = handler & 0xFFFF | 0x10 << 16 | (0x8E | dpl << 5) << 40
            put(gate | (handler >> 16 & 0xFFFF) << 48, at: idt + vector * 16)
            put(handler >> 32, at: idt + vector * 16 + 8)
            ram[handlers + vector * handlerStride] = 0xF4
        }
        put(kernelBase + UInt64(stackTop), at: tss + 4)
        ram[tss + 0x66] = 0x68  // no I/O permission map
        for (index, byte) in pristine.enumerated() { ram[data + index] = byte }
        for index in 0..<Window.byteCount { ram[code + index] = 0xF4 }
        return ram
    }

    /// System registers that every case starts with; Linux's choices where user mode can tell.
    static var state: VCPUState {
        var state = VCPUState.reset
        state[.gdt] = Segment(limit: UInt32(gdtEntries.count * 8 - 1), base: kernelBase + UInt64(gdt))
        state[.idt] = Segment(limit: 0xFFF, base: kernelBase + UInt64(idt))
        state[.ldt] = Segment(
            selector: 0x50, attributes: SegmentAttributes(rawValue: 0x82), limit: 0x47, base: kernelBase + UInt64(ldt))
        state[.tr] = Segment(
            selector: 0x40, attributes: SegmentAttributes(rawValue: 0x8B), limit: 0x67, base: kernelBase + UInt64(tss))
        let null = Segment()
        state[.fs] = null
        state[.gs] = null
        state[.cr0] = 0x8005_0033
        state[.cr3] = UInt64(pml4)
        state[.cr4] = 0x4_06A0  // PAE, PGE, OSFXSR, OSXMMEXCPT, and OSXSAVE where it is offered
        state[.xcr0] = 7  // and AVX likewise
        state[.efer] = 0xD01  // SCE, LME, LMA, NXE
        return state
    }

    /// A segment register with the hidden part that loading `selector` gives.
    static func segment(_ selector: UInt16) -> Segment {
        guard selector & ~3 != 0 else { return Segment(selector: selector) }
        let table = selector & 4 != 0 ? ldtEntries : gdtEntries
        let index = Int(selector >> 3)
        guard index < table.count else { return Segment(selector: selector) }
        return SegmentDescriptor.unpack(table[index], selector: selector)
    }
}

/// Eight bytes of a descriptor table (SDM vol. 3, figure 3-8).
enum SegmentDescriptor {
    /// - Parameter flags: bits 40...55 of the descriptor without the limit: access byte, then AVL, L, D/B, G at
    ///   12...15.
    static func pack(base: UInt32, limit: UInt32, flags: UInt64) -> UInt64 {
        let base = UInt64(base), limit = UInt64(limit)
        return limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | (flags & 0xFF) << 40 | (limit >> 16 & 0xF) << 48
            | (flags >> 12 & 0xF) << 52 | (base >> 24) << 56
    }

    static func unpack(_ descriptor: UInt64, selector: UInt16) -> Segment {
        let granular = descriptor >> 55 & 1 != 0
        let limit = UInt32(truncatingIfNeeded: descriptor & 0xFFFF | (descriptor >> 48 & 0xF) << 16)
        return Segment(
            selector: selector,
            attributes: SegmentAttributes(
                rawValue: UInt16(truncatingIfNeeded: (descriptor >> 40 & 0xFF) | (descriptor >> 52 & 0xF) << 8)),
            limit: granular ? limit << 12 | 0xFFF : limit,
            base: descriptor >> 16 & 0xFF_FFFF | (descriptor >> 56) << 24)
    }
}
