// The PC's memory map: RAM, ROM and the shadowed ranges below 1 MiB. 82441FX data sheet, section 4.1.

import Assists
import NVMM

/// RAM and ROM as objects of the machine, and what is linked where.
final class PCMemory: FirmwareConfiguration.Memory {
    private let machine: any Machine
    let ram: MemoryObject
    let rom: MemoryObject?
    private let romByteCount: Int
    /// Attribute bits of each shadow range, and what is linked for them.
    private var attributes: [UInt8]
    /// The first failure of a machine call on a device's path; ends the run.
    var failure: MachineError?

    private static let legacyROMBytes = 128 << 10

    /// - Parameter firmware: nil: everything but the video hole is RAM.
    init(machine: any Machine, byteCount: Int, firmware: [UInt8]?) throws(MachineError) {
        self.machine = machine
        ram = try machine.hvaMap(byteCount: byteCount)
        romByteCount = firmware?.count ?? 0
        attributes = [UInt8](repeating: firmware == nil ? 3 : 0, count: ShadowRange.all.count)
        let all: Protection = [.read, .write, .execute]
        try machine.gpaMap(ram, offset: 0, gpa: GPA(0), byteCount: 0xA0000, protection: all)
        if byteCount > 1 << 20 {
            let rest = byteCount - 1 << 20
            try machine.gpaMap(ram, offset: 1 << 20, gpa: GPA(1 << 20), byteCount: rest, protection: all)
        }
        if let firmware {
            let rom = try machine.hvaMap(byteCount: firmware.count)
            // SAFETY: the bytes outlive the call, which copies them.
            try unsafe machine.write(rom, at: 0, firmware.span.bytes)
            let top = (1 as UInt64) << 32 - UInt64(firmware.count)
            try machine.gpaMap(
                rom, offset: 0, gpa: GPA(top), byteCount: firmware.count, protection: [.read, .execute])
            self.rom = rom
        } else {
            rom = nil
        }
        for index in ShadowRange.all.indices { try link(index) }
    }

    /// Takes over an attribute register of the host bridge: 0x59...0x5F.
    func setShadow(register: Int, _ value: UInt8) {
        for (index, range) in ShadowRange.all.enumerated() where range.register == register {
            let bits = value >> range.shift & 3
            guard bits != attributes[index] else { continue }
            do {
                if source(index) != nil {
                    try machine.gpaUnmap(gpa: GPA(range.start), byteCount: range.byteCount)
                }
                attributes[index] = bits
                try link(index)
            } catch {
                failure = failure ?? error
            }
        }
    }

    private func link(_ index: Int) throws(MachineError) {
        guard let source = source(index) else { return }
        let range = ShadowRange.all[index]
        try machine.gpaMap(
            source.object, offset: source.offset, gpa: GPA(range.start), byteCount: range.byteCount,
            protection: source.protection)
    }

    /// What a shadow range shows: RAM, ROM, or nothing.
    private func source(_ index: Int) -> (object: MemoryObject, offset: Int, protection: Protection)? {
        let range = ShadowRange.all[index]
        if attributes[index] & 1 != 0 {
            let writable: Protection = attributes[index] & 2 != 0 ? [.write] : []
            return (ram, Int(range.start), writable.union([.read, .execute]))
        }
        let legacy = min(romByteCount, Self.legacyROMBytes)
        guard let rom, range.start >= UInt64(0x10_0000 - legacy) else { return nil }
        let offset = romByteCount - (0x10_0000 - Int(range.start))
        return (rom, offset, [.read, .execute])
    }

    /// A store that guest memory did not take: goes to the RAM behind a ROM that is write-enabled, else nowhere.
    func storeBehindROM(_ access: MemoryAccess) {
        guard let index = ShadowRange.containing(access.gpa.rawValue), attributes[index] == 2 else { return }
        let bytes = [UInt8].littleEndian(access.value, access.byteCount)
        store(at: Int(access.gpa.rawValue), bytes[...])
    }

    private func store(at offset: Int, _ bytes: ArraySlice<UInt8>) {
        // SAFETY: the bytes outlive the call, which copies them.
        do { try unsafe machine.write(ram, at: offset, bytes.span.bytes) } catch { failure = failure ?? error }
    }

    // MARK: - Access by devices and loaders

    private func range(_ address: UInt64, _ byteCount: Int) -> Range<Int>? {
        guard byteCount >= 0, address <= UInt64(ram.byteCount), byteCount <= ram.byteCount - Int(address) else {
            return nil
        }
        return Int(address)..<Int(address) + byteCount
    }

    func readPhysical(_ address: UInt64, byteCount: Int) -> [UInt8]? {
        guard let range = range(address, byteCount) else { return nil }
        return ram.withBytes(range) { span in
            // SAFETY: index is inside the span, and any byte is a valid UInt8.
            (0..<span.byteCount).map { unsafe span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        }
    }

    func writePhysical(_ address: UInt64, _ bytes: ArraySlice<UInt8>) -> Bool {
        guard let range = range(address, bytes.count) else { return false }
        if !bytes.isEmpty { store(at: range.lowerBound, bytes) }
        return true
    }
}
