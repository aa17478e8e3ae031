// XSAVE, XRSTOR and XCR0 for the state components that NVMM has, x87 and SSE, and for AVX where the model offers it:
// SDM vol. 1, chapter 13.

import NVMM

/// Bits of XCR0, of the instructions' mask and of XSTATE_BV.
enum StateComponent {
    static let x87: UInt64 = 1 << 0
    static let sse: UInt64 = 1 << 1
    static let avx: UInt64 = 1 << 2
    static let legacy = x87 | sse
    /// What AVX needs in XCR0.
    static let ymm = sse | avx
}

/// XSAVE's area: the image of FXSAVE and a header, in words of 8 bytes, then the upper halves of the YMM registers.
enum ExtendedArea {
    static let avx: UInt64 = 576
    static let mxcsr = 3
    static let xmm = 20..<52
    static let statuses: UInt64 = 512, compaction: UInt64 = 520, reserved: UInt64 = 528

    static func byteCount(of components: UInt64) -> UInt64 { components & StateComponent.avx != 0 ? avx + 256 : avx }

    /// Which components a word of the image belongs to: MXCSR is shared.
    static func components(of word: Int) -> UInt64 {
        if word == mxcsr { return StateComponent.ymm }
        return xmm.contains(word) ? StateComponent.sse : StateComponent.x87
    }
}

extension CPU {
    private func requireOSXSAVE() throws(Interruption) {
        if cr4 & CR4.osxsave == 0 { throw .invalidOpcode }
    }

    private func checkXSAVE() throws(Interruption) {
        try requireOSXSAVE()
        if cr0 & CR0.ts != 0 { throw .exception(.deviceNotAvailable) }
    }

    /// EDX:EAX.
    private var operandComponents: UInt64 { self[.rdx] << 32 | self[.rax] & 0xFFFF_FFFF }

    private mutating func areaOffset(
        _ i: borrowing DecodedInstruction, _ kind: AccessKind, _ components: UInt64
    ) throws(Interruption) -> UInt64 {
        let offset = effectiveAddress(i), byteCount = ExtendedArea.byteCount(of: components)
        let address = try linear(i.segment, offset, byteCount: byteCount, kind)
        guard address & 0x3F == 0 else { throw .generalProtection(0) }
        if kind == .write { try checkWritable(address, byteCount: byteCount, segment: i.segment) }
        return offset
    }

    /// All that is asked for counts as in use: the manual lets the processor choose.
    @inline(never) mutating func xsave(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkXSAVE()
        let requested = operandComponents & xcr0
        let offset = try areaOffset(i, .write, requested)
        let statuses: UInt64 = try load(i.segment, offset &+ ExtendedArea.statuses)
        let words = savedWords
        for index in 0..<imageWords where requested & ExtendedArea.components(of: index) != 0 {
            try store(i.segment, offset &+ UInt64(index) &* 8, words[index])
        }
        if requested & StateComponent.avx != 0 {
            for index in 0..<vectorRegisterCount {
                let place = offset &+ ExtendedArea.avx &+ UInt64(index) &* 16
                try store(i.segment, place, ymmHigh[index].low)
                try store(i.segment, place &+ 8, ymmHigh[index].high)
            }
        }
        try store(i.segment, offset &+ ExtendedArea.statuses, statuses | requested)
    }

    /// The standard form; the compacted one is not offered.
    @inline(never) mutating func xrstor(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkXSAVE()
        let requested = operandComponents & xcr0
        let offset = try areaOffset(i, .read, requested)
        let present: UInt64 = try load(i.segment, offset &+ ExtendedArea.statuses)
        let compaction: UInt64 = try load(i.segment, offset &+ ExtendedArea.compaction)
        let reserved: UInt64 = try load(i.segment, offset &+ ExtendedArea.reserved)
        guard present & ~xcr0 == 0, compaction == 0, reserved == 0 else { throw .generalProtection(0) }
        let before = fxsaveArea
        var words = before.words
        for index in 0..<imageWords {
            let components = ExtendedArea.components(of: index)
            guard requested & components != 0 else { continue }
            // MXCSR comes from memory even where the registers go back to their beginning.
            words[index] =
                present & components != 0 || index == ExtendedArea.mxcsr
                ? try load(i.segment, offset &+ UInt64(index) &* 8) : 0
        }
        var upper = InlineArray<16, Vector128>(repeating: Vector128(low: 0))
        if requested & present & StateComponent.avx != 0 {
            for index in 0..<vectorRegisterCount {
                let place = offset &+ ExtendedArea.avx &+ UInt64(index) &* 16
                upper[index] = Vector128(low: try load(i.segment, place), high: try load(i.segment, place &+ 8))
            }
        }
        var image = FXSaveArea(words: words, rest: before)
        if requested & StateComponent.x87 != 0, present & StateComponent.x87 == 0 { image.controlWord = 0x37F }
        try install(image)
        guard requested & StateComponent.avx != 0 else { return }
        for index in 0..<vectorRegisterCount { ymmHigh[index] = upper[index] }
    }

    /// XCR0 is the only one: SDM vol. 2, XGETBV.
    @inline(never) mutating func xgetbv(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireOSXSAVE()
        guard read(1, as: UInt32.self) == 0 else { throw .generalProtection(0) }
        write(0, UInt32(truncatingIfNeeded: xcr0))
        write(2, UInt32(truncatingIfNeeded: xcr0 >> 32))
    }

    @inline(never) mutating func xsetbv(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireOSXSAVE()
        try requireSupervisor()
        let value = operandComponents
        guard read(1, as: UInt32.self) == 0, value & ~model.stateComponents == 0, value & StateComponent.x87 != 0,
            value & StateComponent.ymm != StateComponent.avx
        else { throw .generalProtection(0) }
        xcr0 = value
    }
}
