// What INVPCID makes the TLB forget where there are no PCIDs (SDM vol. 2), and what it may keep otherwise.

import NVMM
import SoftBackend
import TestSupport
import Testing

@Suite struct TranslationCacheTests {
    private static let page: UInt64 = 0x3_0000
    private static let otherPage: UInt64 = 0x3_1000
    private static let descriptor = GuestLayout.data

    private func guest(level: UInt8 = 0, type: UInt64, pcid: UInt64 = 0, address: UInt64 = 0) throws -> GuestMachine {
        let guest = try GuestMachine(SoftBackend(model: .baseV4))
        try guest.enterLong(level: level)
        try guest.write64(1, at: Self.page)
        try guest.write64(2, at: Self.otherPage)
        try guest.write64(pcid, at: Self.descriptor)
        try guest.write64(address, at: Self.descriptor + 8)
        guest.change {
            $0[.rcx] = type
            $0[.rax] = Self.otherPage | 7
        }
        return guest
    }

    private func absolute(_ opcode: [UInt8], _ address: UInt64) -> [UInt8] {
        opcode + [0x25] + (0..<4).map { UInt8(truncatingIfNeeded: address >> UInt64($0 * 8)) }
    }

    /// Reads through a page, maps another one there, and reads again.
    private func code(_ guest: GuestMachine, invalidates: Bool) -> [UInt8] {
        absolute([0x48, 0x8B, 0x1C], Self.page)  // mov rbx, [page]
            + absolute([0x48, 0x89, 0x04], guest.pageEntry(Self.page))  // mov [entry], rax
            + (invalidates ? absolute([0x66, 0x0F, 0x38, 0x82, 0x0C], Self.descriptor) : [])  // invpcid rcx, [..]
            + absolute([0x48, 0x8B, 0x14], Self.page)  // mov rdx, [page]
            + [0xF4]
    }

    @Test(arguments: 0...3) func `INVPCID forgets translations, and refuses what it does not know`(type: Int) throws {
        let guest = try guest(type: UInt64(type), address: Self.page)
        try guest.run(code(guest, invalidates: true))
        #expect(guest[.rbx] == 1 && guest[.rdx] == 2)
        // Without it the old one is still there: the test would see that nothing was forgotten.
        let stale = try self.guest(type: 0)
        try stale.run(code(stale, invalidates: false))
        #expect(stale[.rbx] == 1 && stale[.rdx] == 1)

        // Types 2 and 3 look at no PCID, and only type 0 at the address.
        let isPlain = type > 1
        let withPCID = try self.guest(type: UInt64(type), pcid: 1)
        try withPCID.run(code(withPCID, invalidates: true))
        #expect(withPCID.haltedVector == (isPlain ? nil : 13))
        let afar = try self.guest(type: UInt64(type), address: 1 << 63)
        try afar.run(code(afar, invalidates: true))
        #expect(afar.haltedVector == (type == 0 ? 13 : nil))
        let reserved = try self.guest(type: UInt64(type), pcid: 1 << 12)
        try reserved.run(code(reserved, invalidates: true))
        #expect(reserved.haltedVector == 13)
    }

    /// What a processor does with a translation that it has not been told to forget is its own affair, but not a fault
    /// of another kind, nor a changed CR2.
    @Test func `code goes on from a page whose entry is gone, as long as nobody flushes`() throws {
        let guest = try self.guest(type: 0)
        guest.change {
            $0[.rax] = 0
            $0[.cr2] = 0x1234
        }
        // jmp +0 ends the block: the next is found through the TLB alone.
        try guest.run(
            absolute([0x48, 0x89, 0x04], guest.pageEntry(GuestLayout.code)) + [
                0xEB, 0x00, 0xFF, 0xC3, 0xEB, 0x00, 0xF4,
            ])
        #expect(guest.haltedVector == nil && guest[.rbx] == 1 && guest[.cr2] == 0x1234)
    }

    @Test func `INVPCID of other types, in user mode, and where it is not offered`() throws {
        let unknown = try guest(type: 4)
        try unknown.run(code(unknown, invalidates: true))
        #expect(unknown.haltedVector == 13)
        let instruction = absolute([0x66, 0x0F, 0x38, 0x82, 0x0C], Self.descriptor) + [0xF4]
        let user = try guest(level: 3, type: 2)
        try user.run(instruction)
        #expect(user.haltedVector == 13)
        let older = try GuestMachine(SoftBackend(model: .baseV3))
        try older.enterLong()
        try older.run(instruction)
        #expect(older.haltedVector == 6)
    }
}
