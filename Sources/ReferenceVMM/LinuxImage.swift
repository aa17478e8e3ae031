// A Linux kernel without firmware: Linux's Documentation/x86/boot.rst, 32-bit protocol, version 2.12 and later; those
// that are ELF files are entered by PVH (PVHEntry.swift).

import NVMM

/// A kernel with what its boot loader would give it.
public struct LinuxImage: Sendable {
    /// A bzImage, or an ELF file with an entry for PVH, such as a vmlinux.
    public var kernel: [UInt8]
    /// The initial RAM disk; nil for none.
    public var initrd: [UInt8]?
    /// ASCII, without a zero.
    public var commandLine: String

    public init(kernel: [UInt8], initrd: [UInt8]? = nil, commandLine: String = "") {
        self.kernel = kernel
        self.initrd = initrd
        self.commandLine = commandLine
    }

    /// Whether an image has the setup header of a Linux kernel.
    public static func isKernel(_ bytes: [UInt8]) -> Bool {
        bytes.count > Header.end && Array(bytes[Header.magic..<Header.magic + 4]) == Array("HdrS".utf8)
    }

    /// Offsets in the file, which are those in the boot parameters too.
    private enum Header {
        static let start = 0x1F1
        static let magic = 0x202
        static let version = 0x206
        static let loaderType = 0x210
        static let loadFlags = 0x211
        static let ramdiskImage = 0x218
        static let ramdiskBytes = 0x21C
        static let commandLine = 0x228
        static let ramdiskMaximum = 0x22C
        static let isRelocatable = 0x234
        static let commandLineMaximum = 0x238
        static let preferredAddress = 0x258
        static let initBytes = 0x260
        static let end = 0x268
    }
    /// Offsets in the boot parameters: Linux's Documentation/x86/zero-page.rst.
    private enum Parameters {
        static let acpiRootPointer = 0x070
        static let memoryMapCount = 0x1E8
        static let memoryMap = 0x2D0
        static let byteCount = 4096
    }
    /// Where things are put: below 640 KiB, above what a BIOS would use.
    enum Place {
        static let parameters: UInt64 = 0x1_0000
        static let commandLine: UInt64 = 0x2_0000
        static let commandLineBytes: UInt64 = 0x1_0000
        static let kernel: UInt64 = 0x10_0000
    }

    // MARK: - Loading

    /// Puts everything into memory and the first VCPU at the kernel's entry.
    func load(into memory: PCMemory, acpiRootPointer: UInt64, bootstrap vcpu: any VCPU) throws(PCError) {
        if GuestImage.isELF(kernel) {
            return try enterByPVH(memory: memory, acpiRootPointer: acpiRootPointer, bootstrap: vcpu)
        }
        guard Self.isKernel(kernel) else { throw .kernelHeader(offset: Header.magic) }
        let version = UInt16(try field(Header.version, 2))
        guard version >= 0x20C else { throw .kernelProtocol(version: version) }
        let setupSectors = try field(Header.start, 1)
        let codeOffset = Int(setupSectors == 0 ? 5 : setupSectors + 1) * 512
        guard codeOffset < kernel.count else { throw .kernelHeader(offset: Header.start) }
        let code = kernel[codeOffset...]

        // While it unpacks itself, the kernel needs room that it tells of.
        let preferred = try field(Header.preferredAddress, 8)
        let initBytes = try field(Header.initBytes, 4)
        let runtimeStart =
            try field(Header.isRelocatable, 1) != 0 ? max(preferred, Place.kernel) : preferred
        let (runtimeEnd, overflows) = runtimeStart.addingReportingOverflow(initBytes)
        guard !overflows, runtimeEnd <= UInt64(memory.ram.byteCount) else {
            throw .imageDoesNotFit(
                gpa: GPA(runtimeStart), byteCount: Int(initBytes), memoryBytes: memory.ram.byteCount)
        }
        try GuestImage.store(code, at: Place.kernel, in: memory)

        let text = Array(commandLine.utf8)
        let room = min(try field(Header.commandLineMaximum, 4), Place.commandLineBytes - 1)
        guard text.count <= room else { throw .commandLineTooLong(text.count, maximum: Int(room)) }
        try GuestImage.store((text + [0])[...], at: Place.commandLine, in: memory)
        let initrdAddress = try loadInitrd(
            into: memory, above: max(runtimeEnd, Place.kernel + UInt64(code.count)),
            below: try field(Header.ramdiskMaximum, 4) + 1)

        var parameters = [UInt8](repeating: 0, count: Parameters.byteCount)
        // The header ends where its own jump says.
        let end = min(Header.magic + Int(kernel[0x201]), kernel.count, Parameters.memoryMap)
        guard end > Header.start else { throw .kernelHeader(offset: 0x201) }
        parameters.replaceSubrange(Header.start..<end, with: kernel[Header.start..<end])
        parameters.setNumber(Header.loaderType, 0xFF, 1)  // no number assigned
        parameters.setNumber(Header.loadFlags, try field(Header.loadFlags, 1) | 1, 1)  // loaded at 1 MiB
        parameters.setNumber(Header.commandLine, Place.commandLine, 4)
        parameters.setNumber(Header.ramdiskImage, initrdAddress, 4)
        parameters.setNumber(Header.ramdiskBytes, UInt64(initrd?.count ?? 0), 4)
        parameters.setNumber(Parameters.acpiRootPointer, acpiRootPointer, 8)
        let map = Self.memoryMap(byteCount: UInt64(memory.ram.byteCount))
        parameters.setNumber(Parameters.memoryMapCount, UInt64(map.count), 1)
        for (index, entry) in map.enumerated() {
            let place = Parameters.memoryMap + index * 20
            parameters.setNumber(place, entry.start, 8)
            parameters.setNumber(place + 8, entry.end - entry.start, 8)
            parameters.setNumber(place + 16, entry.isUsable ? 1 : 2, 4)
        }
        try GuestImage.store(parameters[...], at: Place.parameters, in: memory)

        GuestImage.enterProtectedMode(vcpu, at: Place.kernel, code: 0x10, data: 0x18)
        vcpu.commPage.state[.rsi] = Place.parameters
    }

    /// As high as the kernel reads it.
    func loadInitrd(into memory: PCMemory, above kernelEnd: UInt64, below limit: UInt64) throws(PCError) -> UInt64 {
        guard let initrd, !initrd.isEmpty else { return 0 }
        let end = min(UInt64(memory.ram.byteCount), limit)
        guard UInt64(initrd.count) <= end, case let address = (end - UInt64(initrd.count)) & ~0xFFF,
            address >= kernelEnd
        else { throw .initrdDoesNotFit(byteCount: initrd.count, memoryBytes: memory.ram.byteCount) }
        try GuestImage.store(initrd[...], at: address, in: memory)
        return address
    }

    private func field(_ offset: Int, _ count: Int) throws(PCError) -> UInt64 {
        try GuestImage.number(kernel, offset, count)
    }

    /// What INT 15h, AX=E820h would say: ACPI 6.5, section 15.
    static func memoryMap(byteCount: UInt64) -> [(start: UInt64, end: UInt64, isUsable: Bool)] {
        [
            (0, 0x9FC00, true), (0x9FC00, 0xA0000, false), (ACPITables.address, 0x10_0000, false),
            (0x10_0000, byteCount, true),
        ]
    }
}
