// The floating-point state as a whole: saved, restored, initialised; and the control words.

import NVMM

extension CPU {
    /// x87 instructions that are there: #NM where the kernel wants to know (SDM vol. 3, table 2-2).
    func checkFPU() throws(Interruption) {
        if cr0 & (CR0.em | CR0.ts) != 0 { throw .exception(.deviceNotAvailable) }
    }

    /// FXSAVE, FXRSTOR, LDMXCSR and STMXCSR: #UD under emulation, #NM after a task switch.
    func checkFXSR(needsOSFXSR: Bool) throws(Interruption) {
        if cr0 & CR0.em != 0 || needsOSFXSR && cr4 & CR4.osfxsr == 0 { throw .invalidOpcode }
        if cr0 & CR0.ts != 0 { throw .exception(.deviceNotAvailable) }
    }

    /// The state as FXSAVE has it, ST0 first. Registers are kept apart, where they are reached by number.
    var fxsaveArea: FXSaveArea {
        get {
            var image = fpu
            for index in 0..<8 { image.x87[index] = x87[(stackTop + index) & 7].bytes }
            for index in 0..<16 { image.xmm[index] = xmm[index].bytes }
            return image
        }
        set {
            fpu = newValue
            for index in 0..<8 { x87[(stackTop + index) & 7] = Vector128(newValue.x87[index]) }
            for index in 0..<16 { xmm[index] = Vector128(newValue.xmm[index]) }
        }
    }

    /// Words of the image that this mode reads and writes: XMM8 to XMM15 exist in 64-bit mode only.
    var imageWords: Int { is64Bit ? 52 : 36 }

    private mutating func imageAddress(_ i: borrowing DecodedInstruction, _ kind: AccessKind) throws(Interruption)
        -> UInt64
    {
        let offset = effectiveAddress(i)
        let address = try linear(i.segment, offset, byteCount: 512, kind)
        guard address & 0xF == 0 else { throw .generalProtection(0) }
        return offset
    }

    /// What FXSAVE and XSAVE write.
    var savedWords: InlineArray<52, UInt64> {
        var image = fxsaveArea
        image.mxcsrMask = 0xFFFF
        image.zero = 0
        return image.words
    }

    mutating func fxsave(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFXSR(needsOSFXSR: false)
        let offset = try imageAddress(i, .write)
        let words = savedWords
        // The last word first: a fault on the second page leaves the first as it was.
        for index in (0..<imageWords).reversed() {
            try store(i.segment, offset &+ UInt64(index) &* 8, words[index])
        }
    }

    mutating func fxrstor(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFXSR(needsOSFXSR: false)
        let offset = try imageAddress(i, .read)
        let before = fxsaveArea
        var words = before.words
        for index in 0..<imageWords { words[index] = try load(i.segment, offset &+ UInt64(index) &* 8) }
        try install(FXSaveArea(words: words, rest: before))
    }

    /// Takes over what FXRSTOR or XRSTOR has read; what has no place in the processor stays.
    ///
    /// - Throws: #GP(0) for reserved bits of MXCSR, with nothing changed.
    mutating func install(_ read: FXSaveArea) throws(Interruption) {
        guard read.mxcsr & 0xFFFF_0000 == 0 else { throw .generalProtection(0) }
        var image = read
        image.mxcsrMask = fpu.mxcsrMask
        image.zero = fpu.zero
        fxsaveArea = image
        setControlWord(image.controlWord)
        updateErrorSummary()
    }

    mutating func fninit(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFPU()
        initialiseX87()
    }

    /// SDM vol. 2, FINIT. Numbers in the registers stay.
    mutating func initialiseX87() {
        fpu.controlWord = 0x37F
        fpu.statusWord = 0
        fpu.tagByte = 0
        fpu.lastOpcode = 0
        fpu.instructionPointer = 0
        fpu.dataPointer = 0
    }

    /// Reserved bits have one value each: SDM vol. 1, figure 8-6.
    mutating func setControlWord(_ value: UInt16) { fpu.controlWord = value & 0x1F3F | 0x40 }

    mutating func fnstcw(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFPU()
        try storeOperand(i, fpu.controlWord)
    }

    mutating func fldcw(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkX87()
        setControlWord(try loadOperand(i))
        updateErrorSummary()
    }

    mutating func fnstsw(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFPU()
        if i.form == .register { write(0, fpu.statusWord) } else { try storeOperand(i, fpu.statusWord) }
    }

    mutating func fnclex(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFPU()
        fpu.statusWord &= 0x7F00
    }

    mutating func fwait(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if cr0 & CR0.mp != 0, cr0 & CR0.ts != 0 { throw .exception(.deviceNotAvailable) }
        try checkPendingX87()
    }

    mutating func ldmxcsr(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFXSR(needsOSFXSR: true)
        try loadMXCSR(i)
    }

    /// LDMXCSR and VLDMXCSR, where they are allowed.
    mutating func loadMXCSR(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let value: UInt32 = try loadOperand(i)
        guard value & 0xFFFF_0000 == 0 else { throw .generalProtection(0) }
        fpu.mxcsr = value
    }

    mutating func stmxcsr(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try checkFXSR(needsOSFXSR: true)
        try storeOperand(i, fpu.mxcsr)
    }
}

extension FXSaveArea {
    /// The image up to XMM15, as memory has it.
    var words: InlineArray<52, UInt64> {
        var words = InlineArray<52, UInt64>(repeating: 0)
        // SAFETY: the image has 512 bytes, and any bytes are a word.
        unsafe withUnsafeBytes(of: self) { bytes in
            for index in 0..<52 { words[index] = unsafe bytes.load(fromByteOffset: index * 8, as: UInt64.self) }
        }
        return words
    }

    /// - Parameter rest: what comes behind the words.
    init(words: InlineArray<52, UInt64>, rest: FXSaveArea) {
        self = rest
        // SAFETY: as above; any bytes are an image.
        unsafe withUnsafeMutableBytes(of: &self) { bytes in
            for index in 0..<52 {
                unsafe bytes.storeBytes(of: words[index], toByteOffset: index * 8, as: UInt64.self)
            }
        }
    }
}
