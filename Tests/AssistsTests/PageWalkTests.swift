// Translation in each paging mode: levels, large pages, and what protections add up to.

import Assists
import NVMM
import SoftBackend
import Testing

/// A machine with 1 MiB of memory whose paging structures a test writes itself.
private final class Tables {
    let machine: any Machine
    let vcpu: any VCPU
    private let ram: MemoryObject

    init(cr0: UInt64 = 0x8000_0001, cr3: UInt64 = 0x1000, cr4: UInt64 = 0, efer: UInt64 = 0) throws {
        machine = try SoftBackend().createMachine()
        ram = try machine.hvaMap(byteCount: 1 << 20)
        try machine.gpaMap(ram, offset: 0, gpa: GPA(0), byteCount: 1 << 20, protection: [.read, .write, .execute])
        vcpu = try machine.createVCPU(id: 0)
        vcpu.commPage.state[.cr0] = cr0
        vcpu.commPage.state[.cr3] = cr3
        vcpu.commPage.state[.cr4] = cr4
        vcpu.commPage.state[.efer] = efer
    }

    func set(_ address: Int, _ entry: UInt64, byteCount: Int = 8) throws {
        try machine.write(ram, at: address, (0..<byteCount).map { UInt8(truncatingIfNeeded: entry >> UInt64($0 * 8)) })
    }

    func walk(_ gva: UInt64) throws -> Translation? { try gvaToGPA(GVA(gva), of: vcpu, in: machine) }
}

@Suite struct PageWalkTests {
    @Test func `without paging a GVA is a GPA, open for all`() throws {
        let tables = try Tables(cr0: 1)
        #expect(try tables.walk(0x12345) == Translation(gpa: GPA(0x12345), protection: .all))
    }

    @Test func `32-bit paging has 4 KiB pages, and 4 MiB ones with PSE`() throws {
        let tables = try Tables(cr4: 0x10)
        try tables.set(0x1000 + 4, 0x2007, byteCount: 4)
        try tables.set(0x2000 + 8, 0x5_5005, byteCount: 4)
        try tables.set(0x1000 + 8, 0x0040_0083 | 1 << 13, byteCount: 4)  // PSE-36: bit 32
        #expect(
            try tables.walk(0x0040_2123) == Translation(gpa: GPA(0x55123), protection: [.read, .execute, .user]))
        #expect(
            try tables.walk(0x0081_2345) == Translation(gpa: GPA(0x1_0041_2345), protection: [.read, .write, .execute]))
        #expect(try tables.walk(0x0040_3000) == nil)
        tables.vcpu.commPage.state[.cr4] = 0
        #expect(throws: AssistError.self) { try tables.walk(0x0081_2345) }
    }

    @Test func `PAE paging has three levels and NX`() throws {
        let tables = try Tables(cr3: 0x1020, cr4: 0x20)
        try tables.set(0x1020 + 8, 0x2001)
        try tables.set(0x2000 + 16, 0x3007)
        try tables.set(0x3000 + 24, 1 << 63 | 0x7_7007)
        try tables.set(0x2000 + 24, 0x20_0087)
        #expect(
            try tables.walk(0x4040_3456) == Translation(gpa: GPA(0x77456), protection: [.read, .write, .user]))
        #expect(try tables.walk(0x4061_2345) == Translation(gpa: GPA(0x21_2345), protection: .all))
        #expect(try tables.walk(0x8000_0000) == nil)
    }

    @Test func `4-level paging multiplies rights and ends at 1 GiB, 2 MiB or 4 KiB`() throws {
        let tables = try Tables(cr4: 0x20, efer: 0x500)
        try tables.set(0x1000 + 511 * 8, 0x2007)
        try tables.set(0x2000, 0x8000_0087)
        try tables.set(0x2000 + 8, 0x3005)  // read-only from here
        try tables.set(0x3000, 0x40_0087)
        try tables.set(0x3000 + 8, 0x4003)  // and supervisor from here
        try tables.set(0x4000 + 8, 0x9_9007)
        let top: UInt64 = 0xFFFF_FF80_0000_0000
        #expect(try tables.walk(top + 0x1234_5678) == Translation(gpa: GPA(0x9234_5678), protection: .all))
        #expect(
            try tables.walk(top + 0x4000_1234)
                == Translation(gpa: GPA(0x40_1234), protection: [.read, .execute, .user]))
        #expect(
            try tables.walk(top + 0x4020_1234) == Translation(gpa: GPA(0x99234), protection: [.read, .execute]))
        #expect(try tables.walk(top + 0x4020_0000) == nil)
        #expect(try tables.walk(0x0000_8000_0000_0000) == nil, "not canonical")
    }

    @Test func `paging structures outside memory are an error, not a fault`() throws {
        let tables = try Tables(cr3: 0x100_0000, cr4: 0x20, efer: 0x500)
        #expect(throws: AssistError.pageTableOutsideMemory(GPA(0x100_0000))) { try tables.walk(0) }
    }
}
