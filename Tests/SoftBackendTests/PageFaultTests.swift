// Access rights of paging, accessed and dirty bits, error codes: SDM vol. 3, sections 4.6 to 4.8.

import NVMM
import TestSupport
import Testing

@Suite(.alsoRestarting) struct PageFaultTests {
    private static let page = GuestLayout.data
    private static let read: [UInt8] = [0x8A, 0x04, 0x25, 0, 0xE0, 0, 0, 0xF4]  // mov al, [0xe000]; hlt
    private static let write: [UInt8] = [0x88, 0x04, 0x25, 0, 0xE0, 0, 0, 0xF4]  // mov [0xe000], al; hlt
    private static let jump: [UInt8] = [0xE9, 0xFB, 0x5F, 0, 0]  // jmp 0xe000

    /// A guest whose data page has this entry.
    private func guest(
        level: UInt8 = 0, entry: UInt64, cr0: UInt64 = 0x8000_0011, cr4: UInt64 = 0x20, flags: UInt64 = 2
    ) throws -> GuestMachine {
        let guest = try longGuest(level: level, flags: flags)
        try guest.write64(Self.page | entry, at: guest.pageEntry(Self.page))
        guest.change {
            $0[.cr0] = cr0
            $0[.cr4] = cr4
        }
        return guest
    }

    private func expectPageFault(
        _ guest: GuestMachine, _ errorCode: UInt64, at rip: UInt64 = GuestLayout.code,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        guest.expectFault(14, errorCode, at: rip, slotBytes: 8, sourceLocation: sourceLocation)
        #expect(guest[.cr2] == Self.page, sourceLocation: sourceLocation)
    }

    @Test func `a page that is not present faults with W and U as they are`() throws {
        for (level, code, expected) in [
            (UInt8(0), Self.read, UInt64(0)), (0, Self.write, 2), (3, Self.read, 4), (3, Self.write, 6),
        ] {
            let guest = try guest(level: level, entry: 6)
            try guest.run(code)
            expectPageFault(guest, expected)
        }
    }

    @Test func `user mode may not touch supervisor pages`() throws {
        for (code, expected) in [(Self.read, UInt64(5)), (Self.write, 7)] {
            let guest = try guest(level: 3, entry: 3)
            try guest.run(code)
            expectPageFault(guest, expected)
        }
        let fetch = try guest(level: 3, entry: 3)
        try fetch.run(Self.jump)
        expectPageFault(fetch, 0x15, at: Self.page)  // NXE is on: I is reported
    }

    @Test func `writes to read-only pages fault for user mode, for the supervisor with WP`() throws {
        let user = try guest(level: 3, entry: 5)
        try user.run(Self.write)
        expectPageFault(user, 7)
        let supervisor = try guest(entry: 5)
        #expect(try supervisor.run(Self.write).reason == .halted)
        #expect(supervisor[.rip] == GuestLayout.code + 8)
        let protected = try guest(entry: 5, cr0: 0x8001_0011)
        try protected.run(Self.write)
        expectPageFault(protected, 3)
    }

    @Test func `NX pages may be read but not fetched`() throws {
        let data = try guest(entry: 1 << 63 | 7)
        try data.run(Self.read)
        #expect(data[.rip] == GuestLayout.code + 8)
        let code = try guest(entry: 1 << 63 | 7)
        try code.run(Self.jump)
        expectPageFault(code, 0x11, at: Self.page)
    }

    @Test func `reserved bits fault with RSVD, bit 63 without NXE too`() throws {
        let high = try guest(entry: 1 << 45 | 7)
        try high.run(Self.read)
        expectPageFault(high, 9)
        let nx = try guest(entry: 1 << 63 | 7)
        nx.change { $0[.efer] = 0x501 }
        try nx.run(Self.read)
        expectPageFault(nx, 9)
    }

    @Test func `SMEP keeps the supervisor from fetching user pages`() throws {
        let guest = try guest(entry: 7, cr4: 0x10_0020)
        try guest.write64(GuestLayout.code | 3, at: guest.pageEntry(GuestLayout.code))
        try guest.write64(GuestLayout.handlers | 3, at: guest.pageEntry(GuestLayout.handlers))
        // The code page itself must be a supervisor page: so must its tables say nothing else.
        try guest.run(Self.jump)
        expectPageFault(guest, 0x11, at: Self.page)
    }

    @Test func `SMAP keeps the supervisor from touching user pages unless AC is set`() throws {
        func make(_ flags: UInt64) throws -> GuestMachine {
            let guest = try guest(entry: 7, cr4: 0x20_0020, flags: flags)
            for page in 0..<UInt64(512) where page << 12 != Self.page {
                try guest.write64(page << 12 | 3, at: guest.pageEntry(page << 12))
            }
            return guest
        }
        let denied = try make(2)
        try denied.run(Self.read)
        expectPageFault(denied, 1)
        let allowed = try make(0x4_0002)
        try allowed.run(Self.read)
        #expect(allowed[.rip] == GuestLayout.code + 8)
        // stac; mov al, [0xe000]; clac; mov al, [0xe000]
        let toggled = try make(2)
        try toggled.run([0x0F, 0x01, 0xCB] + Self.read.dropLast() + [0x0F, 0x01, 0xCA] + Self.read)
        expectPageFault(toggled, 1, at: GuestLayout.code + 13)
    }

    @Test func `SMAP holds for descriptor tables whatever AC is`() throws {
        // mov al, [0xe000] is let through by AC; loading DS from a GDT in the same kind of page is not.
        let guest = try guest(entry: 7, cr4: 0x20_0020, flags: 0x4_0002)
        for page in 0..<UInt64(512) where page << 12 != Self.page && page << 12 != GuestLayout.gdt {
            try guest.write64(page << 12 | 3, at: guest.pageEntry(page << 12))
        }
        try guest.write64(Self.page | 7, at: guest.pageEntry(GuestLayout.gdt))
        try guest.write(guest.read(GuestLayout.gdt, byteCount: 0x100), at: Self.page)
        // mov al, [0x1000]; mov cx, data32; mov ds, cx
        try guest.run(
            [0x8A, 0x04, 0x25, 0, 0x10, 0, 0, 0x66, 0xB9, UInt8(GuestSelector.data32), 0, 0x8E, 0xD9])
        // The handler's gate needs the GDT as well: nothing can be delivered, and the VCPU shuts down.
        #expect(guest[.rip] == GuestLayout.code + 11)
        #expect(guest[.cr2] & ~0xFFF == GuestLayout.gdt)
    }

    @Test func `reads set A, writes set D as well, faults set neither`() throws {
        for (code, entry, expected) in [
            (Self.read, UInt64(7), UInt64(0x27)), (Self.write, 7, 0x67), (Self.write, 0x27, 0x67),
        ] {
            let guest = try guest(entry: entry)
            try guest.run(code)
            #expect(guest.read64(guest.pageEntry(Self.page)) == Self.page | expected)
        }
        let refused = try guest(level: 3, entry: 5)
        try refused.run(Self.write)
        #expect(refused.read64(refused.pageEntry(Self.page)) == Self.page | 5)
        // The tables on the way are accessed, never dirty.
        #expect(refused.read64(GuestLayout.pageTables) & 0xFF == 0x27)
    }

    @Test func `a page that was read only is walked again to set D`() throws {
        let guest = try guest(entry: 7)
        try guest.run(Self.read.dropLast() + Self.write)
        #expect(guest.read64(guest.pageEntry(Self.page)) == Self.page | 0x67)
    }

    @Test func `a stale translation lasts until INVLPG`() throws {
        let guest = try guest(entry: 7)
        // mov al, [0xe000]; mov byte [pte], 0; invlpg [0xe000]; mov al, [0xe000]
        let entry = UInt32(guest.pageEntry(Self.page))
        let place = (0..<4).map { UInt8(truncatingIfNeeded: entry >> ($0 * 8)) }
        try guest.run(
            Self.read.dropLast() + [0xC6, 0x04, 0x25] + place + [0, 0x0F, 0x01, 0x3C, 0x25, 0, 0xE0, 0, 0] + Self.read)
        expectPageFault(guest, 0, at: GuestLayout.code + 23)
    }

    @Test func `an access across two pages faults at the second with nothing written`() throws {
        let guest = try guest(entry: 6)
        guest.change { $0[.rax] = 0x1234_5678 }
        try guest.run([0x89, 0x04, 0x25, 0xFE, 0xDF, 0, 0])  // mov [0xdffe], eax
        expectPageFault(guest, 2)
        #expect(guest.read16(0xDFFE) == 0)
    }

    @Test func `implicit accesses are the supervisor's`() throws {
        // GDT, IDT and TSS in supervisor pages: a user program's INT n uses them.
        let guest = try longGuest(level: 3)
        try guest.setGate(0x40, selector: GuestSelector.code64, access: 0xEE)
        for page: UInt64 in [0x1000, 0x2000, 0x3000, 0x4000, 0xA000] {
            try guest.write64(page | 3, at: guest.pageEntry(page))
        }
        try guest.run([0xCD, 0x40])
        #expect(guest.haltedVector == 0x40)
    }

    @Test func `#AC needs AM, AC and CPL 3`() throws {
        let code: [UInt8] = [0x8B, 0x04, 0x25, 0x02, 0xE0, 0, 0, 0xEB, 0xFE]  // mov eax, [0xe002]; jmp $
        let faulting = try guest(level: 3, entry: 7, cr0: 0x8004_0011, flags: 0x4_0002)
        try faulting.run(code, budget: 5)
        faulting.expectFault(17, 0, slotBytes: 8)
        for (level, cr0, flags) in [
            (UInt8(0), UInt64(0x8004_0011), UInt64(0x4_0002)), (3, 0x8000_0011, 0x4_0002), (3, 0x8004_0011, 2),
        ] {
            let guest = try guest(level: level, entry: 7, cr0: cr0, flags: flags)
            try guest.run(code, budget: 5)
            #expect(guest[.rip] == GuestLayout.code + 7)
        }
    }

    @Test func `addresses that are not canonical are #GP, through RSP and RBP #SS`() throws {
        // mov al, [rbx]; mov al, [rbp]
        for (code, vector) in [([0x8A, 0x03] as [UInt8], 13), ([0x8A, 0x45, 0x00], 12)] {
            let guest = try longGuest()
            guest.change {
                $0[.rbx] = 1 << 47
                $0[.rbp] = 1 << 47
            }
            try guest.run(code)
            guest.expectFault(vector, 0, slotBytes: 8)
        }
    }

    @Test func `PAE and 32-bit paging translate and fault as well`() throws {
        let pae = try protectedGuest()
        let tables = GuestLayout.pageTables
        try pae.write64(tables + 0x1001, at: tables)
        try pae.write64(0x83, at: tables + 0x1000)
        pae.change {
            $0[.cr3] = tables
            $0[.cr4] = 0x20
            $0[.cr0] = 0x8000_0011
        }
        try pae.run([0xA0, 0, 0, 0x20, 0])  // mov al, [0x200000]
        pae.expectFault(14, 0)
        #expect(pae[.cr2] == 0x20_0000)

        let legacy = try protectedGuest()
        try legacy.write32(UInt32(tables + 0x1003), at: tables)
        for page in 0..<UInt64(1024) {
            try legacy.write32(UInt32(page << 12 | (page == 14 ? 1 : 3)), at: tables + 0x1000 + page * 4)
        }
        legacy.change {
            $0[.cr3] = tables
            $0[.cr0] = 0x8001_0011
        }
        try legacy.run([0xA2, 0, 0xE0, 0, 0])  // mov [0xe000], al
        legacy.expectFault(14, 3)
        #expect(legacy[.cr2] == 0xE000)
    }
}
