// Entering an ELF kernel directly: Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h.

import NVMM

extension LinuxImage {
    /// Offsets in `struct hvm_start_info`, version 1, and of what it points to behind it.
    private enum StartInformation {
        static let magic: UInt64 = 0x336E_C578
        static let moduleCount = 12
        static let modules = 16
        static let commandLine = 24
        static let acpiRootPointer = 32
        static let memoryMap = 40
        static let memoryMapCount = 48
        static let moduleList = 0x100
        static let memoryMapList = 0x200
        static let memoryMapEntryBytes = 24
        static let byteCount = 0x1000
    }
    /// `XEN_ELFNOTE_PHYS32_ENTRY`.
    private static let entryNote: UInt64 = 18
    /// Linux reads no more (COMMAND_LINE_SIZE of x86), with the zero.
    private static let commandLineMaximum = 2047

    /// Puts everything into memory and the first VCPU at the entry that a note of the kernel names.
    func enterByPVH(memory: PCMemory, acpiRootPointer: UInt64, bootstrap vcpu: any VCPU) throws(PCError) {
        let segments = try GuestImage.loadSegments(kernel, memory: memory)
        let entry = try entryPoint(in: segments.notes)
        let text = Array(commandLine.utf8)
        guard text.count <= Self.commandLineMaximum else {
            throw .commandLineTooLong(text.count, maximum: Self.commandLineMaximum)
        }
        try GuestImage.store((text + [0])[...], at: Place.commandLine, in: memory)
        let initrdAddress = try loadInitrd(into: memory, above: max(segments.end, Place.kernel), below: 1 << 32)

        var information = [UInt8](repeating: 0, count: StartInformation.byteCount)
        information.setNumber(0, StartInformation.magic, 4)
        information.setNumber(4, 1, 4)  // version
        if let initrd, !initrd.isEmpty {
            information.setNumber(StartInformation.moduleCount, 1, 4)
            information.setNumber(StartInformation.modules, Place.parameters + UInt64(StartInformation.moduleList), 8)
            information.setNumber(StartInformation.moduleList, initrdAddress, 8)
            information.setNumber(StartInformation.moduleList + 8, UInt64(initrd.count), 8)
        }
        information.setNumber(StartInformation.commandLine, Place.commandLine, 8)
        information.setNumber(StartInformation.acpiRootPointer, acpiRootPointer, 8)
        let map = Self.memoryMap(byteCount: UInt64(memory.ram.byteCount))
        information.setNumber(StartInformation.memoryMap, Place.parameters + UInt64(StartInformation.memoryMapList), 8)
        information.setNumber(StartInformation.memoryMapCount, UInt64(map.count), 4)
        for (index, range) in map.enumerated() {
            let place = StartInformation.memoryMapList + index * StartInformation.memoryMapEntryBytes
            information.setNumber(place, range.start, 8)
            information.setNumber(place + 8, range.end - range.start, 8)
            information.setNumber(place + 16, range.isUsable ? 1 : 2, 4)
        }
        try GuestImage.store(information[...], at: Place.parameters, in: memory)

        GuestImage.enterProtectedMode(vcpu, at: entry)
        vcpu.commPage.state[.rbx] = Place.parameters
    }

    /// Notes have the sizes of name and content, their type, and both, each filled up to four bytes.
    private func entryPoint(in notes: [Range<Int>]) throws(PCError) -> UInt64 {
        func filled(_ count: UInt64) -> UInt64 { (count + 3) & ~3 }
        for section in notes {
            var offset = section.lowerBound
            while offset + 12 <= section.upperBound {
                let nameBytes = try GuestImage.number(kernel, offset, 4)
                let contentBytes = try GuestImage.number(kernel, offset + 4, 4)
                let type = try GuestImage.number(kernel, offset + 8, 4)
                let content = UInt64(offset) + 12 + filled(nameBytes)
                let next = content + filled(contentBytes)
                guard next <= UInt64(section.upperBound) else { throw .badImageHeader(offset: offset) }
                if nameBytes == 4, type == Self.entryNote, contentBytes >= 4,
                    kernel[offset + 12..<offset + 16].elementsEqual(Array("Xen\0".utf8))
                {
                    return try GuestImage.number(kernel, Int(content), 4)
                }
                offset = Int(next)
            }
        }
        throw .noPVHEntry
    }
}
