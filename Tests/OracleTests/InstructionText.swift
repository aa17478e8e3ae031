// Disassembly of a case for its report, and the mnemonic by which the generator's bytes are checked (Zydis).

import CZydis

enum InstructionText {
    /// The first instruction in Intel's syntax, or why it is none.
    static func of(_ code: [UInt8], mode: CodeMode) -> String {
        var instruction = unsafe ZydisDisassembledInstruction()
        // SAFETY: Zydis reads at most the count it is given, and ends its text with a zero.
        let status = unsafe code.withUnsafeBufferPointer { bytes in
            unsafe ZydisDisassembleIntel(machineMode(mode), 0, bytes.baseAddress, ZyanUSize(bytes.count), &instruction)
        }
        guard status & 0x8000_0000 == 0 else { return "(no instruction)" }
        return unsafe withUnsafeBytes(of: &instruction.text) {
            unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// The bytes, each in two digits.
    static func hex(_ code: [UInt8]) -> String {
        code.map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined(separator: " ")
    }

    /// Length of the first instruction; nil where it is none.
    static func length(_ code: [UInt8], mode: CodeMode) -> Int? {
        var decoder = ZydisDecoder()
        var instruction = unsafe ZydisDecodedInstruction()
        let width =
            mode == .bits64 ? ZYDIS_STACK_WIDTH_64 : mode == .bits32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16
        // SAFETY: as above; without operands the context may be nil.
        let status = unsafe code.withUnsafeBufferPointer { bytes in
            _ = unsafe ZydisDecoderInit(&decoder, machineMode(mode), width)
            return unsafe ZydisDecoderDecodeInstruction(
                &decoder, nil, bytes.baseAddress, ZyanUSize(bytes.count), &instruction)
        }
        return status & 0x8000_0000 == 0 ? Int(unsafe instruction.length) : nil
    }

    private static func machineMode(_ mode: CodeMode) -> ZydisMachineMode {
        switch mode {
        case .bits64: ZYDIS_MACHINE_MODE_LONG_64
        case .bits32: ZYDIS_MACHINE_MODE_LONG_COMPAT_32
        case .bits16: ZYDIS_MACHINE_MODE_LONG_COMPAT_16
        }
    }
}
