// Linux's boot protocol: what a kernel finds when it is entered, and what is refused.

import NVMM
@testable import ReferenceVMM
import SoftBackend
import TestSupport
import Testing

/// A bzImage with one sector of setup code whose protected-mode code is `code`.
private func kernel(_ code: [UInt8], version: UInt16 = 0x20F) -> [UInt8] {
    var image = [UInt8](repeating: 0, count: 1024)
    func set(_ offset: Int, _ value: UInt64, _ count: Int) {
        for index in 0..<count { image[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
    }
    set(0x1F1, 1, 1)
    set(0x201, 0x6A, 1)  // the header ends at 0x26C
    image.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
    set(0x206, UInt64(version), 2)
    set(0x22C, 0x7FFF_FFFF, 4)
    set(0x234, 1, 1)
    set(0x238, 16, 4)
    set(0x258, 0x10_0000, 8)
    set(0x260, 0x1_0000, 4)
    return image + code
}

private func outcome(
    _ code: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "", vcpuCount: Int = 1
) throws -> PCOutcome {
    let linux = LinuxImage(kernel: kernel(code), initrd: initrd, commandLine: commandLine)
    let configuration = PCConfiguration(image: .linux(linux), memoryBytes: 4 << 20, vcpuCount: vcpuCount)
    return try PC(machine: try SoftBackend().createMachine(), configuration: configuration).run()
}

@Suite struct LinuxImageTests {
    /// Each piece of code leaves a byte in AL.
    private func byte(_ code: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "") throws -> Int? {
        guard case .exited(let status) = try outcome(code + [0xE6, 0xF4], initrd: initrd, commandLine: commandLine)
        else { return nil }
        return (status - 1) / 2
    }

    @Test func `the kernel finds its command line and its RAM disk through ESI`() throws {
        // mov eax, [esi+0x228]; mov al, [eax+2]
        let third: [UInt8] = [0x8B, 0x86, 0x28, 0x02, 0, 0, 0x8A, 0x40, 0x02]
        #expect(try byte(third, commandLine: "abc") == 0x63)
        // mov eax, [esi+0x218]; mov al, [eax+1]
        let second: [UInt8] = [0x8B, 0x86, 0x18, 0x02, 0, 0, 0x8A, 0x40, 0x01]
        #expect(try byte(second, initrd: [7, 42, 9]) == 42)
        // mov eax, [esi+0x21c]
        #expect(try byte([0x8B, 0x86, 0x1C, 0x02, 0, 0], initrd: [UInt8](repeating: 1, count: 77)) == 77)
    }

    @Test func `it is entered with the selectors of the protocol and interrupts off`() throws {
        #expect(try byte([0x8C, 0xC8]) == 0x10)  // mov eax, cs
        #expect(try byte([0x8C, 0xD8]) == 0x18)  // mov eax, ds
        // pushing needs a stack: mov esp, 0x9000; pushfd; pop eax; shr eax, 9; and al, 1
        #expect(try byte([0xBC, 0, 0x90, 0, 0, 0x9C, 0x58, 0xC1, 0xE8, 9, 0x24, 1]) == 0)
    }

    @Test func `the memory map leaves out the ACPI tables, which the parameters name`() throws {
        // mov al, [esi+0x1e8]: entries
        #expect(try byte([0x8A, 0x86, 0xE8, 0x01, 0, 0]) == 4)
        // mov al, [esi+0x2d0+3*20+11]: 2^24 bytes of the last entry's length are none of 3 MiB; its third byte is 0x30
        #expect(try byte([0x8A, 0x86, 0x16, 0x03, 0, 0]) == 0x30)
        // mov eax, [esi+0x70]; mov al, [eax]: "RSD PTR "
        #expect(try byte([0x8B, 0x46, 0x70, 0x8A, 0x00]) == 0x52)
    }

    @Test func `writing what the tables say for soft off ends the machine`() throws {
        // mov dx, 0x604; mov ax, 0x2000; out dx, ax
        #expect(try outcome([0x66, 0xBA, 0x04, 0x06, 0x66, 0xB8, 0x00, 0x20, 0x66, 0xEF]) == .poweredOff)
    }

    @Test func `what cannot be booted is refused with its numbers`() throws {
        func error(_ linux: LinuxImage, memoryBytes: Int = 4 << 20) -> PCError? {
            do {
                let configuration = PCConfiguration(image: .linux(linux), memoryBytes: memoryBytes)
                _ = try PC(machine: try SoftBackend().createMachine(), configuration: configuration)
                return nil
            } catch { return error as? PCError }
        }
        let good = kernel([0xF4])
        #expect(error(LinuxImage(kernel: good)) == nil)
        #expect(error(LinuxImage(kernel: [0xF4])) == .kernelHeader(offset: 0x202))
        #expect(error(LinuxImage(kernel: kernel([0xF4], version: 0x20B))) == .kernelProtocol(version: 0x20B))
        #expect(
            error(LinuxImage(kernel: good, commandLine: "seventeen letters"))
                == .commandLineTooLong(17, maximum: 16))
        #expect(
            error(LinuxImage(kernel: good, initrd: [UInt8](repeating: 0, count: 3 << 20)))
                == .initrdDoesNotFit(byteCount: 3 << 20, memoryBytes: 4 << 20))
        #expect(
            error(LinuxImage(kernel: good), memoryBytes: 1 << 20)
                == .imageDoesNotFit(gpa: GPA(1 << 20), byteCount: 0x1_0000, memoryBytes: 1 << 20))
        // Cut or damaged anywhere: an error or a guest that runs into nothing, never a trap.
        for count in 0x1F0...good.count { _ = error(LinuxImage(kernel: Array(good[..<count]))) }
        for offset in 0x1F0..<0x268 {
            for value: UInt8 in [0, 0x7F, 0xFF] {
                var bad = good
                bad[offset] = value
                _ = error(LinuxImage(kernel: bad, initrd: [1, 2, 3]))
            }
        }
    }
}

/// An ELF file with one segment, `code`, at 1 MiB and, unless nil, a note that names an entry.
private func vmlinux(_ code: [UInt8], entry: UInt32? = 0x10_0000, noteType: UInt8 = 18) -> [UInt8] {
    func number(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }
    func header(_ type: UInt64, offset: Int, byteCount: Int) -> [UInt8] {
        number(type, 4) + number(5, 4) + number(UInt64(offset), 8) + number(0, 8) + number(0x10_0000, 8)
            + number(UInt64(byteCount), 8) + number(UInt64(byteCount), 8) + number(4, 8)
    }
    // Another note before it, with a name and a content that are not multiples of four.
    let notes =
        number(6, 4) + number(3, 4) + number(1, 4) + Array("Linux".utf8) + [0, 0, 0] + [1, 2, 3, 0]
        + (entry.map {
            number(4, 4) + number(8, 4) + [noteType, 0, 0, 0] + Array("Xen".utf8) + [0] + number(UInt64($0), 8)
        }
            ?? [])
    let start = 64 + 2 * 56
    let ident: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    return ident + number(2, 2) + number(62, 2) + number(1, 4) + number(0, 8) + number(64, 8) + number(0, 8)
        + number(0, 4) + number(64, 2) + number(56, 2) + number(2, 2) + number(0, 6)
        + header(4, offset: start, byteCount: notes.count)
        + header(1, offset: start + notes.count, byteCount: code.count)
        + notes + code
}

@Suite struct PVHEntryTests {
    private func outcome(_ image: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "") throws -> PCOutcome {
        let linux = LinuxImage(kernel: image, initrd: initrd, commandLine: commandLine)
        let configuration = PCConfiguration(image: .linux(linux), memoryBytes: 4 << 20)
        return try PC(machine: try SoftBackend().createMachine(), configuration: configuration).run()
    }

    private func byte(_ code: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "") throws -> Int? {
        // out 0xf4, al
        guard
            case .exited(let status) = try outcome(
                vmlinux(code + [0xE6, 0xF4]), initrd: initrd, commandLine: commandLine)
        else { return nil }
        return (status - 1) / 2
    }

    @Test func `the kernel finds what it was given through EBX`() throws {
        #expect(try byte([0x8A, 0x43, 0x02]) == 0x6E)  // mov al, [ebx+2]: of the magic
        // mov eax, [ebx+24]; mov al, [eax+2]
        #expect(try byte([0x8B, 0x43, 24, 0x8A, 0x40, 0x02], commandLine: "abc") == 0x63)
        #expect(try byte([0x8A, 0x43, 12]) == 0)  // mov al, [ebx+12]: no modules
        let initrd: [UInt8] = [7, 42, 9]
        #expect(try byte([0x8A, 0x43, 12], initrd: initrd) == 1)
        // mov eax, [ebx+16]; mov eax, [eax]; mov al, [eax+1]
        #expect(try byte([0x8B, 0x43, 16, 0x8B, 0x00, 0x8A, 0x40, 0x01], initrd: initrd) == 42)
        #expect(try byte([0x8B, 0x43, 16, 0x8A, 0x40, 8], initrd: initrd) == 3)
        // mov eax, [ebx+32]; mov al, [eax]: "RSD PTR "
        #expect(try byte([0x8B, 0x43, 32, 0x8A, 0x00]) == 0x52)
        // mov eax, [ebx+40]; mov al, [eax+3*24+10]: the last range has 3 MiB
        #expect(try byte([0x8B, 0x43, 40, 0x8A, 0x40, 82]) == 0x30)
        #expect(try byte([0x8A, 0x43, 48]) == 4)
    }

    @Test func `it is entered where the note says, with paging and interrupts off`() throws {
        let code: [UInt8] = [0xF4, 0x0F, 0x20, 0xC0, 0xE6, 0xF4]  // hlt; mov eax, cr0; out 0xf4, al
        #expect(try outcome(vmlinux(code, entry: 0x10_0001)) == .exited(status: 0x11 * 2 + 1))
    }

    @Test func `what has no entry, or is damaged anywhere, is refused`() throws {
        func error(_ image: [UInt8], commandLine: String = "") -> PCError? {
            do {
                _ = try outcome(image, commandLine: commandLine)
                return nil
            } catch { return error as? PCError }
        }
        let good = vmlinux([0xE6, 0xF4])
        #expect(error(good) == nil)
        #expect(error(vmlinux([0xF4], entry: nil)) == .noPVHEntry)
        #expect(error(vmlinux([0xF4], noteType: 17)) == .noPVHEntry)
        #expect(
            error(good, commandLine: String(repeating: "x", count: 2048)) == .commandLineTooLong(2048, maximum: 2047))
        for count in 4..<good.count - 2 { #expect(error(Array(good[..<count])) != nil, "cut to \(count)") }
        for offset in 4..<good.count {
            for value: UInt8 in [0, 0x7F, 0xFF] {
                var bad = good
                bad[offset] = value
                let configuration = PCConfiguration(image: .linux(LinuxImage(kernel: bad)), memoryBytes: 4 << 20)
                _ = try? PC(machine: try SoftBackend().createMachine(), configuration: configuration)
            }
        }
    }
}

@Suite struct ACPITableTests {
    @Test(arguments: [1, 2, 16])
    func `every table adds up to zero and the pointers lead to it`(vcpuCount: Int) throws {
        let image = Array(ACPITables(vcpuCount: vcpuCount).image)
        func number(_ offset: Int, _ count: Int) -> Int {
            (0..<count).reduce(0) { $0 | Int(image[offset + $1]) << ($1 * 8) }
        }
        func place(_ pointer: Int) -> Int { number(pointer, 4) - Int(ACPITables.address) }
        func name(_ offset: Int) -> String { String(decoding: image[offset..<offset + 4], as: UTF8.self) }
        func sum(_ offset: Int, _ count: Int) -> UInt8 { image[offset..<offset + count].reduce(0, &+) }

        #expect(sum(0, 20) == 0)
        let root = place(16)
        var found = [name(root): root]
        for pointer in stride(from: root + 36, to: root + number(root + 4, 4), by: 4) {
            found[name(place(pointer))] = place(pointer)
        }
        let fixed = try #require(found["FACP"])
        found["DSDT"] = place(fixed + 40)
        #expect(name(place(fixed + 36)) == "FACS")
        #expect(place(fixed + 36) % 64 == 0)
        #expect(Set(found.keys) == ["RSDT", "FACP", "APIC", "DSDT"])
        for (table, offset) in found {
            #expect(name(offset) == table)
            #expect(sum(offset, number(offset + 4, 4)) == 0, "\(table)")
        }
        // Section 5.2.12: structures of type and length, one of type 0 a processor.
        let interrupts = try #require(found["APIC"])
        var offset = interrupts + 44
        var processors: [UInt8] = []
        while offset < interrupts + number(interrupts + 4, 4) {
            if image[offset] == 0 { processors.append(image[offset + 3]) }
            offset += Int(image[offset + 1])
        }
        #expect(offset == interrupts + number(interrupts + 4, 4))
        #expect(processors == (0..<UInt8(vcpuCount)).map { $0 })
    }
}
