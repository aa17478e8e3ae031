// The x87 environment in memory, with registers or without: SDM vol. 1, section 8.1.10.

import NVMM

extension CPU {
    /// Bytes before the registers, and of each of its seven fields.
    private func environmentBytes(_ i: borrowing DecodedInstruction) -> (all: UInt64, field: UInt64) {
        i.width == 1 ? (14, 2) : (28, 4)
    }

    /// The seven fields, each as wide as the operand. Selectors are zero: CPUID deprecates them (SDM vol. 1, section
    /// 8.1.8).
    private func environmentFields(isWide: Bool) -> [UInt32] {
        let upper: UInt32 = isWide ? 0xFFFF_0000 : 0
        let instruction = UInt32(truncatingIfNeeded: fpu.instructionPointer)
        let data = UInt32(truncatingIfNeeded: fpu.dataPointer)
        let opcode = UInt32(fpu.lastOpcode & 0x7FF)
        var fields = [
            upper | UInt32(fpu.controlWord), upper | UInt32(fpu.statusWord), upper | UInt32(fullTagWord), instruction,
            opcode << 16, data, upper,
        ]
        if hasRealSegments {
            // Linear addresses, in two parts.
            fields[3] = upper | instruction & 0xFFFF
            fields[4] = (instruction >> 16) << 12 | opcode
            fields[5] = upper | data & 0xFFFF
            fields[6] = (data >> 16) << 12
        } else if !isWide {
            fields[4] = 0
        }
        return fields
    }

    /// Two bits a register: valid, zero, special, empty (SDM vol. 1, figure 8-7).
    private var fullTagWord: UInt16 {
        var word: UInt16 = 0
        for register in 0..<8 {
            let tag: UInt16
            if fpu.tagByte & 1 << UInt8(register) == 0 {
                tag = 3
            } else {
                let value = ExtendedOperand(readST(register - stackTop))
                tag = value.kind == .zero ? 1 : value.kind == .finite && !value.isDenormal ? 0 : 2
            }
            word |= tag << UInt16(register * 2)
        }
        return word
    }

    /// FNSTENV and FNSAVE.
    mutating func storeEnvironment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let isSave = i.x87.operation == .fnsave
        let (bytes, fieldBytes) = environmentBytes(i)
        let offset = effectiveAddress(i)
        let total = bytes + (isSave ? 80 : 0)
        let address = try linear(i.segment, offset, byteCount: total, .write)
        // All pages, before the first byte changes.
        try checkWritable(address, byteCount: total, segment: i.segment)
        for (index, field) in environmentFields(isWide: fieldBytes == 4).enumerated() {
            let place = offset &+ UInt64(index) &* fieldBytes
            if fieldBytes == 4 {
                try store(i.segment, place, field)
            } else {
                try store(i.segment, place, UInt16(truncatingIfNeeded: field))
            }
        }
        guard isSave else {
            // SDM vol. 2, FSTENV: all exceptions are masked then.
            fpu.controlWord |= UInt16(FloatException.all)
            updateErrorSummary()
            return
        }
        for index in 0..<8 {
            let number = readST(index), place = offset &+ bytes &+ UInt64(index) &* 10
            try store(i.segment, place, number.significand)
            try store(i.segment, place &+ 8, number.signExponent)
        }
        initialiseX87()
    }

    /// FLDENV and FRSTOR.
    mutating func loadEnvironment(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let (bytes, fieldBytes) = environmentBytes(i)
        let offset = effectiveAddress(i)
        let isRestore = i.x87.operation == .frstor
        _ = try linear(i.segment, offset, byteCount: bytes + (isRestore ? 80 : 0), .read)
        var fields = InlineArray<7, UInt32>(repeating: 0)
        for index in 0..<7 {
            let place = offset &+ UInt64(index) &* fieldBytes
            fields[index] =
                fieldBytes == 4
                ? try load(i.segment, place) : UInt32(try load(i.segment, place, as: UInt16.self))
        }
        var numbers = InlineArray<8, ExtendedFloat>(repeating: .zero(isNegative: false))
        if isRestore {
            for index in 0..<8 {
                let place = offset &+ bytes &+ UInt64(index) &* 10
                numbers[index] = ExtendedFloat(
                    significand: try load(i.segment, place), signExponent: try load(i.segment, place &+ 8))
            }
        }
        setControlWord(UInt16(truncatingIfNeeded: fields[0]))
        fpu.statusWord = UInt16(truncatingIfNeeded: fields[1])
        let tags = fields[2]
        fpu.tagByte = 0
        for register in 0..<8 where tags >> UInt32(register * 2) & 3 != 3 { fpu.tagByte |= 1 << UInt8(register) }
        restorePointers(fields, isWide: fieldBytes == 4)
        updateErrorSummary()
        guard isRestore else { return }
        let tagByte = fpu.tagByte
        for index in 0..<8 { writeST(index, numbers[index]) }
        fpu.tagByte = tagByte
    }

    private mutating func restorePointers(_ fields: InlineArray<7, UInt32>, isWide: Bool) {
        if hasRealSegments {
            let upper: UInt32 = isWide ? 0xFFFF_0000 : 0xF_0000
            fpu.instructionPointer = UInt64(fields[3] & 0xFFFF | fields[4] << 4 & upper)
            fpu.dataPointer = UInt64(fields[5] & 0xFFFF | fields[6] << 4 & upper)
            fpu.lastOpcode = UInt16(fields[4] & 0x7FF)
        } else {
            fpu.instructionPointer = UInt64(fields[3])
            fpu.dataPointer = UInt64(fields[5])
            fpu.lastOpcode = isWide ? UInt16(fields[4] >> 16 & 0x7FF) : 0
        }
    }
}
