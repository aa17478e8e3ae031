// IN, OUT, INS, OUTS: every port access exits, after the processor's own checks.

import NVMM

extension CPU {
    mutating func input(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let port = i.form == .registerImmediate ? UInt16(i.immediate & 0xFF) : read(2, as: UInt16.self)
        try exitForPort(port, isInput: true, i, width: min(i.width, 2), segment: nil)
    }

    mutating func output(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let port = i.form == .registerRegister ? read(2, as: UInt16.self) : UInt16(i.immediate & 0xFF)
        try exitForPort(port, isInput: false, i, width: i.width, segment: nil)
    }

    mutating func ins(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let port: UInt16 = read(2)
        let width = min(i.width, 2)
        try checkPort(port, byteCount: 1 << UInt64(width))
        if isEmptyRepetition(i) { return finishString(i) }
        // NVMM leaves faults of the buffer to the VMM's assist, which cannot raise them; so they are raised here.
        let offset = truncate(self[.rdi], toAddressWidth: i.addressWidth)
        let address = try linear(UInt8(SegmentRegister.es.rawValue), offset, byteCount: 1 << UInt64(width), .write)
        try checkWritable(address, byteCount: 1 << UInt64(width), segment: UInt8(SegmentRegister.es.rawValue))
        try exitForPort(port, isInput: true, i, width: width, segment: .es)
    }

    mutating func outs(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let port: UInt16 = read(2)
        let width = min(i.width, 2)
        try checkPort(port, byteCount: 1 << UInt64(width))
        if isEmptyRepetition(i) { return finishString(i) }
        _ = try load(i.segment, truncate(self[.rsi], toAddressWidth: i.addressWidth), width: width)
        try exitForPort(port, isInput: false, i, width: width, segment: SegmentRegister(rawValue: Int(i.segment)))
    }

    private func isRepeated(_ i: borrowing DecodedInstruction) -> Bool { !i.flags.isDisjoint(with: [.rep, .repne]) }

    private func isEmptyRepetition(_ i: borrowing DecodedInstruction) -> Bool { isRepeated(i) && count(i) == 0 }

    private mutating func finishString(_ i: borrowing DecodedInstruction) { rip = nextRIP(i) }

    private mutating func exitForPort(
        _ port: UInt16, isInput: Bool, _ i: borrowing DecodedInstruction, width: UInt8, segment: SegmentRegister?
    ) throws(Interruption) {
        try checkPort(port, byteCount: 1 << UInt64(width))
        pendingExit = .io(
            IOExit(
                isInput: isInput, port: port, segment: segment, addressBytes: 1 << i.addressWidth,
                operandBytes: 1 << width,
                isRepeated: segment != nil && isRepeated(i), isString: segment != nil, npc: nextRIP(i)))
        throw .exit
    }

    /// IOPL, then the I/O permission bitmap of the TSS: SDM vol. 1, section 18.5.
    private mutating func checkPort(_ port: UInt16, byteCount: UInt64) throws(Interruption) {
        guard isProtected, isVirtual8086 || cpl > iopl else { return }
        let task = segments[SegmentRegister.tr.rawValue]
        let type = task.attributes.type
        // Only 32-bit (and 64-bit) task state segments have a bitmap.
        guard task.attributes.contains(.present), type == 9 || type == 11, task.limit >= 103 else {
            throw .generalProtection(0)
        }
        let base = UInt64(try loadSystem(task.base &+ 0x66, as: UInt16.self))
        let byte = base &+ UInt64(port >> 3)
        // The processor reads two bytes, so that a port may straddle them.
        guard byte &+ 1 <= UInt64(task.limit) else { throw .generalProtection(0) }
        let bits = UInt64(try loadSystem(task.base &+ byte, as: UInt16.self))
        guard bits >> UInt64(port & 7) & (1 << byteCount - 1) == 0 else { throw .generalProtection(0) }
    }
}
