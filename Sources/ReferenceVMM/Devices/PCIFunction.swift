// Configuration space of PCI functions, ports 0xCF8 to 0xCFF: PCI Local Bus Specification 2.1, chapter 6, and
// mechanism #1 of section 3.2.2.

/// One function's 256 bytes, with the bits that a guest can change.
struct PCIFunction {
    /// Device and function: bits 7:3 and 2:0.
    let place: UInt8
    private(set) var bytes = [UInt8](repeating: 0, count: 256)
    private var writable = [UInt8](repeating: 0, count: 256)

    init(device: UInt8, function: UInt8, vendor: UInt16, id: UInt16, classCode: UInt32, isMultifunction: Bool = false) {
        place = device << 3 | function & 7
        set(0x00, vendor)
        set(0x02, id)
        bytes[0x08] = UInt8(classCode & 0xFF)  // revision
        bytes[0x09] = UInt8(classCode >> 8 & 0xFF)
        bytes[0x0A] = UInt8(classCode >> 16 & 0xFF)
        bytes[0x0B] = UInt8(classCode >> 24 & 0xFF)
        bytes[0x0E] = isMultifunction ? 0x80 : 0
        // QEMU's subsystem IDs: how SeaBIOS knows the machine.
        set(0x2C, 0x1AF4 as UInt16)
        set(0x2E, 0x1100 as UInt16)
        allow(0x04, 0x07)
        allow(0x05, 0x01)
        allow(0x0C, 0xFF)
        allow(0x0D, 0xFF)
        allow(0x3C, 0xFF)
    }

    mutating func set(_ offset: Int, _ value: UInt16) {
        bytes[offset] = UInt8(value & 0xFF)
        bytes[offset + 1] = UInt8(value >> 8)
    }
    mutating func set(_ offset: Int, _ value: UInt8) { bytes[offset] = value }
    mutating func allow(_ offset: Int, _ mask: UInt8) { writable[offset] = mask }

    func word(_ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[(offset & 0xFC) + $1]) << UInt32($1 * 8) }
    }

    mutating func write(_ offset: Int, _ value: UInt8) {
        bytes[offset] = bytes[offset] & ~writable[offset] | value & writable[offset]
    }
}

/// Bus 0 and the address latch.
final class PCIBus {
    private var functions: [PCIFunction]
    private var address: UInt32 = 0
    /// Called after a byte of a function's space was written: place and offset.
    var onWrite: ((_ place: UInt8, _ offset: Int) -> Void)?

    init(functions: [PCIFunction]) { self.functions = functions }

    func add(_ function: PCIFunction) { functions.append(function) }

    func function(at place: UInt8) -> PCIFunction? { functions.first { $0.place == place } }

    func change(_ place: UInt8, _ body: (inout PCIFunction) -> Void) {
        if let index = functions.firstIndex(where: { $0.place == place }) { body(&functions[index]) }
    }

    private var selected: Int? {
        guard address & 1 << 31 != 0, address >> 16 & 0xFF == 0 else { return nil }
        return functions.firstIndex { $0.place == UInt8(truncatingIfNeeded: address >> 8) }
    }

    func read(port: UInt16, byteCount: Int) -> UInt32 {
        if port == 0xCF8, byteCount == 4 { return address }
        guard port >= 0xCFC, let index = selected else { return .max }
        return functions[index].word(Int(address & 0xFC)) >> UInt32((port & 3) * 8)
    }

    func write(port: UInt16, byteCount: Int, _ value: UInt32) {
        if port == 0xCF8 {
            if byteCount == 4 { address = value & 0x80FF_FFFC }
            return
        }
        guard port >= 0xCFC, let index = selected else { return }
        for byte in 0..<min(byteCount, 4 - Int(port & 3)) {
            let offset = Int(address & 0xFC) + Int(port & 3) + byte
            functions[index].write(offset, UInt8(truncatingIfNeeded: value >> UInt32(byte * 8)))
            onWrite?(functions[index].place, offset)
        }
    }
}
