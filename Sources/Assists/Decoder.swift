// The name of an instruction that cannot be emulated: the door to Zydis.

import CZydis

/// - Returns: nil where the bytes are no instruction.
func mnemonic(of bytes: [UInt8], is64Bit: Bool, isBig: Bool) -> String? {
    let mode =
        is64Bit ? ZYDIS_MACHINE_MODE_LONG_64 : isBig ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16
    let stack = is64Bit ? ZYDIS_STACK_WIDTH_64 : isBig ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16
    var decoder = ZydisDecoder()
    var instruction = unsafe ZydisDecodedInstruction()
    // SAFETY: Zydis reads at most bytes.count bytes, and writes no operands where no room for them is given.
    guard unsafe ZydisDecoderInit(&decoder, mode, stack) & 0x8000_0000 == 0,
        unsafe ZydisDecoderDecodeInstruction(&decoder, nil, bytes, bytes.count, &instruction) & 0x8000_0000 == 0,
        let text = unsafe ZydisMnemonicGetString(instruction.mnemonic)
    else { return nil }
    return unsafe String(cString: text)
}
