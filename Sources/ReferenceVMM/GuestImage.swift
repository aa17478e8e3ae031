// Guest images and how each is entered: raw, Multiboot 1 (Multiboot Specification 0.6.96), ELF (System V gABI).

import NVMM

/// Recognises and loads guest images. Their bytes are untrusted.
public enum GuestImage {
    /// What an image is by its headers: multiboot, ELF, or flat.
    public static func detect(_ bytes: [UInt8]) -> PCConfiguration.Image {
        if multibootOffset(bytes) != nil { return .multiboot(bytes) }
        if isELF(bytes) { return .elf(bytes) }
        return .flat(bytes)
    }

    /// Puts an image into memory and the first VCPU where the image starts.
    static func load(
        _ image: PCConfiguration.Image, memory: PCMemory, bootstrap vcpu: any VCPU, vcpuCount: Int
    ) throws(PCError) {
        switch image {
        case .firmware: break  // the reset vector leads there
        case .flat(let bytes, let address):
            guard !bytes.isEmpty else { throw .emptyImage }
            guard address.rawValue <= 0xFFFF else { throw .loadAddressTooHigh(address) }
            // Memory has 1 MiB at least, so that only the hole can be in the way.
            let room = Int(videoHole.lowerBound - address.rawValue)
            guard bytes.count <= room else {
                throw .flatImageTooLarge(gpa: address, byteCount: bytes.count, maximum: room)
            }
            try store(bytes[...], at: address.rawValue, in: memory)
            enterRealMode(vcpu, at: address.rawValue)
        case .multiboot(let bytes): try loadMultiboot(bytes, memory: memory, vcpu: vcpu)
        case .elf(let bytes): try loadELF(bytes, memory: memory, vcpu: vcpu)
        case .linux(let linux):
            try store(ACPITables(vcpuCount: vcpuCount).image, at: ACPITables.address, in: memory)
            try linux.load(into: memory, acpiRootPointer: ACPITables.address, bootstrap: vcpu)
        }
    }

    /// Where a display adapter's memory lies: no RAM.
    private static let videoHole: Range<UInt64> = 0xA0000..<0xC0000

    static func store(_ bytes: ArraySlice<UInt8>, at address: UInt64, in memory: PCMemory) throws(PCError) {
        // What lies in the video hole would never be seen.
        let end = address &+ UInt64(bytes.count)
        let inHole = address < videoHole.upperBound && end > videoHole.lowerBound
        guard end >= address, !inHole, memory.writePhysical(address, bytes) else {
            throw .imageDoesNotFit(gpa: GPA(address), byteCount: bytes.count, memoryBytes: memory.ram.byteCount)
        }
    }

    // MARK: - Numbers in untrusted bytes

    static func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) throws(PCError) -> UInt64 {
        guard offset >= 0, offset <= bytes.count, count <= bytes.count - offset else {
            throw .badImageHeader(offset: offset)
        }
        return bytes.number(offset, count)
    }

    // MARK: - Multiboot

    /// The header stands 4-byte aligned in the first 8192 bytes.
    private static func multibootOffset(_ bytes: [UInt8]) -> Int? {
        var offset = 0
        while offset + 12 <= min(bytes.count, 8192) {
            func word(_ index: Int) -> UInt32 {
                (0..<4).reduce(0) { $0 | UInt32(bytes[offset + index * 4 + $1]) << UInt32($1 * 8) }
            }
            if word(0) == 0x1BAD_B002, word(0) &+ word(1) &+ word(2) == 0 { return offset }
            offset += 4
        }
        return nil
    }

    /// Where the boot information is put: below the image, above the real-mode tables.
    private static let multibootInformation: UInt64 = 0x9000

    private static func loadMultiboot(_ bytes: [UInt8], memory: PCMemory, vcpu: any VCPU) throws(PCError) {
        guard let header = multibootOffset(bytes) else { throw .badImageHeader(offset: 0) }
        let flags = try number(bytes, header + 4, 4)
        // Bits 0 to 15 are requirements; alignment, memory and video are met or harmless.
        guard flags & 0xFFF8 == 0 else { throw .badImageHeader(offset: header + 4) }
        let entry: UInt64
        if flags & 1 << 16 != 0 {
            let headerAddress = try number(bytes, header + 12, 4)
            let loadAddress = try number(bytes, header + 16, 4)
            let loadEnd = try number(bytes, header + 20, 4)
            entry = try number(bytes, header + 28, 4)
            guard loadAddress <= headerAddress, headerAddress - loadAddress <= UInt64(header) else {
                throw .badImageHeader(offset: header + 16)
            }
            let first = header - Int(headerAddress - loadAddress)
            var count = bytes.count - first
            if loadEnd != 0 {
                guard loadEnd >= loadAddress, loadEnd - loadAddress <= UInt64(count) else {
                    throw .badImageHeader(offset: header + 20)
                }
                count = Int(loadEnd - loadAddress)
            }
            try store(bytes[first..<first + count], at: loadAddress, in: memory)
        } else {
            guard isELF(bytes), try number(bytes, 4, 1) == 1 else { throw .badImageHeader(offset: header) }
            entry = try loadSegments(bytes, memory: memory).entry
        }
        // mem_lower and mem_upper, in KiB.
        let upper = UInt64(memory.ram.byteCount - 1 << 20) >> 10
        var information: [UInt8] = [1, 0, 0, 0]
        information += [0x80, 0x02, 0, 0] + .littleEndian(upper, 4)
        information += [UInt8](repeating: 0, count: 88 - information.count)
        try store(information[...], at: multibootInformation, in: memory)
        enterProtectedMode(vcpu, at: entry)
        vcpu.commPage.state[.rax] = 0x2BAD_B002
        vcpu.commPage.state[.rbx] = multibootInformation
    }

    // MARK: - ELF

    static func isELF(_ bytes: [UInt8]) -> Bool {
        bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46])
    }

    private static func loadELF(_ bytes: [UInt8], memory: PCMemory, vcpu: any VCPU) throws(PCError) {
        guard isELF(bytes) else { throw .badImageHeader(offset: 0) }
        let entry = try loadSegments(bytes, memory: memory).entry
        if bytes[4] == 2 {
            try enterLongMode(vcpu, at: entry, memory: memory)
        } else {
            enterProtectedMode(vcpu, at: entry)
        }
    }

    /// Loads what the program headers name, at their physical addresses.
    ///
    /// - Returns: the entry point, the end of the highest segment, and where in the file the notes are.
    static func loadSegments(
        _ bytes: [UInt8], memory: PCMemory
    ) throws(PCError) -> (entry: UInt64, end: UInt64, notes: [Range<Int>]) {
        let machine = UInt16(try number(bytes, 18, 2))
        let kind = try number(bytes, 4, 1)
        guard kind == 1 || kind == 2 else { throw .badImageHeader(offset: 4) }
        let is64 = kind == 2
        guard try number(bytes, 5, 1) == 1, machine == (is64 ? 62 : 3) else { throw .unsupportedELF(machine: machine) }
        let width = is64 ? 8 : 4
        let entry = try number(bytes, 24, width)
        let tableOffset = try number(bytes, is64 ? 32 : 28, width)
        let entryBytes = try number(bytes, is64 ? 54 : 42, 2)
        let count = try number(bytes, is64 ? 56 : 44, 2)
        guard count > 0 else { throw .noLoadableSegment }
        guard tableOffset <= UInt64(bytes.count), entryBytes >= (is64 ? 56 : 32) else {
            throw .badImageHeader(offset: is64 ? 32 : 28)
        }
        var end: UInt64 = 0
        var isLoaded = false
        var notes: [Range<Int>] = []
        for index in 0..<Int(count) {
            let header = Int(tableOffset) + index * Int(entryBytes)
            let type = try number(bytes, header, 4)
            guard type == 1 || type == 4 else { continue }  // PT_LOAD, PT_NOTE
            let offset = try number(bytes, header + (is64 ? 8 : 4), width)
            let physical = try number(bytes, header + (is64 ? 24 : 12), width)
            let fileBytes = try number(bytes, header + (is64 ? 32 : 16), width)
            guard offset <= UInt64(bytes.count), fileBytes <= UInt64(bytes.count) - offset else {
                throw .badImageHeader(offset: header)
            }
            if type == 4 {
                notes.append(Int(offset)..<Int(offset + fileBytes))
                continue
            }
            // Memory starts as zeros, so p_memsz needs no filling; it must fit, though.
            let memoryBytes = try number(bytes, header + (is64 ? 40 : 20), width)
            guard physical <= UInt64(memory.ram.byteCount), memoryBytes <= UInt64(memory.ram.byteCount) - physical
            else {
                throw .imageDoesNotFit(
                    gpa: GPA(physical), byteCount: Int(clamping: memoryBytes), memoryBytes: memory.ram.byteCount)
            }
            try store(bytes[Int(offset)..<Int(offset + fileBytes)], at: physical, in: memory)
            isLoaded = true
            end = max(end, physical + memoryBytes)
        }
        guard isLoaded else { throw .noLoadableSegment }
        return (entry, end, notes)
    }

    // MARK: - Entering

    private static func enterRealMode(_ vcpu: any VCPU, at address: UInt64) {
        vcpu.commPage.state[.cs].selector = 0
        vcpu.commPage.state[.cs].base = 0
        vcpu.commPage.state[.idt].limit = 0x3FF
        vcpu.commPage.state[.rip] = address
        // As boot firmware leaves it: the first hard disk, a stack below the image.
        vcpu.commPage.state[.rdx] = 0x80
        vcpu.commPage.state[.rsp] = 0x7C00
        vcpu.setState(.all)
    }

    static func enterProtectedMode(
        _ vcpu: any VCPU, at address: UInt64, code codeSelector: UInt16 = 0x08, data: UInt16 = 0x10
    ) {
        let flat = SegmentAttributes(rawValue: 0x093).union([.defaultBig, .granularity])
        for register: SegmentRegister in [.es, .ss, .ds, .fs, .gs] {
            vcpu.commPage.state[register] = Segment(selector: data, attributes: flat, limit: 0xFFFF_FFFF)
        }
        let code = SegmentAttributes(rawValue: 0x09B).union([.defaultBig, .granularity])
        vcpu.commPage.state[.cs] = Segment(selector: codeSelector, attributes: code, limit: 0xFFFF_FFFF)
        vcpu.commPage.state[.cr0] = 0x11
        vcpu.commPage.state[.rip] = address
        vcpu.commPage.state[.rsp] = 0
        vcpu.setState(.all)
    }

    /// Paging structures for the entry in long mode: one PML4, one PDPT, four page directories.
    private static let longModeTables: UInt64 = 0x9A000

    private static func enterLongMode(_ vcpu: any VCPU, at address: UInt64, memory: PCMemory) throws(PCError) {
        var tables: [UInt64] = [UInt64](repeating: 0, count: 6 * 512)
        tables[0] = longModeTables + 0x1000 | 3
        for index in 0..<4 { tables[512 + index] = longModeTables + 0x2000 + UInt64(index) * 0x1000 | 3 }
        for index in 0..<2048 { tables[1024 + index] = UInt64(index) << 21 | 0x83 }
        let bytes = tables.flatMap { [UInt8].littleEndian($0, 8) }
        try store(bytes[...], at: longModeTables, in: memory)
        enterProtectedMode(vcpu, at: address)
        let code = SegmentAttributes(rawValue: 0x09B).union([.long, .granularity])
        vcpu.commPage.state[.cs] = Segment(selector: 0x08, attributes: code, limit: 0xFFFF_FFFF)
        vcpu.commPage.state[.cr0] = 0x8000_0011
        vcpu.commPage.state[.cr3] = longModeTables
        vcpu.commPage.state[.cr4] = 0x20
        vcpu.commPage.state[.efer] = 0x500
        vcpu.commPage.state[.rsp] = longModeTables
    }
}

extension [UInt8] {
    /// The little-endian number of `count` bytes at `offset`, which are there.
    func number(_ offset: Int, _ count: Int) -> UInt64 {
        (0..<count).reduce(0) { $0 | UInt64(self[offset + $1]) << UInt64($1 * 8) }
    }

    /// A number's `count` lowest bytes, the lowest first.
    static func littleEndian(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    /// Writes a little-endian number of `count` bytes where there are as many.
    mutating func setNumber(_ offset: Int, _ value: UInt64, _ count: Int) {
        replaceSubrange(offset..<offset + count, with: Self.littleEndian(value, count))
    }
}
